"""Where implementations of the same optimizer differ, as claims that can be run.

A claim names two sets of hyperparameters, each a dialect of a method with changes, and says whether they do the same.
As a dialect is the library that it is named after (`dialects.PEERS` holds that by replay), so is the claim about the
libraries. Both are played with the same lr for 40 steps of a stream, and the effect is

    max_i |x_i - y_i| / max_i |x_i - x0_i|     over the coordinates of small gradients, 1e-9 to 1e-4, and of large ones
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from backends.arrays import Array
from refopt.conformance import streams
from refopt.conformance.adapters import methods
from refopt.conformance.recording import play
from refopt.conformance.replay import default_lr, preset
from refopt.method import get
from refopt.status import require

STEPS = 40
SMALL = streams.SCALES < 1e-3
SAME = 1e-11


class Side(NamedTuple):
    """A method under one of its dialects, with changes."""

    method: str
    dialect: str
    changes: Mapping[str, Any] = {}

    def __str__(self) -> str:
        changes = ", ".join(f"{name}={value!r}" for name, value in self.changes.items())
        return f"{self.method} {self.dialect}" + (f" ({changes})" if changes else "")

    @property
    def hyper(self) -> dict[str, Any]:
        """All keywords but lr."""
        return {k: v for k, v in {**preset(get(self.method), self.dialect), **self.changes}.items() if k != "lr"}


class Effect(NamedTuple):
    """How far two paths are apart, at the first step and at the last."""

    small_first: float
    large_first: float
    small_last: float
    large_last: float


class Claim(NamedTuple):
    """That two sides do the same, or do not."""

    row: int  # of the table of known deviations
    about: str
    left: Side
    right: Side
    same: bool = False
    stream: str = "scales"

    def measure(self) -> Effect:
        """Play both sides. Raises ValueError for an unknown dialect or stream."""
        stream = streams.get(self.stream)
        lr = default_lr(get(self.left.method))
        x, y = (
            play(methods.player(get(side.method), **side.hyper), stream, STEPS, lr).x
            for side in (self.left, self.right)
        )
        return Effect(*(_apart(x[k], y[k], stream.x0, part) for k in (0, -1) for part in (SMALL, ~SMALL)))

    def holds(self, effect: Effect) -> bool:
        """Say whether the effect is what the claim says."""
        return (max(effect) <= SAME) is self.same


def _apart(x: Array, y: Array, x0: Array, part: Array) -> float:
    moved = float(np.max(np.abs(x - x0)[part]))
    apart = float(np.max(np.abs(x - y)[part]))
    return apart / moved if moved > 0 else apart


def _claim(row: int, about: str, left: str, right: str, same: bool = False, stream: str = "scales") -> Claim:
    return Claim(row, about, _side(left), _side(right), same, stream)


def _side(text: str) -> Side:
    """Read 'rmsprop torch eps_placement=inside rho=0.9'."""
    method, dialect, *changes = text.split()
    pairs = [change.partition("=") for change in changes]
    require(all(sign for _, sign, _ in pairs), "changes must be written name=value", text)
    return Side(method, dialect, {name: _value(value) for name, _, value in pairs})


def _value(text: str) -> Any:
    if text in ("True", "False"):
        return text == "True"
    if text.isdigit():
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text


CLAIMS = (
    _claim(
        1,
        "eps beside the root (torch) or inside it (optax, keras)",
        "rmsprop torch",
        "rmsprop torch eps_placement=inside",
    ),
    _claim(
        1,
        "with eps beside the root optax is torch",
        "rmsprop torch",
        "rmsprop optax eps_placement=outside rho=0.99",
        True,
    ),
    _claim(1, "at the same eps optax is keras", "rmsprop optax eps=1e-7", "rmsprop keras", True),
    _claim(2, "the defaults of rho and eps alone", "rmsprop torch", "rmsprop torch rho=0.9"),
    _claim(
        3,
        "lr outside the momentum buffer or inside it, lr constant",
        "rmsprop torch momentum=0.9",
        "rmsprop torch momentum=0.9 lr_placement=inside",
        True,
    ),
    _claim(
        3,
        "the same while lr changes",
        "rmsprop torch momentum=0.9",
        "rmsprop torch momentum=0.9 lr_placement=inside",
        stream="schedule",
    ),
    _claim(4, "centred or not", "rmsprop torch", "rmsprop torch centered=True"),
    _claim(
        5,
        "eps added to the corrected root (torch, optax) or to the raw one (keras)",
        "adam torch",
        "adam torch eps_placement=hat",
    ),
    _claim(5, "torch is optax", "adam torch", "adam optax", True),
    _claim(6, "eps 1e-8 (torch, optax) or 1e-7 (keras)", "adam torch", "adam torch eps=1e-7"),
    _claim(
        7,
        "the largest v corrected afterwards (torch, keras) or the largest corrected v (optax)",
        "amsgrad torch",
        "amsgrad optax",
    ),
    _claim(8, "the paper corrects no bias", "amsgrad torch", "amsgrad paper"),
    _claim(9, "momentum schedule (torch) or constant momentum (optax)", "nadam torch", "nadam optax"),
    _claim(9, "psi 0.004 (torch) or 1 (keras)", "nadam torch", "nadam torch psi=1.0"),
    _claim(9, "with psi = 1 and its eps torch is keras", "nadam torch psi=1.0 eps=1e-7", "nadam keras", True),
    _claim(
        12,
        "eps inside the maximum (torch, optax) or beside it (keras)",
        "adamax torch",
        "adamax torch eps_placement=outside",
    ),
    _claim(12, "torch is optax", "adamax torch", "adamax optax", True),
    _claim(
        14,
        "the accumulator starts at 0 (torch) or 0.1 (optax, keras)",
        "adagrad torch",
        "adagrad torch initial_accumulator_value=0.1",
    ),
    _claim(
        14,
        "from 0.1 and with their eps torch is theirs but for the place of eps",
        "adagrad torch initial_accumulator_value=0.1 eps=1e-7",
        "adagrad optax",
    ),
    _claim(14, "optax is keras", "adagrad optax", "adagrad keras", True),
    _claim(15, "torch is optax", "adadelta torch", "adadelta optax", True),
    _claim(
        15, "with its rho and eps torch is keras, lr apart", "adadelta torch rho=0.95 eps=1e-7", "adadelta keras", True
    ),
    _claim(
        16,
        "lr outside the velocity (torch, optax) or inside it (keras), lr constant",
        "heavy_ball torch",
        "heavy_ball keras",
        True,
    ),
    _claim(16, "the same while lr changes", "heavy_ball torch", "heavy_ball keras", stream="schedule"),
    _claim(17, "dampening, which torch alone has", "heavy_ball torch", "heavy_ball torch dampening=0.5"),
    _claim(18, "torch's form is keras', lr constant", "nesterov torch", "nesterov keras", True),
    _claim(18, "the same while lr changes", "nesterov torch", "nesterov keras", stream="schedule"),
    _claim(
        19,
        "weight_decay of Adam: into the gradient (torch) or decoupled (keras)",
        "adam torch weight_decay=0.1",
        "adamw torch weight_decay=0.1",
        stream="decay",
    ),
    _claim(
        20,
        "decay times lr (torch, optax, keras) or not (paper)",
        "adamw torch",
        "adamw torch decay_times_lr=False",
        stream="decay",
    ),
    _claim(
        20, "at the same weight_decay torch is optax", "adamw torch weight_decay=1e-4", "adamw optax", True, "decay"
    ),
    _claim(21, "weight_decay 1e-2 (torch) or 1e-4 (optax)", "adamw torch", "adamw optax", stream="decay"),
    _claim(23, "eps added to the raw root (torch) or to the corrected one (optax)", "radam torch", "radam optax"),
    _claim(23, "rectified from rho > 4 (paper) or > 5 (torch, optax)", "radam optax", "radam optax threshold=4.0"),
    _claim(25, "the shrinkage lambda = 1e-4 (torch)", "asgd torch", "asgd torch lambd=0.0", stream="decay"),
    _claim(
        26,
        "eps_root stored in s at every step (optax) or added at its use",
        "adabelief optax eps_root=1e-8",
        "adabelief optax eps_root=1e-8 store_eps_root=False",
    ),
    _claim(27, "m and v start at 1e-6 and are corrected (optax), or not (paper)", "yogi optax", "yogi paper"),
    _claim(28, "bias corrected (optax, keras) or not", "lamb optax", "lamb optax bias_correction=False"),
    _claim(28, "at the same eps optax is keras", "lamb optax", "lamb keras eps=1e-6", True),
    _claim(29, "defaults of beta1 and beta2", "novograd optax", "novograd paper"),
    _claim(
        29,
        "at the same betas and eps optax is the paper",
        "novograd optax beta1=0.95 beta2=0.98 eps=1e-8",
        "novograd paper",
        True,
    ),
    _claim(
        30,
        "the difference of gradients weighed by beta2 (paper) or 1 - beta2 (optax)",
        "adan optax difference_weight=beta2",
        "adan optax",
    ),
    _claim(30, "eps_root 1e-8 inside the root (optax) or none", "adan optax", "adan optax eps_root=0.0"),
    _claim(31, "at the same weight_decay optax is the paper", "lion optax weight_decay=0.0", "lion paper", True),
    _claim(
        32,
        "bias corrected in lr (authors) or in v (optax, keras)",
        "schedule_free_adamw paper",
        "schedule_free_adamw optax",
    ),
    _claim(
        33,
        "plain momentum (torch, keras) or corrected for its bias (optax)",
        "muon torch",
        "muon torch bias_correction=True",
    ),
    _claim(33, "Nesterov's mix or plain momentum", "muon torch", "muon torch nesterov=False"),
    _claim(34, "scale original (torch, optax) or moonshot (keras)", "muon torch", "muon torch scale=moonshot"),
    _claim(34, "scale original (torch, optax) or spectral", "muon torch", "muon torch scale=spectral"),
    _claim(35, "the norm clamped at eps (torch) or eps added to it", "muon torch", "muon torch eps_placement=added"),
    _claim(37, "the exponent -1/(2k) (paper) or -1/k, k axes (several ports)", "shampoo paper", "shampoo paper p=2"),
    _claim(38, "statistics summed (paper) or averaged", "shampoo paper", "shampoo paper beta2=0.999"),
    _claim(
        38,
        "eps in the sums from the start (paper) or added relative to the largest eigenvalue",
        "shampoo paper",
        "shampoo paper eps=0.0 ridge=1e-6",
    ),
    _claim(
        38, "ungrafted (paper) or with the length of Adagrad's step", "shampoo paper", "shampoo paper graft=adagrad"
    ),
    _claim(38, "roots at every step (paper) or at every 20th", "shampoo paper", "shampoo paper interval=20"),
    _claim(
        39,
        "the first step taken (paper) or spent on the basis (authors' code)",
        "soap paper",
        "soap paper skip_first=True",
    ),
    _claim(
        39, "eps beside the corrected root or the raw one (authors' code)", "soap paper", "soap paper eps_placement=hat"
    ),
    _claim(
        39, "a power iteration refreshes the basis, or an eigendecomposition", "soap paper", "soap paper basis=eigh"
    ),
    _claim(39, "a new basis at every 10th step or at every one", "soap paper", "soap paper interval=1"),
    _claim(
        42,
        "a clamp (torch) or eps1 added to squares (keras): the same above 1e-9",
        "adafactor torch",
        "adafactor keras",
        True,
    ),
    _claim(42, "factored along the last axes, or from 128 on (optax)", "adafactor optax min_dim=2", "adafactor optax"),
)

NOTES: Mapping[int, str] = {
    2: "TF1's v0 = 1, which timm keeps, is measured by optax' initial_scale.",
    3: "Corrected: optax.rmsprop multiplies by lr before the trace, as keras does: lr_placement 'inside'.",
    4: "refopt computes the centred variance without the cancellation that gives torch nan in float32.",
    7: "Both corrections off, optax is the paper: a row of the first table.",
    10: "See the defaults: lr 2e-3 (torch), 1e-3 (keras), none (optax).",
    11: "optax.adam(nesterov=True) is its nadam, row 9: a row of the first table.",
    13: "See the defaults: lr 2e-3 (torch), 1e-3 (keras).",
    18: "That the paper's look-ahead form is theirs after a change of variable: tests/first_order/test_momentum.py.",
    19: "torch's Adam(decoupled_weight_decay=True) is its AdamW: a row of the first table.",
    22: "AdaHessian's decay is its authors', on the point before the step; SOAP's code has it after the step. With a "
    "step u the two are lr^2 weight_decay u apart.",
    24: "A bug, below: optax' step is the one due a step before.",
    28: "Corrected: pytorch_optimizer corrects m, in lr and so after the ratio: its first step is ten times optax'.",
    30: "A bug, below.",
    32: "Prodigy, ADOPT, MADGRAD and AdEMAMix are not here.",
    33: "Muon is replayed on a wide and a tall matrix; torch is given them transposed, as its weights are.",
    34: "The scales original, moonshot and spectral are knobs of muon.",
    36: "See the defaults.",
    40: "Mended in pytorch_optimizer 4.1.0: up to 3.10.0 its probes were those of row 49, always -1. refopt's "
    "averages, signed (paper) and absolute (authors): tests/diagonal/test_adahessian.py.",
    41: "optax' late Hessian is a bug, below.",
    42: "In float64; torch clamps at the square of the spacing of the dtype, 1e-14 in float32.",
    43: "Corrected: scipy's, marked as remembered, is measured. The presets torch, optax and scipy of lbfgs have them.",
    44: "optax keeps pairs of negative curvature, a bug, below; refopt skips them.",
    45: "See whole solvers. Corrected, at n = 2 and 10: scipy's CG takes 77 and 537 gradients, torch with a search 43 "
    "and 85; without one 62 and 111, where the 87 and 132 known were with 10 pairs. Those known of scipy's trust "
    "regions were values.",
    46: "refopt says LINE_SEARCH_FAILED in the result's status. scipy's trust-exact, which could loop for ever "
    "(#12513), ends at 25 iterations since; its stale factor (#20244) is a bug, below.",
    47: "refopt has real parameters alone.",
    48: "refopt's Fisher is a mean over examples, a sum over outputs, of a square loss that has the 1/2: golden files "
    "have the factors. Drawn targets are one an example (M = 1); expand or reduce is a knob of kfac: "
    "tests/curvature/test_kronecker.py. curvlinops, BackPACK and ASDL are not among the libraries.",
    49: "Traces are estimated with a standard error: tests/curvature/test_trace.py. PyHessian is no library here.",
    50: "Weights are squares of the first components, T's eigenvalues from a symmetric solver: "
    "tests/curvature/test_spectral_density.py.",
    51: "refopt has the field's words in all methods: lr, momentum, beta1, beta2, eps, weight_decay.",
}
"""What a claim or a script does not say, and rows without one."""

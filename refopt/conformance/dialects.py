"""Which optimizer of which library each method's dialect is, so that the claim can be replayed.

`PEERS` has one row a claim. The library's optimizer is made with lr and the options given, all else at its defaults; it
must agree with the method under the dialect of that name and the hyperparameters given. A row with a `bug` is known to
differ, and says why. Muon is given matrices alone. Methods that are in none of the libraries (nesterov_convex) have no
row.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from refopt.conformance.adapters.methods import layout_for
from refopt.conformance.recording import Recording, record
from refopt.conformance.replay import Comparison, compare, default_lr, preset
from refopt.conformance.streams import NAMES
from refopt.conformance.streams import get as stream
from refopt.method import get

LIBRARIES = ("torch", "optax", "keras", "pytorch_optimizer")
NAMED = LIBRARIES[:3]
"""Those that dialects are named after."""

CONSTANT = tuple(name for name in NAMES if stream(name).lr is None)
SCHEDULED = tuple(name for name in NAMES if stream(name).lr is not None)


class Peer(NamedTuple):
    """One optimizer of another library and the reference that it is held against."""

    method: str
    library: str
    optimizer: str  # its path inside the library
    options: Mapping[str, Any] = {}
    hyper: Mapping[str, Any] = {}  # of the reference, beyond the dialect
    dialect: str = ""  # the library's own unless given
    streams: tuple[str, ...] = NAMES
    rtol: float = 0.0  # allowed because of
    precision: str = ""  # numbers that the library computes in a shorter format than x
    bug: str = ""  # why the two are known to differ

    @property
    def name(self) -> str:
        """The name of the row, and of its recording: 'rmsprop-torch-momentum'."""
        return "-".join([self.method, self.library, *self.options, *(["bug"] if self.bug else [])])

    @property
    def call(self) -> str:
        """The candidate as its users write it: 'torch.optim.SGD(lr, momentum=0.9)'."""
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"{self.library}.{self.optimizer}(lr{options})"

    @property
    def reference(self) -> dict[str, Any]:
        """All keywords of the reference, lr among them."""
        method = get(self.method)
        return {"lr": default_lr(method), **preset(method, self.dialect or self.library), **self.hyper}

    def candidate(self) -> Callable[..., Any]:
        """Return the optimizer's class or factory. Raises ImportError where the library is missing."""
        os.environ.setdefault("KERAS_BACKEND", "torch")
        path = self.optimizer.split(".")
        module = importlib.import_module(".".join([self.library, *path[:-1]]))
        return partial(getattr(module, path[-1]), **self.options)

    def record(self) -> Recording:
        """Play the library's optimizer, and note its version and all hyperparameters."""
        about = {"version": version(self.library), "call": self.call, "reference": self.reference}
        layout = layout_for(get(self.method))
        return record(self.candidate(), self.reference["lr"], streams=self.streams, about=about, layout=layout)

    def compare(self, candidate: Any) -> Comparison:
        """Hold `candidate`, this peer or a recording of it, against the reference."""
        return compare(candidate, self.method, streams=self.streams, rtol=self.rtol, **self.reference)


OPEN = tuple(name for name in NAMES if not name.startswith(("quadratic", "saddle")))
"""Without feedback: where steps of one length jump about the minimum, rounding decides to which side."""

LARGE = ("schedule", "decay", "decay_float32")
"""Those on which x is far larger than what half precision does to a step."""

HALF = "the iteration is in bfloat16"
DECAY = "1 - t^-0.8 is computed in float32"
WEIGHTS = "the weights of the means are float32 tensors"
ALIAS = "on the torch backend the z kept from before the step is an alias of the z after it"
AHEAD = "the weights of the average read lr one step ahead of the steps, and its largest value so far"

PEERS = (
    Peer("sgd", "torch", "optim.SGD"),
    Peer("sgd", "optax", "sgd"),
    Peer("sgd", "keras", "optimizers.SGD"),
    Peer("heavy_ball", "torch", "optim.SGD", {"momentum": 0.9}),
    Peer("heavy_ball", "torch", "optim.SGD", {"momentum": 0.9, "dampening": 0.5}, {"dampening": 0.5}),
    Peer("heavy_ball", "optax", "sgd", {"momentum": 0.9}),
    Peer("heavy_ball", "keras", "optimizers.SGD", {"momentum": 0.9}),
    Peer("nesterov", "torch", "optim.SGD", {"momentum": 0.9, "nesterov": True}),
    Peer("nesterov", "optax", "sgd", {"momentum": 0.9, "nesterov": True}),
    Peer("nesterov", "keras", "optimizers.SGD", {"momentum": 0.9, "nesterov": True}),
    Peer("adagrad", "torch", "optim.Adagrad"),
    Peer("adagrad", "optax", "adagrad"),
    Peer("adagrad", "keras", "optimizers.Adagrad"),
    Peer("adadelta", "torch", "optim.Adadelta"),
    Peer("adadelta", "optax", "adadelta"),
    Peer("adadelta", "keras", "optimizers.Adadelta"),
    Peer("rmsprop", "torch", "optim.RMSprop"),
    Peer("rmsprop", "optax", "rmsprop"),
    Peer("rmsprop", "keras", "optimizers.RMSprop"),
    Peer("rmsprop", "torch", "optim.RMSprop", {"momentum": 0.9}, {"momentum": 0.9}),
    Peer("rmsprop", "optax", "rmsprop", {"momentum": 0.9}, {"momentum": 0.9}),
    Peer("rmsprop", "keras", "optimizers.RMSprop", {"momentum": 0.9}, {"momentum": 0.9}),
    Peer("rmsprop", "torch", "optim.RMSprop", {"centered": True}, {"centered": True}),
    Peer("rmsprop", "optax", "rmsprop", {"centered": True}, {"centered": True}),
    Peer("rmsprop", "keras", "optimizers.RMSprop", {"centered": True}, {"centered": True}),
    Peer("adam", "torch", "optim.Adam"),
    Peer("adam", "torch", "optim.Adam", {"weight_decay": 0.1}, {"weight_decay": 0.1}),
    Peer("adam", "optax", "adam"),
    Peer("adam", "keras", "optimizers.Adam"),
    Peer("adamax", "torch", "optim.Adamax"),
    Peer("adamax", "optax", "adamax"),
    Peer("adamax", "keras", "optimizers.Adamax"),
    Peer("nadam", "torch", "optim.NAdam", rtol=1e-6, precision="the product of momenta is a float32 tensor"),
    Peer("nadam", "optax", "nadam"),
    Peer("nadam", "optax", "adam", {"nesterov": True}),
    Peer("nadam", "keras", "optimizers.Nadam"),
    Peer("amsgrad", "torch", "optim.Adam", {"amsgrad": True}),
    Peer("amsgrad", "optax", "amsgrad"),
    Peer(
        "amsgrad",
        "optax",
        "amsgrad",
        {"bias_correction_mu": False, "bias_correction_nu": False},
        {"eps": 1e-8},
        dialect="paper",
    ),
    Peer("amsgrad", "keras", "optimizers.Adam", {"amsgrad": True}),
    Peer("adamw", "torch", "optim.AdamW"),
    Peer("adamw", "torch", "optim.Adam", {"weight_decay": 0.01, "decoupled_weight_decay": True}),
    Peer("adamw", "optax", "adamw"),
    Peer("adamw", "keras", "optimizers.AdamW"),
    Peer("radam", "torch", "optim.RAdam"),
    Peer("radam", "optax", "radam"),
    Peer("asgd", "torch", "optim.ASGD", streams=CONSTANT, rtol=1e-6, precision="eta is a float32 tensor"),
    Peer("asgd", "torch", "optim.ASGD", streams=SCHEDULED, rtol=1e-6, bug="each step has the lr of the step before"),
    Peer("rprop", "torch", "optim.Rprop", streams=CONSTANT),
    Peer(
        "rprop",
        "optax",
        "rprop",
        dialect="torch",
        streams=CONSTANT,
        bug="each step is the one due a step before",
    ),
    Peer("lion", "optax", "lion"),
    Peer("lion", "keras", "optimizers.Lion"),
    Peer("schedule_free", "optax", "contrib.schedule_free_sgd", dialect="paper", streams=CONSTANT),
    Peer("schedule_free_adamw", "optax", "contrib.schedule_free_adamw", streams=CONSTANT),
    Peer("schedule_free", "optax", "contrib.schedule_free_sgd", dialect="paper", streams=SCHEDULED, bug=AHEAD),
    Peer("schedule_free_adamw", "optax", "contrib.schedule_free_adamw", streams=SCHEDULED, bug=AHEAD),
    Peer("schedule_free_adamw", "keras", "optimizers.ScheduleFreeAdamW", bug=ALIAS),
    Peer("adabelief", "optax", "adabelief"),
    Peer("yogi", "optax", "yogi"),
    Peer("adan", "optax", "adan"),
    Peer(
        "adan",
        "optax",
        "adan",
        hyper={"difference_weight": "beta2"},
        bug="the gradient difference is weighed by 1 - b2 = 0.08 in place of b2 = 0.92",
    ),
    Peer("adafactor", "torch", "optim.Adafactor"),
    Peer("adafactor", "optax", "adafactor", rtol=1e-5, precision=DECAY),
    Peer("adafactor", "optax", "adafactor", {"min_dim_size_to_factor": 2}, {"min_dim": 2}, rtol=1e-5, precision=DECAY),
    Peer("adafactor", "keras", "optimizers.Adafactor", rtol=1e-6, precision="means are float32 tensors"),
    Peer("lamb", "optax", "lamb"),
    Peer("lamb", "keras", "optimizers.Lamb"),
    Peer("lars", "optax", "lars"),
    Peer("novograd", "optax", "novograd"),
    Peer("muon", "torch", "optim.Muon", streams=LARGE, rtol=5e-3, precision=HALF),
    Peer(
        "muon",
        "torch",
        "optim.Muon",
        {"adjust_lr_fn": "match_rms_adamw"},
        {"scale": "moonshot"},
        streams=LARGE,
        rtol=5e-3,
        precision=HALF,
    ),
    Peer("muon", "optax", "contrib.muon", streams=OPEN),
    Peer("muon", "keras", "optimizers.Muon", streams=OPEN, rtol=1e-6, precision="the scale is a float32 number"),
    Peer("adabelief", "pytorch_optimizer", "AdaBelief", dialect="optax"),
    Peer("adan", "pytorch_optimizer", "Adan", hyper={"bias_correction": True}, dialect="paper"),
    Peer("aggmo", "pytorch_optimizer", "AggMo", hyper={"lr": 1e-3}, dialect="paper"),
    Peer(
        "qhm",
        "pytorch_optimizer",
        "QHM",
        {"momentum": 0.9, "nu": 0.7},
        {"lr": 1e-3, "momentum": 0.9},
        dialect="paper",
    ),
    Peer(
        "qhadam",
        "pytorch_optimizer",
        "QHAdam",
        {"betas": (0.995, 0.999), "nus": (0.7, 1.0)},
        dialect="paper",
        rtol=1e-6,
        precision=WEIGHTS,
    ),
    Peer("lion", "pytorch_optimizer", "Lion", dialect="paper"),
    Peer("yogi", "pytorch_optimizer", "Yogi", dialect="optax"),
    Peer("radam", "pytorch_optimizer", "RAdam", {"degenerated_to_sgd": True}, dialect="torch"),
    Peer("schedule_free", "pytorch_optimizer", "ScheduleFreeSGD", dialect="paper", streams=CONSTANT),
)


def version(library: str) -> str:
    """Return the version installed of `library`, or "" where there is none."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return ""

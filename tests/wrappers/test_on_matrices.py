from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import problems
from refopt import Layout, bind, minimize, schedules
from refopt.first_order import adafactor, adamw, lamb, schedule_free, sgd
from refopt.structured import muon, shampoo
from refopt.wrappers import groups, on_matrices

MLP = problems.get("mlp_digits", hidden=(4,))


def is_matrix(name: str, shape: tuple[int, ...]) -> bool:
    return len(shape) == 2


def test_it_is_groups_on_the_layout_of_the_problem() -> None:
    lr = schedules.cosine(0.02, 5)
    chosen: dict[str, Any] = {
        "matrices": (is_matrix, muon, {"lr": lr, "momentum": 0.9}),
        "rest": (lambda name, shape: True, adamw, {"lr": 3e-3, "beta1": 0.8}),
    }
    want = minimize(MLP, groups(MLP.layout, chosen), steps=4, batch_size=50)
    method = on_matrices(muon, adamw)
    got = minimize(MLP, method, steps=4, batch_size=50, lr=lr, momentum=0.9, adamw_lr=3e-3, adamw_beta1=0.8)
    assert method.name == "muon+adamw"
    assert np.array_equal(got.x, want.x)
    assert got.ledger.counts == want.ledger.counts
    assert got.ledger.flops == want.ledger.flops > 0
    assert set(method.SPEC.search) == {"lr", "adamw_lr", *(f"adamw_{knob}" for knob in adamw.SPEC.search)}


def test_options_of_init_reach_both_methods_each_with_its_own_layout() -> None:
    method = on_matrices(shampoo, adafactor)
    given = minimize(MLP, method, steps=3, block=8, lr=0.1, adafactor_lr=0.01).x
    assert not np.array_equal(given, minimize(MLP, method, steps=3, lr=0.1, adafactor_lr=0.01).x)
    matrices = MLP.layout.mask(is_matrix, MLP.x0)
    both = minimize(MLP, lamb, steps=1).x
    np.testing.assert_array_equal(minimize(MLP, on_matrices(lamb, sgd), steps=1).x[matrices], both[matrices])


def test_a_scalar_in_the_shape_of_a_matrix_goes_to_the_rest() -> None:
    fixup = problems.get("resnet_digits", depth=4, width=3)
    shapes = fixup.layout.shapes
    assert shapes["bias1.b"] == shapes["residual1.multiplier1.m"] == (1, 1)
    x0 = fixup.x0 + 0.1  # at the start, where the last layer is 0, hardly anything moves
    result = minimize(fixup, on_matrices(muon, adamw), x0=x0, steps=1, lr=0.0, adamw_lr=0.1)
    moved = {name for name, part in fixup.layout.split(result.x - x0).items() if np.any(part != 0.0)}
    assert moved == {name for name in shapes if not name.endswith(".W")}


def test_misuse() -> None:
    method = on_matrices(muon, adamw)
    with pytest.raises(TypeError, match="no hyperparameter 'adamw_rl'; did you mean 'adamw_lr'"):
        bind(method, adamw_rl=1.0)
    with pytest.raises(ValueError, match="must report the point it iterates, got 'schedule_free'"):
        on_matrices(muon, schedule_free)
    for problem in (problems.get("rosenbrock"), problems.get("matrix_factorisation")):
        with pytest.raises(TypeError, match=r"muon\+adamw needs a layout with matrices and with other parts"):
            minimize(problem, method, steps=1)
    with pytest.raises(TypeError, match="needs a layout"):
        minimize(MLP, method, steps=1, layout=Layout({"W": (1, MLP.n)}))

"""Candidates of every kind are played alike; what is none is refused in words."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from refopt import bind
from refopt.conformance import adapt, assert_matches, compare, load, record, save
from refopt.conformance.streams import LAYOUT, NAMES
from refopt.first_order import adam, adamw, heavy_ball, nesterov, sgd

SHORT: dict[str, Any] = {"streams": ("scales", "schedule", "decay"), "steps": 20}


def descend(x: Any, g: Any, state: Any, lr: float = 1e-2) -> tuple[Any, Any]:
    return x - lr * g, state


def test_functions_methods_and_recordings(tmp_path: Any) -> None:
    assert_matches(descend, "sgd", **SHORT)
    assert_matches(sgd, sgd, **SHORT)
    assert_matches(bind(heavy_ball, lr=0.1, momentum=0.5), "heavy_ball", lr=0.1, momentum=0.5, **SHORT)
    recording = record(adam, 1e-3, streams=SHORT["streams"], steps=(1, 5, 20), about={"why": "a test"})
    save(recording, tmp_path / "adam.npz")
    back = load(tmp_path / "adam.npz")
    assert back.about == {"candidate": "adam", "lr": 1e-3, "why": "a test"}
    assert_matches(back, "adam", **SHORT)
    first = compare(back, "adam", beta2=0.99, **SHORT).first
    assert first is not None
    assert first.step == 5  # the first one kept of those that differ


def test_masks_reach_the_reference() -> None:
    mask = LAYOUT.mask(lambda name, shape: name == "w", like=np.zeros(LAYOUT.n))
    candidate = bind(adamw, lr=0.1, weight_decay=0.1, mask=mask)
    assert_matches(candidate, "adamw", lr=0.1, weight_decay=0.1, mask=mask, **SHORT)
    first = compare(candidate, "adamw", lr=0.1, weight_decay=0.1, streams=["decay"], steps=1).first
    assert first is not None
    assert first.coordinate >= 8  # of b, which is not to decay


def test_a_fixed_learning_rate_leaves_schedules_out() -> None:
    def fixed(x: Any, g: Any, state: Any) -> tuple[Any, Any]:
        return x - 0.5 * g, state

    for candidate in (fixed, bind(sgd, lr=0.5)):
        comparison = compare(candidate, "sgd", lr=0.5, **SHORT)
        assert comparison.agrees
        assert [d.stream for d in comparison.streams] == ["scales", "decay"]
    with pytest.raises(ValueError, match="streams must name one"):
        compare(fixed, "sgd", streams=["schedule"])


@pytest.mark.parametrize("candidate", [42, "adam", descend(1.0, 1.0, None), lambda x: x, object, np.zeros(3)])
def test_other_candidates_are_refused(candidate: Any) -> None:
    with pytest.raises(TypeError, match=r"candidate must be one of(.|\n)*torch.optim.Optimizer"):
        compare(candidate, "sgd")


def test_what_a_function_takes_says_what_it_is_and_not_its_first_name() -> None:
    """`params` does not make a torch factory, nor `lr` an optax one, of what needs more than that."""

    def update(params: Any, grads: Any, state: Any, lr: float) -> tuple[Any, Any]:
        return params - lr * grads, state

    def without(params: Any, grads: Any, state: Any = None) -> tuple[Any, Any]:
        return params - 0.01 * grads, state

    def lr_first(lr: float, x: Any, g: Any) -> Any:
        return x - lr * g

    assert_matches(update, "sgd", **SHORT)
    assert_matches(without, "sgd", lr=0.01, **SHORT)
    with pytest.raises(TypeError, match="candidate must be one of"):
        adapt(lr_first)


def test_a_module_with_init_and_step_alone_is_a_candidate() -> None:
    assert_matches(SimpleNamespace(init=adam.init, step=adam.step), "adam", **SHORT)


def test_complex_iterates_are_refused() -> None:
    with pytest.raises(TypeError, match="must return x as real numbers, got complex128"):
        compare(lambda x, g, state, lr: (x - lr * g + 0j, state), "sgd")


def test_a_factory_of_something_else_is_refused() -> None:
    with pytest.raises(TypeError, match="makes a dict"):
        adapt(lambda lr: {"lr": lr})


def test_wrong_answers_of_functions_are_named() -> None:
    with pytest.raises(TypeError, match=r"must return \(x, state\), got ndarray"):
        compare(lambda x, g, state: x - g, "sgd")
    with pytest.raises(ValueError, match=r"must return x of shape \(12,\) and dtype float64, got \(1,\)"):
        compare(lambda x, g, state: (x[:1], state), "sgd")


def test_misuse_is_named() -> None:
    with pytest.raises(ValueError, match="unknown method 'adamm'; did you mean 'adam'"):
        compare(descend, "adamm")
    with pytest.raises(ValueError, match="sgd has no dialect 'troch'; did you mean 'torch'"):
        compare(descend, "sgd", dialect="troch")
    with pytest.raises(ValueError, match="unknown stream 'scale'"):
        compare(descend, "sgd", streams=["scale"])
    with pytest.raises(TypeError, match="sgd has no hyperparameter 'momentum'"):
        compare(descend, "sgd", momentum=0.9)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        compare(descend, "sgd", steps=0)
    with pytest.raises(ValueError, match="rtol must be at least 0"):
        compare(descend, "sgd", rtol=-1.0)
    with pytest.raises(TypeError, match="gradients alone to be replayed; lbfgs needs"):
        compare(descend, "lbfgs")


def test_the_message_says_where_they_part() -> None:
    with pytest.raises(AssertionError, match=r"not refopt's heavy_ball, dialect 'torch'\nfirst divergence: stream 'sc"):
        assert_matches(descend, "heavy_ball", dialect="torch", **SHORT)


def test_nan_differs_from_a_number_and_agrees_with_nan() -> None:
    def broken(x: Any, g: Any, k: Any, lr: float) -> tuple[Any, Any]:
        k = 0 if k is None else k + 1
        return (x - lr * g if k < 7 else x * np.nan), k

    first = compare(broken, "sgd", **SHORT).first
    assert first is not None
    assert first.step == 8
    assert np.isnan(first.candidate)
    assert compare(adam, "adam", streams=["zeros"], steps=5, eps=0.0).first is not None  # 0 / 0 in the reference alone


def test_a_coordinate_that_must_not_move_is_wholly_different_when_it_does() -> None:
    first = compare(
        lambda x, g, state, lr: (x - lr * np.where(g == 0, 1e-12, g), state), "sgd", streams=["zeros"]
    ).first
    assert first is not None
    assert first.reference == 0.0
    assert first.relative == 1.0


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_torch_in_all_its_forms() -> None:
    torch = pytest.importorskip("torch")
    assert_matches(torch.optim.SGD, "sgd", **SHORT)
    assert_matches(partial(torch.optim.Adam, eps=1e-6), "adam", eps=1e-6, **SHORT)
    assert_matches(lambda params, lr: torch.optim.SGD(params, lr, momentum=0.9), "heavy_ball", **SHORT)

    class WritesGradient(torch.optim.SGD):  # type: ignore[misc, name-defined]
        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                for p in group["params"]:
                    p.grad.mul_(2.0)
            super().step(closure)

    first = compare(WritesGradient, "sgd", **SHORT).first
    assert first is not None
    assert first.what == "gradient"
    assert first.candidate == 2 * first.reference


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_optax_in_all_its_forms() -> None:
    optax = pytest.importorskip("optax")
    assert_matches(optax.adam, "adam", dialect="optax", **SHORT)
    assert_matches(partial(optax.adam, b2=0.99), "adam", beta2=0.99, **SHORT)
    assert_matches(lambda learning_rate: optax.sgd(learning_rate, momentum=0.5), "heavy_ball", momentum=0.5, **SHORT)
    comparison = compare(optax.sgd(0.5), "sgd", lr=0.5, **SHORT)
    assert comparison.agrees
    assert "schedule" not in [d.stream for d in comparison.streams]


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_keras_in_all_its_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    before = keras.config.floatx()
    assert_matches(keras.optimizers.Adam, "adam", dialect="keras", **SHORT)
    assert_matches(keras.optimizers.Adam(), "adam", dialect="keras", **SHORT)
    assert_matches(lambda lr: keras.optimizers.SGD(lr, momentum=0.9), "heavy_ball", dialect="keras", **SHORT)
    assert_matches(partial(keras.optimizers.Adam, epsilon=1e-3), "adam", dialect="keras", eps=1e-3, **SHORT)
    assert keras.config.floatx() == before


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_a_wrong_member_of_a_library_is_found() -> None:
    torch = pytest.importorskip("torch")
    first = compare(torch.optim.Adam, "adam", dialect="keras", **SHORT).first
    assert first is not None
    assert (first.stream, first.step, first.coordinate) == ("scales", 1, 0)  # eps against a gradient of 1e-9
    assert not compare(torch.optim.AdamW, "adam", dialect="torch", weight_decay=0.01, streams=NAMES, steps=20).agrees


def test_lookahead_is_another_path_than_the_shifted_form() -> None:
    assert compare(nesterov, "nesterov", form="shifted", streams=["scales"], steps=3).first is not None

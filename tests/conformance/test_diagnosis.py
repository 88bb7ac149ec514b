"""The diagnosis finds what it can make, says when it finds nothing, and its rules compose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from refopt import bind, method
from refopt.conformance import compare, mistakes, record
from refopt.conformance.adapters import methods
from refopt.conformance.changes import Change, changes
from refopt.conformance.diagnosis import diagnose
from refopt.conformance.mistakes.general import decay_in_gradient, lr_inside, lr_outside, update_lags
from refopt.conformance.mistakes.quotients import FORMS, QUOTIENT, LastLine
from refopt.conformance.recording import play
from refopt.conformance.replay import default_lr
from refopt.conformance.streams import get as stream
from refopt.first_order import adam, adamw, heavy_ball, sgd
from tests.conformance.mutants.adam import Keeping
from tests.conformance.mutants.adam import adam as make_adam
from tests.conformance.mutants.adaptive import rmsprop as make_rmsprop

FEW = ("scales", "schedule", "decay", "quadratic")
FIRST_ORDER = [
    name
    for name in method.names()
    if method.folder_of(name) == "first_order" and set(method.get(name).SPEC.needs) == {"grad"}
]


def path(method: Any, rules: Any = (), name: str = "schedule", **hyper: Any) -> Any:
    return play(methods.player(mistakes.make(method, rules), **hyper), stream(name), 8, 1e-2).x


def test_the_sentence_names_the_switch() -> None:
    found = diagnose(make_rmsprop(inside=True), "rmsprop", dialect="torch", steps=20)
    assert str(found) == "your RMSprop is refopt's with eps_placement='inside'"
    assert found.causes == ("eps_placement='inside'",)
    assert found.explains
    assert found.comparison.agrees


def test_the_sentence_names_two_causes() -> None:
    found = diagnose(make_adam(beta2=0.99, place="hat"), "adam", steps=20, streams=FEW)
    assert str(found) == "your Adam is refopt's with eps_placement='hat' and beta2=0.99"


def test_the_sentence_lists_ties() -> None:
    found = diagnose(lambda x, g, state, lr: (x - 2 * lr * g, None), "sgd", steps=20, streams=FEW)
    assert str(found) == "your SGD is refopt's with lr=0.02 (or, the same here: the gradient doubled)"


def test_a_right_candidate_has_no_cause() -> None:
    found = diagnose(make_adam(), "adam", steps=20)
    assert str(found) == "your Adam is refopt's"
    assert found.explains
    assert not found.causes
    assert found.comparison == compare(make_adam(), "adam", steps=20)


def test_what_nothing_explains_is_said_so() -> None:
    found = diagnose(lambda x, g, state, lr: (x - lr * g**3, None), "sgd", steps=20, streams=FEW)
    assert str(found) == f"none of the {found.tried} explanations tried, alone or in pairs, gives this candidate"
    assert not found.explains
    assert found.comparison.first is not None


def test_a_state_kept_between_runs_is_seen_whatever_else_is_wrong() -> None:
    used = Keeping()
    compare(used, "adam", steps=5)
    found = diagnose(used, "adam", steps=20, streams=FEW)
    assert found.causes == ("state not reset between runs",)
    assert not found.explains
    assert str(found).startswith("your Adam has state not reset between runs; beyond that none of")


def test_a_path_that_is_not_finite_explains_nothing() -> None:
    wrong = mistakes.make(adam, [QUOTIENT["the second moment of the step before"]])  # which is 0 at first
    assert not compare(make_adam(), wrong, steps=3, streams=FEW, eps=0.0).agrees


def test_a_state_kept_between_runs_is_explained_from_the_first_run_with_what_else_is_wrong() -> None:
    found = diagnose(Keeping(eps=1e-7), "adam", steps=20, streams=FEW)
    assert found.causes == ("state not reset between runs", "eps=1e-07")
    assert found.explains


def test_float32_is_named_with_what_else_is_wrong() -> None:
    found = diagnose(make_adam(dtype=np.float32, place="inside"), "adam", steps=20, streams=FEW)
    assert found.causes == ("float32 accumulation", "eps inside the root")


def test_two_mistakes_of_one_line_go_together() -> None:
    wrong = make_adam(place="inside", correct=(True, False))
    found = diagnose(wrong, "adam", steps=20, streams=("scales", "zeros"))
    assert set(found.causes) == {"eps inside the root", "bias correction of the second moment missing"}


def test_a_recording_is_diagnosed_without_its_candidate() -> None:
    recording = record(make_adam(eps=1e-7), 1e-3, streams=FEW, steps=range(1, 21))
    assert diagnose(recording, "adam", streams=FEW, steps=20).causes == ("eps=1e-07",)


def test_a_candidate_that_takes_no_lr_is_diagnosed_without_schedules() -> None:
    bound = bind(adam, lr=1e-3, beta2=0.99)
    assert diagnose(bound, "adam", streams=FEW, steps=20).causes == ("beta2=0.99",)


@pytest.mark.parametrize(
    ("key", "value"), [("beta1", 0.8765), ("beta2", 0.99905), ("eps", 2.5e-8), ("lr", 0.00123), ("weight_decay", 0.033)]
)
def test_a_hyperparameter_of_no_list_is_fitted(key: str, value: float) -> None:
    candidate = methods.player(mistakes.make(adam, [lambda call: call(**{key: value * scale(call)})]))

    def scale(call: mistakes.Call) -> float:
        return call.hyper["lr"] / 1e-3 if key == "lr" else 1.0

    assert diagnose(candidate, adam, streams=FEW, steps=20).causes == (f"{key}={value!r}",)


@pytest.mark.parametrize("hyper", [{"beta3": 0.9}, {"dialect": "jax"}, {"streams": ("sclaes",)}])
def test_misuse_raises_what_compare_raises(hyper: Any) -> None:
    with pytest.raises((TypeError, ValueError)) as expected:
        compare(make_adam(), "adam", **hyper)
    with pytest.raises(expected.type, match=expected.value.args[0][:20]):
        diagnose(make_adam(), "adam", **hyper)


# ------------------------------------------------------------------------------------------------------- the mistakes


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_a_method_without_mistakes_is_itself_to_the_bit(name: str) -> None:
    module = method.get(name)
    if "lr" in method.keywords(module.step):
        np.testing.assert_array_equal(path(mistakes.make(module, ())), path(module))


def test_lags_compose_each_with_its_own_memory() -> None:
    d = np.diff(path(sgd), axis=0, prepend=stream("schedule").x0[None])
    late = np.diff(path(sgd, [update_lags, update_lags]), axis=0, prepend=stream("schedule").x0[None])
    np.testing.assert_allclose(late[2:], d[:-2], rtol=0, atol=1e-15)
    np.testing.assert_array_equal(late[:2], 0.0)


def test_l2_in_place_of_the_decay_is_adam() -> None:
    x = path(adamw, [decay_in_gradient], weight_decay=0.1)
    np.testing.assert_array_equal(x, path(adam, weight_decay=0.1))


def test_lr_inside_is_the_switch() -> None:
    want = path(heavy_ball, lr_placement="inside")
    np.testing.assert_allclose(path(heavy_ball, [lr_inside]), want, rtol=1e-13)
    outside = path(heavy_ball, [lr_outside], lr_placement="inside")
    np.testing.assert_allclose(outside, path(heavy_ball), rtol=1e-13)


@pytest.mark.parametrize("name", [name for name in FORMS if name != "adahessian"])  # which asks for products
def test_a_last_line_taken_again_is_the_method(name: str) -> None:
    module = method.get(name)
    decays = {"weight_decay": 0.1} if "weight_decay" in method.keywords(module.step) else {}
    for dialect in ({}, *module.DIALECTS.values()):
        hyper = {key: value for key, value in {**decays, **dialect}.items() if key != "lr"}
        for s in ("scales", "schedule", "decay"):
            want = path(module, name=s, **hyper)
            np.testing.assert_allclose(path(module, [LastLine()], s, **hyper), want, rtol=1e-11)


def found_again(name: str, change: Change, hyper: dict[str, Any]) -> bool:
    """Say whether the method with a change is explained, if it still runs, and by that if it differs at all."""
    module = method.get(name)
    options = {"lr": default_lr(module), **hyper, **change.hyper}
    lr = options.pop("lr")
    candidate = methods.player(mistakes.make(module, change.rules), **options)
    try:
        play(candidate, stream("scales"), 1, lr)
    except (ValueError, ArithmeticError):
        return True
    recording = record(candidate, lr, streams=("scales", "decay", "quadratic"), steps=range(1, 16))
    found = diagnose(recording, module, streams=("scales", "decay", "quadratic"), steps=15, **hyper)
    return found.explains and len(found.causes) <= 1


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_what_the_search_offers_it_finds_again(name: str) -> None:
    module = method.get(name)
    hyper = {"weight_decay": 0.1} if "weight_decay" in method.keywords(module.step) else {}
    for change in changes(module, {"lr": default_lr(module), **hyper})[::9]:
        assert found_again(name, change, hyper), change.name

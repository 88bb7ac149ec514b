from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refopt import Schedule, bind, method
from refopt.first_order import adam, sgd
from refopt.objective import Objective

BOWL = Objective(value_and_grad=lambda x: (0.5 * (x @ x), x))


def test_every_file_in_a_method_folder_is_a_method() -> None:
    found = method.names()
    assert {"sgd", "heavy_ball", "nesterov", "adam", "schedule_free", "svrg", "adahessian"} <= set(found)
    assert len(found) == len(set(found))
    for name in found:
        module = method.get(name)
        assert isinstance(module, method.Method)
        assert method.name_of(module) == name
        assert module.State._fields[0] == "k"  # type: ignore[attr-defined]


def test_bind_routes_keywords_by_signature_and_evaluates_schedules_at_k() -> None:
    seen = []

    def lr(k: int) -> float:
        seen.append(k)
        return 0.1 * (k + 1)

    init, step = bind(sgd, lr=Schedule(lr, "test"))
    x, state = np.array([1.0]), None
    state = init(x)
    for _ in range(3):
        x, state = step(BOWL, x, state)
    assert seen == [0, 1, 2]
    np.testing.assert_allclose(x, 0.9 * 0.8 * 0.7)


def test_dialects_name_existing_knobs() -> None:
    for name in method.names():
        module = method.get(name)
        for dialect in module.DIALECTS.values():
            bind(module, **dialect)


def test_search_spaces_name_existing_knobs_and_span_their_range() -> None:
    for name in method.names():
        module = method.get(name)
        known = method.keywords(module.step) | method.keywords(module.init)
        for knob, axis in module.SPEC.search.items():
            assert knob in known, f"{name}: {knob}"
            low, high = axis.at(0.0), axis.at(1.0)
            if not isinstance(axis, method.Choice):
                assert low == pytest.approx(axis.low)
                assert high == pytest.approx(axis.high)
                assert axis.low < axis.at(0.5) < axis.high


def test_defaults_lie_within_the_search_spaces() -> None:
    """But for None and 0, which mean that something is off."""
    for name in method.names():
        module = method.get(name)
        defaults = {**method.keywords(module.init), **method.keywords(module.step)}
        for knob, axis in module.SPEC.search.items():
            default = defaults[knob]
            if default is inspect.Parameter.empty or not default:
                continue
            known = default in axis.options if isinstance(axis, method.Choice) else 0.0 <= axis.fraction(default) <= 1.0
            assert known, f"{name}: {knob} = {default}, {axis}"


@given(low=st.floats(1e-9, 1e9), ratio=st.floats(1.01, 1e9), u=st.floats(0.0, 1.0))
def test_a_fraction_leads_back_to_the_point_of_the_axis(low: float, ratio: float, u: float) -> None:
    for axis in (method.LogUniform(low, low * ratio), method.Uniform(low, low * ratio), method.Uniform(-low, low)):
        value = axis.at(u)
        assert axis.fraction(axis.low) == 0.0
        assert axis.fraction(axis.high) == pytest.approx(1.0)
        assert axis.at(axis.fraction(value)) == pytest.approx(value, rel=1e-9, abs=1e-9 * low)
        assert axis.fraction(value) == pytest.approx(u, abs=1e-9)


@given(st.lists(st.one_of(st.integers(), st.text(), st.booleans()), min_size=1, max_size=9, unique_by=repr))
def test_a_fraction_leads_back_to_the_option(options: list[object]) -> None:
    options = list({option: option for option in options}.values())  # 1 == True
    axis = method.Choice(tuple(options))
    assert [axis.at(axis.fraction(option)) for option in options] == options


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(TypeError, match=r"adam has no hyperparameter 'beta3'; did you mean 'beta"):
        bind(adam, beta3=0.5)
    with pytest.raises(ValueError, match=r"unknown method 'adm'; did you mean 'adam'\?"):
        method.get("adm")


def test_a_range_error_names_knob_rule_and_value() -> None:
    init, step = bind(adam, beta1=1.2)
    x = np.ones(2)
    with pytest.raises(ValueError, match=r"beta1 must be in \[0, 1\), got 1.2"):
        step(BOWL, x, init(x))


def test_an_init_option_cannot_follow_a_schedule() -> None:
    class Fake:
        SPEC, DIALECTS, __name__ = sgd.SPEC, {}, "fake"

        @staticmethod
        def init(x: object, *, memory: int = 3) -> None: ...

        @staticmethod
        def step(objective: object, x: object, state: object, *, lr: float) -> None: ...

    with pytest.raises(TypeError, match="'memory' of fake is fixed at init"):
        bind(Fake(), lr=0.1, memory=Schedule(lambda k: 3, "3"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="fake needs the hyperparameter 'lr'"):
        bind(Fake())  # type: ignore[arg-type]

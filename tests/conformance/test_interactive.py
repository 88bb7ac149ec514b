"""Methods that ask are held together step by step: right ones in another order agree, wrong ones differ."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from backends import random
from refopt import bind
from refopt.conformance.adapters.actor import adapt
from refopt.conformance.arenas import ARENAS, arenas
from refopt.conformance.check import check
from refopt.conformance.interactive import Served, first_question, play, traces
from refopt.conformance.queries import Query
from refopt.method import get, names
from refopt.newton import newton_cg, trust_region
from refopt.quasi_newton import lbfgs

ASKING = [name for name in names() if set(get(name).SPEC.needs) != {"grad"}]


@pytest.mark.parametrize("name", ASKING)
def test_every_method_that_asks_agrees_with_itself(name: str) -> None:
    found, notes = traces(get(name), get(name), steps=5)
    assert found
    assert not [trace.first for trace in found if trace.first]
    assert notes == []


def test_a_dialect_that_asks_for_more_than_its_method_s_spec_is_served_elsewhere() -> None:
    sophia: Any = get("sophia")
    found = check(bind(sophia, **sophia.DIALECTS["authors"]), "sophia", steps=5)
    assert (found.outcome, found.dialect) == ("agrees", "authors"), str(found)
    assert [stream["stream"] for stream in found.streams] == ["deep_linear", "deep_linear_float32"]


def make_adahessian(
    unsquared: bool = False, correct: bool = True, probes: str = "adahessian probe", extra: int = 0
) -> Any:
    """AdaHessian from its paper's lines, with room for mistakes; value and gradient are asked for one by one."""

    def update(x: Any, f: Any, state: Any, lr: float) -> Any:
        t, m, v = state or (0, 0 * x, 0 * x)
        for _ in range(extra):
            f.value(x + 1.0)
        f.value(x)
        g = f.grad(x)
        z = random.rademacher(len(x), seed=0, k=t, purpose=probes, like=x)
        D = f.hvp(x, z) * z
        t += 1
        m = m + 0.1 * (g - m)
        v = v + 0.001 * ((abs(D) if unsquared else D * D) - v)
        m_hat, v_hat = (m / (1 - 0.9**t), v / (1 - 0.999**t)) if correct else (m, v)
        return x - lr * (m_hat / (np.sqrt(v_hat) + 1e-4)), (t, m, v)

    return update


def svrg(x: Any, f: Any, state: Any, lr: float, stale: bool = False) -> Any:
    k, s, mu = state or (0, x, f.full.grad(x))
    x = x - lr * (f.grad(x) - (0.0 if stale else f.grad(s)) + mu)
    return x, (k + 1, s, mu)


def newton(x: Any, f: Any, state: Any) -> Any:
    _, g, mv = f.linearize(x)
    return x - np.linalg.inv(np.stack([mv(e) for e in np.eye(len(x))])) @ g, None


def barzilai_borwein_like(x: Any, f: Any, state: Any) -> Any:
    return x - 1e-3 * f.grad(x), None


@pytest.mark.parametrize(
    ("candidate", "method", "outcome"),
    [
        (make_adahessian(), "adahessian", "agrees"),
        (make_adahessian(unsquared=True), "adahessian", "differs"),
        (make_adahessian(correct=False), "adahessian", "differs"),
        (make_adahessian(probes="other draws"), "adahessian", "differs"),
        (svrg, "svrg", "agrees"),
        (lambda x, f, state, lr: svrg(x, f, state, lr, stale=True), "svrg", "differs"),
        (newton, "newton", "agrees"),
        (newton, "newton_cg", "differs"),
        (barzilai_borwein_like, "barzilai_borwein", "differs"),
        (bind(lbfgs, memory=5), "lbfgs", "differs"),
        (bind(lbfgs, memory=100, first_step="l1", maxiter=25), "lbfgs", "agrees"),
        (bind(newton_cg, eta_max=0.1), "newton_cg", "differs"),
        (trust_region, "trust_region", "agrees"),
        (trust_region, "trust_region_exact", "differs"),
    ],
)
def test_right_ones_agree_and_wrong_ones_differ(candidate: Any, method: str, outcome: str) -> None:
    found = check(candidate, method, steps=15, diagnose=False)
    assert (found.outcome, found.mode) == (outcome, "interactive"), str(found)


def test_who_asks_elsewhere_and_arrives_agrees_with_a_note() -> None:
    found = check(make_adahessian(extra=1), "adahessian", steps=5)
    assert found.outcome == "agrees"
    assert len(found.notes) == 1
    assert "it asks elsewhere: 'quadratic', step 1: at x =" in found.notes[0]


@pytest.mark.parametrize(
    ("wrong", "cause"),
    [({"unsquared": True}, "the absolute value in place of the square"), ({"correct": False}, "bias correction")],
)
def test_what_is_wrong_is_named(wrong: Any, cause: str) -> None:
    found = check(make_adahessian(**wrong), "adahessian", steps=15)
    assert found.diagnosis is not None
    assert found.diagnosis["explains"], str(found)
    assert cause in found.diagnosis["text"]


def test_a_state_kept_between_runs_is_seen() -> None:
    kept: list[int] = []

    def update(x: Any, f: Any, state: Any) -> Any:
        kept.append(0)
        return x - f.grad(x) / len(kept), None

    found = check(update, "newton", steps=3)
    assert found.diagnosis is not None
    assert found.diagnosis["causes"] == ["state not reset between runs"]


def test_directions_of_products_are_compared() -> None:
    found = check(make_adahessian(probes="other draws"), "adahessian", steps=5, diagnose=False)
    assert "along [" in found.notes[0]


def test_the_comparison_ends_where_rounding_rules() -> None:
    reference = Served(get("newton"), {}, 1.0, ARENAS["rosenbrock"](), 50)
    g = [np.max(np.abs(reference.stream.grad(0, x))) for x in reference.x]
    assert 5 < reference.horizon < 50
    assert g[reference.horizon - 1] > 1e-6 * np.max(np.abs(reference.stream.grad(0, reference.stream.x0)))


def test_served_batches_are_those_of_the_sum() -> None:
    _, (arena, *_) = arenas(get("svrg"))
    seen = []

    def look(x: Any, f: Any, state: Any) -> Any:
        seen.append((f.batch_size, f.full.batch_size, f.full.grad(x)))
        return x, None

    _, queries = play(adapt(look), arena, 2, 1.0)
    assert [sizes[:2] for sizes in seen] == [(5, 20), (5, 20)]
    np.testing.assert_array_equal(seen[0][2], arena.objective(0).full.grad(arena.x0))
    assert [query.step for query in queries] == [0, 1]


def test_questions_are_told_apart() -> None:
    arena = ARENAS["quadratic"]()
    reference = Served(get("newton_cg"), {}, 1.0, arena, 3)
    assert first_question(reference.queries, reference) == ""
    (first, *rest) = reference.queries
    moved = Query(first.step, first.x + 1e-6, first.v)
    assert "at x =" in first_question([moved, *rest], reference)
    products = [query for query in reference.queries if query.v is None]
    assert "0 curvature products asked about" in first_question(products, reference)


def test_what_cannot_be_served_is_said() -> None:
    found = check(lambda x: x, "newton")
    assert found.outcome == "could not run"
    assert "a function update(x, objective, state)" in found.error

    def fails(x: Any, f: Any, state: Any) -> Any:
        raise ZeroDivisionError("here")

    assert check(fails, "newton").error.endswith("fails at step 1 of 'quadratic')")
    assert "must return x of shape (6,)" in check(lambda x, f, state: (x[:-1], None), "newton").error


def test_a_gradient_changed_in_place_is_found_and_named() -> None:
    def careless(x: Any, f: Any, state: Any) -> Any:
        moved = newton(x, f, state)
        g = f.grad(x)
        g *= 100
        return moved

    found = check(careless, "newton", dialect="pure", steps=3)
    assert found.first is not None
    assert (found.outcome, found.first["what"], found.first["step"]) == ("differs", "gradient", 1)
    assert found.diagnosis is not None
    assert found.diagnosis["causes"] == ["the gradient changed in place"]


def lr_inside(x: Any, f: Any, state: Any, lr: float, inside: bool = True) -> Any:
    """AdaHessian with lr inside the first moment: the same while lr is constant."""
    t, m, v = state or (0, 0 * x, 0 * x)
    z = random.rademacher(len(x), seed=0, k=t, purpose="adahessian probe", like=x)
    D = f.hvp(x, z) * z
    t += 1
    m = 0.9 * m + 0.1 * f.grad(x) * (lr if inside else 1.0)
    v = 0.999 * v + 0.001 * D * D
    step = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-4)
    return x - step * (1.0 if inside else lr), (t, m, v)


def test_lr_inside_a_buffer_shows_where_lr_changes() -> None:
    found = check(lr_inside, "adahessian", steps=5, diagnose=False)
    assert [stream["stream"] for stream in found.streams if not stream["agrees"]] == ["quadratic_schedule"]
    assert check(partial(lr_inside, inside=False), "adahessian", steps=5).outcome == "agrees"


def test_a_fixed_lr_leaves_schedules_out() -> None:
    found = check(bind(get("adahessian"), lr=0.15), "adahessian", lr=0.15, steps=5)
    assert found.outcome == "agrees"
    assert "quadratic_schedule" not in {stream["stream"] for stream in found.streams}


def test_numbers_too_small_for_float32_show_there() -> None:
    def update(x: Any, f: Any, state: Any, lr: float) -> Any:
        assert x.dtype == f.grad(x).dtype == f.hvp(x, x).dtype
        return make_adahessian()(x, f, state, lr * (1 + 1e-2 * (x.dtype == "float32")))

    found = check(update, "adahessian", steps=20, diagnose=False)
    assert [stream["stream"] for stream in found.streams if not stream["agrees"]] == ["quadratic_float32"]


@pytest.mark.parametrize("name", ["least_squares_float32", "deep_linear_float32"])
def test_every_answer_in_float32_is_rounded(name: str) -> None:
    arena = ARENAS[name]()
    f, x = arena.objective(0), arena.x0
    assert {array.dtype for array in (x, f.grad(x), f.full.grad(x), f.per_example_grads(x))} == {np.dtype("float32")}
    assert f.value(x) == np.float32(f.value(x))
    assert f.batch_size < f.n_examples
    if name == "deep_linear_float32":
        layer = next(iter(f.layers(x).values()))
        assert layer.inputs.dtype == layer.output_grads.dtype == "float32"


def test_complex_iterates_are_refused() -> None:
    found = check(lambda x, f, state: (x + 0j, state), "newton", steps=2)
    assert "must return x as real numbers, got complex128" in found.error


def test_a_module_with_init_and_step_alone_is_a_candidate() -> None:
    module = get("newton")
    found = check(SimpleNamespace(init=module.init, step=module.step), "newton", steps=3)
    assert found.outcome == "agrees", str(found)


# -------------------------------------------------------------------------------------------------------------- peers


@pytest.mark.peers
def test_torch_optimizers_are_asked_through_a_closure() -> None:
    torch = pytest.importorskip("torch")
    found = check(torch.optim.LBFGS, "lbfgs", steps=10, diagnose=False)
    assert (found.outcome, found.candidate) == ("differs", "torch.LBFGS")


@pytest.mark.peers
def test_the_closure_of_torch_answers_in_the_parameter_s_own_format() -> None:
    """In float32, f at two points of a line search is the same."""
    pytest.importorskip("torch")
    told = []

    class Listens:
        def __init__(self, params: Any, lr: float) -> None:
            self.param_groups = [{"params": params, "lr": lr}]

        def step(self, closure: Any) -> None:
            told.append((float(closure()), self.param_groups[0]["lr"]))

    actor = adapt(lambda params, lr: Listens(params, lr))
    arena = ARENAS["quadratic_schedule"]()
    play(actor, arena, 3, 0.5)
    assert told == [(float(arena.objective(0).value(arena.x0)), lr) for lr in (0.5, 0.25, 0.125)]


@pytest.mark.peers
def test_the_lbfgs_of_torch_agrees_but_for_what_it_documents() -> None:
    """It leaves out small pairs (`quadratic nearby`), and on the saddle its line search takes another step."""
    torch = pytest.importorskip("torch")
    once = {"max_iter": 1, "max_eval": 30, "tolerance_grad": 0, "tolerance_change": 0}
    candidate = partial(torch.optim.LBFGS, line_search_fn="strong_wolfe", **once)
    found = check(candidate, "lbfgs", dialect="torch", diagnose=False)
    assert {stream["stream"] for stream in found.streams if stream["agrees"]} == {
        "quadratic",
        "rosenbrock",
        "quadratic_schedule",
        "quadratic_float32",
    }


@pytest.mark.peers
def test_optax_is_told_the_value_and_may_ask_for_it_elsewhere() -> None:
    optax = pytest.importorskip("optax")
    for arena in (ARENAS["quadratic"](), ARENAS["quadratic_float32"]()):
        f, g0 = arena.objective(0), np.max(np.abs(arena.grad(0, arena.x0)))
        path, queries = play(adapt(optax.lbfgs), arena, 8, 1.0)
        assert np.max(np.abs(f.grad(path.x[-1]))) < 1e-2 * g0
        assert {query.x.dtype for query in queries} == {arena.x0.dtype}
        assert any(np.all(query.x != path.x, axis=1).all() for query in queries)  # of a search
    arena = ARENAS["quadratic_schedule"]()
    path, _ = play(adapt(optax.sgd), arena, 2, 0.1)
    x = arena.x0 - 0.1 * arena.grad(0, arena.x0)
    np.testing.assert_allclose(path.x, [x, x - 0.05 * arena.grad(1, x)], rtol=1e-15)


@pytest.mark.peers
def test_keras_is_refused_where_a_method_asks() -> None:
    keras = pytest.importorskip("keras")
    for candidate in (keras.optimizers.SGD, keras.optimizers.SGD(), lambda learning_rate: keras.optimizers.SGD()):
        with pytest.raises(TypeError, match="keras hands its optimizers nothing but gradients"):
            adapt(candidate)

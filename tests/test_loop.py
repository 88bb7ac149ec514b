from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import problems
from refopt import Layout, Schedule, Status, iterate, minimize
from refopt import method as methods
from refopt.first_order import adam, heavy_ball, lamb, schedule_free, sgd
from refopt.objective import MissingPart, Objective
from refopt.structured import muon, shampoo
from refopt.wrappers import clip_by_norm, polyak_ruppert

BOWL = Objective(value_and_grad=lambda x: (0.5 * (x @ x), 1.0 * x))
ONES = np.ones(3)


def test_minimize_reports_what_it_reached_and_what_it_cost() -> None:
    result = minimize(BOWL, sgd, steps=10, x0=ONES, lr=0.5)
    np.testing.assert_allclose(result.x, 0.5**10)
    assert (result.status, result.steps) == (Status.MAX_STEPS, 10)
    assert result.value == pytest.approx(1.5 * 0.25**10)
    np.testing.assert_array_equal(result.grad, result.x)
    assert [r.k for r in result.history] == list(range(11))
    assert [r.gradient_equivalents for r in result.history] == list(range(11))
    assert result.history[-1].value == result.value
    assert np.array_equal(ONES, np.ones(3))


def test_iterate_takes_the_same_path_and_keeps_every_array() -> None:
    path = list(itertools.islice(iterate(BOWL, heavy_ball, x0=ONES, lr=0.1), 8))
    result = minimize(BOWL, heavy_ball, steps=7, x0=ONES, lr=0.1)
    np.testing.assert_array_equal(path[7].x, result.x)
    assert [step.k for step in path] == list(range(8))
    assert len({tuple(step.x) for step in path}) == 8


@pytest.mark.parametrize(
    ("stop", "status"),
    [
        ({"grad_norm": 1e-3}, Status.CONVERGED),
        ({"value": 1e-3}, Status.CONVERGED),
        ({"gradient_equivalents": 7}, Status.BUDGET_SPENT),
        ({"seconds": 0.0}, Status.TIME_SPENT),
    ],
)
def test_stop_rules(stop: dict[str, float], status: Status) -> None:
    result = minimize(BOWL, sgd, steps=1000, x0=ONES, lr=0.5, stop=stop)
    assert result.status is status
    assert result.steps < 1000
    if status is Status.CONVERGED:
        before, last = result.history[-2:]
        rule, bound = next(iter(stop.items()))
        assert getattr(last, rule) <= bound < getattr(before, rule)
    if status is Status.BUDGET_SPENT:
        assert result.ledger.gradient_equivalents == 7


def test_a_callback_sees_every_step_and_may_end_the_run() -> None:
    seen = []

    def callback(step: Any) -> bool:
        seen.append(step.k)
        return step.k == 4

    result = minimize(BOWL, sgd, steps=100, x0=ONES, callback=callback)
    assert (result.status, result.steps, seen) == (Status.CALLBACK, 4, [0, 1, 2, 3, 4])


def test_the_point_reported_may_differ_from_the_point_iterated() -> None:
    result = minimize(BOWL, schedule_free, steps=9, x0=ONES, lr=0.3)
    np.testing.assert_array_equal(result.x, result.state.a)
    assert result.history[-1].value == pytest.approx(0.5 * float(result.x @ result.x))


def test_divergence_is_a_status() -> None:
    result = minimize(BOWL, sgd, steps=10_000, x0=ONES, lr=10.0)
    assert result.status is Status.DIVERGED
    assert np.all(np.isfinite(result.x))


@pytest.mark.parametrize("donate", [False, True])
def test_nan_at_some_step_keeps_the_last_finite_iterate(donate: bool) -> None:
    def value_and_grad(x: np.ndarray) -> tuple[Any, np.ndarray]:
        bad = np.nan if x[0] < 0.3 else 1.0
        return 0.5 * (x @ x), bad * x

    result = minimize(Objective(value_and_grad=value_and_grad), sgd, steps=100, x0=ONES, lr=0.5, donate=donate)
    assert result.status is Status.NOT_FINITE
    np.testing.assert_array_equal(result.x, np.full(3, 0.25))
    assert result.steps == 2


def test_nan_at_the_start_is_a_status_too() -> None:
    f = Objective(value_and_grad=lambda x: (np.nan, x))
    assert minimize(f, sgd, steps=5, x0=ONES).status is Status.NOT_FINITE


def test_infinite_value_is_not_finite() -> None:
    f = Objective(value_and_grad=lambda x: (np.inf if x[0] < 0.3 else 1.0, x))
    result = minimize(f, sgd, steps=5, x0=ONES, lr=0.5)
    assert (result.status, result.steps) == (Status.NOT_FINITE, 2)


def test_donation_changes_no_bit_and_keeps_the_start() -> None:
    rng = np.random.default_rng(0)
    n = 200_001
    x0, d = rng.normal(size=n), rng.uniform(0.1, 1.0, size=n)
    f = Objective(value_and_grad=lambda x: (0.5 * (x @ (d * x)), d * x))
    start = x0.copy()
    for method in (sgd, heavy_ball, adam, schedule_free):
        plain = minimize(f, method, steps=4, x0=x0, lr=0.1)
        donated = minimize(f, method, steps=4, x0=x0, lr=0.1, donate=True)
        assert np.array_equal(plain.x, donated.x), method.__name__
        assert np.array_equal(x0, start)


def test_batches_are_keyed_by_seed_and_step() -> None:
    problem = problems.get("softmax_digits")
    a, b, c = (minimize(problem, sgd, steps=5, batch_size=32, seed=s, lr=0.1) for s in (0, 0, 1))
    assert np.array_equal(a.x, b.x)
    assert not np.array_equal(a.x, c.x)
    growing = minimize(problem, sgd, steps=5, batch_size=lambda k, state: 2 ** (k + 2), lr=0.1)
    n = problem.objective.n_examples
    assert n is not None
    assert growing.ledger.gradient_equivalents == pytest.approx(sum(2 ** (k + 2) for k in range(5)) / n)


def test_history_stride() -> None:
    result = minimize(BOWL, sgd, steps=10, x0=ONES, history_every=4)
    assert [r.k for r in result.history] == [0, 4, 8, 10]


def test_no_steps_means_the_start() -> None:
    result = minimize(BOWL, sgd, steps=0, x0=ONES)
    assert (result.status, result.steps, len(result.history)) == (Status.MAX_STEPS, 0, 1)


def test_one_parameter() -> None:
    assert minimize(BOWL, adam, steps=200, x0=np.ones(1), lr=0.1).value < 1e-3


def test_state_size_is_on_the_account() -> None:
    assert minimize(BOWL, adam, steps=2, x0=ONES).ledger.state_vectors == 2.0
    assert minimize(BOWL, sgd, steps=2, x0=ONES).ledger.state_vectors == 0.0


ROSENBROCK = problems.get("rosenbrock", n=3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x0": np.zeros(2)}, ValueError, r"x0 must have the shape \(3,\) of the problem, got \(2,\)"),
        ({"x0": np.zeros((3, 1))}, ValueError, r"x0 must be a vector"),
        ({"x0": np.zeros(0)}, ValueError, "n >= 1"),
        ({"x0": np.array([1, 2, 3])}, TypeError, "must hold real floating-point numbers, got dtype int64"),
        ({"x0": np.array([1.0, np.nan, 2.0])}, ValueError, "x0 must be finite"),
        ({"lr": -1.0}, ValueError, "lr must be at least 0, got -1.0"),
        ({"learning_rate": 0.1}, TypeError, "no hyperparameter 'learning_rate'"),
        ({"stop": {"gradnorm": 1e-3}}, ValueError, "unknown stop rule 'gradnorm'; did you mean 'grad_norm'"),
        ({"stop": {"value": float("nan")}}, ValueError, "must be a number"),
        ({"steps": -1}, ValueError, "steps must be an integer of at least 0, got -1"),
        ({"steps": 1.5}, ValueError, "steps must be an integer"),
        ({"batch_size": 8}, TypeError, "batch_size needs a finite sum"),
        ({"history_every": 0}, ValueError, "history_every must be at least 1"),
        ({"donate": True, "callback": print}, ValueError, "donate must be False"),
        ({"method": "sgd"}, TypeError, "method must have init, step"),
        ({"problem": lambda x: x @ x}, TypeError, "problem must be an Objective"),
        ({"problem": BOWL}, TypeError, "x0 must be given"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    call: dict[str, Any] = {"problem": ROSENBROCK, "method": sgd, "steps": 3, "lr": 1e-4, **arguments}
    with pytest.raises(error, match=message):
        minimize(**call)


def test_arrays_of_two_backends() -> None:
    strict = pytest.importorskip("array_api_strict")
    with pytest.raises(TypeError, match="arrays of two backends meet"):
        minimize(ROSENBROCK, sgd, steps=1, x0=strict.asarray([1.0, 1.0, 1.0]))


def test_a_method_that_needs_what_is_not_there_says_so() -> None:
    from refopt.diagonal import adahessian
    from refopt.variance_reduction import svrg

    with pytest.raises(TypeError, match="adahessian needs an objective with linearize"):
        minimize(BOWL, adahessian, steps=1, x0=ONES)
    with pytest.raises(TypeError, match="svrg needs a finite sum"):
        minimize(BOWL, svrg, steps=1, x0=ONES)


def test_schedules_reach_the_method() -> None:
    result = minimize(BOWL, sgd, steps=3, x0=ONES, lr=Schedule(lambda k: 0.1 * (k + 1), "ramp"))
    np.testing.assert_allclose(result.x, 0.9 * 0.8 * 0.7)


def test_threads_of_runs_do_not_disturb_each_other() -> None:
    from concurrent.futures import ThreadPoolExecutor

    def run(seed: int) -> Any:
        return minimize(problems.get("rosenbrock", n=4), adam, steps=50, seed=seed, lr=0.01).x

    alone = run(0)
    with ThreadPoolExecutor(4) as pool:
        for x in pool.map(run, range(8)):
            assert np.array_equal(x, alone)


MLP = problems.get("mlp_digits", hidden=(4,))


@pytest.mark.parametrize("name", ["lamb", "lars", "adafactor", "novograd", "shampoo", "soap"])
def test_a_method_that_works_part_by_part_gets_the_layout_of_the_problem(name: str) -> None:
    own, whole = methods.get(name), Layout({"x": (MLP.n,)})
    given = minimize(MLP, own, steps=3, layout=MLP.layout).x
    assert np.array_equal(minimize(MLP, own, steps=3).x, given)
    for k, x, _, _ in iterate(MLP, own):
        if k == 3:
            assert np.array_equal(x, given)
            break
    assert not np.array_equal(minimize(MLP, own, steps=3, layout=whole).x, given), "the caller's layout is kept"
    alone = minimize(MLP.objective, own, x0=MLP.x0, steps=3).x
    assert np.array_equal(alone, minimize(MLP, own, steps=3, layout=whole).x), "an objective alone has no layout"


def test_wrapped_methods_get_the_layout_too() -> None:
    wrapped = polyak_ruppert(clip_by_norm(shampoo, 1.0))
    assert np.array_equal(minimize(MLP, wrapped, steps=3).x, minimize(MLP, wrapped, steps=3, layout=MLP.layout).x)


def test_muon_takes_one_vector_as_a_column_and_needs_company_beside_matrices() -> None:
    assert minimize(ROSENBROCK, muon, steps=2).steps == 2
    with pytest.raises(MissingPart, match="muon moves matrices, not part"):
        minimize(MLP, muon, steps=1)


def test_a_checkpoint_belongs_to_its_layout(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    minimize(MLP, lamb, steps=2, checkpoint=path)
    assert minimize(MLP, lamb, steps=3, checkpoint=path, layout=MLP.layout).steps == 3
    with pytest.raises(ValueError, match="its hyper is"):
        minimize(MLP, lamb, steps=4, checkpoint=path, layout=Layout({"x": (MLP.n,)}))

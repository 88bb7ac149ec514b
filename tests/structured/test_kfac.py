from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import problems
from refopt import Status, bind, minimize
from refopt.first_order import sgd
from refopt.objective import Layer, Objective
from refopt.structured import kfac
from tests.structured.streams import SHARED_WEIGHTS

HostArray = np.ndarray


def test_it_needs_far_fewer_steps_than_gradient_descent() -> None:
    problem = problems.get("mlp_digits", hidden=(10,))
    target = {"value": 0.1}
    ours = minimize(problem, kfac, steps=200, stop=target, lam=1.0)
    plain = minimize(problem, sgd, steps=200, stop=target, lr=0.5)
    assert ours.value <= 0.1 < plain.value
    assert 3 * ours.steps < plain.steps


def values(steps: int, **options: object) -> list[float]:
    problem = problems.get("autoencoder_digits", hidden=(16, 6))
    batch = problem.objective.minibatch(np.arange(200))
    result = minimize(batch, kfac, x0=problem.x0, steps=steps, **options)
    assert not result.status.failed
    return [float(entry.value) for entry in result.history]


def test_on_an_autoencoder_momentum_helps_and_the_neighbours_help() -> None:
    """As Martens and Grosse report: fewer steps with the momentum of section 7, and a little fewer with section 4.3."""
    plain = values(40)
    assert plain[-1] < values(40, momentum=0.0)[-1]
    assert values(40, structure="block_tridiagonal")[-1] < plain[-1]


def test_every_form_goes_down() -> None:
    for options in (
        {"lr": 0.1, "momentum": 0.9},
        {"lr": 0.1},
        {"estimate": "empirical"},
        {"shared": "reduce"},
        {"structure": "block_tridiagonal", "T3": 1},
    ):
        history = values(25, **options)
        assert history[-1] < 0.75 * history[0], options


def test_fixed_coefficients_need_no_fisher_product_and_adapt_nothing() -> None:
    f, _, fisher = linear_network(40, 5, 3, seed=0)
    f.fisher = None
    seen = []
    x0 = np.ones(15)
    minimize(f, kfac, x0=x0, steps=21, lr=0.2, momentum=0.5, lam=1e-12, callback=lambda step: seen.append(step))
    assert {(step.state.lam, step.state.gamma) for step in seen} == {(1e-12, 1e-6)}
    assert [step.state.info["M"] for step in seen[1:]] == [None] * 21  # no model was asked for
    first, second = seen[1].x - seen[0].x, seen[2].x - seen[1].x
    natural = [np.linalg.solve(fisher, f.grad(step.x)) for step in seen[:2]]
    np.testing.assert_allclose(first, -0.2 * natural[0], atol=1e-5)
    np.testing.assert_allclose(second, -0.2 * natural[1] + 0.5 * first, atol=1e-5)


def test_a_coefficient_that_is_fixed_leaves_the_best_of_the_other() -> None:
    rng = np.random.default_rng(3)
    M = rng.normal(size=(6, 6))
    F = M @ M.T + 0.3 * np.eye(6)
    g, Delta, delta_0 = rng.normal(size=(3, 6))
    products = (F @ Delta - 0.3 * Delta, delta_0, F @ delta_0 - 0.3 * delta_0)
    _, delta = kfac.model_minimum(g, Delta, *products, 0.3, alpha=0.4)
    along = delta - 0.4 * Delta
    np.testing.assert_allclose(along / delta_0, np.full(6, along[0] / delta_0[0]))
    assert float(delta_0 @ (F @ delta + g)) == pytest.approx(0.0, abs=1e-12)
    _, delta = kfac.model_minimum(g, Delta, *products, 0.3, mu=0.4)
    assert float(Delta @ (F @ delta + g)) == pytest.approx(0.0, abs=1e-12)


def test_the_empirical_fisher_matrix_is_of_the_datas_targets() -> None:
    problem = problems.get("mlp_digits", hidden=(4,))
    data = problem.objective.layers(problem.x0)["dense2"].output_grads
    drawn = problem.objective.layers(problem.x0, seed=0, k=0)["dense2"].output_grads
    for estimate, g in (("empirical", data), ("sampled", drawn)):
        _, state = kfac.step(problem.objective, problem.x0, kfac.init(problem.x0), estimate=estimate)
        np.testing.assert_allclose(state.factors.G["dense2"], g.T @ g / len(g))


def test_a_part_of_the_batch_is_enough_for_the_curvature() -> None:
    problem = problems.get("mlp_digits", hidden=(10,))
    result = minimize(problem, kfac, steps=40, batch_size=400, tau1=1 / 8, tau2=1 / 4)
    assert result.value < 0.2 * float(problem.objective.value(problem.x0))


@pytest.mark.parametrize("options", [{}, {"shared": "reduce", "structure": "block_tridiagonal"}])
def test_convolutions(options: dict[str, object]) -> None:
    problem = problems.get("conv_digits", channels=(4,))
    target = {"value": 1.0}
    ours = minimize(problem, kfac, steps=100, batch_size=100, stop=target, **options)
    assert ours.value <= 1.0 < minimize(problem, sgd, steps=2 * ours.steps, batch_size=100, stop=target, lr=0.3).value


def test_tau_draws_from_the_batch_and_needs_a_finite_sum() -> None:
    problem = problems.get("mlp_digits", hidden=(4,))
    seen = []

    def watched(batch: Objective) -> Objective:
        return Objective(
            value_and_grad=batch.value_and_grad,
            fisher=batch.fisher,
            layers=batch.layers,
            n_examples=problem.objective.n_examples,
            restrict=lambda indices: (seen.append(indices), watched(problem.objective.minibatch(indices)))[1],
        )

    batch = watched(problem.objective).minibatch(np.arange(100, 140))
    init, step = bind(kfac, tau1=1 / 8, tau2=1 / 4)
    step(batch, problem.x0, init(problem.x0))
    assert [len(indices) for indices in seen] == [40, 5, 10]
    assert all(set(indices) <= set(range(100, 140)) for indices in seen)
    f, _, _ = linear_network(40, 5, 3, seed=0)
    with pytest.raises(ValueError, match="tau1 and tau2 must be 1 where the objective is no finite sum"):
        minimize(f, kfac, x0=np.ones(15), steps=1, tau1=0.5)


def linear_network(batch: int, d_in: int, d_out: int, seed: int) -> tuple[Objective, Layer, np.ndarray]:
    """Linear regression with unit Gaussian noise: its Fisher matrix is E[a a^T] (x) I, which K-FAC has exactly."""
    rng = np.random.default_rng(seed)
    a, t = rng.normal(size=(batch, d_in)), rng.normal(size=(batch, d_out))

    def value_and_grad(x: np.ndarray) -> tuple[float, np.ndarray]:
        r = a @ x.reshape(d_in, d_out) - t
        return 0.5 * float(np.sum(r * r)) / batch, (a.T @ r / batch).reshape(-1)

    fisher = np.kron(a.T @ a / batch, np.eye(d_out))
    # Model-sampled output gradients of this loss are standard normal: give a batch of covariance exactly I.
    gs = np.linalg.qr(rng.normal(size=(batch, d_out)))[0] * np.sqrt(batch)
    layer = Layer(slice(0, d_in * d_out), a, gs)
    f = Objective(
        value_and_grad=value_and_grad,
        fisher=lambda x, seed=None, k=0: lambda v: fisher @ v,
        layers=lambda x, seed=None, k=0: {"dense": layer},
    )
    return f, layer, fisher


def test_one_linear_layer_is_solved_in_one_step() -> None:
    f, layer, _ = linear_network(40, 5, 3, seed=0)
    result = minimize(f, kfac, x0=np.ones(15), steps=1, lam=1e-12)
    targets_gradient = f.grad(result.x)
    np.testing.assert_allclose(targets_gradient, 0.0, atol=1e-5)  # gamma = sqrt(lam) = 1e-6
    assert layer.inputs.shape == (40, 5)


def test_factors_are_means_over_the_batch_with_the_papers_decay() -> None:
    f, layer, _ = linear_network(40, 5, 3, seed=0)
    init, step = bind(kfac)
    x = np.ones(15)
    x, state = step(f, x, init(x))
    np.testing.assert_allclose(state.factors.A["dense"], layer.inputs.T @ layer.inputs / 40)
    np.testing.assert_allclose(state.factors.G["dense"], np.eye(3), atol=1e-12)
    other = layer._replace(inputs=2.0 * layer.inputs)
    f.layers = lambda x, seed=None, k=0: {"dense": other}
    for k, eps_k in ((2, 0.5), (20, 0.95), (1000, 0.95)):  # eps_k = min(1 - 1/k, 0.95)
        _, later = step(f, x, state._replace(k=k - 1))
        expected = (eps_k + 4.0 * (1 - eps_k)) * state.factors.A["dense"]
        np.testing.assert_allclose(later.factors.A["dense"], expected, rtol=1e-12)


def test_the_update_minimises_the_model_over_its_plane() -> None:
    rng = np.random.default_rng(1)
    M = rng.normal(size=(6, 6))
    F = M @ M.T
    g, Delta, delta_0 = rng.normal(size=(3, 6))
    model, delta = kfac.model_minimum(g, Delta, F @ Delta, delta_0, F @ delta_0, 0.3)

    def value(d: np.ndarray) -> float:
        return 0.5 * float(d @ (F + 0.3 * np.eye(6)) @ d) + float(g @ d)

    assert model == pytest.approx(value(delta))
    for step in rng.normal(size=(50, 2)) * 1e-3:
        assert value(delta + step[0] * Delta + step[1] * delta_0) >= model


def test_large_damping_gives_a_small_gradient_step() -> None:
    f, _, _ = linear_network(40, 5, 3, seed=0)
    x0 = np.ones(15)
    result = minimize(f, kfac, x0=x0, steps=1, lam=1e8)
    step = result.x - x0
    np.testing.assert_allclose(step, -f.grad(x0) / 1e8, rtol=1e-3)


def test_gamma_is_the_best_of_three_by_the_model() -> None:
    problem = problems.get("mlp_digits", hidden=(4,))
    init, step = bind(kfac, T2=2, T3=5)
    x, state = step(problem.objective, problem.x0, init(problem.x0))
    _, after = step(problem.objective, x, state)
    w2 = 19 / 20
    models = {}
    for gamma in (1.0, w2, 1.0 / w2):  # one at a time, without the search
        _, tried = kfac.step(problem.objective, x, state._replace(gamma=gamma), T2=20)
        models[gamma] = tried.info["M"]
    assert len(set(models.values())) == 3
    assert after.gamma == min(models, key=lambda gamma: models[gamma])
    assert after.info["M"] == min(models.values())


def test_inverses_wait_for_their_turn() -> None:
    problem = problems.get("mlp_digits", hidden=(4,))
    seen = []
    minimize(problem, kfac, steps=12, T3=5, callback=lambda step: seen.append(step.state.inverse))
    fresh = [k for k in range(1, 13) if seen[k] is not seen[k - 1]]
    assert fresh == [1, 2, 3, 5, 10]


@pytest.mark.parametrize("structure", ["block_diagonal", "block_tridiagonal"])
def test_workers_take_the_same_path(structure: str) -> None:
    problem = problems.get("mlp_digits", hidden=(5, 4))
    one, three = (minimize(problem, kfac, steps=3, structure=structure, workers=workers) for workers in (1, 3))
    np.testing.assert_array_equal(one.x, three.x)


@pytest.mark.parametrize("options", [{}, {"shared": "reduce", "structure": "block_tridiagonal"}])
@pytest.mark.parametrize(("name", "size"), SHARED_WEIGHTS)
def test_weights_shared_over_positions_take_the_same_path_on_every_backend(
    name: str, size: dict[str, Any], options: dict[str, Any], backend: Any
) -> None:
    want = minimize(problems.get(name, **size), kfac, steps=3, **options)
    got = minimize(problems.get(name, like=backend.array([]), **size), kfac, steps=3, **options)
    np.testing.assert_allclose(backend.numpy(got.x), want.x, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("structure", ["block_diagonal", "block_tridiagonal"])
def test_strong_damping_makes_it_gradient_descent(structure: str) -> None:
    problem = problems.get("mlp_digits", hidden=(4,))
    result = minimize(problem, kfac, steps=1, lam=1e8, structure=structure)
    np.testing.assert_allclose(result.x - problem.x0, -problem.objective.grad(problem.x0) / 1e8, rtol=1e-2, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"lam": 0.0}, "lam must be positive, got 0.0"),
        ({"l2": -5.0}, "l2 must be at least 0, got -5.0"),
        ({"lr": -1.0}, "lr must be None or at least 0, got -1.0"),
        ({"momentum": 1.2}, r"momentum must be None or in \[0, 1\), got 1.2"),
        ({"momentum": -0.1}, r"momentum must be None or in \[0, 1\), got -0.1"),
        ({"decay": 1.0}, r"decay must be in \[0, 1\), got 1.0"),
        ({"T1": 0}, r"T1, T2 and T3 must be at least 1, got \(0, 20, 20\)"),
        ({"T3": 0}, r"T1, T2 and T3 must be at least 1, got \(5, 20, 0\)"),
        ({"tau1": 1.5}, r"tau1 and tau2 must be in \(0, 1\], got \(1.5, 1.0\)"),
        ({"structure": "tridiagonal"}, "structure must be one of block_diagonal, block_tridiagonal, got 'tridiagonal'"),
        ({"estimate": "exact"}, "estimate must be 'sampled' or 'empirical', got 'exact'"),
        ({"shared": "sum"}, "shared must be 'expand' or 'reduce', got 'sum'"),
        ({"tau2": 0.0}, "tau1 and tau2 must be in"),
        ({"workers": 0}, "workers must be at least 1, got 0"),
    ],
)
def test_knobs_out_of_range_are_named(options: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        minimize(problems.get("mlp_digits", hidden=(4,)), kfac, steps=1, **options)


def test_layers_must_cover_the_parameters() -> None:
    f, _, _ = linear_network(40, 5, 3, seed=0)
    f.layers = lambda x, seed=None, k=0: {}
    with pytest.raises(ValueError, match="cover each of the 15 parameters once; 0:15 belongs to none"):
        minimize(f, kfac, x0=np.ones(15), steps=1)


def test_the_model_is_that_of_the_exact_fisher_matrix_with_all_damping() -> None:
    f, _, fisher = linear_network(40, 5, 3, seed=0)
    init, step = bind(kfac, lam=2.0, l2=0.7)
    x, state = np.ones(15), init(np.ones(15))
    assert state.gamma == pytest.approx(math.sqrt(2.7))
    for _ in range(3):
        new, state = step(f, x, state)
        F, g, delta = fisher + 2.7 * np.eye(15), f.grad(x), new - x
        assert state.info["M"] == pytest.approx(0.5 * float(delta @ F @ delta) + float(g @ delta))
        x = new


@pytest.mark.parametrize(("rho", "change"), [(0.9, 19 / 20), (0.5, 1.0), (0.1, 20 / 19), (-1.0, 20 / 19)])
def test_damping_follows_the_reduction_ratio(rho: float, change: float) -> None:
    f, _, _ = linear_network(40, 5, 3, seed=0)
    init, step = bind(kfac, T1=1, lam=10.0)
    x = np.ones(15)
    M = step(f, x, init(x))[1].info["M"]
    before = f.value(x)
    f.value = lambda x: before + rho * M
    _, state = step(f, x, init(x))
    assert state.info["rho"] == pytest.approx(rho)
    assert state.lam == pytest.approx(10.0 * change)


@pytest.mark.parametrize("fixed", [{"lr": 100.0}, {"momentum": 0.9}])
def test_a_step_that_climbs_in_the_model_says_nothing_about_the_damping(fixed: dict[str, float]) -> None:
    """Its ratio is 1 where the model is right that f rises: lam would fall."""
    f, _, _ = linear_network(40, 5, 3, seed=0)
    init, step = bind(kfac, T1=1, lam=1.0, **fixed)
    x = np.ones(15)
    new, state = step(f, x, init(x)._replace(k=3, delta=1e3 * f.grad(x)))
    assert state.info["M"] > 0.0
    assert f.value(new) > f.value(x)
    assert (state.lam, state.info["rho"]) == (1.0, None)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_two_directions_that_part_by_rounding_alone_are_one(dtype: str) -> None:
    Delta = np.random.default_rng(0).normal(size=9).astype(dtype)
    delta_0, eps = (0.7 * Delta).astype(dtype), float(np.finfo(dtype).eps)
    for part, second in ((4.0 * eps, False), (1e5 * eps, True)):  # of the determinant beside its terms
        model = (-Delta, Delta, Delta, delta_0, (1.0 - part) * delta_0, 0.0)
        _, delta = kfac.model_minimum(*model)
        _, alone = kfac.model_minimum(*model, mu=0.0)
        assert np.array_equal(delta, alone) != second


@pytest.mark.parametrize("options", [{}, {"lr": 0.1, "momentum": 0.9}])
def test_a_model_that_is_not_finite_ends_the_run_at_the_last_point(options: dict[str, float]) -> None:
    problem = problems.get("mlp_digits", hidden=(4,))
    whole, broken = problem.objective.layers, set[int]()

    def layers(x: HostArray, *, seed: int | None = None, k: int = 0) -> dict[str, Layer]:
        found = whole(x, seed=seed, k=k)
        nan = {name: layer._replace(inputs=math.nan * layer.inputs) for name, layer in found.items()}
        return nan if k in broken else found

    problem.objective.layers = layers
    before = minimize(problem, kfac, steps=2, **options)
    broken.add(2)
    result = minimize(problem, kfac, steps=9, **options)
    assert (result.status, result.steps) == (Status.BREAKDOWN, 3)
    np.testing.assert_array_equal(result.x, before.x)
    assert np.all(np.isfinite(result.state.delta))
    _, after = kfac.step(problem.objective, result.x, result.state, **options)  # whoever goes on can do so
    assert after.status is Status.RUNNING


def test_a_breakdown_in_the_first_steps_leaves_the_inverses_to_the_next() -> None:
    f, layer, _ = linear_network(40, 5, 3, seed=0)
    nan = layer._replace(inputs=math.nan * layer.inputs)
    init, step = bind(kfac)
    x, state = np.ones(15), init(np.ones(15))
    for now in (*[nan] * 4, layer):
        f.layers = lambda x, seed=None, k=0, now=now: {"dense": now}
        x, state = step(f, x, state)
    assert state.status is Status.RUNNING
    assert state.inverse is not None


def test_damping_waits_for_its_turn() -> None:
    f, _, _ = linear_network(40, 5, 3, seed=0)
    seen = []
    minimize(f, kfac, x0=np.ones(15), steps=5, lam=10.0, callback=lambda step: seen.append(step.state))
    # The model is exact up to its damping, so it is trusted: rho > 3/4, and lam falls at k = 5.
    assert [state.lam for state in seen[:5]] == [10.0] * 5
    assert seen[5].lam == pytest.approx(10.0 * (19 / 20) ** 5)

"""What holds for every problem of the catalogue, whoever wrote it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose

import problems
from backends.arrays import device
from problems import data

NAMES = problems.names()
every_problem = pytest.mark.parametrize("name", NAMES)

IRIS = str(Path(sklearn.__file__).parent / "datasets" / "data" / "iris.csv")
# What a problem cannot do without, and sizes that tests can wait for.
NEEDED: dict[str, dict[str, object]] = {
    "regression_file": {"path": IRIS},
    "mlp_mnist5k": {"hidden": (3,)},
    "autoencoder_mnist5k": {"hidden": (5, 3)},
    "autoencoder_curves": {"hidden": (5, 3), "examples": 50},
    "resnet_digits": {"depth": 4, "width": 8},
    "char_lm": {"path": IRIS, "context": 4, "width": 4, "examples": 20},
    "conv_resnet_digits": {"depth": 4, "channels": 3, "activation": "gelu"},  # at relu's many kinks differences fail
}

# Sizes small enough for dense Hessians, and the options that change a landscape.
VARIANTS = [
    *((name, {}) for name in NAMES),
    ("quadratic", {"n": 6, "negative": 2}),
    ("quadratic", {"n": 6, "negative": 1, "singular": 2}),
    ("quadratic", {"spectrum": (3.0, -1.0, 0.5), "rotate": False}),
    ("quadratic", {"n": 2500}),
    ("saddle", {"n": 5, "index": 0}),
    ("saddle", {"n": 4, "index": 4, "steepness": 2.0}),
    ("saddle", {"n": 3, "index": 2, "distance": 0.0}),
    *(("rosenbrock", {"n": n}) for n in (4, 5, 10, 30, 100, 101)),
    ("extended_rosenbrock", {"n": 2}),
    ("styblinski_tang", {"n": 1}),
    ("styblinski_tang", {"n": 4}),
    ("rastrigin", {"n": 1}),
    ("rastrigin", {"n": 3}),
    ("ackley", {"n": 5}),
    ("watson", {"n": 2}),
    ("watson", {"n": 9}),
    ("penalty_1", {"n": 10}),
    ("penalty_2", {"n": 10}),
    ("trigonometric", {"n": 2}),
    ("powell_singular", {"n": 8}),
    ("chebyquad", {"n": 1}),
    ("degenerate_saddle", {"n": 3, "flat": 3}),
    ("degenerate_saddle", {"n": 1}),
    ("octopus", {"n": 1}),
    ("octopus", {"n": 3, "L": 2.0, "gamma": 2.0, "tau": 0.5}),
    ("least_squares", {"n": 1}),
    ("least_squares", {"examples": 9, "n": 9, "noise": 0.0, "condition": 1.0}),
    ("logistic_breast_cancer", {"l2": 0.0}),
    ("regression_file", {"loss": "least_squares", "l2": 0.0}),
    ("regression_file", {"loss": "softmax", "l2": 0.1}),
    ("noisy", {"of": "mlp_digits", "noise": "multiplicative"}),
    ("noisy", {"of": "saddle", "noise": "cauchy"}),
    ("unit_test", {"shape": "gauss_bowl", "n": 3, "scale": "flat"}),
    ("unit_test", {"shape": ["quad_bowl", "gauss_bowl"], "n": 2, "scale": ["steep", "normal"], "rotate": True}),
    ("unit_test", {"shape": ["quad_convex", "gauss_convex", "gauss_nonconvex"], "n": 3, "rotate": True}),
    ("unit_test", {"shape": ["abs", "relu", "laplace_bowl", "laplace_convex", "laplace_nonconvex"], "n": 5}),
    ("unit_test", {"shape": "relu-bend-exponential", "n": 2, "norm": "l2", "noise": "mask_out"}),
    ("matrix_factorisation", {"rows": 3, "columns": 3, "rank": 2, "singular_values": (2.0, 1.0)}),
    ("matrix_factorisation", {"rows": 4, "columns": 4, "rank": 1, "singular_values": (4.0, 3.0, 2.0, 1.0)}),
    ("mlp_digits", {"hidden": (), "l2": 0.1}),
    ("mlp_digits", {"hidden": (7, 5), "activation": "softplus"}),
    ("autoencoder_digits", {"hidden": (3,), "activation": "logistic", "l2": 0.1}),
    ("resnet_digits", {"init": "standard", "activation": "tanh"}),
    ("deep_linear", {"depth": 1}),
    ("char_lm", {"blocks": 2, "heads": 1, "context": 1, "l2": 0.1}),
    ("deep_linear", {"hidden": 2, "singular_values": (1.0, 3.0, 2.0)}),
]
every_variant = pytest.mark.parametrize(
    ("name", "options"), VARIANTS, ids=[f"{n}-{'-'.join(f'{k}={v}' for k, v in o.items())}" for n, o in VARIANTS]
)


@pytest.fixture(autouse=True, scope="module")
def _a_few_images_for_mnist():
    """The real ones take seconds to parse, and are looked at in test_data."""
    pixels, labels = np.random.default_rng(0).uniform(size=(60, 784)), np.arange(60) % 10
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "mnist5k", lambda: data.Dataset(pixels[:50], labels[:50], pixels[50:], labels[50:]))
        yield


_made: dict[str, problems.Problem] = {}


def get(name: str, options: dict[str, object]) -> problems.Problem:
    key = f"{name} {options}"
    if key not in _made:
        _made[key] = problems.get(name, **{**NEEDED.get(name, {}), **options})
    return _made[key]


def near(problem: problems.Problem, seed: int = 0) -> np.ndarray:
    """A point near the start, but at no special place."""
    rng = np.random.default_rng(seed)
    return problem.x0 + 0.1 * rng.normal(size=problem.n)


# ------------------------------------------------------------------------------------------------- the objective


@every_variant
def test_start_is_finite_and_fits_the_layout(name, options):
    problem = get(name, options)
    assert problem.name == name
    assert problem.x0.shape == (problem.layout.n,) == (problem.n,)
    assert np.all(np.isfinite(problem.x0))
    assert np.isfinite(problem.objective.value(problem.x0))


@every_variant
def test_gradient_is_the_slope_of_the_value(name, options):
    problem = get(name, options)
    f, x = problem.objective, near(problem)
    v = np.random.default_rng(1).normal(size=problem.n)
    v /= np.linalg.norm(v)
    h = 1e-5
    slope = (f.value(x + h * v) - f.value(x - h * v)) / (2 * h)
    scale = np.linalg.norm(f.grad(x)) + abs(f.value(x))
    assert_allclose(f.grad(x) @ v, slope, atol=1e-7 * scale + 1e-10)


@every_variant
def test_hessian_products_are_the_slopes_of_the_gradient(name, options):
    problem = get(name, options)
    f, x = problem.objective, near(problem)
    rng = np.random.default_rng(2)
    V = rng.normal(size=(problem.n, 3))
    V /= np.linalg.norm(V, axis=0)
    value, g, mv = f.linearize(x)
    assert_allclose(value, f.value(x), rtol=1e-13)
    assert_allclose(g, f.grad(x), rtol=1e-10, atol=1e-13)
    product = mv(V)
    assert product.shape == V.shape
    assert_allclose(product[:, 1], mv(V[:, 1]), rtol=1e-10, atol=1e-13)
    assert_allclose(product[:, 1], f.hvp(x, V[:, 1]), rtol=1e-10, atol=1e-13)
    assert_allclose(V.T @ product, (V.T @ product).T, rtol=1e-9, atol=1e-11)
    h = 1e-5
    for v, Hv in zip(V.T, product.T, strict=True):
        slope = (f.grad(x + h * v) - f.grad(x - h * v)) / (2 * h)
        assert_allclose(Hv, slope, atol=1e-7 * (np.linalg.norm(g) + np.linalg.norm(Hv)))


@every_variant
def test_minibatches_of_finite_sums_average_to_the_whole(name, options):
    problem = get(name, options)
    f = problem.objective
    if f.n_examples is None:
        with pytest.raises(TypeError, match="no finite sum"):
            f.minibatch([0])
        return
    x = near(problem)
    batch = f.minibatch(np.arange(min(20, f.n_examples)))
    assert_allclose(batch.per_example_grads(x).mean(axis=0), batch.grad(x), rtol=1e-9, atol=1e-12)
    if f.n_examples > 1e6:  # noise: an endless population
        return
    half = f.n_examples // 2
    parts = [np.arange(half), np.arange(half, f.n_examples)]
    mean = sum(len(i) * f.minibatch(i).grad(x) for i in parts) / f.n_examples
    assert_allclose(mean, f.grad(x), rtol=1e-9, atol=1e-12)


# ------------------------------------------------------------------------------------------- what is known of it


@every_variant
def test_stationary_points_are_stationary_and_have_their_morse_index(name, options):
    problem = get(name, options)
    f = problem.objective
    for point in problem.stationary_points:
        assert_allclose(f.value(point.x), point.value, rtol=1e-12, atol=1e-12)
        _, g, mv = f.linearize(point.x)
        if problem.n > 500:
            assert np.linalg.norm(g) < 1e-12 * (1 + np.linalg.norm(point.x))
            continue
        H = mv(np.eye(problem.n))
        # Each x_i is right to a few units in the last place, and so is each sum that is to cancel.
        assert np.all(np.abs(g) <= 1e-14 + 1e-14 * np.abs(H) @ np.abs(point.x))
        eigenvalues = inertia_of(H)
        assert np.sum(eigenvalues < -1e-12) == point.index
        assert np.any(np.abs(eigenvalues) <= 1e-12) == point.degenerate


def inertia_of(H: np.ndarray) -> np.ndarray:
    """Eigenvalues that have the signs of those of H (Sylvester's law), with rows scaled alike so that all are seen."""
    scale = np.sqrt(np.abs(H).max(axis=0))
    scale[scale == 0.0] = 1.0
    return np.linalg.eigvalsh(H / scale / scale[:, None])


@every_variant
def test_minimum_is_below_every_value_met(name, options):
    problem = get(name, options)
    if problem.minimum is None:
        return
    values = [problem.objective.value(near(problem, seed)) for seed in range(20)]
    assert problem.minimum <= min(*values, problem.objective.value(problem.x0))
    assert all(point.value >= problem.minimum for point in problem.stationary_points)
    assert problem.minimizers or not problem.stationary_points  # a kink is no stationary point
    for x in problem.minimizers:
        assert_allclose(problem.objective.value(x), problem.minimum, rtol=1e-12, atol=1e-12)


@every_variant
def test_curvature_stays_within_mu_and_L(name, options):
    problem = get(name, options)
    if problem.n > 700 or problem.L is None:
        return
    for seed in range(2 if problem.n < 100 else 1):
        H = problem.objective.linearize(near(problem, seed))[2](np.eye(problem.n))
        eigenvalues = np.linalg.eigvalsh((H + H.T) / 2)
        assert eigenvalues[-1] <= problem.L * (1 + 1e-9)
        if problem.mu is not None:
            assert eigenvalues[0] >= problem.mu - 1e-9 * eigenvalues[-1]
        if problem.eigenvalues is not None:
            assert_allclose(eigenvalues, np.sort(problem.eigenvalues), rtol=1e-9, atol=1e-12)


# ------------------------------------------------------------------------------------------ libraries and dtypes


@every_problem
def test_problem_is_the_same_on_every_backend(backend, name):
    problem, reference = problems.get(name, like=backend.array([]), **NEEDED.get(name, {})), get(name, {})
    assert device(problem.x0) == device(backend.array([]))
    assert_allclose(backend.numpy(problem.x0), reference.x0, rtol=1e-15)
    x, v = (backend.array(near(reference, seed)) for seed in (0, 1))
    for part in (
        lambda f, x, v: f.value(x),
        lambda f, x, v: f.grad(x),
        lambda f, x, v: f.linearize(x)[2](v),
    ):
        own = backend.numpy(part(problem.objective, x, v))
        assert_allclose(own, part(reference.objective, near(reference, 0), near(reference, 1)), rtol=1e-9, atol=1e-11)
    if problem.test is not None:
        for merit, value in problem.test(x).items():
            assert isinstance(value, float)
            assert_allclose(value, reference.test(near(reference))[merit], rtol=1e-9)


@every_problem
def test_single_precision_stays_single(name):
    problem = problems.get(name, dtype="float32", **NEEDED.get(name, {}))
    x = problem.x0
    assert x.dtype == np.float32
    value, g, mv = problem.objective.linearize(x)
    batches = [problem.objective]
    if problem.objective.n_examples is not None:
        batches.append(problem.objective.minibatch([0, 1]))
    for f in batches:
        assert f.value(x).dtype == f.grad(x).dtype == f.linearize(x)[2](x).dtype == np.float32
    for point in problem.stationary_points:
        assert point.x.dtype == np.float32
    assert mv(np.eye(problem.n, 2, dtype=np.float32)).dtype == value.dtype == g.dtype == np.float32


# ------------------------------------------------------------------------------------------------ finding by name


@pytest.mark.parametrize("name", ["mlp_digits", "autoencoder_digits"])
def test_one_number_is_one_hidden_layer(name):
    assert problems.get(name, hidden=6).layout == problems.get(name, hidden=(6,)).layout


def test_unknown_names_and_options_name_the_nearest():
    with pytest.raises(ValueError, match="unknown problem 'rosenbrok'; did you mean 'rosenbrock'"):
        problems.get("rosenbrok")
    with pytest.raises(TypeError, match="problem 'mlp_digits' has no option 'hiden'; did you mean 'hidden'"):
        problems.get("mlp_digits", hiden=(3,))
    with pytest.raises(ValueError, match="dtype must be 'float32' or 'float64', got 'int64'"):
        problems.get("beale", dtype="int64")
    with pytest.raises(TypeError, match="like must hold real floating-point numbers"):
        problems.get("beale", like=np.zeros(2, dtype=np.int64))


@every_problem
def test_every_problem_is_described_and_its_options_are_accepted(name):
    assert len(problems.describe(name).splitlines()[0]) < 100
    defaults = {**problems.options(name), **NEEDED.get(name, {})}
    assert np.array_equal(problems.get(name, **defaults).x0, get(name, {}).x0)


@every_problem
def test_a_seed_changes_the_start(name):
    if "seed" in problems.options(name) and name not in ("least_squares", "noisy", "unit_test"):
        assert not np.array_equal(problems.get(name, seed=1, **NEEDED.get(name, {})).x0, get(name, {}).x0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("quadratic", {"n": 0}, "n must be at least 1"),
        ("quadratic", {"condition": 0.5}, "condition must be at least 1"),
        ("quadratic", {"n": 3, "negative": 4}, "negative \\+ singular must be at most n = 3"),
        ("saddle", {"index": 11}, "index must be in \\[0, n = 10\\]"),
        ("rosenbrock", {"n": 1}, "n must be at least 2"),
        ("extended_rosenbrock", {"n": 3}, "n must be even and at least 2"),
        ("styblinski_tang", {"n": 0}, "n must be at least 1"),
        ("rastrigin", {"n": 0}, "n must be at least 1"),
        ("ackley", {"n": 0}, "n must be at least 1"),
        ("variably_dimensioned", {"n": 0}, "n must be at least 1"),
        ("watson", {"n": 32}, "n must be in \\[2, 31\\]"),
        ("penalty_1", {"n": 1}, "n must be at least 2"),
        ("penalty_2", {"n": 1}, "n must be at least 2"),
        ("trigonometric", {"n": 0}, "n must be at least 1"),
        ("powell_singular", {"n": 6}, "n must be a multiple of 4"),
        ("chebyquad", {"n": 0}, "n must be at least 1"),
        ("degenerate_saddle", {"flat": 0}, "flat must be in \\[1, n = 10\\]"),
        ("monkey_saddle", {"distance": -1.0}, "distance must be at least 0"),
        ("octopus", {"gamma": 3.0, "L": 2.0}, "gamma must be in \\(0, L = 2.0\\]"),
        ("octopus", {"tau": 0.0}, "tau must be positive"),
        ("matrix_factorisation", {"singular_values": (1.0, 1.0)}, "singular_values must fall strictly"),
        ("matrix_factorisation", {"columns": 4}, "at most min\\(rows, columns\\) = 4"),
        ("matrix_factorisation", {"rank": 6}, "rank must be in \\[1, 5\\]"),
        ("noisy", {"of": "rosenbrok"}, "unknown problem 'rosenbrok'; did you mean 'rosenbrock'"),
        ("noisy", {"noise": "cauchi"}, "unknown noise 'cauchi'; did you mean 'cauchy'"),
        ("noisy", {"scale": -1.0}, "scale must be at least 0"),
        ("noisy", {"noise": "mask_out", "scale": 1.5}, "scale, a probability, must be in \\[0, 1\\]"),
        ("unit_test", {"shape": "line-clif"}, "unknown prototype 'clif' in shape 'line-clif'; did you mean 'cliff'"),
        ("unit_test", {"shape": "relu-cliff"}, "no cliff can follow a flat part"),
        ("unit_test", {"shape": "line-bend"}, "only a flat part can precede a bend"),
        ("unit_test", {"shape": ["line"], "n": 2}, "shape must be one word, or n = 2 of them"),
        ("unit_test", {"scale": "stepp"}, "unknown scale 'stepp'; did you mean 'steep'"),
        ("unit_test", {"norm": "l3"}, "unknown norm 'l3'"),
        ("regression_file", {"path": IRIS, "loss": "softmacs"}, "unknown loss 'softmacs'; did you mean 'softmax'"),
        ("autoencoder_curves", {"examples": 4}, "examples must be at least 5"),
        ("least_squares", {"n": 0}, "n must be at least 1"),
        ("least_squares", {"examples": 10}, "examples must be at least n = 50"),
        ("least_squares", {"condition": 0.0}, "condition must be at least 1"),
        ("least_squares", {"noise": -1.0}, "noise must be at least 0"),
        ("logistic_breast_cancer", {"l2": -1.0}, "l2 must be at least 0"),
        ("softmax_digits", {"l2": -1.0}, "l2 must be at least 0"),
        ("mlp_digits", {"activation": "sigmoid"}, "unknown activation 'sigmoid'"),
        ("mlp_digits", {"hidden": (0,)}, "every width must be at least 1"),
        ("autoencoder_digits", {"hidden": ()}, "hidden needs at least the code"),
        ("conv_digits", {"channels": ()}, "channels must be the inputs' and at least one more"),
        ("conv_digits", {"channels": (1, 1, 1, 1)}, "side must be a multiple of 16, to be halved 4 times, got 8"),
        ("conv_digits", {"activation": "rellu"}, "unknown activation 'rellu'; did you mean 'relu'"),
        ("resnet_digits", {"depth": 7}, "depth must be even and at least 4, got 7"),
        ("resnet_digits", {"depth": 2}, "depth must be even and at least 4"),
        ("conv_resnet_digits", {"init": "fixpu"}, "unknown init 'fixpu'; did you mean 'fixup'"),
        ("char_lm", {"context": 0}, "context must be at least 1"),
        ("char_lm", {"examples": 3}, "examples must be at least 4"),
        ("char_lm", {"width": 9, "heads": 2}, "width must be a positive multiple of heads = 2, got 9"),
        ("char_lm", {"heads": 0}, "heads must be at least 1"),
        ("char_lm", {"blocks": 0}, "blocks must be at least 1"),
        ("deep_linear", {"depth": 0}, "depth must be at least 1"),
        ("deep_linear", {"hidden": 0}, "hidden must be at least 1"),
        ("deep_linear", {"width": 4}, "singular_values must be 1 to width = 4 numbers"),
        ("deep_linear", {"singular_values": (1.0, 0.0)}, "singular_values must be positive"),
        ("deep_linear", {"examples": 8}, "examples must be more than width = 8"),
    ],
)
def test_options_out_of_range_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        problems.get(name, **options)

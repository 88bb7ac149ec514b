"""The machinery of benchmarks/claims.py, its verdicts on made-up numbers, and every claim's code for a few steps."""

import importlib
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from problems import data
from refopt.race.plan import Budget, Run
from refopt.race.results import Journal, Outcome

pytest.importorskip("sklearn")  # the digits


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    return importlib.import_module


PAPERS = Path(__file__).parents[1] / "benchmarks" / "papers"
NAMES = sorted({path.stem for path in PAPERS.glob("*.py")} - {"__init__", "claim"})


def watch(stage, total):
    return lambda: None


def outcome(values, k=None, seed=0, **test):
    """Return a run that had these values after steps 0, 1, ... or `k`, of one gradient and a second each."""
    k = list(k or range(len(values)))
    run = Run("p", "m", {}, seed, Budget(100, "ge"), None, "numpy", None)
    return Outcome(run, "MAX_STEPS", "", {"k": k, "value": values, "gradient_equivalents": k, "seconds": k}, test=test)


def test_every_file_is_told(load):
    assert sorted(load("papers").CLAIMS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_claim_runs_and_is_judged(load, name, tmp_path):
    claim = load("papers").CLAIMS[name]
    claim = replace(claim, entrants={key: replace(entrant, search={}) for key, entrant in claim.entrants.items()})
    found = load("papers.claim").hold(claim, Journal(tmp_path), watch, trials=2, seeds=1, share=1e-3)
    assert list(found) == list(claim.entrants)
    for name, (ran,) in found.items():
        assert ran.status != "ERROR", ran.message
        assert ran.rows["k"][-1] >= 1, f"{name} took no step"
    number, verdict = claim.finding(found)
    assert number
    assert verdict in ("holds", "holds in part", "does not hold", "not comparable")


def test_nothing_runs_twice(load, tmp_path):
    module = load("papers.claim")
    claim = small(module)
    announced = []

    def counting(stage, total):
        announced.append((stage, total))
        return lambda: None

    first = module.hold(claim, Journal(tmp_path), counting, trials=3, seeds=2)
    again = module.hold(claim, Journal(tmp_path), counting, trials=3, seeds=2)
    assert announced == [("tuning", 6), ("running", 4), ("tuning", 0), ("running", 0)]
    assert first == again


def test_an_interrupted_claim_goes_on(load, tmp_path):
    module = load("papers.claim")
    claim, journal = small(module), Journal(tmp_path)

    def stop(stage, total):
        def done():
            raise KeyboardInterrupt

        return done

    with pytest.raises(KeyboardInterrupt):
        module.hold(claim, journal, stop, trials=3, seeds=2)
    assert len(list(journal.folder.iterdir())) == 1
    interrupted = module.hold(claim, journal, watch, trials=3, seeds=2)
    whole = module.hold(claim, Journal(tmp_path / "other"), watch, trials=3, seeds=2)
    assert [o.end for runs in interrupted.values() for o in runs] == [o.end for runs in whole.values() for o in runs]


def test_a_setting_is_judged_by_its_worse_start(load, tmp_path, monkeypatch):
    module = load("papers.claim")
    claim = small(module)

    def perform(self, runs):
        for run in runs:
            lr, lucky = run.hyper.get("lr", 0.0), run.seed == module.STARTS[0]
            value = 2.0 if lr == 0.0 else (0.0 if lucky else 9.0)  # the default is even, the others are lucky once
            rows = {"k": [0, 1], "value": [9.0, value], "gradient_equivalents": [0, 1], "seconds": [0, 1]}
            yield Outcome(run, "BUDGET_SPENT", "", rows)

    monkeypatch.setattr(module.Here, "perform", perform)
    found = module.hold(claim, Journal(tmp_path), watch, trials=3, seeds=1)
    assert found["tuned"][0].run.hyper == {}


def small(module):
    """Return a claim about gradient descent on a quadratic."""
    return module.Claim(
        paper="",
        claim="",
        setting="",
        entrants={
            "tuned": module.Entrant("quadratic:n=3", "sgd", 5, search=module.RATES),
            "fixed": module.Entrant("quadratic:n=3", "sgd", 5, fixed={"lr": 0.1}),
        },
        judge=lambda found: module.Finding("", "holds"),
    )


def test_verdicts_of_parts(load):
    of = load("papers.claim").of
    assert [of(p) for p in ([True, True], [True, False], [False])] == ["holds", "holds in part", "does not hold"]


def test_medians_over_the_seeds(load):
    module = load("papers.claim")
    runs = [outcome([9.0, 1.0]), outcome([9.0, 3.0]), outcome([9.0, 2.0, 1.5])]
    assert module.end(runs) == 1.5
    assert module.place(runs, "k", 2.0) == 1
    assert math.isinf(module.place(runs, "k", 0.0))
    assert math.isnan(module.measured(runs, "none"))
    assert module.measured([outcome([1.0], dead=0.5), outcome([1.0])], "dead") == 0.5


def test_ends_that_are_no_numbers_are_told_in_words(load):
    module = load("papers.claim")
    assert [module.shown(f) for f in (0.25, math.inf, math.nan)] == ["0.25", "diverged", "diverged"]
    assert [module.count(k, " steps") for k in (12.0, math.inf)] == ["12 steps", "not reached"]
    assert module.times_fewer(3.0, 12.0, " iterations") == "4.0 times fewer iterations"
    assert module.times_fewer(math.inf, 12.0, " iterations") == "no fewer iterations"


MEASURED = ("misclassified", "smallest eigenvalue", "stuck at the start", "stuck at the end")


def lose(claim, lost):
    """Return what `claim` finds where these entrants diverge, and the others end at 1 after 12 steps."""
    good = outcome([9.0, 1.0], k=[0, 12], **dict.fromkeys(MEASURED, 0.25))
    found = {name: [outcome([9.0, math.nan])] if name in lost else [good] for name in claim.entrants}
    return claim.finding(found)


@pytest.mark.parametrize("name", NAMES)
def test_where_all_or_what_is_compared_with_was_lost_nothing_is_comparable(load, name):
    claim = load("papers").CLAIMS[name]
    assert set(claim.against) <= set(claim.entrants)
    for lost in (set(claim.entrants), *({entrant} for entrant in claim.against)):
        said, verdict = lose(claim, lost)
        assert verdict == "not comparable", lost
        assert said.count("diverged") == len(lost)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_lost_itself_is_judged_and_told_in_words(load, name):
    claim = load("papers").CLAIMS[name]
    for entrant in set(claim.entrants) - set(claim.against):
        said, verdict = lose(claim, {entrant})
        assert verdict in ("holds", "holds in part", "does not hold")
        assert "diverged" in said or "not reached" in said
        assert not {"inf", "nan", "inf%", "nan%"} & set(re.split(r"[^\w%]+", said))


def judged(load, name, **runs):
    return load("papers").CLAIMS[name].finding({key: [value] for key, value in runs.items()}).verdict


def test_verdict_on_hessian_free(load):
    low, high = outcome([9.0, 1.0]), outcome([9.0, 2.0])
    assert judged(load, "martens_2010", **{"Hessian-free": low, "Nesterov": high}) == "holds"
    assert judged(load, "martens_2010", **{"Hessian-free": high, "Nesterov": low}) == "does not hold"


@pytest.mark.parametrize(
    ("saddle_free", "newton", "sgd", "verdict"),
    [
        ((1.0, 1.0, 1.0), (2.0, 2.0, 2.0), (3.0, 4.0, 5.0), "holds"),
        ((1.0, 1.0, 1.0), (2.0, 2.0, 2.0), (5.0, 4.0, 3.0), "holds in part"),  # the gap narrows
        ((1.0, 1.0, 1.0), (9.0, 2.0, 2.0), (3.0, 4.0, 5.0), "holds in part"),  # damped Newton fails at 5 units
    ],
)
def test_verdict_on_saddle_free_newton(load, saddle_free, newton, sgd, verdict):
    ends = {"saddle-free": saddle_free, "damped Newton": newton, "SGD": sgd}
    measured = {"misclassified": 0.1, "smallest eigenvalue": -1e-3}
    runs = {
        f"{name}, {width}": outcome([9.0, f], **measured)
        for name, values in ends.items()
        for width, f in zip(load("papers.dauphin_2014").STEPS, values, strict=True)
    }
    assert judged(load, "dauphin_2014", **runs) == verdict


@pytest.mark.parametrize(
    ("kfac", "without", "verdict"),
    [(4, 5, "holds"), (4, 4, "holds in part"), (5, 6, "holds in part"), (5, 5, "does not hold")],
)
@pytest.mark.parametrize("ends", [{"Nesterov": 1.0, "Adam": 2.0}, {"Nesterov": 2.0, "Adam": 1.0}])
def test_verdict_on_kfac_counts_iterations_to_the_best_first_order_end(load, kfac, without, verdict, ends):
    places = {"K-FAC": kfac, "K-FAC, no momentum": without, "K-FAC, block-tridiagonal": 3}
    runs = {name: outcome([9.0, 2.0, 1.0], k=[0, 1, place]) for name, place in places.items()}
    runs |= {name: outcome([9.0, end], k=[0, 12]) for name, end in ends.items()}
    assert judged(load, "martens_grosse_2015", **runs) == verdict


@pytest.mark.parametrize(
    ("shampoo", "soap", "verdict"),
    [(80, 60, "holds"), (80, 70, "holds in part"), (100, 90, "does not hold"), (101, 102, "does not hold")],
)
def test_verdict_on_soap_counts_steps(load, shampoo, soap, verdict):
    places = {"Adam": 100, "Shampoo": shampoo, "SOAP": soap}
    runs = {name: outcome([9.0, 1.0 if place <= 100 else 2.0], k=[0, place]) for name, place in places.items()}
    assert judged(load, "vyas_2025", **runs) == verdict


def test_verdict_on_fixup(load):
    f = load("papers").CLAIMS["zhang_2019"]
    good = {name: [outcome([2.3, 0.1 if "fixup" in name else 2.3])] for name in f.entrants}
    assert f.judge(good).verdict == "holds"
    assert f.judge({name: [outcome([2.3, 0.1])] for name in f.entrants}).verdict == "holds in part"
    assert f.judge({name: [outcome([2.3, 2.3])] for name in f.entrants}).verdict == "holds in part"


@pytest.mark.parametrize(
    ("by_start", "by_optimizer", "verdict"),
    [(0.5, 0.0, "holds"), (0.5, 0.2, "holds in part"), (0.02, 0.04, "holds in part"), (0.2, 0.5, "does not hold")],
)
def test_verdict_on_stuck_units(load, by_start, by_optimizer, verdict):
    """More units are stuck at the end from one of the starts, and more with one of the optimizers."""
    claim = load("papers").CLAIMS["dead_units"]
    found = {}
    for name in claim.entrants:
        _, start, optimizer = name.split(", ")
        stuck = 0.1 + by_start * (start == "wide") + by_optimizer * (optimizer == "Adam")
        found[name] = [outcome([9.0, 1.0], **{"stuck at the start": 0.12, "stuck at the end": stuck})]
    number, found_verdict = claim.finding(found)
    assert found_verdict == verdict
    assert "wide 12%, then" in number
    assert f"at least {by_start:.0%} apart by the start, at most {by_optimizer:.0%} by the optimizer" in number


@pytest.mark.parametrize("start", ["scaled", "wide", "low bias"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_stuck_units_are_counted_one_by_one(load, activation, start):
    module = load("papers.dead_units")
    problem = module.find(f"digits-{activation}-{start}", 3, "float64")
    parts, a, units, stuck = problem.layout.split(problem.x0), data.digits().inputs, 0, 0
    for i in (1, 2, 3):
        W, b = parts[f"dense{i}.W"], parts[f"dense{i}.b"]
        assert (W.std() == pytest.approx(1.0), (b == -2.0).all()) == (start == "wide", start == "low bias")
        z = a @ W + b
        a = np.tanh(z) if activation == "tanh" else np.maximum(z, 0.0)
        for unit in a.T:
            units += 1
            stuck += sum(abs(unit) > 0.99) >= 0.95 * len(unit) if activation == "tanh" else not unit.any()
    assert units == 96
    assert module.stuck(problem, problem.x0) == pytest.approx(stuck / units)
    assert start == "scaled" or stuck > 0


def test_the_smallest_eigenvalue_is_the_hessians(load):
    module = load("papers.dauphin_2014")
    problem = module.find("digits_4x4-2", 0, "float64")
    result = importlib.import_module("refopt").minimize(
        problem, importlib.import_module("refopt.first_order.sgd"), steps=0
    )
    mv = problem.objective.linearize(result.x)[2]
    H = mv(np.eye(problem.n))
    measured = module.measure(problem, result)
    assert measured["smallest eigenvalue"] == pytest.approx(np.linalg.eigvalsh(H)[0], rel=1e-6)
    assert measured["misclassified"] > 0.5  # nothing is known at the start


def test_the_momentum_schedule(load):
    from refopt.race.sources import read_value

    module = load("papers.sutskever_2013")
    mu = read_value(module.schedule(0.9))
    expected = [0.5, 0.5, 0.75, 0.9, 0.9, 0.9]
    stage, last = module.STAGE, module.STEPS - 1
    assert [mu(k) for k in (0, stage - 1, stage, 4 * stage, last - 1, last)] == expected
    assert read_value(module.schedule(0.99))(last - 300) == 0.99
    assert read_value(module.schedule(0.99))(last) == 0.9


def test_the_page_and_the_picture(load, tmp_path):
    claims = load("claims")
    names = ("Hessian-free", "Nesterov")
    found = {name: [outcome([9.0, 2.0], seed=0), outcome([9.0, 1.0, 0.5], seed=1)] for name in names}
    claims.write({"martens_2010": found}, "2 seeds", tmp_path)
    text = (tmp_path / "claims.md").read_text()
    assert "**does not hold**" in text
    assert "| Nesterov | m | 1.25 (0.5 to 2) | 1.5 |" in text
    assert (tmp_path / "images" / "claims.png").read_bytes()[:4] == b"\x89PNG"


def test_an_unknown_claim_is_named(load, monkeypatch, capsys):
    claims = load("claims")
    monkeypatch.setattr("sys.argv", ["claims.py", "--only", "martens_2011"])
    with pytest.raises(SystemExit) as ended:
        claims.main()
    assert ended.value.code == 2
    assert "martens_2010" in capsys.readouterr().err

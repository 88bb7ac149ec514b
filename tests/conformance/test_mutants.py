"""No wrong optimizer passes, nine in ten are explained as they were made, and no right one raises an alarm."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from refopt import method
from refopt.conformance import Path, Recording, assert_matches, compare
from refopt.conformance.diagnosis import diagnose
from refopt.conformance.evidence import gather
from refopt.conformance.interactive import default_lr
from refopt.conformance.replay import preset
from refopt.conformance.streams import NAMES
from refopt.conformance.streams import get as stream
from tests.conformance.mutants import MUTANTS, asking, averaged, matrices, moments, parts, searching
from tests.first_order.by_hand import RULES

FEW = ("scales", "zeros", "schedule", "decay", "quadratic", "scales_float32")  # the slow test takes all streams
STEPS = {name: 120 for name in MUTANTS if "m = 100" in name or "one snapshot" in name}  # seen when it is renewed
STEPS |= {name: 30 for name in MUTANTS if name.startswith("ESGD")}
CONSTANT = [name for name in NAMES if stream(name).lr is None and not name.startswith(("quadratic", "saddle"))]
REPLAYED: dict[str, Any] = {**matrices.RIGHT, **moments.RIGHT, **averaged.RIGHT, **parts.RIGHT}
ASKING: dict[str, Any] = {**asking.RIGHT, **searching.RIGHT}


def made(name: str) -> Any:
    """Return a mutant as it was made: some keep a state of their own, which no test may leave to the next."""
    return copy.deepcopy(MUTANTS[name])


def check(name: str, **options: Any) -> None:
    mutant = made(name)
    found = diagnose(mutant.update, mutant.method, **{**options, **mutant.options})
    assert found.causes or not found.explains, "it passes for right"
    if mutant.causes:
        assert set(mutant.causes) in map(set, (found.causes, *found.ties)), str(found)
    else:
        assert not found.explains, str(found)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_flagged(name: str) -> None:
    mutant = made(name)
    module: Any = method.get(mutant.method)
    options = dict(mutant.options)
    streams = [stream(s) for s in options.pop("streams", FEW)]
    hyper = {"lr": default_lr(module), **preset(module, options.pop("dialect", None)), **options}
    evidence = gather(mutant.update, module, hyper, streams, STEPS.get(name, 20))
    assert evidence.flaws or not evidence.compare(module, hyper, 0.0).agrees


@pytest.mark.parametrize("name", list(MUTANTS)[::9])
def test_a_mutant_is_explained_as_it_was_made(name: str) -> None:
    check(name, streams=FEW, steps=STEPS.get(name, 20))


@pytest.mark.parametrize("name", ["Yogi: sign", "Adafactor: absolute step"])
def test_what_turns_nan_or_moves_far_is_explained(name: str) -> None:
    """On the saddle the one is nan after four steps, and the first step of the other is larger than x."""
    check(name, streams=("scales", "saddle"), steps=6)


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_flagged_and_explained_on_all_streams(name: str) -> None:
    check(name)


def test_there_are_mutants_enough_and_nine_in_ten_can_be_named() -> None:
    assert len(MUTANTS) >= 60
    assert len({mutant.method for mutant in MUTANTS.values()}) >= 12
    assert np.mean([bool(mutant.causes) for mutant in MUTANTS.values()]) >= 0.9


@pytest.mark.parametrize(
    ("name", "dialect", "switches", "path"), [pytest.param(*rule, id=" ".join(map(str, rule[:3]))) for rule in RULES]
)
def test_a_right_rule_by_hand_raises_no_alarm(name: str, dialect: str, switches: Any, path: Any) -> None:
    lr, steps = 1e-2, 60
    paths = {}
    for s in map(stream, CONSTANT):
        G = np.array([s.grad(k, s.x0) for k in range(steps)])
        x = [list(path(g.tolist(), x0, lr)) for g, x0 in zip(G.T, s.x0.tolist(), strict=True)]
        paths[s.name] = Path(np.arange(1, steps + 1), np.array(x).T.astype(s.x0.dtype))
    options = {**method.get(name).DIALECTS[dialect], **switches, "lr": lr}
    found = diagnose(Recording(paths, {}), name, steps=steps, **options)
    assert found.comparison.agrees, str(found.comparison)
    assert found.explains
    assert found.causes == ()


@pytest.mark.parametrize("name", ASKING)
def test_a_right_method_that_asks_by_hand_raises_no_alarm(name: str) -> None:
    update, options = ASKING[name]
    assert_matches(update, name.split()[0], steps=30, **options)


@pytest.mark.parametrize("name", REPLAYED)
def test_a_right_method_by_hand_raises_no_alarm(name: str) -> None:
    """In those of matrices coordinates of 1e-9 and 1e2 mix, so a tolerance of each alone would not do."""
    update, options = REPLAYED[name]
    comparison = compare(update, name.split()[0], steps=60, **options)
    assert comparison.agrees, str(comparison)


def test_rounding_that_grows_a_thousandfold_a_step_raises_no_alarm() -> None:
    """As Adafactor's does near step 146 of the quadratic."""
    right = made("Adafactor: clip 2").update
    assert compare(right, "adafactor", streams=["quadratic"], clip=2.0).agrees
    wrong = compare(right, "adafactor", streams=["quadratic"], clip=2.0, power=0.8 * (1 + 1e-9))
    assert wrong.first is not None
    assert wrong.first.step < 140

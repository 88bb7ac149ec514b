"""Every claim about where libraries differ is run; the scripts of live bugs are too, where their library is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from refopt.cli import app
from refopt.conformance import table
from refopt.conformance.deviations import CLAIMS, NOTES, STEPS, Claim, Side
from refopt.conformance.dialects import LIBRARIES, PEERS, version
from refopt.method import get, names


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: f"{c.row}-{c.left}-{c.right}".replace(" ", "_"))
def test_a_claim_holds(claim: Claim) -> None:
    effect = claim.measure()
    assert claim.holds(effect), f"{claim.about}: {effect}"


def test_an_effect_is_what_its_definition_says() -> None:
    """Heavy ball with momentum 0 is sgd; with dampening 1/2 all its steps but the first are halved."""
    same = Claim(0, "", Side("sgd", "torch"), Side("heavy_ball", "torch", {"momentum": 0.0}), same=True)
    assert same.measure() == (0.0, 0.0, 0.0, 0.0)
    halted = Claim(0, "", Side("sgd", "torch"), Side("heavy_ball", "torch", {"momentum": 0.0, "dampening": 0.5}))
    effect = halted.measure()
    assert effect[:2] == (0.0, 0.0)  # the first gradient is not damped
    assert STEPS == 40
    assert all(0.1 < last < 1.0 for last in effect[2:])


def test_every_known_row_is_claimed_or_noted() -> None:
    assert {claim.row for claim in CLAIMS} | set(NOTES) == set(range(1, 52))


def test_a_library_without_a_recording_or_installation_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(table, "version", lambda library: "")
    recorded = {agreement.source for agreement in table.agreements(["sgd", "rprop"])}
    assert all(source.endswith("(recorded)") for source in recorded)
    assert [a.peer.library for a in table.agreements(["rprop"]) if a.peer.bug] == ["optax"]
    assert all(agreement.as_claimed for agreement in table.agreements(["sgd", "rprop"]))
    assert not list(table.agreements(["sgd"], recordings=tmp_path))


def test_defaults_name_knobs_that_differ_alone() -> None:
    rows = list(table.defaults())
    assert ("rmsprop", "eps_placement", "outside", "inside", "inside") in rows
    assert ("adam", "lr", "0.001", "required", "0.001") in rows
    assert all(len({cell for cell in row[2:] if cell}) > 1 for row in rows)
    assert {row[0] for row in rows} <= {name for name in names() if set(get(name).DIALECTS) & set(LIBRARIES)}


def test_the_page_has_every_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "version", lambda library: "")
    page = table.page(list(table.agreements(["rprop"])))
    assert "differs, as known: each step is the one due a step before" in page
    assert "NO LONGER" not in page
    assert "refopt bfgs, dialect scipy" in page
    for script in table.BUGS.glob("*.py"):
        assert f"### {script.name}" in page
        assert len(script.read_text().splitlines()) <= 15


def test_the_command_says_what_it_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "version", lambda library: "")
    monkeypatch.setenv("COLUMNS", "240")
    found = CliRunner().invoke(app, ["conformance", "table", "sgd", "rprop"])
    assert found.exit_code == 0
    assert "(recorded)" in found.output
    assert "differs, as known" in found.output
    assert CliRunner().invoke(app, ["conformance", "table", "sgdd"]).exit_code == 2
    wrong = [peer._replace(hyper={"eta_plus": 1.3}) for peer in PEERS if peer.method == "rprop" and not peer.bug]
    monkeypatch.setattr(table, "PEERS", wrong)
    assert CliRunner().invoke(app, ["conformance", "table", "rprop"]).exit_code == 1


@pytest.mark.peers
@pytest.mark.parametrize("script", sorted(table.BUGS.glob("*.py")), ids=lambda path: path.stem)
def test_a_live_bug_is_still_there(script: Path) -> None:
    library = script.name.partition("_")[0]
    if not version(library):
        pytest.skip(f"{library} is not installed")
    *evidence, verdict = table.run_script(script).splitlines()
    assert evidence
    assert verdict == "differs", f"{script.name}: is the bug mended?"

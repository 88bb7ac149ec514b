"""Every claim about where libraries differ is run; the scripts of live bugs are too, where their library is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import problems
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


def test_every_known_row_is_claimed_measured_or_noted() -> None:
    measured = {int(path.name.partition("_")[0]) for path in table.MEASURED.glob("*.py")}
    assert {claim.row for claim in CLAIMS} | measured | set(NOTES) == set(range(1, 52))
    assert {2, 4, 7, 11, 14, 23, 25, 28, 35, 40, 41, 42, 43, 44, 46, 49} <= measured, "a note alone does not reproduce"


def test_a_stream_on_which_rounding_decides_is_left_out_of_the_row() -> None:
    """As a reference amplifies rounding on it: adafactor's first factored means, centred RMSprop in float32."""
    told = {a.peer.name: a for a in table.agreements(["adafactor", "sgd"], ["torch"])}
    of_sgd, of_adafactor = told["sgd-torch"], told["adafactor-torch"]
    assert len(of_sgd.telling) == len(of_sgd.comparison.streams)
    left_out = {d.stream for d in of_adafactor.comparison.streams} - {d.stream for d in of_adafactor.telling}
    assert {"quadratic", "quadratic_float32"} <= left_out
    assert all(d.tolerance <= 1e-2 for d in of_adafactor.telling)
    assert of_adafactor.cells[4] == f"{len(of_adafactor.telling)} of {len(of_adafactor.comparison.streams)}"
    assert "(3e+00)" not in "".join(of_adafactor.cells)


def test_the_library_of_a_script_is_in_its_name() -> None:
    assert table.library_of(Path("28_pytorch_optimizer_lamb.py")) == "pytorch_optimizer"
    assert table.library_of(Path("torch_nadam_float32.py")) == "torch"
    found = [*table.scripts(table.MEASURED, lambda path: "holds"), *table.scripts(table.BUGS, lambda path: "differs")]
    assert {script.library for script in found} == {*LIBRARIES, "scipy"}
    assert found[0].row == 2


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
    for script in table.scripts(table.MEASURED):
        about = script.about.replace("|", "\\|")
        assert f"| {script.row} | {about} | {script.library} is not installed |" in page
    for path in (*table.BUGS.glob("*.py"), *table.MEASURED.glob("*.py")):
        assert len(path.read_text().splitlines()) <= 30


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
@pytest.mark.parametrize(
    "script", sorted([*table.BUGS.glob("*.py"), *table.MEASURED.glob("*.py")]), ids=lambda path: path.stem
)
def test_a_script_shows_what_it_says(script: Path) -> None:
    library = table.library_of(script)
    if not version(library):
        pytest.skip(f"{library} is not installed")
    *evidence, verdict = table.run_script(script).splitlines()
    assert evidence
    assert verdict == ("differs" if script.parent == table.BUGS else "holds"), f"{script.name}: is it mended?"


@pytest.mark.peers
def test_torchs_solver_is_given_values_in_double_precision() -> None:
    """In float32, as they were, its search takes 70 steps and 82 evaluations."""
    pytest.importorskip("torch")
    found = table._torch(problems.get("rosenbrock", n=10), "strong_wolfe")
    assert (found.steps, found.gradients) == (69, 85)

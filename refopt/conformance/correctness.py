"""What stands behind each method: its tests, found by running them and seeing which methods step.

pytest runs with this module as a plugin. It wraps the `step` of every method, so that a test is known by what it ran,
and no list is kept by hand. A method's tests are those that step it and stand in its folder of the test tree or among
those of all methods. What kind of check a test is follows from its place and name, by `KINDS`.
"""

from __future__ import annotations

import datetime
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from refopt.conformance.dialects import PEERS
from refopt.conformance.recording import load
from refopt.conformance.replay import remembered
from refopt.conformance.table import RECORDINGS, ROOT, markdown
from refopt.method import FOLDERS, folder_of, get, names
from refopt.status import require

KINDS: Mapping[str, str] = {
    "dialects": r"^tests/conformance/test_dialects",
    "contract": r"^tests/test_contract",
    "misuse and trouble": r"::.*(bad_|misuse|named|must_|status|_nan|overflow|not_finite|refuse)",
    "second implementation": r"::.*(by_hand|the_rule_(coordinate|part)|(path|step|sequence|model)_is_that_of_the"
    r"|closed_form|compact_form|dense_(matri|kronecker|solve)|authors_order|a_fixed_full_basis)",
    "paper": r"::.*(paper(?!s_dialect)|notebook|author|theorem|algorithm|demonstration)",
    "invariance": r"::.*(invarian|equivarian|scales?_of|units_of|sees_units|affine|rotat|transpos|permut"
    r"|turned_coordinates|turns_of|treated_alike|not_seen|no_bit)",
    "facts": "",
}
"""Each kind of check and the pattern of 'path::name' that makes it; the first that matches counts."""

FOR_ALL = ("tests/conformance/test_dialects.py", "tests/test_contract.py")
BY_HAND = tuple(
    f"tests/conformance/test_mutants.py::test_a_right_{what}_by_hand_raises_no_alarm"
    for what in ("rule", "method_that_asks", "method")
)
"""Methods written down a second time, which `check` holds against the first."""

TESTS = (*(f"tests/{folder}" for folder in FOLDERS), *FOR_ALL, *BY_HAND)


class Check(NamedTuple):
    """A test function as far as it concerns one method."""

    method: str
    path: str  # 'tests/first_order/test_adam.py'
    name: str  # 'test_...'
    passed: int  # cases
    failed: int

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        return next(kind for kind, pattern in KINDS.items() if re.search(pattern, f"{self.path}::{self.name}"))


# ------------------------------------------------------------------------------------------------ the plugin of pytest

_stepped: set[str] = set()
_cases: dict[tuple[str, str, str], dict[str, int]] = {}


def pytest_configure(config: Any) -> None:
    """Wrap every method's step before a test can import it."""
    for name in names():
        module: Any = get(name)
        module.step = _watched(name, module.step)


def _watched(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(step)
    def watched(*arguments: Any, **keywords: Any) -> Any:
        _stepped.add(name)
        return step(*arguments, **keywords)

    return watched


def pytest_runtest_setup(item: Any) -> None:
    """Forget what the test before has run, and the references that would not run again."""
    _stepped.clear()
    remembered.cache_clear()


def pytest_runtest_logreport(report: Any) -> None:
    """Enter a case under its test function and the methods that it ran."""
    if report.when == "call" and report.outcome in ("passed", "failed"):
        path, _, name = report.nodeid.partition("::")
        for method in _stepped:
            case = _cases.setdefault((method, path, name.partition("[")[0]), {"passed": 0, "failed": 0})
            case[report.outcome] += 1


def pytest_sessionfinish(session: Any) -> None:
    """Write what was found to the file that the environment names."""
    found = [[*key, case["passed"], case["failed"]] for key, case in sorted(_cases.items())]
    Path(os.environ["REFOPT_CORRECTNESS"]).write_text(json.dumps(found), encoding="utf-8")


# --------------------------------------------------------------------------------------------------------- run and page


def run(tests: Sequence[str] = TESTS, root: Path = ROOT) -> list[Check]:
    """Run `tests`, files, folders or single tests under `root`, and return what concerns each method.

    Raises ValueError where one is missing, as all are in an installation without the sources, and RuntimeError where
    pytest could not run.
    """
    for test in tests:
        path = root / test.partition("::")[0]
        require(path.exists(), "tests must be in a source tree", str(path))
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "found.json")
        command = [sys.executable, "-m", "pytest", "-q", "-p", __name__, "-p", "no:cacheprovider", *tests]
        environment = {**os.environ, "REFOPT_CORRECTNESS": str(answer)}
        ended = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
        if ended.returncode not in (0, 1):
            raise RuntimeError(f"pytest could not run: {(ended.stdout + ended.stderr).strip()[-2000:]}")
        checks = [Check(*entry) for entry in json.loads(answer.read_text(encoding="utf-8"))]
    everywhere = {path.partition("::")[0] for path in (*FOR_ALL, *BY_HAND)}
    return [c for c in checks if c.path in everywhere or c.path.startswith(f"tests/{folder_of(c.method)}/")]


def dialects(method: str, recordings: Path = RECORDINGS) -> Iterator[str]:
    """Say for each recorded library how closely the method's dialect of it is matched."""
    for peer in PEERS:
        if peer.method == method and not peer.bug:
            recording = load(recordings / f"{peer.name}.npz")
            found = peer.compare(recording)
            verdict = f"to {found.largest.relative:.0e}" if found.agrees else f"NOT MATCHED: {found.first}"
            yield f"{peer.call}, {recording.about['version']}: {verdict}"


def page(checks: Sequence[Check]) -> str:
    """Return what stands behind each method that has a check, as Markdown."""
    known = {check.method for check in checks}
    of = {name: [check for check in checks if check.method == name] for name in names() if name in known}
    failed = sum(check.failed for check in checks)
    return "\n".join(
        [
            "# What stands behind each method",
            "",
            "Made by running: `refopt conformance correctness --out docs/correctness.md`, "
            f"{datetime.date.today().isoformat()}.",
            "Every test ran with the steps of all methods watched. A method's tests are those that ran it; their place",
            "and name say of which kind they are:",
            "",
            "- **dialects**: beside other libraries, by recordings of 200 steps of each stream;",
            "- **contract**: what every method promises, on NumPy, read-only NumPy and a strict array library;",
            "- **second implementation**: the rule once more, written by hand, or with dense matrices;",
            "- **paper**: what its authors state or print; **invariance**: what must change nothing;",
            "- **misuse and trouble**; **facts**: analytic values, limits, properties of drawn cases, comparisons.",
            "",
            f"{sum(check.passed for check in checks)} cases passed, {failed} failed. The table counts cases.",
            "",
            *markdown(("method", *KINDS), [(f"[{name}](#{name})", *_counts(of[name])) for name in of]),
            *(line for name in of for line in _section(name, of[name])),
            "",
        ]
    )


def _counts(checks: Sequence[Check]) -> Iterator[str]:
    for kind in KINDS:
        cases = sum(check.passed + check.failed for check in checks if check.kind == kind)
        yield str(cases) if cases else ""


def _section(name: str, checks: Sequence[Check]) -> Iterator[str]:
    """Yield a method's own part: recorded libraries, and its own tests by kind; the contract is the same for all.

    A link is to the file, with the test's name for its fragment; docs/hooks.py makes the line of it on the site.
    """
    yield from ("", f"## {name}", "", f"{get(name).SPEC.title}: {get(name).SPEC.source}", "")
    yield from (f"- dialects: `{line}`" for line in dialects(name))
    for kind in KINDS:
        for check in checks:
            if check.kind == kind and check.path not in FOR_ALL:
                verdict = f"**{check.failed} failed**" if check.failed else f"{check.passed} passed"
                link = f"[`{check.path}::{check.name}`](../{check.path}#{check.name})"
                yield f"- {kind}: {link}, {verdict}"

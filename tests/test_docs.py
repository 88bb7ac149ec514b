"""What the pages show is true: the course's code runs, its checks hold, and rules are set as they are written."""

from __future__ import annotations

import html
import importlib
import pkgutil
import re
import textwrap
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from refopt import curvature, method

DOCS = Path(__file__).parent.parent / "docs"
COURSE = sorted((DOCS / "course").glob("*.md"))
OTHERS = ("index", "start", "own_method", "networks", "curvature", "kfac", "race", "check")
PAGES = [*COURSE, *(DOCS / f"{name}.md" for name in OTHERS)]


def load(name: str) -> ModuleType:
    """Import a module of docs/, which its hooks import by the same name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS))
        return importlib.import_module(name)


def hooked() -> ModuleType:
    pytest.importorskip("mkdocs")
    return load("hooks")


def blocks(page: Path) -> list[str]:
    """Return the page's Python, solutions too, which are indented, in the order in which it stands."""
    found = re.findall(r"^( *)```python\n(.*?)^\1```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(code) for _, code in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    for code in blocks(page):
        exec(compile(code, str(page), "exec"), scope)


@pytest.mark.parametrize("page", [p for p in COURSE if p.stem != "index"], ids=str)
def test_every_exercise_has_a_solution_that_its_check_needs(page: Path) -> None:
    exercises = re.split(r"^\*\*\d\.\*\*", page.read_text(), flags=re.MULTILINE)[1:]
    assert len(exercises) >= 2
    for exercise in exercises:
        assert re.search(r'^\?\?\? example "Solution"$', exercise, re.MULTILINE)
        solution, check = re.findall(r"^( *)```python\n(.*?)^\1```$", exercise, re.DOTALL | re.MULTILINE)
        assert solution[0]
        assert "assert " in check[1]
        answers = re.findall(r"^(?:def )?(\w+)(?= =|\()", textwrap.dedent(solution[1]), re.MULTILINE)
        assert any(re.search(rf"\b{answer}\b", check[1]) for answer in answers)


maths = load("maths")


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("m / (1 - c)", "<mfrac><mrow><mi>m</mi></mrow><mrow><mn>1</mn><mo>−</mo><mi>c</mi></mrow></mfrac>"),
        ("a b / c", '<mfrac><mrow><mi>a</mi><mspace width="0.2em"/><mi>b</mi></mrow><mrow><mi>c</mi></mrow></mfrac>'),
        ("sqrt(v)", "<msqrt><mrow><mi>v</mi></mrow></msqrt>"),
        ("v_hat", '<mover accent="true"><mi>v</mi><mo stretchy="false">^</mo></mover>'),
        ("beta1", "<msub><mi>β</mi><mrow><mn>1</mn></mrow></msub>"),
        ("H^{-1}", "<msup><mrow><mi>H</mi></mrow><mrow><mo>−</mo><mn>1</mn></mrow></msup>"),
        ("weight_decay", '<mi mathvariant="normal">weight_decay</mi>'),
        ("x_{k-1}", "<msub><mi>x</mi><mrow><mi>k</mi><mo>−</mo><mn>1</mn></mrow></msub>"),
        ("where", "<mtext>where</mtext>"),
        ("l2", '<mi mathvariant="normal">l2</mi>'),
        ("a *= b", "<mi>a</mi><mo>∗=</mo><mi>b</mi>"),
        ("A (x) G", "<mi>A</mi><mo>⊗</mo><mi>G</mi>"),
        ("beta1^t", "<msubsup><mi>β</mi><mrow><mn>1</mn></mrow><mrow><mi>t</mi></mrow></msubsup>"),
    ],
)
def test_a_formula_is_set(written: str, shown: str) -> None:
    assert maths.formula(written, {"weight_decay"}) == f'<math displaystyle="true"><mrow>{shown}</mrow></math>'


@pytest.mark.parametrize("doubtful", ["a / b c", "a / b / c", "a/b", "a / -b"])
def test_what_could_be_read_in_two_ways_keeps_its_slash(doubtful: str) -> None:
    assert "<mfrac>" not in maths.formula(doubtful, set())


def test_a_formula_in_a_line_keeps_its_slash_and_begins_no_block() -> None:
    shown = maths.formula("q = L / mu", set(), inline=True)
    assert "<mfrac>" not in shown
    markdown = pytest.importorskip("markdown")
    made = markdown.markdown(f"The number\n{shown} tells\nall, and\n{shown}\nagain.")
    assert made.count("<p>") == 1
    assert "<p><span><math>" in markdown.markdown(f"{shown} at the beginning")


def test_no_page_has_a_formula_that_begins_a_block() -> None:
    hooks = hooked()
    for page in DOCS.glob("**/*.md"):
        file = SimpleNamespace(file=SimpleNamespace(src_uri=str(page.relative_to(DOCS))))
        assert not re.search(r"^\s*<math", hooks.on_page_markdown(page.read_text(), file), re.MULTILINE), page


@pytest.mark.parametrize(
    ("sentence", "found"),
    [
        ("A layer s = W^T a (a carries the 1), g being", ["s = W^T a"]),
        ("approximated by A (x) G,", ["A (x) G"]),
        ("No step exceeds lr sqrt(1 - beta2^t) / (1 - beta1^t) in any", ["lr sqrt(1 - beta2^t) / (1 - beta1^t)"]),
        ("a value every T1 steps; 2 d^3 flops a factor", ["T1", "2 d^3"]),
        ("the paper's eps is 1e-7, K-FAC has a 1 too. J. Martens, arXiv:1503.05671", ["eps"]),
        ("f = loss(z(x)) and (H z)_i^2 are left alone", ["z(x)"]),
    ],
)
def test_a_sentence_has_its_formulas_found_and_nothing_lost(sentence: str, found: list[str]) -> None:
    pieces = maths.formulas(sentence, {"lr", "T1", "beta1", "beta2"})
    assert pieces[1::2] == found
    assert "".join(pieces) == sentence


def test_no_formula_loses_a_word_or_a_sign() -> None:
    """Every letter and digit of every method's rule is still there, in order, once the tags are gone."""
    greek = {sign: name for name, sign in maths.GREEK.items()}
    for name in method.names():
        module = method.get(name)
        for line in re.findall(r"^    +(.*)$", module.__doc__ or "", re.MULTILINE):
            for cell in re.split(r"\s{3,}", line):
                shown = html.unescape(re.sub(r"<[^>]*>", "", maths.formula(cell, load_symbols(module))))
                letters = re.sub("[" + "".join(greek) + "]", "", shown)
                words = {word for word in re.findall(r"[A-Za-z]{5,}", cell) if word not in maths.GREEK}
                assert all(word in letters for word in words - {"sqrt", "grad"}), (name, cell, shown)
                assert re.findall(r"\d", shown) == re.findall(r"\d", cell), (name, cell, shown)


def load_symbols(module: Any) -> set[str]:
    return {*method.keywords(module.init), *method.keywords(module.step), *module.State._fields}


def test_the_links_of_a_page_lead_to_the_lines_of_the_file() -> None:
    file = (DOCS.parent / "refopt" / "first_order" / "adam.py").read_text().splitlines()
    links = re.findall(r"\[`(\w+)`\]\(#__codelineno-\d-(\d+)\)", hooked().page("adam"))
    assert {"State", "SPEC", "DIALECTS", "init", "step", "rule"} == {name for name, _ in links}
    for name, line in links:
        assert re.match(rf"(class |def )?{name}\b", file[int(line) - 1])


def test_the_links_of_correctness_lead_to_the_tests() -> None:
    """In the repository to the file, on the site to the line."""
    hooks = hooked()
    page = (DOCS / "correctness.md").read_text()
    assert "](../tests/first_order/test_adam.py#test_what_becomes_adam)" in page
    assert not re.search(r"^- (?!dialects)[\w ]+: `", page, re.MULTILINE), "a test without a link"
    for path, name in set(hooks.TEST.findall(page)):
        (line,) = re.findall(
            rf"^\]\({path}\.md#__codelineno-0-(\d+)\)$", hooks.TEST.sub(hooks.to_line, f"](../{path}.py#{name})")
        )
        source = (DOCS.parent / f"{path}.py").read_text()
        assert source.splitlines()[int(line) - 1].startswith(f"def {name}(")
        assert source.rstrip() in hooks.test_file(f"{path}.py")


def test_a_page_of_a_method_leads_to_its_evidence() -> None:
    hooks = hooked()
    page = hooks.page("adam")
    assert "(../correctness.md#adam)" in page
    assert "| optax 0.2" in page, "its rows of the table of deviations"
    headings = re.findall(r"^## (\w+)$", (DOCS / "correctness.md").read_text(), re.MULTILINE)
    assert set(method.names()) <= set(headings), "the anchors of those links"
    assert len(re.findall(r"\]\(\w+\.md\)", page.rpartition("Nearest of its kind")[2])) == 4


def test_everything_the_reference_lists_is_there() -> None:
    listed = [path for page in DOCS.glob("*.md") for path in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)]
    assert len(listed) > 60
    for path in listed:
        found = pkgutil.resolve_name(path)
        assert found.__doc__, path
    solvers = {path.rpartition(".")[2] for path in listed if path.startswith("refopt.curvature.")}
    assert {name for name in curvature.__all__ if callable(getattr(curvature, name))} <= solvers


def test_a_figure_shows_a_run() -> None:
    figures = load("figures")
    quadratic = figures.landscapes()[0]
    assert "1 steps, f = " in figures.picture("newton", quadratic), "Newton solves a quadratic in one step"
    setting, points = next(figures.runs("sgd", quadratic))
    x = quadratic.objective.grad(points[0])
    assert setting == ["defaults"]
    assert abs(points[1] - (points[0] - 0.01 * x)).max() < 1e-15

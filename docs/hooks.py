"""Pages made from the code: one a method, and, run as a script, the README's table of methods."""

from __future__ import annotations

import html
import inspect
import itertools
import math
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

from markdown import Extension, Markdown
from markdown.preprocessors import Preprocessor
from mkdocs.structure.files import File, Files

from refopt import method

sys.path.insert(0, str(Path(__file__).parent))
import figures
import maths

LESSONS = {
    "first_order": "adaptive",
    "gradient_regression": "gradient_regression",
    "quasi_newton": "quasi_newton",
    "diagonal": "curvature_products",
    "newton": "newton",
    "structured": "kronecker",
    "variance_reduction": "gradient_descent",
    **dict.fromkeys(("sgd", "asgd", "schedule_free"), "gradient_descent"),
    **dict.fromkeys(("heavy_ball", "nesterov", "nesterov_convex", "qhm", "aggmo"), "momentum"),
    **dict.fromkeys(("nonlinear_cg", "newton_cg", "gauss_newton", "hessian_free", "trust_region"), "cg"),
}
"""The page of the course that leads to a folder, or to a method of its own."""

FOLDERS = {folder: folder.replace("_", " ").capitalize() for folder in map(method.folder_of, method.names())}
FOLDERS["quasi_newton"] = "Quasi-Newton"
"""The folders' titles."""

DOCS = Path(__file__).parent
ROOT = DOCS.parent
TEST = re.compile(r"\]\(\.\./(tests/[\w/]+)\.py#(\w+)\)")
"""A link of `correctness.md` to a test: right in the repository, rewritten on the site."""

KNOWN = {"lr", "momentum", "beta1", "beta2", "dx", "dg", "dxx", "dgx", "mx", "mg", "rtol"}
"""The names of more than one letter that are quantities on the written pages."""


class Doctests(Preprocessor, Extension):
    """Fences the doctests of docstrings, whose >>> Markdown takes for quotations."""

    def extendMarkdown(self, md: Markdown) -> None:
        """Take part after the lines are normalised, before fences are read."""
        md.preprocessors.register(self, "doctests", 27)

    def run(self, lines: list[str]) -> list[str]:
        """Return the lines with a fence around each block that begins with >>>."""
        fenced = re.sub(r"^(>>> .*?)(?=^\s*$|\Z)", r"```pycon\n\1\n```\n", "\n".join(lines), flags=re.M | re.S)
        return fenced.split("\n")


def on_config(config: Any) -> Any:
    """List the methods in the navigation, folder by folder."""
    config.markdown_extensions.append(Doctests())
    folders = [
        {FOLDERS[folder]: [f"methods/{name}.md" for name in names]}
        for folder, names in itertools.groupby(method.names(), method.folder_of)
    ]
    for entry in config.nav:
        if "Methods" in entry:
            entry["Methods"] = ["methods/index.md", *folders]
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Set the formulas of the written pages, `$x = x - lr g$` in a line and blocks fenced as `maths`.

    The home page quotes the verdict.
    """
    if page.file.src_uri.startswith(("methods/", "tests/")):
        return markdown
    if page.file.src_uri == "correctness.md":
        return TEST.sub(to_line, markdown)
    verdict = (DOCS / "lab" / "verdict.md").read_text()
    if short := re.search(r"^## In short\n\n(.*?)\n\n\|", verdict, re.M | re.S):
        markdown = markdown.replace("    <!-- verdict -->", textwrap.indent(short[1], "    "))
    markdown = re.sub(r"^```maths\n(.*?)^```$", lambda m: maths.rule(m[1], KNOWN), markdown, flags=re.M | re.S)
    parts = re.split(r"(^```.*?^```$|`[^`\n]+`)", markdown, flags=re.M | re.S)
    parts[::2] = [
        re.sub(r"\$([^$\n]+)\$", lambda m: maths.formula(m[1], KNOWN, inline=True), part) for part in parts[::2]
    ]
    return "".join(parts)


def on_files(files: Files, config: Any) -> Files:
    """Add `methods/index.md`, `methods/NAME.md` for every method, and the test files that `correctness.md` links to."""
    names = method.names()
    pages = {"methods/index.md": index(names), **{f"methods/{name}.md": page(name) for name in names}}
    linked = (ROOT / "docs" / "correctness.md").read_text()
    pages |= {f"{path}.md": test_file(f"{path}.py") for path in {match[1] for match in TEST.finditer(linked)}}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def to_line(link: re.Match[str]) -> str:
    """Return a link to a test in the repository as one to its line on the site's page of that file."""
    path, name = link.groups()
    before, found, _ = (ROOT / f"{path}.py").read_text().partition(f"\ndef {name}(")
    line = before.count("\n") + 2 if found else 1
    return f"]({path}.md#__codelineno-0-{line})"


def test_file(path: str) -> str:
    """Return the page of a test file: its source, left out of the search."""
    source = (ROOT / path).read_text().rstrip()
    head = ["---", "hide: [toc]", "search: {exclude: true}", "---", "", f"# {Path(path).stem}", "", f"`{path}`", ""]
    return "\n".join([*head, '```python linenums="1"', source, "```", ""])


def index(names: list[str]) -> str:
    """Return the page of all methods."""
    return "\n".join(["# Methods", *tables(names, "##", link="{name}.md")])


def tables(names: list[str], heading: str, link: str) -> list[str]:
    """Return a heading and a Markdown table for each folder, a method a row, linked by the pattern `link`."""
    shown = []
    for folder, inside in itertools.groupby(names, method.folder_of):
        shown += ["", f"{heading} {FOLDERS[folder]}", ""]
        shown += ["| method | cost of a step | memory (vectors) | source |", "|---|---|---|---|"]
        for name in inside:
            spec = method.get(name).SPEC
            memory = spec.memory_note or f"{spec.memory:g}"
            target = link.format(name=name, folder=folder)
            shown.append(f"| [{spec.title}]({target}) | {spec.cost} | {memory} | {spec.source} |")
    return shown


def page(name: str) -> str:
    """Return one method's page."""
    module = method.get(name)
    spec = module.SPEC
    folder = method.folder_of(name)
    known = symbols(module)
    title, _, text = (inspect.getdoc(module) or "").partition("\n")
    rule, _, differs = text.partition("\nDiffers:")
    knobs = [
        f"| `{knob}` | {'required' if default is inspect.Parameter.empty else f'`{default!r}`'} | {where} |"
        for where, function in (("init", module.init), ("step", module.step))
        for knob, default in method.keywords(function).items()
        if knob not in ("objective", "seed")
    ]
    dialects = [f"| `{dialect}` | `{dict(options)}` |" for dialect, options in module.DIALECTS.items()]
    space = [f"| `{knob}` | `{axis}` |" for knob, axis in spec.search.items()]
    low, high = spec.gradient_equivalents
    price = f"{low:.3g}" if low == high else f"{low:.3g} or more" if high == math.inf else f"{low:.3g} to {high:.3g}"
    whole = inspect.getsource(module)
    head, _, body = whole.split('"""', 2)[2].partition("\ndef init(")
    head, body = head.strip(), f"def init({body.rstrip()}"
    return "\n".join(
        [
            "---",
            "hide: [toc]",
            "---",
            "",
            f"# {spec.title}",
            "",
            f"`from refopt.{folder} import {name}`",
            "",
            '<div class="beside" markdown>',
            "<div markdown>",
            "",
            escape(title, known),
            "",
            *markdown(rule.strip("\n"), known),
            "",
            f"**Needs:** {', '.join(f'`{part}`' for part in spec.needs)} of the objective.",
            f"**Price** of a step over all data, in gradient equivalents: {price}.",
            "",
            "</div>",
            '<div markdown class="source">',
            "",
            f"`refopt/{folder}/{name}.py`: {', '.join(lines(whole, head, body))}",
            "",
            '??? quote "Before the rule: imports, state, options"',
            "",
            f'    ```python linenums="{line_of(whole, head)}"',
            textwrap.indent(head, "    "),
            "    ```",
            "",
            f'```python linenums="{line_of(whole, body)}"',
            body,
            "```",
            "",
            "</div>",
            "</div>",
            "",
            "## Paths",
            "",
            figures.figure(name),
            "",
            "Drawn by running this method: ○ start, ■ end, a dot a step, ✕ saddle, ★ minimum, dashed a line of minima;",
            "at most 40 steps, minibatches of 8 in the noisy valley. Of a few settings, the one that ends lowest.",
            "Move a start yourself in the [explorer](../explorer.md).",
            "",
            "## Knobs",
            "",
            "| name | default | of |",
            "|---|---|---|",
            *knobs,
            "",
            "## Dialects and deviations",
            "",
            f'`bind({name}, **{name}.DIALECTS["paper"])`',
            "",
            "| dialect | sets |",
            "|---|---|",
            *dialects,
            "",
            *([f"**Differs:** {escape(' '.join(differs.split()), known)}", ""] if differs else []),
            *measured(name),
            "## Search space of a race",
            "",
            "| knob | axis |",
            "|---|---|",
            *space,
            "",
            "## What to read next",
            "",
            *further(name, text),
            "",
        ]
    )


def line_of(whole: str, part: str) -> int:
    """Return the number of the line of a file at which `part` begins."""
    return whole[: whole.index(part)].count("\n") + 1


def lines(whole: str, *blocks: str) -> list[str]:
    """Return links to where names are defined in `blocks`, parts of a file, in the order in which a page has them."""
    links = {}
    for i, block in enumerate(blocks):
        for found in re.finditer(r"^(?:def |class )?(\w+)(?= ?[:=(])", block, re.MULTILINE):
            line = line_of(whole, block) + block[: found.start()].count("\n")
            links[found[1]] = f"[`{found[1]}`](#__codelineno-{i}-{line})"
    return [link for name, link in links.items() if not name.startswith("_")]


def measured(name: str) -> list[str]:
    """Return how the method's dialects agree with the libraries: its rows of the table of deviations."""
    row = rf"^\| {name} ((?:\| [^|]*){{3}})(?:\|[^|]*){{2,3}}(\| [^|]* \|)$"  # but for the streams and the differences
    rows = re.findall(row, (DOCS / "deviations.md").read_text(), re.MULTILINE)
    if not rows:
        return []
    return [
        "Replayed beside the libraries, 200 steps of each stream ([all methods](../deviations.md)):",
        "",
        "| library | optimizer | dialect | finding |",
        "|---|---|---|---|",
        *(left + right for left, right in rows),
        "",
    ]


def symbols(module: Any) -> set[str]:
    """Return the names that stand for quantities: knobs, fields of the state, the left-hand sides of the docstring."""
    assigned = re.findall(r"(?:^|\s)([A-Za-z]\w*)\s+=\s", inspect.getdoc(module) or "")
    return {*method.keywords(module.init), *method.keywords(module.step), *module.State._fields, *assigned}


def further(name: str, text: str) -> list[str]:
    """Return the links at the end of a method's page: the course, the evidence, the methods it names, its nearest."""
    folder = method.folder_of(name)
    lesson = LESSONS.get(name, LESSONS[folder])
    heading = (DOCS / "course" / f"{lesson}.md").read_text().partition("\n")[0].lstrip("# 0123456789.")
    names = method.names()
    named = [other for other in dict.fromkeys(re.findall(r"`(\w+)`", text)) if other in names and other != name]
    beside = [other for other in names if method.folder_of(other) == folder and other not in (name, *named)]
    nearest = sorted(beside, key=lambda other: -likeness(name, other))[:4]

    def links(others: list[str]) -> str:
        return ", ".join(f"[{method.get(other).SPEC.title}]({other}.md)" for other in others)

    return [
        f"- The course: [{heading}](../course/{lesson}.md).",
        f"- [What stands behind it](../correctness.md#{name}): the tests, and the libraries it was run beside.",
        *([f"- Named above: {links(named)}."] if named else []),
        f"- Nearest of its kind, by knobs and state: {links(nearest)};",
        f"  all: [{FOLDERS[folder]}](index.md#{FOLDERS[folder].lower().replace(' ', '-')}).",
    ]


def likeness(one: str, other: str) -> float:
    """Return the share of knobs and fields of the state that two methods have in common."""
    a, b = (
        {*method.keywords(module.init), *method.keywords(module.step), *module.State._fields}
        for module in (method.get(one), method.get(other))
    )
    return len(a & b) / len(a | b)


def markdown(docstring: str, known: set[str]) -> list[str]:
    """Return a docstring as Markdown: indented lines are formulas, in the letters `known`, the rest is prose."""
    shown: list[str] = []
    noted = False
    for indented, block in itertools.groupby(docstring.splitlines(), lambda line: line[:1] in ("", " ")):
        if indented:
            text = textwrap.dedent("\n".join(block).strip("\n"))
            shown += ["", maths.rule(text, known), ""] if text else [""]
            continue
        paragraphs = [""]
        for line in block:
            labelled = re.match("(Sources?|Cost|Memory):", line)
            if labelled:
                paragraphs.append("")
            paragraphs[-1] += f"{line}\n"
            if (noted := bool(labelled) or noted) and line.endswith("."):  # what follows is about the method again
                paragraphs.append("")
                noted = False
        for paragraph in paragraphs:
            told = " ".join(paragraph.split())
            told = escape(told, set() if told.startswith("Source") else known)
            shown += [re.sub(r"^Sources?:|\b(?:Cost|Memory):", r"**\g<0>**", told), ""]
    return shown


def escape(prose: str, known: set[str]) -> str:
    """Set the formulas of a sentence, in the letters `known`, and keep Markdown from reading the signs of the rest.

    Code stays as it is.
    """

    def plain(text: str) -> str:
        return re.sub(r"([*_\[\]])", r"\\\1", html.escape(text, quote=False))

    parts = prose.split("`")
    parts[::2] = [maths.sentence(part, known, plain) if known else plain(part) for part in parts[::2]]
    return "`".join(parts)


def readme(text: str) -> str:
    """Return the README with its table of methods made anew."""
    head, _, rest = text.partition("-->\n")
    _, _, tail = rest.partition("<!-- methods: end -->")
    rows = tables(method.names(), "###", link="refopt/{folder}/{name}.py")
    return "\n".join([f"{head}-->", *rows, "", "<!-- methods: end -->"]) + tail


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(readme(path.read_text()))

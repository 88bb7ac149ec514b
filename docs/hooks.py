"""Pages made from the code: one a method, and, run as a script, the README's table of methods."""

from __future__ import annotations

import html
import inspect
import itertools
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

ROOT = Path(__file__).parent.parent
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
        {folder.replace("_", " ").capitalize(): [f"methods/{name}.md" for name in names]}
        for folder, names in itertools.groupby(method.names(), method.folder_of)
    ]
    for entry in config.nav:
        if "Methods" in entry:
            entry["Methods"] = ["methods/index.md", *folders]
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Set the formulas of the written pages: `$x = x - lr g$` in a line, and blocks fenced as `maths`."""
    if page.file.src_uri.startswith(("methods/", "tests/")):
        return markdown
    if page.file.src_uri == "correctness.md":
        return TEST.sub(line_of, markdown)
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


def line_of(link: re.Match[str]) -> str:
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
    """Return the table of methods."""
    return "\n".join(["# Methods", "", *table(names, link="{name}.md")])


def table(names: list[str], link: str) -> list[str]:
    """Return the rows of a Markdown table of methods, one line each, linked by the pattern `link`."""
    rows = ["| method | folder | cost of a step | memory (vectors) | source |", "|---|---|---|---|---|"]
    for name in names:
        spec = method.get(name).SPEC
        memory = spec.memory_note or f"{spec.memory:g}"
        target = link.format(name=name, folder=method.folder_of(name))
        rows.append(
            f"| [{spec.title}]({target}) | `{method.folder_of(name)}` | {spec.cost} | {memory} | {spec.source} |"
        )
    return rows


def page(name: str) -> str:
    """Return one method's page."""
    module = method.get(name)
    spec = module.SPEC
    folder = method.folder_of(name)
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
    whole = inspect.getsource(module)
    source = whole.split('"""', 2)[2].lstrip("\n")
    first = whole.count("\n") - source.count("\n") + 1
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
            escape(title),
            "",
            *markdown(rule.strip("\n"), symbols(module)),
            "",
            "| | |",
            "|---|---|",
            f"| needs | {', '.join(f'`{part}`' for part in spec.needs)} |",
            f"| cost of a step | {spec.cost} ({low:.3g} to {high:.3g} gradient equivalents, full batch) |",
            f"| memory | {spec.memory_note or f'{spec.memory:g} vectors'} |",
            f"| source | {spec.source} |",
            "",
            "</div>",
            '<div markdown class="source">',
            "",
            f"`refopt/{folder}/{name}.py`: {', '.join(lines(source, first))}",
            "",
            f'```python linenums="{first}"',
            source.rstrip(),
            "```",
            "",
            "</div>",
            "</div>",
            "",
            "## Paths",
            "",
            figures.figure(name),
            "",
            "Drawn by running this method: ○ start, ■ end, a dot a step; at most 40 steps, minibatches of 8 in the",
            "noisy valley. Of a few settings, the one that ends lowest. Move a start yourself in the",
            "[explorer](../explorer.md).",
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
            escape(differs.strip()),
            "",
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


def lines(source: str, first: int) -> list[str]:
    """Return links to where the names of a file are defined; `first` is the number of the source's first line."""
    found = re.finditer(r"^(?:def |class )?(\w+)(?= ?[:=(])", source, re.MULTILINE)
    at = {match[1]: first + source[: match.start()].count("\n") for match in found}
    return [f"[`{name}`](#__codelineno-0-{line})" for name, line in at.items() if not name.startswith("_")]


def symbols(module: Any) -> set[str]:
    """Return the names that stand for quantities: knobs, fields of the state, the left-hand sides of the docstring."""
    assigned = re.findall(r"(?:^|\s)([A-Za-z]\w*)\s+=\s", inspect.getdoc(module) or "")
    return {*method.keywords(module.init), *method.keywords(module.step), *module.State._fields, *assigned}


def further(name: str, text: str) -> list[str]:
    """Return the links at the end of a method's page: the course, the methods it names, its neighbours."""
    folder = method.folder_of(name)
    lesson = LESSONS.get(name, LESSONS[folder])
    names = method.names()
    named = [other for other in dict.fromkeys(re.findall(r"`(\w+)`", text)) if other in names and other != name]
    beside = [other for other in names if method.folder_of(other) == folder and other not in (name, *named)]

    def links(others: list[str]) -> str:
        return ", ".join(f"[{method.get(other).SPEC.title}]({other}.md)" for other in others)

    return [
        f"- The course: [{lesson.replace('_', ' ')}](../course/{lesson}.md).",
        *([f"- Named above: {links(named)}."] if named else []),
        f"- Of the same kind: {links(beside)}.",
    ]


def markdown(docstring: str, known: set[str]) -> list[str]:
    """Return a docstring as Markdown: indented lines are formulas, in the letters `known`, the rest is prose."""
    shown: list[str] = []
    noted = False
    for indented, block in itertools.groupby(docstring.splitlines(), lambda line: line[:1] in ("", " ")):
        if indented:
            text = textwrap.dedent("\n".join(block).strip("\n"))
            shown += ["", maths.rule(text, known), ""] if text else [""]
        else:
            for line in block:
                label, colon, rest = line.partition(":")
                labelled = colon and label in ("Source", "Sources", "Cost", "Memory")
                shown += ["", f"**{label}:**{escape(rest)}"] if labelled else [escape(line)]
                if (noted := labelled or noted) and line.endswith("."):  # what follows is about the method again
                    shown.append("")
                    noted = False
    return shown


def escape(prose: str) -> str:
    """Keep Markdown from reading the stars, underscores and angles of formulas in prose; code stays as it is."""
    parts = prose.split("`")
    parts[::2] = [re.sub(r"([*_\[\]])", r"\\\1", html.escape(part, quote=False)) for part in parts[::2]]
    return "`".join(parts)


def readme(text: str) -> str:
    """Return the README with its table of methods made anew."""
    head, _, rest = text.partition("-->\n")
    _, _, tail = rest.partition("<!-- methods: end -->")
    rows = table(method.names(), link="refopt/{folder}/{name}.py")
    return "\n".join([f"{head}-->", *rows, "<!-- methods: end -->"]) + tail


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(readme(path.read_text()))

"""Imports point one way; a method stands on the foundations alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = ("refopt", "backends", "problems")
METHODS = tuple(
    f"refopt.{folder}"
    for folder in (
        "first_order",
        "gradient_regression",
        "quasi_newton",
        "diagonal",
        "newton",
        "structured",
        "variance_reduction",
    )
)
FOUNDATIONS = (
    "backends",
    "refopt.objective",
    "refopt.layout",
    "refopt.status",
    "refopt.method",
    "refopt.curvature",
    "refopt.line_search",
)

# For each part of the project, the only parts of it that it may import; the longest matching name rules.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "backends": ("backends",),
    "refopt.status": (),
    "refopt.layout": ("backends", "refopt.status"),
    "refopt.schedules": ("refopt.status",),
    "refopt.objective": ("backends", "refopt.status"),
    "refopt.method": ("backends", "refopt.schedules", "refopt.status", "refopt.objective"),
    "refopt.curvature": ("backends", "refopt.status", "refopt.curvature"),
    "refopt.line_search": ("backends", "refopt.status", "refopt.line_search"),
    "refopt.ledger": ("backends", "refopt.objective"),
    "refopt.checkpoint": ("backends", "refopt.status"),
    "refopt.loop": (
        "backends",
        "refopt.checkpoint",
        "refopt.ledger",
        "refopt.method",
        "refopt.objective",
        "refopt.status",
    ),
    "refopt.wrappers": (*FOUNDATIONS, "refopt.wrappers"),
    "problems": ("backends", "refopt.layout", "refopt.objective", "refopt.status", "problems"),
    "refopt.cli": OURS,
    "refopt.race": OURS,
    "refopt.spectrum": OURS,
    "refopt.saddles": OURS,
    "refopt.sharded": OURS,
    "refopt.conformance": OURS,
    "refopt.lab": OURS,
    "refopt": ("refopt",),
    **dict.fromkeys(METHODS, FOUNDATIONS),
}


def _modules() -> list[tuple[str, Path]]:
    files = [path for package in OURS for path in sorted((ROOT / package).rglob("*.py"))]
    return [(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path) for path in files]


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.level:  # relative, so within the package
                continue
            # `from refopt import checkpoint` imports refopt.checkpoint
            whole = node.module in OURS
            found.update(f"{node.module}.{alias.name}" if whole else node.module for alias in node.names)
    return {name for name in found if name.split(".")[0] in OURS}


def _within(name: str, part: str) -> bool:
    return name == part or name.startswith(part + ".")


@pytest.mark.parametrize(("module", "path"), _modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_point_one_way(module: str, path: Path) -> None:
    rule = max((part for part in MAY_IMPORT if _within(module, part)), key=len)
    allowed = MAY_IMPORT[rule]
    if module in METHODS:  # the folder's own __init__ may name its files
        allowed = (*allowed, module)
    for name in _imports(path):
        assert any(_within(name, part) for part in allowed), f"{module} must not import {name}"


def test_only_backends_knows_a_library_by_name() -> None:
    for module, path in _modules():
        if _within(module, "backends"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] not in ("cupy", "array_api_compat", "torch", "jax"), f"{module}: {name}"


def test_import_refopt_stays_light() -> None:
    code = (
        "import sys, refopt; heavy = {'scipy', 'matplotlib', 'sklearn', 'numba', 'torch', 'jax', 'plotly', 'typer'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["backends", "problems"])
def test_a_shadowed_package_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.py").write_text("")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import refopt"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert out.returncode != 0
    assert f"refopt needs its own package {name!r}" in out.stderr
    assert str(tmp_path / f"{name}.py") in out.stderr

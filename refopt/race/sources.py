"""Methods and problems by name or from the user's own file, and knobs from text.

    adam                       a method of refopt
    muon+adamw                 the first on the matrices of the problem's layout, the second on everything else
    path/to/my.py              a module with init, step, SPEC and DIALECTS
    path/to/my.py:update       a function update(x, g, state, *, lr=...) -> (x, state); state is None at first

    rosenbrock                 a problem of the catalogue
    saddle:n=20,index=3        the same with options
    path/to/my.py:loss         a function loss(x, xp) with a start, `loss.x0` or `x0` in the file; a Problem; or a
                               function of `like`, an empty array, that returns a Problem

A knob's value is a number, a word, or a schedule such as cosine(0.1, 500).
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

import problems
from backends.arrays import Array, array_like, get_backend
from problems.problem import Problem
from refopt import method as methods
from refopt import schedules
from refopt.layout import Layout
from refopt.method import LogUniform, Method, Spec, Wrapped, keywords
from refopt.objective import Objective
from refopt.status import nearest, require
from refopt.wrappers import on_matrices

SCHEDULES = ("constant", "piecewise", "inverse_sqrt", "robbins_monro", "cosine", "warm_up")


def read_value(text: str) -> Any:
    """Return the knob's value that `text` spells. Raises ValueError where it spells none.

    >>> read_value("1e-3"), read_value("hat"), read_value("cosine(0.1, 500)")
    (0.001, 'hat', Schedule(cosine(0.1, 500, 0.0)))
    """
    try:
        return _evaluate(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, TypeError, ValueError) as error:
        why = "" if isinstance(error, SyntaxError) else f" ({error})"
        raise ValueError(f"{text!r} is no number, word or schedule such as cosine(0.1, 500){why}") from None


def read_knobs(knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Return `knobs` with every text among them read; other values stay as they are."""
    return {knob: read_value(value) if isinstance(value, str) else value for knob, value in knobs.items()}


def read_options(text: str) -> dict[str, Any]:
    """Return the options that ``n=20,hidden=[32,16],path=my data.csv`` spells. Raises ValueError where it spells none.

    A value that is no number, word or list is text, such as the name of a file.
    """
    options: dict[str, Any] = {}
    for option in re.split(r",(?=\s*\w+=)", text):
        name, equals, value = option.partition("=")
        if not (equals and name.strip().isidentifier()):
            raise ValueError(f"options must be written NAME=VALUE,NAME=VALUE, got {text!r}")
        try:
            options[name.strip()] = read_value(value)
        except ValueError:
            options[name.strip()] = value
    return options


def find_method(text: str) -> Method:
    """Return the method that `text` names; see the module. Raises ValueError or TypeError, saying what is wrong."""
    if not _is_file(text):
        name, plus, rest = text.partition("+")
        return on_matrices(methods.get(name), methods.get(rest)) if plus else methods.get(name)
    path, name = _split_file(text)
    found = getattr(_load(path), name, None) if name else _load(path)
    if isinstance(found, Method):
        return found
    if inspect.isfunction(found):
        return _from_update(found, text)
    raise TypeError(
        f"{text} must be a module with init, step, SPEC and DIALECTS, or a function update(x, g, state), "
        f"got {_kind(found)}"
    )


def find_problem(text: str, *, seed: int, backend: str, dtype: str | None) -> Problem:
    """Return the problem that `text` names, with the start of `seed` where it has an option of that name.

    Without a dtype, the catalogue gives float64 and the user's own start is kept as it is. Raises ValueError,
    TypeError or, where a backend or a data set is missing, RuntimeError.
    """
    if _is_file(text):
        return _own_problem(text, seed, backend, dtype)
    name, _, options = text.partition(":")
    chosen = read_options(options) if options else {}
    for word in ("backend", "dtype"):
        require(word not in chosen, f"{word} is no option of a problem: --{word} gives it", chosen.get(word))
    if "seed" in problems.options(name):
        chosen.setdefault("seed", seed)
    return problems.get(name, backend=backend, dtype=dtype or "float64", **chosen)


def digest(text: str) -> str:
    """Return a fingerprint of the user's own file that `text` names, "" for what comes with the package."""
    return hashlib.sha256(Path(_split_file(text)[0]).read_bytes()).hexdigest() if _is_file(text) else ""


def _evaluate(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=word):
            return word
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluate(operand)
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_evaluate(item) for item in items]
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in SCHEDULES:
            return getattr(schedules, name)(*(_evaluate(argument) for argument in args))
    raise ValueError(ast.unparse(node))


# --------------------------------------------------------------------------------------------- the user's own files


def _is_file(text: str) -> bool:
    """Return whether `text` is a file of the user's; a problem of the catalogue is none, whatever file it reads."""
    return (text.endswith(".py") or ".py:" in text) and text.partition(":")[0] not in problems.names()


def _split_file(text: str) -> tuple[str, str]:
    path, _, name = (text, "", "") if text.endswith(".py") else text.rpartition(":")
    return path, name


@lru_cache
def _load(path: str) -> ModuleType:
    if not Path(path).is_file():
        raise ValueError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"race_{Path(path).stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    return module


class _State(NamedTuple):
    k: int
    own: Any  # what the user's function returned last; None at first


def _from_update(update: Callable[..., Any], text: str) -> Method:
    """Make a method of ``update(x, g, state, *, knobs) -> (x, state)``."""
    positional = [p for p in inspect.signature(update).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    require(len(positional) == 3, f"{text} must be a function update(x, g, state)", str(inspect.signature(update)))

    def init(x: Array) -> _State:
        return _State(0, None)

    def step(objective: Objective, x: Array, state: _State, **knobs: Any) -> tuple[Array, _State]:
        returned = update(x, objective.grad(x), state.own, **knobs)
        if not (isinstance(returned, tuple) and len(returned) == 2):
            raise TypeError(f"{text} must return (x, state), got {_kind(returned)}")
        return returned[0], _State(state.k + 1, returned[1])

    step.__signature__ = inspect.signature(update)  # type: ignore[attr-defined]
    spec = Spec(
        title=text,
        source=text,
        needs=("grad",),
        cost="1 gradient",
        gradient_equivalents=(1.0, 1.0),
        memory=None,
        search={"lr": LogUniform(1e-5, 1e1)} if "lr" in keywords(update) else {},
    )
    return Wrapped(text, spec, {}, init, step)


def _own_problem(text: str, seed: int, backend: str, dtype: str | None) -> Problem:
    path, name = _split_file(text)
    module = _load(path)
    require(bool(name), "a problem of your own must be written path/to/file.py:name", text)
    if not hasattr(module, name):
        raise ValueError(f"{path} has no {name!r}{nearest(name, (n for n in vars(module) if n[0] != '_'))}")
    found = getattr(module, name)
    if isinstance(found, Problem):
        return found
    arguments = list(inspect.signature(found).parameters) if inspect.isfunction(found) else []
    xp = get_backend(backend)
    if arguments[:1] == ["like"]:
        chosen = {"seed": seed} if "seed" in arguments else {}
        made = found(xp.empty(0, dtype=getattr(xp, dtype or "float64")), **chosen)
        if not isinstance(made, Problem):
            raise TypeError(f"{text} must return a Problem, got {_kind(made)}")
        return made
    if len(arguments) != 2:
        raise TypeError(f"{text} must be a function f(x, xp), a Problem, or a function of like, got {_kind(found)}")
    start = getattr(found, "x0", getattr(module, "x0", None))
    if start is None:
        raise ValueError(f"{text} has no start: set {name}.x0, or x0 in the file")
    host = np.asarray(start)
    require(host.ndim == 1 and host.size > 0, f"the start of {text} must be a vector of length >= 1", host.shape)
    if host.dtype.kind != "f":
        raise TypeError(f"the start of {text} must hold floating-point numbers, got dtype {host.dtype}")
    x0 = array_like(host, xp.empty(0, dtype=getattr(xp, dtype or str(host.dtype))))
    return Problem(name, f"{name}, n = {host.size}", Objective.from_function(found), x0, Layout({"x": (host.size,)}))


def _kind(found: Any) -> str:
    return "nothing of that name" if found is None else type(found).__name__

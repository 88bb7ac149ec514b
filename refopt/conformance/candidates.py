"""Candidates by name, as the command line is told them.

    torch.optim:Adam                 an attribute of a module
    path/to/mine.py:update           the same of a file
    torch.optim:SGD:momentum=0.9     with options of its own beyond lr
    run.npz                          a recorded log; see `logs`

What the attribute may be: see `adapters.KINDS`, `adapters.actor.KINDS` and `solvers`.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from functools import partial, reduce
from pathlib import Path
from types import ModuleType
from typing import Any

from refopt.conformance import logs
from refopt.race.sources import read_options
from refopt.status import nearest, require


def find(text: str) -> Any:
    """Return the candidate that `text` names: an object, a `logs.Log` or a `Recording`.

    Importing runs its code. Raises ValueError where there is no such module, file, attribute or option, and whatever
    the import raises.
    """
    if Path(text).suffix.lower() in logs.SUFFIXES:
        return logs.read(text)
    location, name, options = (*text.split(":", 2), "", "")[:3]
    require(bool(location), "candidate must be written module:attribute, FILE.py:attribute or be a log", text)
    found: Any = reduce(_attribute, filter(None, name.split(".")), _module(location))
    return partial(found, **read_options(options)) if options else found


def _module(location: str) -> ModuleType:
    if not location.endswith(".py"):
        os.environ.setdefault("KERAS_BACKEND", "torch")  # keras' own default, tensorflow, is not among the peers
        return importlib.import_module(location)
    path = Path(location)
    require(path.is_file(), "candidate must name a file that exists", location)
    spec = importlib.util.spec_from_file_location(f"candidate_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    sys.path.insert(0, str(path.parent.resolve()))  # as `python FILE.py` does
    spec.loader.exec_module(module)
    return module


def _attribute(owner: Any, name: str) -> Any:
    if not hasattr(owner, name):
        of = getattr(owner, "__name__", type(owner).__name__)
        raise ValueError(f"{of} has no {name!r}{nearest(name, (n for n in dir(owner) if n[0] != '_'))}")
    return getattr(owner, name)

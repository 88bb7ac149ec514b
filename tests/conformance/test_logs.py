"""Logs of every format say the same; what is no log is refused in words; a method is held against what was logged."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refopt.conformance import load, logs, record, save
from refopt.conformance.check import check
from refopt.conformance.logs import Log, read
from refopt.conformance.mistakes import make
from refopt.conformance.mistakes.curvature import ESGD, SQUARED, drawing
from refopt.diagonal import adahessian
from refopt.first_order import adam, nesterov
from refopt.method import get
from refopt.objective import Objective

STEPS = 12
RNG = np.random.default_rng(0)
G = RNG.standard_normal((STEPS, 6)) * 10.0 ** np.arange(-4, 2)


def adam_log(dtype: str = "float64", eps: float = 1e-8, rates: Any = 1e-3) -> dict[str, Any]:
    """Write down a run of Adam as a program of another language would."""
    x, m, v = np.zeros(6, dtype), np.zeros(6, dtype), np.zeros(6, dtype)
    g = G.astype(dtype)
    rows = [x]
    for k in range(STEPS):
        m, v = 0.9 * m + 0.1 * g[k], 0.999 * v + 0.001 * g[k] ** 2
        m_hat, v_hat = m / (1 - 0.9 ** (k + 1)), v / (1 - 0.999 ** (k + 1))
        x = (x - np.broadcast_to(rates, STEPS)[k] * m_hat / (np.sqrt(v_hat) + eps)).astype(dtype)
        rows.append(x)
    return {"x": np.stack(rows), "g": g, "lr": np.asarray(rates)}


def write_safetensors(path: Path, arrays: dict[str, Any]) -> None:
    header: dict[str, Any] = {"__metadata__": {"by": "a test"}}
    data = b""
    for name, array in arrays.items():
        raw = np.ascontiguousarray(array).tobytes()
        kind = {"f8": "F64", "f4": "F32", "i8": "I64"}[array.dtype.str[1:]]
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": offsets}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def write(path: Path, arrays: dict[str, Any]) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".safetensors":
        write_safetensors(path, arrays)
    elif path.suffix == ".json":
        plain = {name: np.asarray(array).tolist() for name, array in arrays.items()}
        path.write_text(json.dumps({**plain, "dtype": str(arrays["x"].dtype)}))
    else:
        x, g = arrays["x"], arrays["g"]
        header = ["step", "lr", *(f"x{i}" for i in range(6)), *(f"g{i}" for i in range(6))]
        lines = [f"# dtype={x.dtype}", ",".join(header)]
        for k in range(STEPS + 1):
            row = [*map(repr, x[k].tolist()), *(map(repr, g[k].tolist()) if k < STEPS else [""] * 6)]
            lines.append(",".join([str(k), repr(float(arrays["lr"])) if k < STEPS else "", *row]))
        path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("suffix", logs.SUFFIXES)
def test_a_right_log_agrees_in_every_format(suffix: str, dtype: str, tmp_path: Path) -> None:
    log = read(write(tmp_path / f"run{suffix}", adam_log(dtype)))
    assert isinstance(log, Log)
    assert (log.steps, str(log.x.dtype)) == (STEPS, dtype)
    found = check(log, "adam", dialect="torch")
    assert found.outcome == "agrees", str(found)
    assert found.mode == "log"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_wrong_log_differs_and_is_explained(dtype: str, tmp_path: Path) -> None:
    log = read(write(tmp_path / "run.npz", adam_log(dtype, eps=1e-6)))
    found = check(log, "adam", dialect="torch")
    assert found.first is not None
    assert (found.outcome, found.first["step"], found.first["stream"]) == ("differs", 1, "run.npz")
    assert found.diagnosis is not None
    assert found.diagnosis["causes"] == ["eps=1e-06"]


def test_lr_of_each_step_is_followed_and_that_of_hyper_goes_before_it(tmp_path: Path) -> None:
    rates = 1e-3 * np.linspace(1, 2, STEPS)
    path = write(tmp_path / "run.npz", adam_log(rates=rates))
    assert check(read(path), "adam", dialect="torch").outcome == "agrees"
    assert check(read(path), "adam", dialect="torch", diagnose=False, lr=1e-3).outcome == "differs"


def test_tensors_are_joined_and_looked_at_one_by_one(tmp_path: Path) -> None:
    shapes = {"w": (2, 2), "b": (2,)}
    log = adam_log()
    arrays = {"lr": log["lr"]}
    for letter in ("x", "g"):
        parts = np.split(log[letter], [4], axis=1)
        arrays |= {f"{letter}.{name}": p.reshape(-1, *shapes[name]) for name, p in zip(shapes, parts, strict=True)}
    read_back = read(write(tmp_path / "run.safetensors", arrays))
    assert isinstance(read_back, Log)
    assert read_back.layout.shapes == shapes
    np.testing.assert_array_equal(read_back.x, log["x"])


def test_a_gradient_of_another_point_is_found() -> None:
    """The log of Nesterov's rule holds the look-ahead points; with the iterates in their place it is not Nesterov's."""
    H, x, v = np.diag([1.0, 0.1, 10.0]), np.ones(3), np.zeros(3)
    rows, at, g = [x], [], []
    for _ in range(8):
        at.append(x - 0.01 * 0.9 * v)
        g.append(H @ at[-1])
        v = 0.9 * v + g[-1]
        x = x - 0.01 * v
        rows.append(x)
    log = Log("run", np.stack(rows), np.stack(g), get_layout(3), at=np.stack(at))
    assert check(log, nesterov, lr=0.01, dialect="paper").outcome == "agrees"
    elsewhere = check(log._replace(at=np.stack(rows[:-1])), nesterov, lr=0.01, dialect="paper", diagnose=False)
    assert elsewhere.first is not None
    assert (elsewhere.outcome, elsewhere.first["what"], elsewhere.first["step"]) == ("differs", "query", 2)


def get_layout(n: int) -> Any:
    from refopt.layout import Layout

    return Layout({"x": (n,)})


# ------------------------------------------------------------------------------------------------------------ queries


def asked_log(method: Any, steps: int = 6, wrong: float = 0.0, seed: int = 0, **hyper: Any) -> dict[str, Any]:
    """Write down a run of a method that asks for products, and its probes; `wrong` changes the last iterates."""
    H = np.diag([1.0, 2.0, 5.0])
    rows: list[tuple[Any, ...]] = []
    nothing = np.full(3, np.nan)
    k = 0

    def linearize(x: Any) -> Any:
        rows.append((k, x, 0.5 * x @ H @ x, H @ x, nothing, nothing))

        def mv(v: Any) -> Any:
            rows.append((k, x, np.nan, nothing, v, H @ v))
            return H @ v

        return 0.5 * x @ H @ x, H @ x, mv

    objective = Objective(
        value=lambda x: linearize(x)[0], grad=lambda x: linearize(x)[1], linearize=linearize, hvp=lambda x, v: H @ v
    )
    x, state = np.ones(3), method.init(np.ones(3), seed=seed)
    iterates = [x]
    for k in range(steps):  # noqa: B007
        now = {key: next(value) if isinstance(value, Iterator) else value for key, value in hyper.items()}
        x, state = method.step(objective, x, state, **now)
        iterates.append(x)
    step, where, value, g, v, product = (np.asarray(column) for column in zip(*rows, strict=True))
    fields = {"query_step": step, "query_x": where, "query_value": value, "query_g": g, "query_v": v}
    iterates[-1] = iterates[-1] + wrong
    return {"x": np.stack(iterates), **fields, "query_product": product, "probes": v[np.isfinite(v).all(axis=1)]}


@pytest.mark.parametrize("suffix", [".npz", ".json", ".safetensors"])
def test_a_log_answers_for_products_with_its_own_probes(suffix: str, tmp_path: Path) -> None:
    arrays = asked_log(adahessian, seed=7)  # whose draws are unknown to the reference, unless the log has them
    assert check(read(write(tmp_path / f"run{suffix}", arrays)), "adahessian").outcome == "agrees"
    del arrays["probes"]
    seedless = check(read(write(tmp_path / f"other{suffix}", arrays)), "adahessian")
    assert (seedless.outcome, seedless.first["what"]) == ("differs", "query")  # type: ignore[index]
    arrays["seed"] = np.asarray(7)
    assert check(read(write(tmp_path / f"seed{suffix}", arrays)), "adahessian").outcome == "agrees"


def test_a_log_of_queries_with_a_wrong_iterate_differs(tmp_path: Path) -> None:
    found = check(read(write(tmp_path / "run.npz", asked_log(adahessian, wrong=1e-8))), "adahessian")
    assert found.first is not None
    assert (found.outcome, found.first["step"], found.first["what"]) == ("differs", 6, "x")


@pytest.mark.parametrize(
    ("rules", "hyper", "cause"),
    [
        ([], {"eps": 1e-8}, "eps=1e-08"),
        ([], {"refresh": 2}, "refresh=2"),
        ([ESGD["eps inside the root"]], {}, "eps inside the root"),
        ([SQUARED["the absolute value in place of the square"]], {}, "the absolute value in place of the square"),
    ],
)
def test_what_is_wrong_in_a_log_of_queries_is_named(rules: Any, hyper: Any, cause: str, tmp_path: Path) -> None:
    arrays = asked_log(make(get("esgd"), rules), seed=7, **hyper)
    found = check(read(write(tmp_path / "run.npz", arrays)), "esgd")
    assert found.diagnosis is not None, str(found)
    assert cause in found.diagnosis["text"]


def test_a_diagonal_is_answered_from_a_log(tmp_path: Path) -> None:
    method, x, diagonal = get("becker_lecun"), np.ones(3), np.asarray([1.0, 2.0, 5.0])
    objective = Objective(grad=lambda x: diagonal * x, ggn_diagonal=lambda x: diagonal)
    state, iterates = method.init(x), [x]
    for _ in range(4):
        x, state = method.step(objective, x, state)
        iterates.append(x)
    rows = np.stack(iterates)
    asked = {"query_step": np.arange(4), "query_x": rows[:-1], "query_g": rows[:-1] * diagonal}
    arrays = {"x": rows, **asked, "query_diagonal": np.tile(diagonal, (4, 1))}
    assert check(read(write(tmp_path / "run.npz", arrays)), "becker_lecun").outcome == "agrees"
    arrays["query_diagonal"] = 2 * arrays["query_diagonal"]
    assert check(read(write(tmp_path / "run.npz", arrays)), "becker_lecun", diagnose=False).outcome == "differs"


def test_probes_of_a_log_that_have_no_variance_are_noted(tmp_path: Path) -> None:
    with drawing(lambda draw, shape, **keys: np.ones(shape)):
        arrays = asked_log(adahessian)
    found = check(read(write(tmp_path / "run.npz", arrays)), "adahessian")
    assert found.notes == ["the probes of the log have mean 1 and mean square 1, where 0 and 1 are meant"]
    assert not check(read(write(tmp_path / "right.npz", asked_log(adahessian))), "adahessian").notes


def test_a_log_of_gradients_is_no_log_of_a_method_that_asks_for_more(tmp_path: Path) -> None:
    found = check(read(write(tmp_path / "run.npz", adam_log())), get("adahessian"))
    assert found.outcome == "could not run"
    assert "must hold queries: adahessian asks for more than g" in found.error


# ------------------------------------------------------------------------------------------------------------ refusals


def test_recordings_are_read_as_they_are(tmp_path: Path) -> None:
    save(record(adam, 1e-3, streams=("scales",)), tmp_path / "run.npz")
    recording: Any = read(tmp_path / "run.npz")
    assert recording.paths.keys() == load(tmp_path / "run.npz").paths.keys()
    assert check(recording, "adam", dialect="torch").outcome == "agrees"


X, FEW = np.zeros((3, 2)), np.zeros((2, 2))
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no x": ({"g": FEW}, "must hold x"),
    "unknown field": ({"x": X, "g": FEW, "prob": FEW}, "has a field 'prob' that no log has; did you mean 'probes'"),
    "no g": ({"x": X}, "must hold g or queries"),
    "one row": ({"x": X[:1], "g": FEW}, r"x of run.npz must have shape \(steps \+ 1, n\)"),
    "long g": ({"x": X, "g": X}, r"g of run.npz must have shape \(2, 2\), got \(3, 2\)"),
    "integers": ({"x": X.astype(int), "g": FEW}, "must be of float32 or float64"),
    "two dtypes": ({"x": X, "g": FEW.astype("f4")}, "g of run.npz must be of float64"),
    "long lr": ({"x": X, "g": FEW, "lr": np.zeros(3)}, r"lr of run.npz must have shape \(\) or \(2,\)"),
    "objects": ({"x": np.asarray([None, {}], dtype=object)}, "allow_pickle=False"),
    "missing part": ({"x.a": X, "x.b": X, "g.a": FEW}, "must hold g.b"),
    "queries alone": ({"x": X, "query_x": FEW}, "need query_step"),
    "query of no step": ({"x": X, "query_x": FEW, "query_step": np.asarray([0, 2])}, r"must hold integers in \[0, 2\)"),
    "seed": ({"x": X, "g": FEW, "seed": np.asarray(0.5)}, "must be an integer"),
    "no coordinates": ({"x": X[:, :0], "g": FEW[:, :0]}, r"x of run.npz must have shape \(steps \+ 1, n\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_log_is_refused(name: str, tmp_path: Path) -> None:
    arrays, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        read(write(tmp_path / "run.npz", arrays))


TEXTS: dict[str, tuple[str, bytes, str]] = {
    "another suffix": ("run.pkl", b"", "a log must end in"),
    "no zip": ("run.npz", b"text", "is no log: File is not a zip file"),
    "many digits": ("run.json", b'{"x": [[%s], [1]], "g": [[1]]}' % (b"9" * 400), "is no log: int too large"),
    "ragged": ("run.json", b'{"x": [[1, 2], [3]], "g": [[1, 2]]}', "is no log"),
    "no object": ("run.json", b"[1]", "it must hold an object"),
    "deep": ("run.json", b"[" * 100_000, "is no log"),
    "columns": ("run.csv", b"step,y0\n0,1\n", "its columns must be"),
    "columns from 1": ("run.csv", b"step,x1\n0,1\n", "its columns must count from 0"),
    "cells": ("run.csv", b"step,x0,g0\n0,1\n", "each row must have 3 cells"),
    "steps": ("run.csv", b"step,x0,g0\n1,1,1\n2,1,\n", "its steps must be 0, 1, 2"),
    "words": ("run.csv", b"step,x0,g0\n0,one,1\n1,1,\n", "could not convert"),
    "empty": ("run.csv", b"", "is no log"),
    "header beyond the file": ("run.safetensors", struct.pack("<Q", 1 << 60), "its header must lie inside the file"),
    "short": ("run.safetensors", b"abc", "its header must lie inside the file"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_file_that_is_no_log_is_refused(name: str, tmp_path: Path) -> None:
    file, raw, message = TEXTS[name]
    (tmp_path / file).write_bytes(raw)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / file)


@pytest.mark.parametrize(
    "entry", [{"dtype": "BOOL"}, {"shape": [9, 9]}, {"data_offsets": [0, 1 << 40]}, {"shape": [-1]}]
)
def test_tensors_outside_the_file_are_refused(entry: dict[str, Any], tmp_path: Path) -> None:
    header = json.dumps({"x": {"dtype": "F64", "shape": [2], "data_offsets": [0, 16], **entry}}).encode()
    (tmp_path / "run.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    with pytest.raises(ValueError, match="is no log: x must"):
        read(tmp_path / "run.safetensors")


def test_a_declared_size_is_not_allocated(tmp_path: Path) -> None:
    """Nor does a header that Python's tokenizer gives up on raise what it raises."""
    np.save(tmp_path / "x.npy", np.zeros((10, 10)))
    raw = (tmp_path / "x.npy").read_bytes()
    for name, header, message in (
        ("large", raw.replace(b"(10, 10), ", b"(9999999,)"), "x.npy must hold 79999992 bytes"),
        ("unclosed", raw.replace(b"(10, 10), }", b"((((((((, "), "the header of x.npy cannot be read"),
    ):
        with zipfile.ZipFile(tmp_path / f"{name}.npz", "w") as archive:
            archive.writestr("x.npy", header)
        with pytest.raises(ValueError, match=message):
            read(tmp_path / f"{name}.npz")


def test_a_damaged_or_locked_file_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "run.npz", x=RNG.standard_normal((40, 40)), g=RNG.standard_normal((39, 40)))
    raw = bytearray((tmp_path / "run.npz").read_bytes())
    raw[200:260] = bytes(60)
    (tmp_path / "damaged.npz").write_bytes(raw)
    locked = bytearray((tmp_path / "run.npz").read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.index(mark) + offset] |= 1
    (tmp_path / "locked.npz").write_bytes(locked)
    for name, message in (("damaged", "is no log: "), ("locked", "is no log: .*password")):
        with pytest.raises(ValueError, match=message):
            read(tmp_path / f"{name}.npz")


def test_a_device_is_no_log(tmp_path: Path) -> None:
    (tmp_path / "run.json").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="a log must be a file, and no device"):
        read(tmp_path / "run.json")


def test_what_spreadsheets_and_other_systems_write_is_read(tmp_path: Path) -> None:
    plain = write(tmp_path / "run.csv", adam_log())
    (tmp_path / "marked.CSV").write_bytes(b"\xef\xbb\xbf" + plain.read_bytes())
    log: Any = read(tmp_path / "marked.CSV")
    np.testing.assert_array_equal(log.x, adam_log()["x"])


# ------------------------------------------------------------------------------------------------------ how far, lr


def long_log(wrong_from: int = 10**9) -> Log:
    g = RNG.standard_normal((300, 2))
    x = -0.1 * np.cumsum(np.vstack([np.zeros(2), g]), axis=0)
    x[wrong_from:] += 1e-3
    return Log("run", x, g, get_layout(2), lr=np.full(300, 0.1))


def test_a_log_is_held_to_its_end_unless_steps_are_asked_for() -> None:
    found = check(long_log(wrong_from=250), "sgd", diagnose=False)
    assert found.first is not None
    assert (found.outcome, found.steps, found.first["step"]) == ("differs", 300, 250)
    right = check(long_log(), "sgd")
    assert (right.outcome, right.notes) == ("agrees", [])
    assert ", on 300 steps" in str(right)
    cut = check(long_log(wrong_from=250), "sgd", steps=200)
    assert cut.outcome == "agrees"
    assert cut.notes == ["only 200 of the 300 steps of run were held, as asked for"]


def test_lr_of_each_step_is_followed_in_a_log_of_queries(tmp_path: Path) -> None:
    rates = [0.1, 0.1, 0.05, 0.05, 0.01, 0.01]
    arrays = asked_log(adahessian, lr=iter(rates)) | {"lr": np.asarray(rates)}
    assert check(read(write(tmp_path / "run.npz", arrays)), "adahessian").outcome == "agrees"
    arrays["lr"] = np.full(6, 0.1)
    found = check(read(write(tmp_path / "run.npz", arrays)), "adahessian", diagnose=False)
    assert found.first is not None
    assert found.first["step"] == 3


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(1 << 20))
    monkeypatch.setattr(logs, "MAX_BYTES", 1 << 16)
    assert path.stat().st_size < 1 << 16
    with pytest.raises(ValueError, match="must unpack to at most"):
        read(path)
    (tmp_path / "large.json").write_bytes(b" " * (1 << 17))
    with pytest.raises(ValueError, match="must be at most 65536 bytes"):
        read(tmp_path / "large.json")

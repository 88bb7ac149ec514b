"""Golden files: the same bytes again, the same bits in both formats, every difference seen, other languages agree."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refopt.conformance import golden, golden_files
from refopt.method import names

READERS = Path(__file__).parents[2] / "examples" / "golden"
SOME = ["adam", "rprop", "aggmo", "newton", "sophia", "kfac", "svrg"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("golden")
    golden.write(path, SOME)
    return path


def changed(folder: Path, to: Path, name: str, *keys: Any, by: float) -> list[golden.Outcome]:
    """Verify a copy of one file with one number changed."""
    tree = golden_files.read(folder / f"{name}.json")
    node: Any = tree
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] += by * (1 + abs(node[keys[-1]]))
    (to / "changed.json").write_text(golden_files.as_json(tree))
    return list(golden.verify(to))


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(np.array_equal(a, b, equal_nan=True)) if isinstance(a, np.ndarray) else bool(a == b)


def test_what_was_written_agrees(folder: Path) -> None:
    outcomes = list(golden.verify(folder))
    assert {outcome.state for outcome in outcomes} == {"agrees"}, [o for o in outcomes if o.state != "agrees"]
    assert len(outcomes) == len(list(folder.rglob("*.*")))


def test_both_formats_hold_the_same_bits(folder: Path) -> None:
    for path in folder.rglob("*.json"):
        assert same(golden_files.read(path), golden_files.read(path.with_suffix(".npz"))), path.name


def test_the_same_bytes_again(folder: Path, tmp_path: Path) -> None:
    for path in golden.write(tmp_path, ["adam", "sophia"]):
        assert path.read_bytes() == (folder / path.relative_to(tmp_path)).read_bytes(), path.name


def test_json_is_what_other_languages_read(folder: Path) -> None:
    for path in folder.rglob("*.json"):
        tree = json.loads(path.read_text(), parse_constant=pytest.fail)  # NaN and Infinity are not JSON
        assert list(tree) == sorted(tree)


def test_every_method_has_a_file_to_itself() -> None:
    """A method that no golden problem suits would raise."""
    for name in names():
        tree = golden.method_tree(name, "paper")
        played = tree.get("streams") or {"run": tree["run"]}
        assert played, name
        for track in played.values():
            assert np.isfinite(track["x"]).all()
            assert np.any(track["x"] != track["x0"]), f"{name} never moves"


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("methods/adam-torch", ("streams", "scales", "x", (9, 3))),
        ("methods/newton-paper", ("run", "x", (2, 1))),
        ("methods/newton-paper", ("run", "questions", 1, 0, "answer", "grad", 0)),
        ("methods/newton-paper", ("run", "questions", 1, 0, "x", 0)),
        ("methods/kfac-paper", ("run", "questions", 0, 1, "answer", "dense1", "inputs", (0, 0))),
        ("methods/sophia-paper", ("hyper", "lr")),
        ("curvature/rosenbrock", ("lanczos", "alpha", 0)),
        ("curvature/deep_linear", ("kfac", "dense1", "A", (0, 1))),
        ("curvature/quadratic", ("cg", "iterates", (1, 2))),
    ],
)
def test_a_changed_number_is_found(folder: Path, tmp_path: Path, name: str, keys: tuple[Any, ...]) -> None:
    (outcome,) = changed(folder, tmp_path, name, *keys, by=1e-4)
    assert outcome.state == "differs", outcome


def test_the_step_of_the_first_difference_is_named(folder: Path, tmp_path: Path) -> None:
    (outcome,) = changed(folder, tmp_path, "methods/adam-torch", "streams", "scales", "x", (9, 3), by=1e-8)
    assert "stream 'scales', step 10, coordinate 3" in outcome.finding


def test_what_is_no_golden_file_is_said_to_be_unreadable(folder: Path, tmp_path: Path) -> None:
    text = (folder / "methods" / "adam-torch.json").read_text()
    (tmp_path / "cut.json").write_text(text[:1000])
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "version.json").write_text(text.replace('"version":1', '"version":2'))
    (tmp_path / "method.json").write_text(text.replace('"method":"adam"', '"method":"os"'))
    (tmp_path / "knob.json").write_text(text.replace('"beta1"', '"beta3"'))
    (tmp_path / "ragged.json").write_text(text.replace("]]", "],[1]]", 1))
    (tmp_path / "text.npz").write_text(text)
    np.savez(tmp_path / "pickle.npz", about=np.array([{}], dtype=object))
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    outcomes = list(golden.verify(tmp_path))
    assert len(outcomes) == 10
    assert {outcome.state for outcome in outcomes} == {"unreadable"}, [o for o in outcomes if o.state != "unreadable"]


def test_a_file_that_cannot_be_read_does_not_hide_the_others(folder: Path, tmp_path: Path) -> None:
    text = (folder / "curvature" / "quadratic.json").read_text()
    raw = bytearray((folder / "methods" / "adam-torch.npz").read_bytes())
    (tmp_path / "large.json").write_text(text.replace('"n":8', '"n":60000'))
    (tmp_path / "other.json").write_text(text.replace('"n":8', '"n":9'))
    (tmp_path / "digits.json").write_text(text.replace('"value":', f'"value":[{"9" * 400}],"of":'))
    (tmp_path / "device.json").symlink_to("/dev/zero")
    raw[200:260] = bytes(60)
    (tmp_path / "damaged.npz").write_bytes(raw)
    np.save(tmp_path / "x.bin.npy", np.zeros((10, 10)))
    declared = (tmp_path / "x.bin.npy").read_bytes().replace(b"(10, 10), ", b"(9999999,)")
    with zipfile.ZipFile(tmp_path / "declared.npz", "w") as archive:
        archive.writestr("about.npy", declared)
    (tmp_path / "right.json").write_text(text)
    outcomes = {outcome.path.name: outcome for outcome in golden.verify(tmp_path)}
    assert outcomes.pop("right.json").state == "agrees"
    assert len(outcomes) == 6
    assert {outcome.state for outcome in outcomes.values()} == {"unreadable"}, outcomes
    assert "problem must be a golden one" in outcomes["other.json"].finding
    assert "integers must be at most 10000, got 60000" in outcomes["large.json"].finding
    assert "must hold 79999992 bytes" in outcomes["declared.npz"].finding


def test_no_method_is_not_every_method(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="methods must name at least one"):
        golden.write(tmp_path, [])


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden_files, "LARGEST", 1000)
    (tmp_path / "long.json").write_text(" " * 1001)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("about.npy", b"0" * 100_000)
    assert (tmp_path / "bomb.npz").stat().st_size < 1000
    for path in tmp_path.iterdir():
        with pytest.raises(ValueError, match="at most 1000 bytes"):
            golden_files.read(path)


def test_an_empty_folder_is_no_agreement(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must hold golden files"):
        list(golden.verify(tmp_path))


def test_curvature_is_that_of_numpys_dense_algebra(folder: Path) -> None:
    for path in (folder / "curvature").glob("*.json"):
        tree = golden_files.read(path)
        for matrix in (tree[key] for key in ("hessian", "ggn", "fisher") if key in tree):
            M = matrix["matrix"]
            np.testing.assert_allclose(M, M.T, atol=1e-9 * np.abs(M).max())
            np.testing.assert_allclose(matrix["products"], tree["probes"] @ M, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(matrix["eigenvalues"], np.linalg.eigvalsh(M), atol=1e-9 * np.abs(M).max())
            assert matrix["trace"] == pytest.approx(matrix["eigenvalues"].sum())
        if "cg" in tree:  # the second iterate is the best of the Krylov space of two
            A, b = tree[tree["cg"]["of"]]["matrix"], tree["cg"]["b"]
            K = np.stack([b, A @ b], axis=1)
            best = K @ np.linalg.solve(K.T @ A @ K, K.T @ b)
            np.testing.assert_allclose(tree["cg"]["iterates"][1], best, rtol=1e-6, atol=1e-9)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_javascript_agrees_and_tells_the_dialects_apart(folder: Path) -> None:
    def run(script: str, file: str) -> int:
        return subprocess.run(["node", READERS / script, folder / file], capture_output=True).returncode

    assert run("adam.mjs", "methods/adam-torch.json") == 0
    assert run("adam.mjs", "methods/adam-keras.json") == 1
    assert run("lanczos.mjs", "curvature/quadratic.json") == 0


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler is installed")
def test_c_agrees_and_tells_the_dialects_apart(folder: Path, tmp_path: Path) -> None:
    subprocess.run(["cc", "-Wall", "-Werror", READERS / "adam.c", "-lm", "-o", tmp_path / "adam"], check=True)
    for file, status in (("adam-torch.json", 0), ("adam-keras.json", 1), ("missing.json", 2)):
        run = subprocess.run([tmp_path / "adam", folder / "methods" / file], capture_output=True)
        assert run.returncode == status

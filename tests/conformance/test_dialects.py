"""Every dialect does what its library does: as recorded in the default run, as installed with -m peers."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from refopt.conformance import load
from refopt.conformance.dialects import LIBRARIES, PEERS, Peer
from refopt.conformance.recording import KEPT
from refopt.method import get, names

FIXTURES = Path(__file__).parent / "fixtures"
each_peer = pytest.mark.parametrize("peer", PEERS, ids=lambda peer: f"{peer.name}-{'-'.join(map(str, peer.hyper))}")


def check(peer: Peer, candidate: Any) -> None:
    comparison = peer.compare(candidate)
    if peer.bug:
        assert not comparison.agrees, f"{peer.call} no longer differs: is its bug mended?"
    else:
        assert comparison.agrees, f"{peer.call} is not {peer.method} {peer.reference}\n{comparison}"


@each_peer
def test_dialects_reproduce_the_recorded_library(peer: Peer) -> None:
    recording = load(FIXTURES / f"{peer.name}.npz")
    assert recording.about["call"] == peer.call
    assert recording.about["lr"] == peer.reference["lr"]
    assert set(recording.paths) == set(peer.streams)
    assert max(KEPT) == 200
    check(peer, recording)


@pytest.mark.peers
@each_peer
@pytest.mark.filterwarnings("ignore")
def test_dialects_reproduce_the_installed_library(peer: Peer) -> None:
    pytest.importorskip(peer.library)
    check(peer, peer.candidate())


@pytest.mark.peers
@each_peer
@pytest.mark.filterwarnings("ignore")
def test_recordings_are_of_the_streams_as_they_are(peer: Peer) -> None:
    pytest.importorskip(peer.library)
    recording = load(FIXTURES / f"{peer.name}.npz")
    for name, path in peer.record().paths.items():
        assert path.x == pytest.approx(recording.paths[name].x, rel=1e-3, nan_ok=True)


@pytest.mark.peers
@each_peer
@pytest.mark.filterwarnings("ignore")
def test_the_default_lr_of_a_dialect_is_the_library_s(peer: Peer) -> None:
    """optax has none, but for a few."""
    pytest.importorskip(peer.library)
    parameters = inspect.signature(peer.candidate()).parameters
    default = parameters["lr" if "lr" in parameters else "learning_rate"].default
    if isinstance(default, float):
        assert peer.reference["lr"] == default


def test_every_dialect_of_a_library_has_a_row() -> None:
    rows = {(peer.method, peer.dialect or peer.library) for peer in PEERS}
    for name in names():
        method = get(name)
        if set(method.SPEC.needs) == {"grad"}:
            for dialect in set(method.DIALECTS) & set(LIBRARIES):
                assert (name, dialect) in rows


def test_recordings_stay_small_and_none_is_left_over() -> None:
    files = sorted(FIXTURES.iterdir())
    assert sum(file.stat().st_size for file in files) < 2e6
    assert {file.stem for file in files} == {peer.name for peer in PEERS}

"""Pages in headless Chromium, at the width of a desktop or of a phone."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=5000"
)

SPILL = """
    const width = document.documentElement.clientWidth;
    const inside = (e) => e.ownerSVGElement || e.closest(".scroll, .wide, .chart") !== null;
    told.spill = [...document.querySelectorAll("body *")]
      .filter((e) => !inside(e) && e.getBoundingClientRect().right > width + 1).map((e) => e.outerHTML.slice(0, 80));
    told.width = innerWidth;  // a scroll bar takes some of it
    parent.document.getElementById("out").textContent = JSON.stringify(told);
"""
"""What lies to the right of the page, but for what scrolls in a box of its own, and what `told` holds already."""


def browse(page: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Return what Chromium says of the page."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs Chromium")
    command = [browser, *FLAGS.split(), f"--user-data-dir={page.parent / 'profile'}", "--window-size=1400,2400"]
    told = subprocess.run([*command, *flags, page.as_uri()], capture_output=True, text=True, check=True)
    assert "Uncaught" not in told.stderr, told.stderr
    return told


def shown(page: str, width: int, folder: Path) -> dict[str, Any]:
    """Return what the script SPILL of a page says, the page being `width` pixels wide.

    It stands in a frame, as a window has a least width. Its picture is left in the folder, WIDTH.png.
    """
    frame = f'<iframe srcdoc="{html.escape(page)}" style="width:{width}px; height:2400px; border:0"></iframe>'
    path = folder / "page.html"
    path.write_text(f'<!doctype html><meta charset="utf-8">{frame}<pre id="out"></pre>', encoding="utf-8")
    told = browse(path, "--dump-dom")
    browse(path, f"--screenshot={folder / f'{width}.png'}")
    assert (folder / f"{width}.png").stat().st_size > 10_000
    return said(told)


def said(told: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return what the page's script wrote into <pre id="out">."""
    found = re.search(r'<pre id="out">(.*?)</pre>', told.stdout, re.DOTALL)
    assert found is not None
    spoken: dict[str, Any] = json.loads(html.unescape(found.group(1)))
    return spoken

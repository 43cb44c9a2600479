"""The manual is built without a warning, and its pictures are taken from real windows."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(300)
def test_the_manual_is_built_without_a_warning(tmp_path: Path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "sphinx",
            "-W",
            "--keep-going",
            "-q",
            "-b",
            "html",
            "-D",
            "html_theme=basic",  # furo takes as long as all else, to write the navigation anew into each page
            "-d",
            tmp_path / "trees",
            "docs",
            tmp_path,
        ],
        cwd=ROOT,
        env={**os.environ, "SCOPECAST_DOCS_PICTURES": "none"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tutorial.html").exists()
    assert "publish" in (tmp_path / "reference" / "python.html").read_text("utf-8")
    assert "a548454c4c4f" in (tmp_path / "reference" / "protocol.html").read_text("utf-8"), "no golden bytes of HELLO"


def test_a_page_that_shows_a_missing_picture_stops_the_build(tmp_path: Path):
    (tmp_path / "page.md").write_text("![x](_pictures/nowhere.png)", "utf-8")
    code = "import pages, pathlib, sys; pages.require_pictures(pathlib.Path(sys.argv[1]))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "docs")}
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "make docs" in done.stderr
    done = subprocess.run(
        command, env={**environment, "SCOPECAST_DOCS_PICTURES": "none"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    data = (tmp_path / "_pictures" / "nowhere.png").read_bytes()
    assert struct.unpack(">II", data[16:24]) == (1, 1)

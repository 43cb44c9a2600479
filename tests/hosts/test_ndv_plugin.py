"""A third viewer, installed as the package that it is: found by its entry points, held to the contracts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ndv")
pytest.importorskip("vispy")

pytestmark = pytest.mark.timeout(300)

PACKAGE = Path(__file__).resolve().parents[2] / "examples" / "scopecast-ndv"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the plug-in is installed in; no network is needed."""
    target = tmp_path_factory.mktemp("site")
    build = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "-q")
    command = [sys.executable, "-m", "pip", "install", *build, "--target", str(target), str(PACKAGE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def test_it_is_held_to_the_contracts_of_a_backend_and_of_a_viewer(installed: Path, tmp_path: Path):
    options = ("-q", "-c", os.devnull, "--rootdir", str(tmp_path), "-p", "no:cacheprovider")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(PACKAGE / "tests")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout

"""Take the pictures of the manual from real windows: ``python docs/pictures`` (``make docs`` does).

Each is a program that takes the path to write to; where there is no screen, a virtual one is started for all of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from scopecast.demo.virtual_screen import ensure_screen
from scopecast.rundir.directory import ENVIRONMENT

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent / "_pictures"
PYTHON = sys.executable
#: Name of the picture → the command that takes it.
PICTURES: dict[str, list[str]] = {
    "demo": [
        PYTHON,
        "-m",
        "scopecast",
        "demo",
        "--size",
        "1360x1024",
        "--z-step",
        "1",
        "--timepoints",
        "8",
        "--no-keep",
        "--screenshot",
    ],
    **{path.stem: [PYTHON, str(path)] for path in sorted(HERE.glob("*.py")) if not path.stem.startswith("_")},
}


def main(names: list[str]) -> int:
    """Take the pictures that are named, or all of them; return how many failed."""
    TARGET.mkdir(exist_ok=True)
    failed = 0
    with ensure_screen(), tempfile.TemporaryDirectory(prefix="sc-doc-") as folder:
        for name in names or PICTURES:
            print(f"taking {name}.png", flush=True)
            try:
                done = subprocess.run(
                    [*PICTURES[name], str(TARGET / f"{name}.png")],
                    env={**os.environ, ENVIRONMENT: folder, "NAPARI_CONFIG": f"{folder}/napari.yaml"},
                    capture_output=True,
                    text=True,
                    timeout=180,
                )
                said, code = done.stdout + done.stderr, done.returncode
            except subprocess.TimeoutExpired:
                said, code = "it took more than three minutes", 1
            if code:
                failed += 1
                print(said, file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

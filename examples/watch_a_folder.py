# /// script
# requires-python = ">=3.11"
# dependencies = ["scopecast[napari,files]", "pyqt6"]
# ///
"""Show the images that other software writes into a folder, as `scopecast watch DIR` does in a terminal."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from scopecast.showing.show import opened_viewer
from scopecast.showing.stacks import Showing
from scopecast.showing.watch import FolderWatch

VIEWER = os.environ.get("SCOPECAST_EXAMPLE_VIEWER", "napari")
# Stands in for the microscope's software: six images, written by another program.
MICROSCOPE = """
import sys, numpy, tifffile
y, x = numpy.mgrid[:400, :600]
for t in range(6):
    cell = 4000 * numpy.exp(-(numpy.hypot(y - 200, x - 150 - 50 * t) / 60) ** 2)
    tifffile.imwrite(f"{sys.argv[1]}/cell_t{t:03d}.tif", cell.astype("uint16"))
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as name, opened_viewer(VIEWER):
        folder = Path(name)
        with Showing(VIEWER, title="a folder", root=folder) as showing:
            watch = FolderWatch(folder)
            microscope = subprocess.Popen([sys.executable, "-c", MICROSCOPE, name])
            shown = 0
            for news in watch.run(lambda path: showing.file(path, settled=False)):
                if news is not None:
                    print(news.verdict, news.path.name, news.reason)
                    shown += news.verdict == "shown"
                if shown == 6:
                    break
            microscope.wait()
            showing.finish()
            print(showing.counts())


if __name__ == "__main__":
    main()

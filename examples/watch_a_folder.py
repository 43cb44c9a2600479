# /// script
# requires-python = ">=3.11"
# dependencies = ["scopecast[napari,files]", "pyqt6"]
# ///
"""Show the images that other software writes into a folder, as they come.

In a terminal, `scopecast watch results/` does the same. Here another program stands in for the microscope's software.
"""

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from scopecast.hosts.folder import FolderWatch
from scopecast.showing import Showing
from scopecast.viewing import opened_viewer

VIEWER = os.environ.get("SCOPECAST_EXAMPLE_VIEWER", "napari")
IMAGES = 6
MICROSCOPE = """
import sys, numpy, tifffile
y, x = numpy.mgrid[:400, :600]
for t in range(int(sys.argv[2])):
    cell = 4000 * numpy.exp(-(numpy.hypot(y - 200, x - 150 - 50 * t) / 60) ** 2)
    tifffile.imwrite(f"{sys.argv[1]}/cell_t{t:03d}.tif", cell.astype("uint16"))
"""


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        opened_viewer(VIEWER),
        Showing(VIEWER, title="a folder", root=Path(name)) as showing,
    ):
        enough = threading.Event()
        microscope = None
        shown = 0
        for news in FolderWatch(Path(name)).run(lambda path: showing.file(path, settled=False), enough):
            if microscope is None:  # the watch has begun
                microscope = subprocess.Popen([sys.executable, "-c", MICROSCOPE, name, str(IMAGES)])
            if news is not None:
                print(news.verdict, news.path.name, news.reason)
                shown += news.verdict == "shown"
            if shown >= IMAGES:
                enough.set()
        assert microscope is not None
        microscope.wait()
        showing.finish()
        print(showing.counts())


if __name__ == "__main__":
    main()

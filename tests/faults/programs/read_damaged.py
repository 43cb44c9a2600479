"""Read damaged copies of a file of each format, and tell of each what became of it; memory and time are limited.

Arguments: the folder to work in, how many copies, the seed, the formats.
"""

import json
import resource
import signal
import sys
from pathlib import Path

import imageio.v3  # noqa: F401 - loaded before the memory is limited
import psutil

from corpus import damage, write_good
from scopecast.errors import FileError
from scopecast.frames.streams import FrameStream
from scopecast.images.micromanager import read_metadata
from scopecast.images.open import open_image

_SPARE_BYTES = 512 * 2**20
_MOST_S = 60  # for one file of some kilobytes, on a machine that is busy
_MOST_READ = 200


def read(path: Path) -> tuple[int, list[bytes], list[str]]:
    """Read a file as it is shown; return how many planes it says it has, those it has, and its notes."""
    with open_image(path) as image:
        about = image.about
        FrameStream(0, "run", sizes=about.sizes, **read_metadata(path.parent).complete(about.stream()))
        planes = []
        for number in range(min(len(image), _MOST_READ)):
            image.time_s(number)
            plane = image.read(number)
            if plane is not None:
                planes.append(plane.array.tobytes())
        return len(image), planes, list(about.notes)


def main(folder: Path, count: int, seed: int, names: list[str]) -> None:
    files = {name: write_good(folder / str(number), name) for number, name in enumerate(names)}
    for path in files.values():
        read(path)  # loads what it needs
    room = psutil.Process().memory_info().vms + _SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # a hang ends the process: the test says at which copy
    for name, path in files.items():
        print(json.dumps({"format": name}), flush=True)
        read_copies(path, count, seed)


def read_copies(path: Path, count: int, seed: int) -> None:
    _, whole, noted = read(path)
    descriptors = psutil.Process().num_fds()
    for damaged in damage(path, count, seed):
        good = damaged.part.read_bytes()
        damaged.part.write_bytes(damaged.content)
        print(json.dumps({"trying": damaged.how}), flush=True)
        signal.alarm(_MOST_S)
        told, planes, notes = "", [], []
        try:
            _, planes, notes = read(path)
        except FileError as error:
            told = str(error)
        signal.alarm(0)
        damaged.part.write_bytes(good)
        cut = len(damaged.content) < len(good)
        result = {"same": planes == whole, "new_notes": sorted({*notes} - {*noted}), "told": told, "cut": cut}
        print(json.dumps({"how": damaged.how, **result}), flush=True)
    print(json.dumps({"left_open": psutil.Process().num_fds() - descriptors}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])

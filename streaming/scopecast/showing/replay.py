"""A recording played as if it were being acquired now: when each frame is due, and where its time comes from."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from scopecast.errors import FileError
from scopecast.images.base import Sight, natural_key
from scopecast.images.micromanager import METADATA, read_metadata
from scopecast.images.open import find_files, nothing_in, open_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from scopecast.images.base import ImageFile
    from scopecast.showing.stacks import Showing

__all__ = ["Played", "RecordedPlane", "Recording", "check_recording", "parse_speed", "play"]

#: Frames per second where nothing tells when a frame was recorded.
DEFAULT_FPS: Final = 10.0
_OPEN_FILES: Final = 8


class RecordedPlane(NamedTuple):
    """When something was recorded.

    Attributes
    ----------
    time_s
        Seconds since the recording began.
    path
        The file.
    number
        Which of its planes; None for all of them at once.
    """

    time_s: float
    path: Path
    number: int | None


class Recording:
    """What was recorded, in order of time.

    The times are, in this order: those that `fps` makes; those of the files' metadata (OME's DeltaT, the ElapsedTime of
    Micro-Manager and NDTiff, ImageJ's frame interval; Micro-Manager's ``metadata.txt`` beside them); the dates of
    several files; 10 frames per second.

    Parameters
    ----------
    path
        A file, or a folder of files.
    dims
        Names for the axes of files that don't name theirs.
    fps
        Frames per second, in place of the recorded times.

    Attributes
    ----------
    moments : list of RecordedPlane
    source : str
        Where the times come from, as a user would say it.
    files : list of Path
    unreadable : list of (Path, FileError)
        Those that can't be opened.

    Raises
    ------
    FileError
        If there is nothing to play.
    """

    def __init__(self, path: Path, *, dims: str | None = None, fps: float | None = None) -> None:
        check_recording(path, fps)
        self.files = sorted(find_files([path])[0], key=natural_key)
        if not self.files:
            raise FileError(nothing_in([path]))
        self.unreadable: list[tuple[Path, FileError]] = []
        self._dims = dims
        self.moments, self.source = self._times(path, fps)

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.moments[-1].time_s - self.moments[0].time_s

    def _times(self, path: Path, fps: float | None) -> tuple[list[RecordedPlane], str]:
        listed = read_metadata(path).times if path.is_dir() else {}
        known = [RecordedPlane(listed[file.name], file, None) for file in self.files if file.name in listed]
        if fps is None and len(known) == len(self.files):
            return _in_order(known), f"recorded times, from {METADATA}"
        moments: list[tuple[float | None, Path, int | None]] = []
        offset = last = interval = 0.0
        for position, file in enumerate(tuple(self.files)):
            try:
                with open_image(file, dims=self._dims) as image:
                    times = [image.time_s(number) for number in range(len(image))]
            except FileError as error:
                self.unreadable.append((file, error))
                self.files.remove(file)
                continue
            told = [moment for moment in times if moment is not None and math.isfinite(moment)]
            if not position and len(times) == 1 and not told and len(self.files) > 1:
                # A series of single images: what they say is in their names and dates, and need not be opened for it.
                moments = [(None, each, None) for each in self.files]
                break
            if position and told and told[0] <= 0.0 and last > 0.0:  # its clock restarts with each file
                offset += last + interval
                last = 0.0
            if len(told) > 1:
                interval = (max(told) - min(told)) / (len(told) - 1)
            moments += [(None if at is None else at + offset, file, number) for number, at in enumerate(times)]
            last = max([last, *told])
        if not moments:
            raise FileError(f"nothing of {path} can be replayed: {self.unreadable[0][0].name}: {self.unreadable[0][1]}")
        if fps is None:
            spread = {at for at, _, _ in moments if at is not None}
            if all(at is not None for at, _, _ in moments) and len(spread) > 1:
                return _in_order(
                    [RecordedPlane(at or 0.0, file, number) for at, file, number in moments]
                ), "recorded times"
            dated = [RecordedPlane(Sight.of(file).changed_ns / 1e9, file, number) for _, file, number in moments]
            if len({moment.time_s for moment in dated}) > 1 and all(number is None for _, _, number in moments):
                return _in_order(dated), "the files' dates, as they contain no times (a copy may have other dates)"
        rate = fps or DEFAULT_FPS
        source = (
            f"{rate:g} frames/s, as requested" if fps else f"{rate:g} frames/s, as no times are recorded (see --fps)"
        )
        return [RecordedPlane(at / rate, file, number) for at, (_, file, number) in enumerate(moments)], source


def check_recording(path: Path, fps: float | None = None) -> None:
    """Raise FileError if there is no such file or folder, or the frames per second can't be."""
    if not path.exists():
        raise FileError(f"there is no file or folder {path}")
    if fps is not None and not 0 < fps < 1e6:
        raise FileError(f"--fps is a number of frames per second, such as 20; not {fps:g}")


def _in_order(moments: list[RecordedPlane]) -> list[RecordedPlane]:
    """Return moments in order of time, from 0 s; those of one time in the order that they have."""
    first = min(moment.time_s for moment in moments)
    return sorted((moment._replace(time_s=moment.time_s - first) for moment in moments), key=lambda it: it.time_s)


def parse_speed(text: str) -> float:
    """Return a speed: 1 as recorded, 2 twice as fast; infinity for "max".

    >>> parse_speed("1"), parse_speed("0.5x"), parse_speed("max")
    (1.0, 0.5, inf)

    Raises
    ------
    ValueError
        If it is none.
    """
    if text.strip().lower() == "max":
        return math.inf
    try:
        speed = float(text.strip().lower().removesuffix("x"))
    except ValueError:
        speed = 0.0
    if not 0 < speed < math.inf:
        msg = f"--speed {text!r} is not a valid speed; use 1 (as it was recorded), a number such as 10 or 0.5, or max"
        raise ValueError(msg)
    return speed


class Played(NamedTuple):
    """How far a replay has come.

    Attributes
    ----------
    frames
        Moments played so far, all rounds together.
    moment
        What was played last; None while waiting for the first.
    wait_s
        Seconds until the next one is due; 0 if it is due now.
    behind_s
        How much later than due the last one was shown.
    """

    frames: int
    moment: RecordedPlane | None
    wait_s: float
    behind_s: float


def play(
    recording: Recording,
    showing: Showing,
    *,
    speed: float = 1.0,
    loop: bool = False,
    failed: Callable[[Path, FileError], None] = lambda path, error: None,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], object] | None = None,
) -> Iterator[Played]:
    """Play a recording: each moment when it is due, those that are overdue at once, none left out.

    Parameters
    ----------
    recording
        What to play.
    showing
        Where to, under the policy ``latest``.
    speed
        1 as recorded, 2 twice as fast, infinity as fast as the files can be read.
    loop
        Whether to start over at the end; it ends when the caller stops iterating.
    failed
        Told of files that can't be played, or some planes of which can't: these are left out; once for each file.
    clock
        Seconds, monotonic.
    wait
        Waits for so many seconds.

    Yields
    ------
    Played
        Before each wait, at least every half second, and after each moment.
    """
    wait = wait or threading.Event().wait
    given_up: set[RecordedPlane] = set()
    told: set[Path] = set()
    frames = 0
    pause = 0.0
    with _OpenFiles(showing.dims) as files:
        while True:
            began = clock() + pause
            for moment in recording.moments:
                due = began + (0.0 if math.isinf(speed) else moment.time_s / speed)
                while (left := due - clock()) > 0:
                    yield Played(frames, None, left, 0.0)
                    wait(min(left, 0.5))
                if moment in given_up:
                    continue
                try:
                    image = files.open(moment.path)
                    numbers: Sequence[int] = range(len(image)) if moment.number is None else (moment.number,)
                    for number in numbers:
                        if (plane := image.read(number)) is not None:
                            showing.plane(image, plane)
                except FileError as error:
                    given_up.add(moment)
                    if moment.path not in told:
                        told.add(moment.path)
                        failed(moment.path, error)
                    continue
                frames += 1
                yield Played(frames, moment, 0.0, max(0.0, clock() - due) if math.isfinite(speed) else 0.0)
            if not loop or len(given_up) == len(recording.moments):
                return
            # A round ends as long after its last frame as frames are apart.
            pause = recording.seconds / max(1, len(recording.moments) - 1) / speed


class _OpenFiles:
    """The files that were read last, kept open: positions take turns."""

    def __init__(self, dims: str | Sequence[str] | None) -> None:
        self._dims = dims
        self._files: OrderedDict[Path, ImageFile] = OrderedDict()

    def open(self, path: Path) -> ImageFile:
        if path not in self._files:
            while len(self._files) >= _OPEN_FILES:
                self._files.popitem(last=False)[1].close()
            self._files[path] = open_image(path, dims=self._dims)
        self._files.move_to_end(path)
        return self._files[path]

    def __enter__(self) -> _OpenFiles:
        return self

    def __exit__(self, *_: object) -> None:
        while self._files:
            self._files.popitem()[1].close()

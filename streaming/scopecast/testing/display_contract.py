"""What every viewer must do, seen from the side of the frames."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import psutil
import pytest

from scopecast.backends.streaming import StreamingBackend
from scopecast.demo.virtual_screen import ensure_screen
from scopecast.images.open import open_image
from scopecast.publishing.publisher import Publisher
from scopecast.rundir.directory import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from scopecast.publishing.accounts import Receipt, ReceiverStats

__all__ = ["DisplayContract", "OpenViewer"]

#: On the path of a viewer's Python, it makes the display fail where the tests want it to.
_MISTAKES = Path(__file__).with_name("mistakes")
SHAPE = (128, 160)
BITS = 4  # cells of a frame that carries a number
DARK, BRIGHT = 100, 4000
Frame = tuple[int, int, int]  # time point, channel, number
DTYPES = (
    *("bool", "int8", "uint8", "int16", ">u2", "int32", "uint32", "int64", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)


class OpenViewer:
    """The viewer's process that the tests of a contract share.

    Attributes
    ----------
    process : psutil.Process
        It.
    receipt : scopecast.Receipt
        Of the batch that started it.
    row : scopecast.ReceiverStats
        The accounts of that batch.
    mistakes : pathlib.Path
        A folder; while it has a file ``take`` or ``changed``, that method of the display fails.
    """

    def __init__(self, receipt: Receipt, row: ReceiverStats, mistakes: Path) -> None:
        self.process = psutil.Process(row.pid)
        self.receipt, self.row, self.mistakes = receipt, row, mistakes

    @property
    def log(self) -> str:
        """What it has written."""
        return RunDirectory().file(self.row.token, "log").read_text(errors="replace")

    @contextlib.contextmanager
    def mistaken(self, method: str) -> Iterator[None]:
        """Have a method of the display fail while the block lasts."""
        (self.mistakes / method).touch()
        try:
            yield
        finally:
            (self.mistakes / method).unlink()


class DisplayContract:
    """The tests of a display, in a real process of its own; a subclass names the `kind`.

    A batch of frames starts the viewer as it does for a user, by its entry point ``scopecast.viewers``; the tests
    share it, and the last of them closes it. Without a screen, windows open on a virtual one (Xvfb).

    Attributes
    ----------
    kind : str
        The kind of viewer: the name of its entry point.
    has_window : bool
        Whether there is something to see.
    patience : float
        Seconds that are waited for anything before it counts as failed.

    Examples
    --------
    >>> class TestHeadless(DisplayContract):
    ...     kind = "headless"
    ...     has_window = False
    """

    kind: ClassVar[str]
    has_window: ClassVar[bool] = True
    patience: ClassVar[float] = 60.0

    # ---- what the tests use --------------------------------------------------------------------------------------

    @pytest.fixture(scope="class")
    @classmethod
    def shared_directory(cls) -> Iterator[Path]:
        """Make the run directory of these tests; its path is short, as those of sockets must be."""
        with tempfile.TemporaryDirectory(prefix="sc-", dir="/tmp" if Path("/tmp").is_dir() else None) as path:
            yield Path(path)

    @pytest.fixture(scope="class")
    @classmethod
    def viewer(cls, shared_directory: Path) -> Iterator[OpenViewer]:
        """Have a batch of frames start the viewer."""
        with (
            tempfile.TemporaryDirectory() as mistakes,
            ensure_screen() if cls.has_window else contextlib.nullcontext(),
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setenv("SCOPECAST_RUNTIME_DIR", str(shared_directory))
            patch.setenv("SCOPECAST_MISTAKES", mistakes)
            patch.setenv("PYTHONPATH", str(_MISTAKES), prepend=os.pathsep)
            opened = cls._open(Path(mistakes))
            yield opened
            with contextlib.suppress(psutil.NoSuchProcess):
                opened.process.terminate()
                try:
                    opened.process.wait(10.0)
                except psutil.TimeoutExpired:
                    opened.process.kill()
                    opened.process.wait(10.0)

    @classmethod
    def _open(cls, mistakes: Path) -> OpenViewer:
        class Live(StreamingBackend):
            VIEWER_TYPE = cls.kind

        paths = [f"run/img_t{t:03}_c{c}.tif" for t in range(3) for c in range(2)]
        with Live(title="batch", timeout=2 * cls.patience) as live:
            receipt = live.save_batch([*cls.frames(6), "a,b\n"], [*paths, "run/cells.csv"])
            if not live.stats().receivers:
                pytest.fail(f"no viewer was started: {live.problem}")
            assert live.flush(cls.patience), "the frames that started the viewer have not arrived"
            return OpenViewer(receipt, live.stats().receivers[0], mistakes)

    @pytest.fixture(autouse=True)
    def in_shared_directory(self, shared_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put the test's publishers where the viewer looks for them."""
        monkeypatch.setenv("SCOPECAST_RUNTIME_DIR", str(shared_directory))

    def wait_until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait until `condition` returns something true, and return that; AssertionError after `patience` seconds."""
        deadline = time.monotonic() + self.patience
        while not (found := condition()):
            assert time.monotonic() < deadline, f"not so after {self.patience:g} s: {what}; {self._logs()}"
            time.sleep(0.01)
        return found

    @staticmethod
    def _logs() -> str:
        """Return the end of what viewers have written, for the message of a test that fails."""
        logs = {path.name: path.read_text(errors="replace") for path in RunDirectory().path.glob("*.log")}
        return "\n".join(f"the end of {name}:\n{text[-8000:]}" for name, text in logs.items())

    @contextlib.contextmanager
    def publisher(self, viewer: OpenViewer, **arguments: Any) -> Iterator[Publisher]:
        """Open a publisher that the viewer is attached to."""
        with Publisher(self.kind, **{"policy": "every", "launch": False, "linger": 10.0, **arguments}) as publisher:
            publisher.open(SHAPE, "float64", wait=self.patience)
            self.wait_until(
                lambda: any(row.attached and row.pid == viewer.process.pid for row in publisher.stats()),
                "the viewer is attached",
            )
            yield publisher

    def settled(self, publisher: Publisher) -> ReceiverStats:
        """Return the viewer's accounts, once nothing is in flight."""
        assert publisher.flush(self.patience), "frames are still in flight"
        (row,) = publisher.stats().receivers
        assert row.attached, "the viewer has left"
        assert publisher.stats().balanced
        assert row.painted <= row.frames.delivered
        return row

    def painted(self, publisher: Publisher, more_than: int = 0) -> None:
        """Wait until the window has painted more frames of a publisher than so many."""
        if self.has_window:
            self.wait_until(lambda: publisher.stats().receivers[0].painted > more_than, "the newest frame is painted")

    @staticmethod
    def frames(count: int, shape: tuple[int, ...] = SHAPE, dtype: str = "uint16") -> list[npt.NDArray[Any]]:
        """Return frames from dark to bright, each like no other."""
        ramp = np.linspace(0, 97, int(np.prod(shape))).reshape(shape)
        return [((ramp + number) % (2 if dtype == "bool" else 100)).astype(dtype) for number in range(count)]

    @staticmethod
    def bright_in(vertical: int, horizontal: int) -> npt.NDArray[Any]:
        """Return a dark frame with one bright quarter: (0, 0) is the one at the origin."""
        frame = np.full(SHAPE, DARK, "uint16")
        height, width = SHAPE[0] // 2, SHAPE[1] // 2
        frame[vertical * height :, horizontal * width :][:height, :width] = BRIGHT
        return frame

    @staticmethod
    def numbered(number: int, channel: int) -> npt.NDArray[Any]:
        """Return a dark frame with a number from 1 to 15 in bright cells, lowest bit first.

        They lie side by side, in the upper half for channel 0 and in the lower half for channel 1, so that they can be
        told apart where all channels are shown in one picture.
        """
        frame = np.full(SHAPE, DARK, "uint16")
        height, width = SHAPE[0] // 2, SHAPE[1] // BITS
        for bit in range(BITS):
            if number >> bit & 1:
                frame[channel * height :, bit * width :][:height, :width] = BRIGHT
        return frame

    def screen(self, publisher: Publisher, path: Path) -> npt.NDArray[Any]:
        """Return what is on the screen, (y, x, 3), 0 to 255: all of the window, or the part that shows the images.

        By default the viewer is asked for it (`scopecast_viewers.display.Display.capture`). Override it where that
        redraws the window, and could so hide that it shows something old.

        Parameters
        ----------
        publisher
            That the viewer is attached to.
        path
            A file that may be written.
        """
        publisher.capture(path, timeout=self.patience)
        with open_image(path) as image:
            pixels = next(iter(image.planes())).array
        return np.repeat(pixels[..., None], 3, axis=-1) if pixels.ndim == 2 else pixels[..., :3]

    def picture(self, publisher: Publisher, path: Path) -> npt.NDArray[Any]:
        """Return what is on the screen, (y, x), grey."""
        grey: npt.NDArray[Any] = self.screen(publisher, path).mean(axis=-1)
        return grey

    # ---- showing -------------------------------------------------------------------------------------------------

    def test_a_batch_starts_it_and_it_stays(self, viewer: OpenViewer) -> None:  # noqa: D102
        assert len(viewer.receipt.sent) == 6
        assert [(each.path, each.reason) for each in viewer.receipt.skipped] == [("run/cells.csv", "extension '.csv'")]
        assert (viewer.row.kind, viewer.row.frames.delivered) == (self.kind, 6)
        assert viewer.process.is_running()

    def test_the_first_frame_is_shown(self, viewer: OpenViewer, tmp_path: Path) -> None:  # noqa: D102
        with self.publisher(viewer) as publisher:
            publisher.publish(self.frames(1)[0], axes={"t": 0, "c": "DAPI"})
            assert self.settled(publisher).frames.delivered == 1
            self.painted(publisher)
            if self.has_window:
                height, width = self.picture(publisher, tmp_path / "window.png").shape
                assert (height > SHAPE[0]) and (width > SHAPE[1])  # noqa: PT018
            else:
                with pytest.raises(RuntimeError, match="no window"):
                    publisher.capture(tmp_path / "window.png", timeout=self.patience)

    def test_after_a_burst_it_shows_the_newest_the_right_way_up(  # noqa: D102
        self, viewer: OpenViewer, tmp_path: Path
    ) -> None:
        upper_left, lower_right = self.bright_in(0, 0), self.bright_in(1, 1)
        with self.publisher(viewer) as publisher:

            def burst(first: int, others: npt.NDArray[Any], newest: npt.NDArray[Any]) -> None:
                for t in range(first, first + 30):
                    publisher.publish(newest if t == first + 29 else others, axes={"t": t})
                self.settled(publisher)

            burst(0, lower_right, upper_left)
            if self.has_window:
                self.painted(publisher)
                before = self.picture(publisher, tmp_path / "before.png")
            burst(30, upper_left, lower_right)
            assert self.settled(publisher).frames.delivered == 60
            if self.has_window:
                self.wait_until(
                    lambda: self._moved_down_right(before, self.picture(publisher, tmp_path / "after.png")),
                    "the quarter that is bright now lies right of, and below, the one that was",
                )

    @staticmethod
    def _moved_down_right(before: npt.NDArray[Any], after: npt.NDArray[Any]) -> bool:
        height, width = (min(sizes) for sizes in zip(before.shape, after.shape, strict=True))
        change = before[:height, :width] - after[:height, :width]
        was, became = np.argwhere(change > 40), np.argwhere(change < -40)
        return len(was) > 1000 < len(became) and bool(np.all(was.mean(axis=0) + 10 < became.mean(axis=0)))

    def test_a_steady_stream_is_painted_while_it_runs(self, viewer: OpenViewer) -> None:  # noqa: D102
        frames = self.frames(10)
        with self.publisher(viewer, policy="latest") as publisher:
            t = 0

            def another(wanted: int) -> bool:
                nonlocal t
                publisher.publish(frames[t % 10], axes={"t": t % 300})
                t += 1
                return publisher.stats().receivers[0].painted >= wanted if self.has_window else t >= 30 * wanted

            for wanted in (1, 3):
                self.wait_until(functools.partial(another, wanted), f"painted {wanted} times while frames come")
            row = self.settled(publisher)
        assert row.frames.published == t
        assert row.frames.delivered + row.frames.superseded + row.frames.dropped + row.frames.skipped == t

    def test_several_streams_of_several_programs_arrive_whole(self, viewer: OpenViewer) -> None:  # noqa: D102
        with self.publisher(viewer, title="one") as one, self.publisher(viewer, title="two") as two:
            for publisher in (one, two):
                for run in range(2):
                    publisher.new_stream(f"run {run}", channels=["DAPI", "FITC"], scale=(0.5, 0.5), units="um")
                    for t, frame in enumerate(self.frames(5)):
                        for channel in ("DAPI", "FITC"):
                            publisher.publish(frame, axes={"t": t, "c": channel})
            for publisher in (one, two):
                assert self.settled(publisher).frames.delivered == 20
            self.wait_until(
                lambda: not self.has_window or any(p.stats().receivers[0].painted for p in (one, two)), "painted"
            )

    def test_what_follows_the_end_of_a_stream_and_of_a_program_is_shown(self, viewer: OpenViewer) -> None:  # noqa: D102
        with self.publisher(viewer) as publisher:
            for run in range(2):
                stream = publisher.new_stream(f"run {run}")
                publisher.publish(self.frames(1)[0], axes={"t": 0}, stream=stream)
                publisher.end_stream(stream)
            assert self.settled(publisher).frames.delivered == 2
        with self.publisher(viewer) as publisher:
            for t, frame in enumerate(self.frames(4)):
                publisher.publish(frame, axes={"t": t})
            assert self.settled(publisher).frames.delivered == 4
            self.painted(publisher)

    # ---- what is counted as painted -------------------------------------------------------------------------------

    def test_what_is_counted_as_painted_is_on_the_screen(self, viewer: OpenViewer, tmp_path: Path) -> None:
        """A second channel joins, and a second run follows: after each frame that is counted, the screen is read."""
        # (time point, channel, number). From the second to the third all cells change, which tells where they are; the
        # first one is before a slider takes room away. Until its own has come, a channel is dark or shows its newest.
        frames = [(0, 0, 3), (1, 0, 5), (2, 0, 10), (2, 1, 9), (3, 0, 6), (3, 1, 13), (4, 0, 14), (4, 1, 7)]
        with self.publisher(viewer) as publisher:
            for run in range(2):
                publisher.new_stream(f"run {run}")
                own, newest = [0, 0], [0, 0]
                for step, (t, c, number) in enumerate(frames):
                    before = self.settled(publisher).painted
                    # In the first run the axis joins, too; in the second it is there from the beginning.
                    where = {"t": t} if run == 0 and step < 3 else {"t": t, "c": c}
                    publisher.publish(self.numbered(number, c), axes=where)
                    if not self.has_window:
                        assert self.settled(publisher).painted == 0, "painted, without a screen"
                        continue
                    self.painted(publisher, before)
                    own = [0, 0] if t > frames[step - 1][0] else own
                    own[c] = newest[c] = number
                    path = tmp_path / f"{run}-{step}.png"
                    what = f"run {run}: {where}, which is counted as painted, is on the screen; see {path}"
                    # Another look, where another window lay in between; nothing new is published meanwhile.
                    if step == 1:
                        before_all_change = self._steady(publisher, path)
                    elif step == 2:
                        box = self.wait_until(
                            functools.partial(self._find_change, publisher, path, before_all_change, *frames[1:3]), what
                        )
                    elif step > 2:
                        self.wait_until(
                            lambda: self._read_numbers(self._brightest(publisher, path), box) in (own, newest),  # noqa: B023
                            what,
                        )

    def _steady(self, publisher: Publisher, path: Path) -> npt.NDArray[Any]:
        """Return what is on the screen, see `_brightest`, once it stays the same."""
        before = self._brightest(publisher, path)
        now = before
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            now = self._brightest(publisher, path)
            if now.shape == before.shape and (abs(now - before) > 100).mean() < 0.002:
                break
            before = now
        return now

    def _brightest(self, publisher: Publisher, path: Path) -> npt.NDArray[Any]:
        """Return what is on the screen, (y, x), the brightest of each pixel's colours."""
        brightest: npt.NDArray[Any] = self.screen(publisher, path).max(axis=-1).astype(float)
        return brightest

    def _find_change(
        self, publisher: Publisher, path: Path, before: npt.NDArray[Any], old: Frame, new: Frame
    ) -> tuple[int, int, int, int] | None:
        """Return (top, left, bottom, right) of where the old number was before and the new one is now; None if nowhere.

        Other things change on a screen, too: what a window writes, and windows that are painted late.
        """
        after = self._brightest(publisher, path)
        height, width = (min(sizes) for sizes in zip(before.shape, after.shape, strict=True))
        changed = abs(before[:height, :width] - after[:height, :width]) > 100

        def runs(counts: npt.NDArray[Any], part: float) -> npt.NDArray[Any]:
            """Return (first, end) of each run of what is more than a part of the most."""
            full = np.concatenate([[False], counts > counts.max() * part, [False]]).astype(int)
            return np.stack([np.flatnonzero(np.diff(full) > 0), np.flatnonzero(np.diff(full) < 0)], axis=1)

        for left, right in runs(changed.sum(axis=0), 1 / 4):
            rows = runs(changed[:, left:right].sum(axis=1), 1 / 2)
            top, bottom = rows[np.argmax(rows[:, 1] - rows[:, 0])]
            box = (int(top), int(left), int(bottom), int(right))
            if min(bottom - top, right - left) < 4 * BITS or 2 * bottom - top > height:
                continue  # no room for the cells of both channels
            if [self._read_numbers(each, box)[0] for each in (before, after)] == [old[2], new[2]]:
                return box
        return None

    @staticmethod
    def _read_numbers(picture: npt.NDArray[Any], box: tuple[int, int, int, int]) -> list[int]:
        """Return the numbers of both channels that a picture shows, where the upper half of the images is `box`."""
        top, left, bottom, right = box
        height, width = bottom - top, (right - left) / BITS
        numbers = []
        for channel in range(2):
            rows = slice(top + channel * height + height // 4, top + channel * height + 3 * height // 4)
            cells = [left + bit * width for bit in range(BITS)]
            bright = [picture[rows, int(x + width / 4) : int(x + 3 * width / 4)].mean() > 127 for x in cells]
            numbers.append(sum(1 << bit for bit in range(BITS) if bright[bit]))
        return numbers

    # ---- whatever comes ------------------------------------------------------------------------------------------

    def test_no_kind_of_pixels_ends_it(self, viewer: OpenViewer) -> None:  # noqa: D102
        with self.publisher(viewer) as publisher:
            sent = 0
            for dtype in DTYPES:
                publisher.new_stream(np.dtype(dtype).name)
                for t, frame in enumerate(self.frames(2, dtype=dtype)):
                    publisher.publish(frame, axes={"t": t})
                    sent += 1
            publisher.new_stream("colours")
            for samples, dtype in ((3, "uint8"), (4, "uint8"), (3, "uint16")):
                publisher.publish(self.frames(1, (*SHAPE, samples), dtype)[0], axes={"t": samples})
                sent += 1
            publisher.new_stream("not finite")
            for t, value in enumerate((np.nan, np.inf, -np.inf)):
                publisher.publish(np.full(SHAPE, value, "float32"), axes={"t": t})
                sent += 1
            row = self.settled(publisher)
            assert row.frames.delivered + row.frames.skipped == row.frames.published == sent
            self._still_shows(publisher)

    def test_shapes_axes_and_kinds_that_change_do_not_end_it(self, viewer: OpenViewer) -> None:  # noqa: D102
        with self.publisher(viewer) as publisher:
            for t, shape in enumerate([SHAPE, (1, 1), (16, 300), SHAPE, (300, 5)]):
                publisher.publish(self.frames(1, shape)[0], axes={"t": t})
            joining: list[dict[str, int | str]] = [{"z": 2}, {"z": 1, "c": "late"}, {"p": 3, "c": "later", "z": 0}, {}]
            for more in joining:
                publisher.publish(self.frames(1)[0], axes={"t": 9, **more})
            publisher.publish(np.eye(*SHAPE, dtype="uint16"), kind="labels", axes={"t": 0}, name="cells")
            publisher.publish(np.array([[3.0, 4.0]]), kind="points", axes={"t": 0}, name="spots")
            row = self.settled(publisher)
            assert row.frames.delivered + row.frames.skipped == row.frames.published == 11
            self._still_shows(publisher)

    def _still_shows(self, publisher: Publisher) -> None:
        before = self.settled(publisher)
        publisher.new_stream("afterwards")
        for t, frame in enumerate(self.frames(3)):
            publisher.publish(frame, axes={"t": t})
        assert self.settled(publisher).frames.delivered == before.frames.delivered + 3
        self.wait_until(
            lambda: not self.has_window or publisher.stats().receivers[0].painted > before.painted, "painted again"
        )

    # ---- its own mistakes ----------------------------------------------------------------------------------------

    def test_a_frame_that_it_fails_to_take_is_counted_and_the_next_is_shown(  # noqa: D102
        self, viewer: OpenViewer
    ) -> None:
        with self.publisher(viewer) as publisher:
            with viewer.mistaken("take"):
                for t, frame in enumerate(self.frames(3)):
                    publisher.publish(frame, axes={"t": t})
                assert self.settled(publisher).frames.skipped == 3
            publisher.publish(self.frames(1)[0], axes={"t": 3})
            assert self.settled(publisher).frames.delivered == 1
            self.painted(publisher)
        assert "a mistake in take, on purpose" in viewer.log

    def test_an_update_that_fails_is_survived_and_said(self, viewer: OpenViewer) -> None:  # noqa: D102
        with self.publisher(viewer) as publisher:
            with viewer.mistaken("changed"):
                for t, frame in enumerate(self.frames(3)):
                    publisher.publish(frame, axes={"t": t})
                assert self.settled(publisher).frames.delivered == 3
                self.wait_until(lambda: "a mistake in changed, on purpose" in viewer.log, "it is in the viewer's log")
            publisher.publish(self.frames(1)[0], axes={"t": 3})
            assert self.settled(publisher).frames.delivered == 4
            self.painted(publisher)

    # ---- the end; it comes last, as the tests above need the viewer ------------------------------------------------

    def test_when_it_is_closed_it_says_goodbye_and_the_program_goes_on(  # noqa: D102
        self, viewer: OpenViewer, caplog: pytest.LogCaptureFixture
    ) -> None:
        with self.publisher(viewer) as publisher, caplog.at_level(logging.INFO, "scopecast"):
            publisher.publish(self.frames(1)[0], axes={"t": 0})
            self.settled(publisher)
            log = RunDirectory().file(viewer.row.token, "log")
            viewer.process.terminate()
            self.wait_until(lambda: not publisher.stats().receivers[0].attached, "it has left")
            said = [record.getMessage() for record in caplog.records if "has left" in record.getMessage()]
            assert [text.partition("has left: ")[2] for text in said] == ["the viewer was closed"]
            publisher.publish(self.frames(1)[0], axes={"t": 1})
            assert publisher.stats().skipped == {"no viewer": 1}
            assert publisher.stats().balanced
        code = viewer.process.wait(self.patience)
        assert code in (0, None) or sys.platform == "win32", f"it ended with {code}:\n{log.read_text()[-4000:]}"
        assert RunDirectory().living("receiver") == []

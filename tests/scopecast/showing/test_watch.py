"""A folder that is watched: files are shown when they are complete, and never before."""

from __future__ import annotations

import errno
import os
import queue
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Self

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from children import Child, wait_until
from imagefiles import hyperstack
from receivers import Viewer, check_stamp, planes_of, stamped, viewer_process
from scopecast import FileError, IncompleteFileError
from scopecast.errors import UnreadableFileError
from scopecast.images.base import Sight
from scopecast.rundir.directory import RunDirectory
from scopecast.showing import watch as module
from scopecast.showing.stacks import Showing
from scopecast.showing.watch import PATIENCE_S, SETTLE_S, TRIES, FolderWatch, News, open_for_writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells who writes a file")


class Watching:
    """A folder watched in a thread, into a viewer; what it tells comes out of `news`."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.watch = FolderWatch(folder, **options)
        self.news: queue.Queue[News | None] = queue.Queue()
        self.errors: list[BaseException] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            with Showing("headless", root=self.watch.folder) as showing:
                began = False
                for news in self.watch.run(lambda path: showing.file(path, settled=False), self._stop):
                    if news is not None or not began:
                        self.news.put(news)
                        began = True
        except BaseException as error:  # noqa: BLE001 - the test's to see
            self.errors.append(error)
            self.news.put(None)

    def next(self) -> News:
        news = self.news.get(timeout=30)
        assert news is not None, self.errors
        return news

    def __enter__(self) -> Self:
        self._thread.start()
        assert self.news.get(timeout=30) is None  # the watch has begun
        assert not self.errors
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()


@pytest.fixture
def viewer() -> Iterator[Viewer]:
    with Viewer() as made:
        yield made


def planes(viewer: Viewer) -> dict[tuple[int, ...], np.ndarray]:
    """What the newest stream has by now; a stream is announced before its first frame."""
    streams = viewer.streams
    return planes_of(streams[-1]) if streams and streams[-1].stacks else {}


def stamps(viewer: Viewer) -> dict[tuple[int, ...], tuple[int, int, int]]:
    return {index: check_stamp(plane) for index, plane in planes(viewer).items()}


# ---- with the system's own word --------------------------------------------------------------------------------------


def test_files_join_one_stack_as_they_come(viewer: Viewer, tmp_path: Path):
    tifffile.imwrite(tmp_path / "img_t009.tif", stamped(9))  # was there before
    with Watching(tmp_path) as watching:
        for t in range(3):
            tifffile.imwrite(tmp_path / f"img_t{t:03d}.tif", stamped(t))
            assert watching.next() == News("shown", tmp_path / f"img_t{t:03d}.tif")
        viewer.wait_for(lambda: len(planes(viewer)) == 3)
        assert stamps(viewer) == {(t,): (t, 0, 0) for t in range(3)}


def test_what_was_there_before_is_shown_if_asked_for_in_order(viewer: Viewer, tmp_path: Path):
    for t in (10, 9):
        tifffile.imwrite(tmp_path / f"img_t{t}.tif", stamped(t))
        os.utime(tmp_path / f"img_t{t}.tif", (1e9, 1e9))
    with Watching(tmp_path, existing=True) as watching:
        assert [watching.next().path.name for _ in range(2)] == ["img_t9.tif", "img_t10.tif"]


@pytest.mark.parametrize("extension", [".tif", ".png", ".jpg"])
def test_half_a_file_is_never_shown(viewer: Viewer, tmp_path: Path, extension: str):
    source = tmp_path / f"source{extension}"
    picture = stamped(5, shape=(256, 256), dtype="uint8" if extension == ".jpg" else "uint16")
    iio.imwrite(source, picture) if extension != ".tif" else tifffile.imwrite(source, picture)
    (tmp_path / "watched").mkdir()
    target = tmp_path / "watched" / f"img_t0{extension}"
    writer = Child("write_slowly", target, source, source.stat().st_size // 2)
    with writer, Watching(tmp_path / "watched") as watching:
        writer.ask()
        wait_until(lambda: watching.watch.waiting, "the half file is noticed")
        writer.ask()
        writer.tell()
        assert writer.line() == "closed"
        while (news := watching.next()).verdict != "shown":
            assert news.verdict == "incomplete"
        viewer.wait_for(lambda: planes(viewer))
        assert viewer.streams[0].received == 1
        (plane,) = planes(viewer).values()
        if extension != ".jpg":
            assert check_stamp(plane) == (5, 0, 0)


def test_a_file_renamed_into_its_place_is_shown_at_once(viewer: Viewer, tmp_path: Path):
    with Watching(tmp_path) as watching:
        tifffile.imwrite(tmp_path / "img_t1.part", stamped(1))
        (tmp_path / "img_t1.part").rename(tmp_path / "img_t1.tif")
        assert watching.next() == News("shown", tmp_path / "img_t1.tif")
        tifffile.imwrite(tmp_path / "other.part", stamped(2))
        (tmp_path / "other.part").replace(tmp_path / "img_t1.tif")  # in the place of the first
        assert watching.next() == News("shown", tmp_path / "img_t1.tif")
        viewer.wait_for(lambda: stamps(viewer) == {(1,): (2, 0, 0)})


def test_a_file_that_is_written_again_is_shown_again(viewer: Viewer, tmp_path: Path):
    with Watching(tmp_path) as watching:
        for t in range(3):
            tifffile.imwrite(tmp_path / "latest.tif", stamped(t))
            assert watching.next().verdict == "shown"
            viewer.wait_for(lambda t=t: stamps(viewer) == {(0,): (t, 0, 0)})


def test_a_stack_that_grows_is_shown_with_what_it_has(viewer: Viewer, tmp_path: Path):
    with Watching(tmp_path) as watching, tifffile.TiffWriter(tmp_path / "stack.ome.tif", ome=True) as writer:
        writer.write(hyperstack(3, 1, 1)[:, 0, 0], metadata={"axes": "TYX"})
        writer.close()
        while watching.next().verdict != "shown":
            pass
        viewer.wait_for(lambda: len(planes(viewer)) == 3)
        assert stamps(viewer) == {(0, t): (t, 0, 0) for t in range(3)}


def test_folders_below_are_watched_if_asked_for(viewer: Viewer, tmp_path: Path):
    with Watching(tmp_path, recursive=True, pattern="img*") as watching:
        for number in range(2):
            folder = tmp_path / "run" / f"Pos{number}"
            folder.mkdir(parents=True)
            tifffile.imwrite(folder / "skip_t0.tif", stamped(9))
            tifffile.imwrite(folder / "img_t0.tif", stamped(0, number))
            assert watching.next() == News("shown", folder / "img_t0.tif")
        viewer.wait_for(lambda: len(stamps(viewer)) == 2)
        (stream,) = viewer.streams
        assert stream.axes == ("folder", "t")
        assert list(stream.about.labels["folder"]) == ["run/Pos0", "run/Pos1"]


def test_a_folder_that_goes_ends_the_watch_with_a_word(tmp_path: Path):
    watched = tmp_path / "watched"
    watched.mkdir()
    with Watching(watched) as watching:
        watched.rmdir()
        assert watching.news.get(timeout=30) is None
    assert str(watching.errors[0]) == f"the folder {watched} no longer exists"


def test_what_cannot_be_watched_says_why(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="there is no folder"):
        FolderWatch(tmp_path / "none")
    with pytest.raises(FileError, match="is a file; name the folder"):
        FolderWatch(tmp_path / "file")


@linux
def test_the_system_tells_whether_a_file_is_being_written(tmp_path: Path):
    path = tmp_path / "a.tif"
    with path.open("wb"):
        assert open_for_writing(path) is True
    assert open_for_writing(path) is False
    with path.open("rb"):
        assert open_for_writing(path) is False
    assert open_for_writing(tmp_path / "none.tif") is None


# ---- by the clock ----------------------------------------------------------------------------------------------------


class Looks:
    """A watch whose clock and whose system's word are the test's."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, show: Callable[[Path], object]) -> None:
        self.now, self.writing, self.path, self.show = 0.0, None, path, show
        monkeypatch.setattr(module, "open_for_writing", lambda _: self.writing)
        self.watch = FolderWatch(path.parent, existing=True, clock=lambda: self.now)
        self.watch._consider(path)

    def until(self, seconds: float) -> list[tuple[float, str]]:
        """Look whenever the watch wants to, until then; return what it told and when."""
        told = []
        while (candidate := self.watch._candidates.get(self.path)) and candidate.next_look <= seconds:
            assert candidate.next_look >= self.now
            self.now = candidate.next_look
            if news := self.watch.look(self.path, self.show):
                told.append((self.now, news.verdict))
        self.now = seconds
        return told


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.tif"
    path.write_bytes(b"1")
    return path


def test_where_the_system_does_not_tell_two_looks_decide(path: Path, monkeypatch: pytest.MonkeyPatch):
    looks = Looks(path, monkeypatch, lambda _: None)
    assert looks.until(SETTLE_S * 0.9) == []
    path.write_bytes(b"12")  # it goes on
    looks.watch._consider(path)
    assert looks.until(SETTLE_S * 1.8) == []
    assert looks.until(SETTLE_S * 2) == [(pytest.approx(SETTLE_S * 1.9), "shown")]


def test_a_file_that_stays_open_is_tried_after_a_while(path: Path, monkeypatch: pytest.MonkeyPatch):
    looks = Looks(path, monkeypatch, lambda _: None)
    looks.writing = True
    looks.watch._leases_work = True
    assert looks.until(PATIENCE_S - 0.1) == []
    assert looks.until(PATIENCE_S) == [(pytest.approx(PATIENCE_S), "shown")]


def test_a_drive_that_refuses_every_lease_is_not_believed(path: Path, monkeypatch: pytest.MonkeyPatch):
    looks = Looks(path, monkeypatch, lambda _: None)
    looks.writing = True
    assert looks.until(2 * SETTLE_S) == [(pytest.approx(SETTLE_S), "shown")]


def test_a_file_that_stays_cut_short_is_told_tried_again_and_given_up(path: Path, monkeypatch: pytest.MonkeyPatch):
    tries = []

    def fail(_: Path) -> None:
        tries.append(looks.now)
        raise IncompleteFileError("it ends too early")

    looks = Looks(path, monkeypatch, fail)
    looks.writing = False
    told = looks.until(1000.0)
    assert [verdict for _, verdict in told] == ["incomplete", "given up"]
    assert len(tries) == TRIES
    assert (np.diff(tries, 2) > 0).all()  # ever more slowly
    looks.watch._consider(path)
    assert looks.watch.waiting == 0  # until it changes:
    path.write_bytes(b"123")
    looks.watch._consider(path)
    looks.show = lambda _: None
    assert [verdict for _, verdict in looks.until(2000.0)] == ["shown"]


@pytest.mark.parametrize(
    "error",
    [
        UnreadableFileError("Permission denied"),
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("something that nobody expects"),
    ],
    ids=["rights", "descriptors", "room", "another"],
)
def test_what_may_pass_is_tried_again_for_as_long_as_it_takes(
    path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    tries = []

    def fail(_: Path) -> None:
        tries.append(looks.now)
        raise error

    looks = Looks(path, monkeypatch, fail)
    looks.writing = False
    told = looks.until(1000.0)
    assert [verdict for _, verdict in told] == ["incomplete"]
    assert len(tries) > 2 * TRIES
    assert max(np.diff(tries)) <= 61.0  # seconds, after ever longer pauses
    looks.show = lambda _: None
    assert [verdict for _, verdict in looks.until(1100.0)] == ["shown"]


def test_a_watch_that_the_system_refuses_looks_at_the_folder_itself(
    viewer: Viewer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import watchfiles

    monkeypatch.setattr(watchfiles, "watch", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EMFILE, "no more")))
    monkeypatch.setattr(module, "RESCAN_S", 0.1)
    with Watching(tmp_path) as watching:
        for t in range(2):
            tifffile.imwrite(tmp_path / f"img_t{t}.tif", stamped(t))
            assert watching.next().verdict == "shown"
    viewer.wait_for(lambda: stamps(viewer) == {(t,): (t, 0, 0) for t in range(2)})


def test_a_file_that_changes_while_it_is_shown_is_looked_at_again(path: Path, monkeypatch: pytest.MonkeyPatch):
    shown = []

    def show(_: Path) -> None:
        shown.append(path.read_bytes())
        if len(shown) == 1:
            path.write_bytes(b"another")

    looks = Looks(path, monkeypatch, show)
    looks.writing = False
    looks.until(100.0)
    assert shown == [b"1", b"another"]


def test_a_file_that_changes_while_it_is_read_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tifffile.imwrite(tmp_path / "a.tif", stamped(1))
    sights = iter([Sight(1, 1, 1), Sight(1, 2, 1)])
    monkeypatch.setattr(Sight, "of", lambda _: next(sights))
    with Showing("headless") as showing, pytest.raises(IncompleteFileError, match="changed while it was being read"):
        showing.file(tmp_path / "a.tif", settled=False)


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_command_shows_reports_and_ends_with_ctrl_c(tmp_path: Path):
    command = [sys.executable, "-P", "-m", "scopecast", "watch", str(tmp_path), "--viewer", "headless"]
    with (
        viewer_process() as other,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == f"Watching {tmp_path}; stop with Ctrl-C.\n"
            tifffile.imwrite(tmp_path / "img_t0.part", stamped(1))
            content = (tmp_path / "img_t0.part").read_bytes()
            (tmp_path / "img_t0.part").rename(tmp_path / "img_t0.tif")
            (tmp_path / "cut.part").write_bytes(content[:-100])
            (tmp_path / "cut.part").rename(tmp_path / "cut.tif")
            line = process.stderr.readline()
            assert line.startswith(f"not complete yet, will be tried again: {tmp_path / 'cut.tif'}: it has ")
            process.send_signal(signal.SIGINT)
            printed, errors = process.communicate(timeout=30)
        finally:
            process.kill()
        assert process.returncode == 130, errors
        shown = tmp_path / "img_t0.tif"
        assert printed == f"shown: {shown}\nShown in headless: 1 of 2 files of {tmp_path}; 1 file not complete.\n"
        assert "Traceback" not in errors
        assert [entry.token for entry in RunDirectory().living()] == [other.token]


def test_the_last_line_of_the_command_adds_up(tmp_path: Path):
    """Each file counts once, as what became of it last: one that was shown is overwritten by one that is cut short."""
    content, command = tmp_path / "content", [sys.executable, "-P", "-m", "scopecast", "watch", str(tmp_path)]
    tifffile.imwrite(content, stamped(1))
    whole = content.read_bytes()

    def put(name: str, data: bytes) -> None:
        content.write_bytes(data)
        content.replace(tmp_path / name)

    with (
        viewer_process(),
        subprocess.Popen(
            [*command, "--viewer", "headless"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline().startswith("Watching ")
            for name in ("a.tif", "b.tif"):
                put(name, whole)
                assert process.stdout.readline() == f"shown: {tmp_path / name}\n"
            for name in ("b.tif", "c.tif", "d.tif"):
                put(name, whole[:-100])
                assert name in process.stderr.readline()
            (tmp_path / "d.tif").unlink()
            process.send_signal(signal.SIGINT)
            printed, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert printed in {
        f"Shown in headless: 1 of 4 files of {tmp_path}; 3 files not complete.\n",
        f"Shown in headless: 1 of 4 files of {tmp_path}; 2 files not complete; 1 file removed before complete.\n",
    }, errors

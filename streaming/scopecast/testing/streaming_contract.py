"""What every streaming backend must do, seen from its viewer's side."""

from __future__ import annotations

import gc
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from scopecast.backends.storage import BackendRegistry
from scopecast.publishing.accounts import Receipt
from scopecast.testing.observer import Observer

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from scopecast.backends.streaming import StreamingBackend

__all__ = ["StreamingBackendContract"]

_PREFERRED = (".tif", ".tiff", ".npy", ".png")
DTYPES = ("bool", "uint8", "int16", ">u2", "uint32", "float32", "float64", "complex64")


class StreamingBackendContract:
    """The tests of a `scopecast.StreamingBackend`; a subclass names the class as `backend_type`.

    Each test has a run directory of its own and a viewer of the backend's kind without a window, so that no real one
    is launched.

    Attributes
    ----------
    backend_type : type
        The class, which can be made with the keyword arguments of `StreamingBackend`.
    patience : float
        Seconds that are waited for a frame before it counts as lost.

    Examples
    --------
    >>> from scopecast import NapariStreamingBackend
    >>> class TestNapari(StreamingBackendContract):
    ...     backend_type = NapariStreamingBackend
    """

    backend_type: ClassVar[type[StreamingBackend]]
    patience: ClassVar[float] = 20.0

    # ---- what the tests use --------------------------------------------------------------------------------------

    @pytest.fixture(autouse=True)
    def private_run_directory(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        """Make a run directory of the test's own; its path is short, as those of sockets must be."""
        with tempfile.TemporaryDirectory(prefix="sc-", dir="/tmp" if Path("/tmp").is_dir() else None) as path:
            monkeypatch.setenv("SCOPECAST_RUNTIME_DIR", path)
            yield Path(path)

    @pytest.fixture
    def observer(self, private_run_directory: Path) -> Iterator[Observer]:
        """Run a viewer of the backend's kind."""
        with Observer(self.backend_type.VIEWER_TYPE) as observer:
            yield observer

    def make(self, **arguments: Any) -> StreamingBackend:
        """Return a new backend; to be overridden where the class needs other arguments."""
        return self.backend_type(**{"launch": False, "linger": 10.0, **arguments})

    @property
    def extension(self) -> str:
        """An extension that the backend shows."""
        supported = {extension.lower() for extension in self.backend_type.SUPPORTED_EXTENSIONS}
        return next((each for each in _PREFERRED if each in supported), min(supported, default=""))

    @staticmethod
    def frame(number: int, shape: tuple[int, ...] = (16, 12), dtype: str = "uint16") -> npt.NDArray[Any]:
        """Return a frame that differs from all others."""
        pixels = np.arange(int(np.prod(shape))).reshape(shape) % 97 + number
        return (pixels % 2 if dtype == "bool" else pixels % 128).astype(dtype)

    def path(self, t: int) -> str:
        """Return the path of the frame at a time."""
        return f"run/img_t{t:03}{self.extension}"

    def ready(self, backend: StreamingBackend, observer: Observer) -> None:
        """Open the backend, and wait until the observer is attached."""
        backend.publisher.open((16, 12), "uint16", wait=20.0)
        observer.wait_for(lambda: observer.attached and any(row.attached for row in backend.stats()), self.patience)

    # ---- the class -----------------------------------------------------------------------------------------------

    def test_the_class_names_its_viewer_and_what_it_shows(self) -> None:  # noqa: D102
        cls = self.backend_type
        assert re.fullmatch(r"[a-z][a-z0-9_]{0,31}", cls.VIEWER_TYPE)
        assert re.fullmatch(r"([a-z][a-z0-9]{0,13}_)?", cls.SHM_PREFIX)
        assert all(extension.startswith(".") for extension in cls.SUPPORTED_EXTENSIONS)
        assert self.extension, "it shows no file at all"

    def test_a_class_that_names_its_type_is_found_and_made_by_it(self) -> None:  # noqa: D102
        name = vars(self.backend_type).get("_backend_type")
        if name is None:
            pytest.skip("the class names no _backend_type of its own")
        with BackendRegistry() as registry:
            assert name in registry
            assert type(registry[name]) is self.backend_type

    def test_making_one_allocates_and_launches_nothing(self, private_run_directory: Path) -> None:  # noqa: D102
        with self.make(launch=True) as backend:
            assert backend.stats().segment_bytes == 0
            assert list(private_run_directory.iterdir()) == []

    # ---- batches -------------------------------------------------------------------------------------------------

    def test_a_batch_arrives_as_it_is_where_its_names_say(self, observer: Observer) -> None:  # noqa: D102
        frames = [self.frame(t) for t in range(5)]
        with self.make() as backend:
            self.ready(backend, observer)
            backend.save_batch(frames, [self.path(t) for t in range(5)])
            observer.wait_for(lambda: len(observer.seen) == 5, self.patience)
            assert backend.flush(10.0)
            assert backend.stats().frames.delivered == 5
        assert [seen.axes["t"] for seen in observer.seen] == list(range(5))
        for seen, frame in zip(observer.seen, frames, strict=True):
            np.testing.assert_array_equal(seen.pixels, frame)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_pixels_of_every_kind_arrive_unchanged(self, observer: Observer, dtype: str) -> None:  # noqa: D102
        frame = self.frame(3, dtype=dtype)
        with self.make() as backend:
            self.ready(backend, observer)
            backend.save(frame, self.path(0))
            (seen,) = observer.wait_for(lambda: observer.seen, self.patience)
        assert seen.pixels.dtype == np.dtype(dtype).newbyteorder("=")
        np.testing.assert_array_equal(seen.pixels, frame)

    def test_files_that_cannot_be_shown_are_skipped(self, observer: Observer) -> None:  # noqa: D102
        image, names = self.frame(0), [self.path(0), "run/table.csv", self.path(1).upper(), "run/about.json"]
        with self.make() as backend:
            self.ready(backend, observer)
            receipt = backend.save_batch([image, "a,b", image, {"a": 1}], names)
            observer.wait_for(lambda: len(observer.seen) == 2, self.patience)
            if isinstance(receipt, Receipt):  # a save_batch of one's own may return nothing
                assert receipt.sent == (names[0], names[2])
                assert [skipped.path for skipped in receipt.skipped] == [names[1], names[3]]
            kept, paths, skipped = backend._filter_streamable_files([1, 2, 3, 4], names)  # noqa: SLF001 - its contract
            assert (kept, paths, skipped) == ([1, 3], [names[0], names[2]], [names[1], names[3]])

    def test_lists_of_different_lengths_send_nothing(self, observer: Observer) -> None:  # noqa: D102
        with self.make() as backend:
            self.ready(backend, observer)
            with pytest.raises(ValueError, match="2 items, but 1 paths"):
                backend.save_batch([self.frame(0), self.frame(1)], [self.path(0)])
            assert backend.stats().frames.published == 0

    def test_a_batch_loses_nothing_however_long_it_is(self, observer: Observer) -> None:  # noqa: D102
        with self.make(timeout=60.0) as backend:
            self.ready(backend, observer)
            backend.save_batch([self.frame(t) for t in range(200)], [self.path(t) for t in range(200)])
            observer.wait_for(lambda: len(observer.seen) == 200, self.patience)
            assert backend.flush(10.0)
            stats = backend.stats()
        assert (stats.frames.published, stats.frames.delivered) == (200, 200)
        assert stats.balanced
        assert [seen.axes["t"] for seen in observer.seen] == list(range(200))

    def test_without_a_viewer_nothing_is_raised_and_all_is_counted(self) -> None:  # noqa: D102
        with self.make() as backend:
            backend.save_batch([self.frame(0)] * 3, [self.path(t) for t in range(3)])
            stats = backend.stats()
        assert stats.skipped == {"no viewer": 3}
        assert stats.balanced

    # ---- a running acquisition -----------------------------------------------------------------------------------

    def test_the_frames_of_two_runs_come_in_streams_of_their_own(self, observer: Observer) -> None:  # noqa: D102
        with self.make() as backend:
            self.ready(backend, observer)
            for run in range(2):
                backend.sequenceStarted(None, {})
                for t in range(3):
                    backend.frameReady(self.frame(t + 10 * run), _Event(t), {})
                    assert backend.flush(10.0)  # or a newer frame might take its place
                backend.sequenceFinished(None)
            assert backend.errors == 0
        assert [seen.axes for seen in observer.seen] == [{"t": t} for t in range(3)] * 2
        first, second = {seen.stream.id for seen in observer.seen[:3]}, {seen.stream.id for seen in observer.seen[3:]}
        assert len(first) == len(second) == 1
        assert first != second

    def test_what_cannot_be_shown_never_ends_the_acquisition(self) -> None:  # noqa: D102
        with self.make() as backend:
            for wrong in (None, "no image", object(), np.array(["text"])):
                backend.frameReady(wrong, _Event(0), {})
            backend.sequenceStarted(object(), "no metadata")
            backend.sequenceFinished(object())
            assert backend.errors >= 4, "counted"
        backend.frameReady(self.frame(0), _Event(0), {})  # closed, too

    # ---- life ----------------------------------------------------------------------------------------------------

    def test_the_end_leaves_nothing_behind(self, private_run_directory: Path, observer: Observer) -> None:  # noqa: D102
        backend = self.make()
        self.ready(backend, observer)
        backend.save(self.frame(0), self.path(0))
        assert backend.stats().segment_bytes > 0
        backend.close()
        backend.close()
        backend.cleanup()
        assert backend.stats().segment_bytes == 0
        assert len(observer.seen) == 1, "what was on its way when it was closed has arrived"
        assert [path for path in private_run_directory.rglob("*.sock") if path.exists()] == []
        with pytest.raises(RuntimeError, match="closed"):
            backend.save(self.frame(0), self.path(0))
        del backend
        gc.collect()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
    def test_a_forked_child_streams_for_itself(self, observer: Observer) -> None:  # noqa: D102
        with self.make() as backend:
            self.ready(backend, observer)
            backend.save(self.frame(0), self.path(0))
            if sys.platform == "win32":  # for type checkers
                return
            child = os.fork()
            if child == 0:  # pragma: no cover - another process
                code = 1
                try:
                    backend.save(self.frame(1), self.path(1))
                    backend.close()
                    code = 0
                finally:
                    os._exit(code)
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == 0
            observer.wait_for(lambda: len(observer.seen) == 2, self.patience)
            backend.save(self.frame(2), self.path(2))  # the parent goes on
            observer.wait_for(lambda: len(observer.seen) == 3, self.patience)
        assert [seen.axes["t"] for seen in observer.seen] == [0, 1, 2]


class _Event:
    """As much of a ``useq.MDAEvent`` as tells where a frame belongs."""

    def __init__(self, t: int) -> None:
        self.index = {"t": t}
        self.channel = self.sequence = None

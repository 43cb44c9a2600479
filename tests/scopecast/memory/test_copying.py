"""Copies past the caches: exact at every size and alignment, within their bounds, and not in anyone's way."""

import importlib.util
import platform
import shutil
import sys
import sysconfig
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopecast.memory import copying
from scopecast.memory.copying import STREAMED_BYTES, copy_frame

compiled = pytest.mark.skipif(copying.how() != "past the caches", reason="the compiled part is not installed")
FENCE = 0xA5


def noise(nbytes: int) -> np.ndarray:
    return np.random.default_rng(nbytes).integers(0, 256, nbytes, np.uint8)


@pytest.fixture(params=["past the caches", "by numpy"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the two ways."""
    if request.param == "by numpy":
        monkeypatch.setattr(copying, "_stream", None)
    elif copying.how() != request.param:
        pytest.skip("the compiled part is not installed")
    assert copying.how() == request.param
    return request.param


def test_it_is_compiled_wherever_that_is_possible():
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    if not copying.is_for(platform.machine()) or not shutil.which("cc") or not headers.exists():
        pytest.skip("nothing to compile it with")
    assert copying.how() == "past the caches"


@compiled
@given(
    nbytes=st.integers(0, 5000) | st.integers(STREAMED_BYTES - 70, STREAMED_BYTES + 70),
    target_at=st.integers(0, 130),
    source_at=st.integers(0, 130),
)
def test_every_byte_is_copied_and_no_other_is_touched(nbytes: int, target_at: int, source_at: int):
    source = noise(nbytes + 130)[source_at : source_at + nbytes]
    memory = np.full(nbytes + 260, FENCE, np.uint8)
    copying._stream(memory[target_at : target_at + nbytes], source)
    assert (memory[target_at : target_at + nbytes] == source).all()
    assert (memory[:target_at] == FENCE).all()
    assert (memory[target_at + nbytes :] == FENCE).all()


@pytest.mark.parametrize("side", [2, 362, 363, 1024])
@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "uint16", "float16", "float32", "float64", "complex64", "complex128"]
)
def test_frames_of_every_dtype_and_size(way: str, dtype: str, side: int):
    source = noise(side * side * 16).view("uint8")[: side * side].reshape(side, side).astype(dtype)
    target = np.empty_like(source)
    copy_frame(target, source)
    assert (target == source).all()


@pytest.mark.parametrize(
    "arrange",
    [
        lambda frame: np.asfortranarray(frame),
        lambda frame: frame[::-1],
        lambda frame: np.repeat(frame, 2, axis=1)[:, ::2],
        lambda frame: frame.astype(">u2"),
        lambda frame: np.broadcast_to(frame[:1], frame.shape),
        lambda frame: np.frombuffer(frame.tobytes(), frame.dtype).reshape(frame.shape),  # read-only
        lambda frame: (
            np.frombuffer(b"x" + frame.tobytes(), np.uint8)[1:].view(np.uint16).reshape(frame.shape)
        ),  # at odd addresses
    ],
    ids=["fortran", "reversed", "strided", "big-endian", "broadcast", "read-only", "unaligned"],
)
def test_frames_that_lie_in_any_way(way: str, arrange):
    source = arrange(noise(2 * 1024 * 1024).view(np.uint16).reshape(1024, 1024))
    target = np.empty(source.shape, np.uint16)
    copy_frame(target, source)
    assert (target == source).all()


def test_a_frame_of_another_shape(way: str):
    with pytest.raises(ValueError, match="shape"):
        copy_frame(np.empty((1024, 1024), np.uint16), np.empty((1024, 1023), np.uint16))


def test_a_frame_of_another_dtype(way: str):
    with pytest.raises(TypeError, match="equiv"):
        copy_frame(np.empty((1024, 1024), np.uint16), np.empty((1024, 1024), np.int16))


def test_a_target_that_is_read_only(way: str):
    target = np.zeros((1024, 1024), np.uint16)
    target.flags.writeable = False
    with pytest.raises((ValueError, BufferError), match="read-only"):
        copy_frame(target, np.ones((1024, 1024), np.uint16))
    assert not target.any()


@compiled
@pytest.mark.parametrize("shift", [-64, -1, 0, 1, 64])
def test_what_overlaps_is_refused(shift: int):
    memory = noise(2**20)
    before = memory.copy()
    with pytest.raises(ValueError, match="overlaps"):
        copying._stream(memory[100:-100], memory[100 + shift : len(memory) - 100 + shift])
    assert (memory == before).all()


@compiled
def test_what_is_not_contiguous_or_has_another_length_is_refused():
    with pytest.raises(ValueError, match="contiguous"):
        copying._stream(np.empty(1000, np.uint8), np.empty(2000, np.uint8)[::2])
    with pytest.raises(ValueError, match="1000 bytes does not fill a target of 999"):
        copying._stream(np.empty(999, np.uint8), np.empty(1000, np.uint8))
    with pytest.raises(TypeError, match="not 1 arguments"):
        copying._stream(np.empty(999, np.uint8))


def test_the_fence_is_the_processors_where_there_is_a_compiled_module():
    copying.fence()
    compiled = importlib.util.find_spec("scopecast.memory._copying") is not None
    assert copying.fence.__module__ == ("scopecast.memory._copying" if compiled else "scopecast.memory.copying")


def is_seen_at_work(copy: Callable[[], None]) -> bool:
    """Whether this thread runs while another one copies; with a switch interval of a minute, only if that lets it."""
    begun, done = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        copy()
        done.set()

    thread = threading.Thread(target=work)
    before = sys.getswitchinterval()
    sys.setswitchinterval(60.0)
    try:
        thread.start()
        begun.wait(60.0)
        return not done.is_set()
    finally:
        sys.setswitchinterval(before)
        thread.join(60.0)


def test_other_threads_run_meanwhile(way: str):
    source, target = np.ones(2**27, np.uint8), np.zeros(2**27, np.uint8)
    # More than once: the copy may be over before the machine gives this thread a processor.
    assert any(is_seen_at_work(lambda: copy_frame(target, source)) for _ in range(20))


def test_the_look_for_other_threads_finds_what_keeps_the_lock():
    source, target = bytes(2**25), bytearray(2**25)

    def keep() -> None:
        target[:] = source

    assert not any(is_seen_at_work(keep) for _ in range(5))

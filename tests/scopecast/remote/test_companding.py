"""Companding: what a preview keeps of a plane's values, and the same bytes from C and from numpy."""

import importlib.util
import shutil
import sys
import sysconfig
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from scopecast.errors import ProtocolError
from scopecast.remote import companding
from scopecast.remote.companding import Companding, compand, expand, small_shape

compiled = pytest.mark.skipif(companding.how() != "compiled", reason="the compiled part is not installed")
STEPS = (1, 2, 4)
INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
FLOATS = ("float16", "float32", "float64")


def camera(side: int = 256, peak: float = 4000.0, offset: int = 100) -> np.ndarray:
    """A ramp with a camera's noise: electrons as they are counted, and 1.6 of reading them out; uint16."""
    random = np.random.default_rng(side)
    signal = np.linspace(0, peak, side * side).reshape(side, side)
    return (random.poisson(signal) + random.normal(offset, 1.6, signal.shape)).round().clip(0, 65535).astype(np.uint16)


@pytest.fixture(params=["compiled", "by numpy"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the two ways."""
    if request.param == "by numpy":
        monkeypatch.setattr(companding, "_compand", None)
        monkeypatch.setattr(companding, "_expand", None)
    elif companding.how() != request.param:
        pytest.skip("the compiled part is not installed")
    assert companding.how() == request.param
    return request.param


def both(monkeypatch: pytest.MonkeyPatch, function, *arguments) -> tuple[np.ndarray, np.ndarray]:
    """What C returns, and what numpy does."""
    by_c = function(*arguments)
    with monkeypatch.context() as patch:
        patch.setattr(companding, "_compand", None)
        patch.setattr(companding, "_expand", None)
        return by_c, function(*arguments)


def test_it_is_compiled_wherever_that_is_possible():
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    if sysconfig.get_config_var("Py_GIL_DISABLED") or not shutil.which("cc") or not headers.exists():
        pytest.skip("nothing to compile it with")
    assert companding.how() == "compiled"
    assert importlib.util.find_spec("scopecast.remote._companding") is not None


# --- the range ---


def test_the_range_has_room_and_stays_while_planes_fit():
    first = Companding.covering(camera(peak=1000))
    assert first.offset < 95
    assert 1100 < first.top < 1600
    assert Companding.covering(camera(side=300, peak=1100), first) is first
    assert Companding.covering(camera(peak=200), first) is first


def test_the_range_grows_with_the_planes_and_shrinks_when_they_fill_little_of_it():
    first = Companding.covering(camera(peak=1000))
    grown = Companding.covering(camera(peak=60_000), first)
    assert grown.top > 60_000
    again = Companding.covering(camera(peak=1000), grown)
    assert again == first


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
@pytest.mark.parametrize("extreme", ["lowest", "highest", "both", "same"])
def test_every_dtype_has_a_range_for_its_extremes(dtype: str, extreme: str):
    info = np.finfo(dtype) if dtype in FLOATS else np.iinfo(dtype)
    values = {"lowest": [info.min, 0], "highest": [0, info.max], "both": [info.min, info.max], "same": [7, 7]}[extreme]
    plane = np.array([values], dtype)
    found = Companding.covering(plane)
    for step in STEPS:
        made = expand(compand(plane, found, step), found, plane.shape, dtype, step)
        assert made.dtype == plane.dtype
        assert np.isfinite(made).all()


def test_what_is_no_number_has_a_level_and_no_range():
    plane = np.array([[np.nan, np.inf], [-np.inf, 3.0]], np.float32)
    found = Companding.covering(plane)
    assert found.offset < 3 < found.top
    assert compand(plane, found).tolist()[0] == [0, 255]
    assert Companding.covering(np.full((3, 3), np.nan)).offset < 0


@pytest.mark.parametrize("numbers", [(1.0, 1.0), (2.0, 1.0), (0.0, np.inf), (np.nan, 1.0), (0.0,), (0, 1, 2), ("a", 1)])
def test_a_peers_numbers_that_are_no_range_are_refused(numbers):
    with pytest.raises(ProtocolError, match="companding is wrong"):
        Companding.from_wire(numbers)


@given(offset=st.floats(-1e300, 1e299), span=st.floats(1e-3, 1e299), dtype=st.sampled_from(INTEGERS + FLOATS))
def test_whatever_range_a_peer_names_has_values_in_order(offset: float, span: float, dtype: str):
    if offset + span <= offset:
        return
    found = Companding.from_wire(Companding(offset, offset + span).wire)
    values = found.values(dtype)
    assert values.shape == (256,)
    assert (values[1:] >= values[:-1]).all()


# --- what a preview keeps ---


def test_what_is_lost_is_less_than_the_cameras_noise(way: str):
    plane = camera(512, peak=30_000)
    found = Companding.covering(plane)
    kept = expand(compand(plane, found), found, plane.shape, plane.dtype)
    lost = kept.astype(float) - plane
    for rows in range(0, 512, 64):  # from dark to bright
        band = slice(rows, rows + 64)
        noise = np.sqrt(np.linspace(0, 30_000, 512 * 512).reshape(512, 512)[band].mean() + 1.6**2)
        assert lost[band].std() < noise
        assert abs(lost[band].mean()) < noise / 4


@pytest.mark.parametrize("dtype", INTEGERS)
def test_a_small_range_of_integers_keeps_its_values(way: str, dtype: str):
    plane = np.arange(-100 if dtype.startswith("i") else 20, 127, dtype=dtype).reshape(1, -1)
    found = Companding.covering(plane)
    assert found.is_linear(dtype)
    assert (expand(compand(plane, found), found, plane.shape, dtype) == plane).all()


def test_what_lies_outside_of_the_range_gets_its_ends(way: str):
    found = Companding(1000.0, 2000.0)
    plane = np.array([[0, 1000, 2000, 65535]], np.uint16)
    assert compand(plane, found).tolist() == [[0, 0, 255, 255]]
    assert expand(compand(plane, found), found, plane.shape, plane.dtype).tolist() == [[1000, 1000, 2000, 2000]]


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32", "int64"])
def test_blocks_are_means_and_those_at_the_end_are_smaller(way: str, dtype: str):
    plane = np.array([[0, 10, 3], [20, 31, 4], [100, 101, 200]], dtype)
    wide = Companding(-10.0, 245.0)
    found = compand(plane, wide, 2).astype(int)
    if dtype == "float32":  # by square roots
        means = np.array([[15.25, 3.5], [100.5, 200]])
        assert (found == np.floor(np.sqrt((means + 10) * 255) + 0.5)).all()
    else:
        assert found.tolist() == [[25, 14], [111, 210]]  # 15.25, 3.5, 100.5: halves go up


@pytest.mark.parametrize("step", STEPS)
def test_a_block_is_filled_with_its_level(way: str, step: int):
    plane = expand(np.arange(6, dtype=np.uint8).reshape(2, 3), Companding(0.0, 255.0), (2 * step, 3 * step), "u2", step)
    assert (plane == np.arange(6).reshape(2, 3).repeat(step, 0).repeat(step, 1)).all()


# --- C and numpy ---


shapes = st.tuples(st.integers(1, 23), st.integers(1, 23)) | st.tuples(
    st.integers(1, 11), st.integers(1, 11), st.sampled_from([3, 4])
)


@compiled
@given(
    data=st.data(),
    shape=shapes,
    step=st.sampled_from(STEPS),
    offset=st.integers(-100, 300),
    span=st.integers(1, 70_000),
)
def test_c_and_numpy_give_the_same_bytes(data: st.DataObject, shape, step: int, offset: int, span: int):
    plane = data.draw(npst.arrays(data.draw(st.sampled_from(["u1", "i1", "<u2", ">u2", "i2"])), shape))
    found = Companding(float(offset), float(offset + span))
    with pytest.MonkeyPatch.context() as patch:
        by_c, by_numpy = both(patch, compand, plane, found, step)
        assert by_c.tobytes() == by_numpy.tobytes()
        assert by_c.shape == by_numpy.shape == small_shape(shape, step)
        for dtype in ("u1", "<u2", ">u2", "i4", "f2", "f4", ">f8", "i8"):
            one, other = both(patch, expand, by_c, found, shape, dtype, step)
            assert one.tobytes() == other.tobytes()
            assert (one.shape, one.dtype) == (other.shape, other.dtype) == (shape, np.dtype(dtype))


@pytest.mark.parametrize(
    "arrange",
    [
        lambda plane: np.asfortranarray(plane),
        lambda plane: plane[::-1, ::-2],
        lambda plane: np.broadcast_to(plane[:1], plane.shape),
        lambda plane: np.frombuffer(b"x" + plane.tobytes(), np.uint8)[1:].view(np.uint16).reshape(plane.shape),
    ],
    ids=["fortran", "strided", "broadcast", "unaligned"],
)
def test_planes_that_lie_in_any_way(way: str, arrange):
    plane = arrange(camera(65))
    found = Companding.covering(plane)
    for step in STEPS:
        assert (compand(plane, found, step) == compand(plane.copy(), found, step)).all()


def test_the_table_is_the_same_everywhere(way: str):
    """Bytes that any machine has to make of these pixels, so that both ends of a link agree."""
    plane = np.array([[0, 100, 400, 900], [1600, 2500, 10_000, 65_535]], np.uint16)
    found = Companding(0.0, 65_025.0)
    assert compand(plane, found).tolist() == [[0, 10, 20, 30], [40, 50, 100, 255]]
    assert compand(plane, found, 2).tolist() == [[32, 139]]
    assert found.values("uint16")[[0, 10, 20, 30, 255]].tolist() == [0, 100, 400, 900, 65_025]


@compiled
def test_sizes_that_do_not_agree_are_refused():
    table, plane, small = np.zeros(65536, np.uint8), np.zeros((4, 6), np.uint16), np.zeros((2, 3), np.uint8)
    companding._compand(small, plane, table, 4, 6, 1, 2)
    for wrong in [(4, 6, 1, 1), (4, 6, 1, 4), (4, 7, 1, 2), (5, 6, 1, 2), (4, 6, 2, 2)]:
        with pytest.raises(ValueError, match="has not"):
            companding._compand(small, plane, table, *wrong)
        with pytest.raises(ValueError, match="has not"):
            companding._expand(plane, small, table[:512], *wrong)
    for wrong in [(4, 6, 1, 3), (0, 6, 1, 2), (-4, -6, 1, 2), (4, 6, 5, 2), (2**40, 2**40, 1, 2), (4, 6, 1, 0)]:
        with pytest.raises(ValueError, match="no plane of"):
            companding._compand(small, plane, table, *wrong)
    for length in (0, 255, 257, 512, 65535):
        with pytest.raises(ValueError, match=f"no table has {length} bytes"):
            companding._compand(small, plane, table[:length], 4, 6, 1, 2)
    for length in (0, 255, 513, 768, 4096):
        with pytest.raises(ValueError, match=f"no table has {length} bytes"):
            companding._expand(plane, small, table[:length], 4, 6, 1, 2)
    with pytest.raises(TypeError, match="not 1 arguments"):
        companding._compand(small)
    with pytest.raises(OverflowError):
        companding._compand(small, plane, table, 2**70, 6, 1, 2)
    with pytest.raises(ValueError, match="levels of shape"):
        expand(small, Companding(0.0, 1.0), (5, 6), "uint16", 2)


@compiled
def test_other_threads_run_meanwhile():
    plane, found = np.zeros((8192, 8192), np.uint16), Companding(0.0, 65_535.0)
    begun, done = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        compand(plane, found)
        done.set()

    before = sys.getswitchinterval()
    sys.setswitchinterval(60.0)  # this thread runs only if the other one lets it
    try:
        for _ in range(20):  # it may be over before the machine gives this thread a processor
            begun.clear()
            done.clear()
            thread = threading.Thread(target=work)
            thread.start()
            begun.wait(60.0)
            seen = not done.is_set()
            thread.join(60.0)
            if seen:
                break
        assert seen
    finally:
        sys.setswitchinterval(before)

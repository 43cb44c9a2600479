"""Planes as bytes and back: exact in every dtype, previews close to them, and damaged bytes refused."""

import contextlib
import doctest
import struct
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopecast.errors import ProtocolError, UnsupportedDtypeError
from scopecast.frames.arrays import SHOWABLE
from scopecast.remote import codec, companding, quality
from scopecast.remote.codec import MAX_PLANE_BYTES, decode, encode, has_preview
from scopecast.remote.companding import Companding
from scopecast.remote.quality import EXACT, LADDER, number_of, quality_of

PREVIEWS = LADDER[1:]
SHAPE = (37, 52)


def camera(*shape: int) -> np.ndarray:
    """Structures with a camera's noise on an offset of 100, uint16."""
    random = np.random.default_rng(1)
    y, x = np.mgrid[: shape[0], : shape[1]]
    signal = 900 * (1 + np.sin(x / 9) * np.cos(y / 7))
    signal = signal[..., None].repeat(shape[2], 2) if len(shape) > 2 else signal
    return (100 + random.poisson(signal)).astype(np.uint16)


def preview(plane: np.ndarray, rung: quality.Quality) -> tuple[bytes, Companding]:
    found = Companding.covering(plane)
    return encode(plane, rung, found), found


@pytest.mark.parametrize("module", [quality, companding])
def test_the_examples_in_the_docstrings_hold(module):
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0


# --- qualities ---


def test_the_numbers_on_the_wire_do_not_change():
    assert [(number_of(each), each.step, each.jpeg) for each in LADDER] == [
        (0, 1, None),
        (1, 1, 85),
        (2, 1, 65),
        (3, 1, 40),
        (4, 2, 85),
        (5, 2, 65),
        (6, 4, 65),
    ]
    assert [quality_of(number_of(each)) for each in LADDER] == list(LADDER)
    assert [each.is_exact for each in LADDER] == [True, *[False] * 6]


@pytest.mark.parametrize("number", [-1, 7, 2**40])
def test_a_number_of_no_quality_is_refused(number: int):
    with pytest.raises(ProtocolError, match=f"no quality {number}, only 0 to 6"):
        quality_of(number)


def test_each_quality_has_fewer_bytes_than_the_one_before():
    plane = camera(512, 512)
    found = Companding.covering(plane)
    sizes = [len(encode(plane, each, found)) for each in LADDER]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)


# --- exact ---


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", sorted(SHOWABLE))
@given(
    height=st.integers(1, 90), width=st.integers(1, 90), most=st.sampled_from([0, 1, 15, 255]), seed=st.integers(0, 99)
)
def test_every_dtype_comes_back_exactly(dtype: str, order: str, height: int, width: int, most: int, seed: int):
    made = np.dtype(dtype).newbyteorder(order)
    raw = np.random.default_rng(seed).integers(0, most, (height, width * made.itemsize), np.uint8, endpoint=True)
    plane = raw.view(made) if dtype != "bool" else raw > 7  # any bits: all kinds of NaN, too
    found = decode(encode(plane, EXACT), EXACT, plane.shape, made)
    assert (found.dtype, found.shape) == (made, plane.shape)
    assert found.tobytes() == plane.tobytes()
    assert found.flags.writeable


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (3000, 1), (20, 30, 3), (20, 30, 4), (700, 900)])
def test_planes_of_every_shape_come_back_exactly(shape: tuple[int, ...]):
    for plane in (
        np.zeros(shape, "u2"),
        np.full(shape, 7, "f4"),
        np.random.default_rng(1).integers(0, 256, shape, "u1"),
    ):
        found = decode(memoryview(encode(plane, EXACT)), EXACT, shape, plane.dtype)
        assert (found == plane).all()


def test_planes_that_lie_in_any_way_come_back_exactly():
    plane = camera(64, 80)
    for each in (plane.T, plane[::-2, ::3], np.broadcast_to(plane[:1], plane.shape)):
        assert (decode(encode(each, EXACT), EXACT, each.shape, each.dtype) == each).all()


# --- previews ---


@pytest.mark.parametrize("rung", PREVIEWS, ids=lambda rung: rung.name)
@pytest.mark.parametrize(
    "dtype", ["uint8", "int16", "uint16", ">u2", "uint32", "int64", "float16", "float32", "float64"]
)
def test_a_preview_has_the_streams_shape_dtype_and_range(dtype: str, rung: quality.Quality):
    plane = camera(*SHAPE)
    plane = (plane // 16 if dtype == "uint8" else plane).astype(dtype)
    data, found = preview(plane, rung)
    made = decode(memoryview(data), rung, SHAPE, dtype, found)
    assert (made.dtype, made.shape) == (plane.dtype, SHAPE)
    error = made.astype(float) - plane
    assert abs(error.mean()) < 0.03 * plane.astype(float).mean()
    assert error.std() < (0.2 if rung.step < 4 else 0.5) * plane.astype(float).std()


@pytest.mark.parametrize("rung", PREVIEWS, ids=lambda rung: rung.name)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_colours_have_previews_too(dtype: str, rung: quality.Quality):
    plane = np.zeros((40, 56, 3), np.uint8)
    plane[:, :28] = (250, 20, 20)
    plane[:, 28:] = (20, 20, 250)
    plane = plane.astype(dtype)
    data, found = preview(plane, rung)
    made = decode(data, rung, plane.shape, dtype, found).astype(int)
    assert made.shape == plane.shape
    assert made[:, :16, 0].min() > 200 > 60 > made[:, :16, 2].max()
    assert made[:, -16:, 2].min() > 200 > 60 > made[:, -16:, 0].max()


def test_half_and_quarter_size_are_expanded_by_repetition():
    plane = camera(41, 63)
    for rung in LADDER[4:]:
        data, found = preview(plane, rung)
        made = decode(data, rung, plane.shape, plane.dtype, found)
        small = made[:: rung.step, :: rung.step]
        assert (made == small.repeat(rung.step, 0)[:41].repeat(rung.step, 1)[:, :63]).all()


@pytest.mark.parametrize(
    ("shape", "dtype"), [((5, 5), "bool"), ((5, 5), "complex64"), ((5, 5, 4), "uint8"), ((1, 70_000), "uint8")]
)
def test_what_has_no_preview_is_not_made_one(shape: tuple[int, ...], dtype: str):
    assert not has_preview(shape, dtype)
    with pytest.raises(ValueError, match="has no preview: send it exactly"):
        encode(np.zeros(shape, dtype), LADDER[1], Companding(0.0, 255.0))
    with pytest.raises(ProtocolError, match="which has none"):
        decode(b"\xff\xd8", LADDER[1], shape, dtype, Companding(0.0, 255.0))
    assert (decode(encode(np.ones(shape, dtype), EXACT), EXACT, shape, dtype) == 1).all()


def test_a_preview_needs_its_companding():
    with pytest.raises(ValueError, match="needs a companding"):
        encode(camera(*SHAPE), LADDER[1])
    with pytest.raises(ProtocolError, match="without its companding"):
        decode(b"", LADDER[1], SHAPE, "uint16")


def test_what_is_no_plane_is_not_encoded():
    with pytest.raises(UnsupportedDtypeError, match="cannot be shown"):
        encode(np.zeros((3, 3), "U5"), EXACT)
    with pytest.raises(ValueError, match="is not a plane"):
        encode(np.zeros((3, 3, 3, 3)), EXACT)
    with pytest.raises(ValueError, match="has no pixels"):
        encode(np.zeros((0, 3)), EXACT)
    with pytest.raises(ValueError, match="publish its parts"):
        encode(np.broadcast_to(np.uint8(0), (2**16, 2**15)), EXACT)


@pytest.mark.parametrize("package", ["blosc2", "simplejpeg"])
def test_what_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, package: str):
    monkeypatch.setitem(sys.modules, package, None)
    loader = getattr(codec, f"_{package}")
    loader.cache_clear()
    try:
        with pytest.raises(ModuleNotFoundError, match=rf"need {package}, .*; pip install 'scopecast\[remote\]'"):
            codec.check_available()
    finally:
        loader.cache_clear()


def test_several_threads_encode_and_decode_at_once():
    planes = [camera(300, 400) + np.uint16(i) for i in range(8)]
    found = Companding(0.0, 4000.0)
    alone = [[encode(plane, rung, found) for rung in LADDER] for plane in planes]

    def both(i: int) -> bool:
        made = [encode(planes[i % 8], rung, found) for rung in LADDER]
        back = decode(made[0], EXACT, planes[0].shape, "uint16")
        return made == alone[i % 8] and bool((back == planes[i % 8]).all())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(both, range(64)))


# --- what comes from the network ---


@pytest.mark.parametrize(
    ("shape", "dtype", "words"),
    [
        pytest.param((2**31, 2**31), "uint8", "too large", id="huge"),
        pytest.param((MAX_PLANE_BYTES, 1), "uint16", "too large", id="too-large"),
        pytest.param((-4, -4), "uint8", "no pixels", id="negative"),
        pytest.param((0, 4), "uint8", "no pixels", id="empty"),
        pytest.param((4,), "uint8", "is not a plane", id="row"),
        pytest.param((4, 4, 5), "uint8", "is not a plane", id="five-colours"),
        pytest.param((4, 4), "O", "cannot be shown", id="objects"),
        pytest.param((4, 4), "nonsense", "not a dtype", id="no-dtype"),
    ],
)
@pytest.mark.parametrize("rung", LADDER[:2], ids=lambda rung: rung.name)
def test_planes_that_can_not_be_are_refused(shape, dtype, words, rung):
    with pytest.raises(ProtocolError, match=words):
        decode(b"", rung, shape, dtype, Companding(0.0, 1.0))


def changed(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param(lambda data: b"", "0 bytes are no chunk", id="nothing"),
        pytest.param(lambda data: data[:31], "31 bytes are no chunk", id="part-of-a-header"),
        pytest.param(lambda data: data[:-1], "bytes of a chunk of", id="cut-off"),
        pytest.param(lambda data: data + b"x", "bytes of a chunk of", id="too-long"),
        pytest.param(lambda data: changed(data, 2, b"\x80"), "other flags and filters", id="flags"),
        pytest.param(lambda data: changed(data, 3, b"\x01"), "other flags and filters", id="element"),
        pytest.param(lambda data: changed(data, 4, b"\xff\xff\xff\x7f"), "a plane of .* has 3848", id="bomb"),
        pytest.param(lambda data: changed(data, 8, b"\xff\xff\xff\x7f"), "in blocks of", id="block"),
        pytest.param(lambda data: changed(data, 8, bytes(4)), "in blocks of 0", id="no-blocks"),
        pytest.param(lambda data: changed(data, 16, b"\xa0"), "other flags and filters", id="filter-elsewhere"),
        pytest.param(lambda data: changed(data, 22, b"\x25"), "other flags and filters", id="codec-elsewhere"),
        pytest.param(lambda data: changed(data, 31, b"\x40"), "other flags and filters", id="uninitialised"),
        pytest.param(lambda data: changed(data, 31, b"\x08"), "other flags and filters", id="in-a-file"),
        pytest.param(lambda data: changed(data, 2, bytes([data[2] | 2])), "not compressed came as", id="stored"),
        pytest.param(lambda data: data[:40] + bytes(len(data) - 40), "Error while decompressing", id="pixels"),
    ],
)
def test_a_chunk_that_is_none_of_ours_is_refused(damage, words: str):
    plane = camera(*SHAPE)
    with pytest.raises(ProtocolError, match=words):
        decode(damage(encode(plane, EXACT)), EXACT, SHAPE, "uint16")


def test_bools_from_the_network_are_0_or_1():
    plane = np.full((30, 30), 2, np.uint8)
    found = decode(encode(plane, EXACT), EXACT, (30, 30), "bool")
    assert (found.view(np.uint8) == 1).all()


def frame_of(data: bytes) -> int:
    return data.index(b"\xff\xc0")


def hidden(data: bytes) -> bytes:
    """A frame of 65,500 x 65,500 pixels behind fill bytes, which decoders skip."""
    at = frame_of(data)
    return b"\xff\xff\xff\xc0" + changed(data[at : at + 13], 5, b"\xff\xdc\xff\xdc")[2:]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param(lambda data: b"", "does not begin as a JPEG", id="nothing"),
        pytest.param(lambda data: b"\x89PNG" + data, "does not begin as a JPEG", id="another-format"),
        pytest.param(lambda data: data[:2], "does not say how many pixels", id="beginning"),
        pytest.param(lambda data: data[:2] + b"\xff\xe0\xff\xff" + data[2:], "does not say", id="far-away"),
        pytest.param(lambda data: data[:2] + b"\xff\xda" + data[2:], "does not say", id="pixels-first"),
        pytest.param(lambda data: data[:2] + hidden(data) + data[2:], "does not say", id="frame-after-fill-bytes"),
        pytest.param(
            lambda data: data[:2] + b"\xff\xd0" + hidden(data)[2:] + data[2:], "does not say", id="restart-first"
        ),
        pytest.param(lambda data: data + bytes(100_000), "JPEG has at most", id="too-long"),
        pytest.param(lambda data: changed(data, frame_of(data) + 5, b"\xff\xff"), r"shape \(65535, 52\)", id="bomb"),
        pytest.param(lambda data: changed(data, frame_of(data) + 1, b"\xc2"), "kind 2", id="progressive"),
        pytest.param(lambda data: changed(data, frame_of(data) + 4, b"\x0c"), "12 bits", id="deep"),
        pytest.param(lambda data: data[: len(data) // 2], "damaged", id="cut-off"),
    ],
)
def test_a_jpeg_that_is_none_of_ours_is_refused(damage, words: str):
    data, found = preview(camera(*SHAPE), LADDER[1])
    with pytest.raises(ProtocolError, match=words):
        decode(damage(data), LADDER[1], SHAPE, "uint16", found)


def test_a_jpeg_of_another_size_or_of_colours_is_refused():
    data, found = preview(camera(*SHAPE), LADDER[1])
    for shape, rung in [((37, 53), LADDER[1]), (SHAPE, LADDER[4]), ((*SHAPE, 3), LADDER[1])]:
        with pytest.raises(ProtocolError, match=r"not kind 0, 8 bits and shape"):
            decode(data, rung, shape, "uint16", found)


KNOWN = {rung: preview(camera(*SHAPE), rung)[0] for rung in LADDER}


@given(data=st.data(), rung=st.sampled_from(LADDER))
def test_damaged_bytes_are_a_plane_or_one_error(data: st.DataObject, rung: quality.Quality):
    """Some damage can't be noticed, in pixels; whatever comes out has the stream's shape and dtype."""
    good = KNOWN[rung]
    places = st.integers(0, len(good) - 1) | st.integers(0, min(len(good), 200) - 1)
    bad = bytearray(good)
    for at, new in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=8)):
        bad[at] = new
    bad = bad[: data.draw(st.just(len(bad)) | st.integers(0, len(bad)))] + data.draw(st.binary(max_size=8))
    check(bytes(bad), rung)


@given(data=st.binary(max_size=300), rung=st.sampled_from(LADDER))
def test_any_bytes_are_a_plane_or_one_error(data: bytes, rung: quality.Quality):
    header = struct.pack(
        "<4B3I6sBB6sBB", 5, 1, 149, 2, 3848, 3848, len(data) + 32, bytes([2, 0, 0, 0, 0, 0]), 5, 0, b"", 0, 0
    )
    jpeg = KNOWN[LADDER[1]][: frame_of(KNOWN[LADDER[1]]) + 13]
    for each in (data, header + data, jpeg + data):
        check(each, rung)


def check(data: bytes, rung: quality.Quality) -> None:
    with contextlib.suppress(ProtocolError):
        found = decode(data, rung, SHAPE, "uint16", Companding(0.0, 4000.0))
        assert (found.shape, found.dtype) == (SHAPE, np.uint16)

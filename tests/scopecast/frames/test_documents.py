"""Documents: their bytes are fixed, what goes in comes out, and no bytes at all do harm."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scopecast.errors import ProtocolError
from scopecast.frames import documents
from scopecast.frames.annotations import prepare
from scopecast.frames.documents import DOCUMENTS, Numbers, Points, Rois, Shapes, Style, Texts, Tracks, floats, integers
from scopecast.frames.rois import read_rois
from scopecast.protocol import printable_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ONE_POINT = floats(np.array([[1.0, 2.5]]))

#: Protocol 1. Fields may be appended; what is here stays as it is.
GOLDEN: dict[str, tuple[Any, str]] = {
    "points": (
        Points(["t"], ["y", "x"], ONE_POINT, [Numbers("area", floats(np.array([7.0])))], Style(size=3.0)),
        "96a6504f494e545391a17492a179a178c410000000000000f03f00000000000004409193a14ea461726561c4080000000000001c40"
        "97a0a0cb4008000000000000cb0000000000000000a0a0a0",
    ),
    "shapes": (
        Shapes([], ["y", "x"], ["line"], [2], floats(np.zeros((2, 2))), ["axon"], [Texts("cell", ["a"])]),
        "99a653484150455390"
        "92a179a178"
        "91a46c696e65"
        "9102"
        "c420" + "00" * 32 + "91a461786f6e"
        "9193a154a463656c6c91a161"
        "97a0a0cb0000000000000000cb0000000000000000a0a0a0",
    ),
    "tracks": (
        Tracks([], ["t", "y", "x"], integers(np.array([2])), floats(np.zeros((1, 3))), {2: [2]}),
        "98a6545241434b5390"
        "93a174a179a178"
        "c4080200000000000000"
        "c418" + "00" * 24 + "81029102"
        "90"
        "97a0a0cb0000000000000000cb0000000000000000a0a0a0",
    ),
    "rois": (Rois(["z"], [b"Iout"], ["nucleus"]), "94a4524f495391a17a91c404496f757491a76e75636c657573"),
}


def test_every_kind_has_golden_bytes():
    assert set(GOLDEN) == set(DOCUMENTS)


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_the_bytes_are_those_of_protocol_1(kind: str):
    document, golden = GOLDEN[kind]
    assert documents.encode(document).hex() == golden
    assert documents.encode(documents.decode(kind, bytes.fromhex(golden))).hex() == golden


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_fields_that_a_newer_peer_appends_are_ignored(kind: str):
    golden = GOLDEN[kind][1]
    fields = msgspec.msgpack.decode(bytes.fromhex(golden))
    newer = documents.decode(kind, msgspec.msgpack.encode([*fields, {"new": [1]}]))
    assert documents.encode(newer).hex() == golden


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_document_of_another_kind_is_refused(kind: str):
    for other in set(DOCUMENTS) - {kind}:
        with pytest.raises(ProtocolError, match=f"that are not valid {other}"):
            documents.decode(other, bytes.fromhex(GOLDEN[kind][1]))


# ---- round trips -------------------------------------------------------------------------------------------------

NUMBERS = st.floats(-1e9, 1e9, allow_subnormal=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=64)


def tables(columns: int, least: int = 0) -> st.SearchStrategy[Any]:
    shapes = st.tuples(st.integers(least, 20), st.just(columns))
    return hnp.arrays(st.sampled_from(["<f8", ">f8", "<f4"]), shapes, elements=st.floats(-1e6, 1e6, width=32))


def received(kind: str, data: Any, axes: Mapping[str, Any] = {}, **more: Any) -> Any:
    dims = more.pop("dims", None)
    prepared = prepare(kind, data, axes, dims, more)
    assert prepared.data.dtype == np.uint8
    return documents.decode(kind, prepared.data.tobytes())


@given(table=st.integers(2, 4).flatmap(tables), data=st.data())
def test_points_come_out_as_they_went_in(table: Any, data: st.DataObject):
    count = len(table)
    area = data.draw(st.lists(NUMBERS, min_size=count, max_size=count))
    names = data.draw(st.lists(TEXTS, min_size=count, max_size=count))
    points = received("points", table, properties={"area": area, "name": names})
    np.testing.assert_array_equal(points.coordinates, table.astype(float))
    assert points.dims == ["t", "z", "y", "x"][4 - table.shape[1] :]
    assert len(points) == count
    found = {column.name: list(column.values) for column in points.properties}
    assert found["area"] == area
    if count:  # an empty list has no type
        assert found["name"] == [printable_lines(name)[:64] for name in names]


@given(each=st.lists(st.integers(3, 12).flatmap(lambda n: hnp.arrays("f8", (n, 2), elements=NUMBERS)), max_size=6))
def test_shapes_come_out_as_they_went_in(each: list[Any]):
    shapes = received("shapes", each, {"t": 3}, names=[f"cell {n}" for n in range(len(each))])
    assert shapes.fixed == ["t"]
    assert len(shapes.vertices) == len(each) == len(shapes)
    for found, wanted in zip(shapes.vertices, each, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert shapes.names == [f"cell {n}" for n in range(len(each))]


@given(ids=st.lists(st.integers(-5, 2**40), max_size=20))
def test_tracks_come_out_as_they_went_in(ids: list[int]):
    rows = [(number, at, at / 2, -at) for at, number in enumerate(ids)]
    tracks = received("tracks", np.array(rows, float).reshape(-1, 4))
    assert list(tracks.ids) == ids
    np.testing.assert_array_equal(tracks.coordinates, np.array(rows, float).reshape(-1, 4)[:, 1:])


def test_columns_in_another_order_are_put_in_theirs():
    points = received("points", [[1, 2, 3]], dims="xyz")
    assert points.dims == ["z", "y", "x"]
    assert points.coordinates.tolist() == [[3, 2, 1]]


def test_two_corners_make_a_rectangle():
    shapes = received("shapes", [[[1, 2], [5, 9]]], shape_type="rectangle")
    assert shapes.vertices[0].tolist() == [[1, 2], [1, 9], [5, 9], [5, 2]]


def test_one_step_of_tracks_has_its_time_in_axes():
    tracks = received("tracks", [[7, 1.5, 2.5]], {"t": 4})
    assert (tracks.fixed, tracks.dims, list(tracks.ids)) == (["t"], ["y", "x"], [7])


# ---- what is wrong with what a user passes -----------------------------------------------------------------------

WRONG: dict[str, tuple[str, Any, dict[str, Any], str]] = {
    "float labels": ("labels", np.zeros((4, 4)), {}, "not float64: convert them with .astype"),
    "labels of complex": ("labels", np.zeros((4, 4), complex), {}, "whole numbers"),
    "one column": ("points", np.zeros((3, 1)), {}, "at least 2 numbers"),
    "a flat point": ("points", [1, 2], {}, r"reshape it to \(1, -1\)"),
    "five columns": ("points", np.zeros((3, 5)), {}, "5 columns can't be guessed"),
    "NaN": ("points", [[0, 0], [1, np.nan]], {}, r"1 of 2 rows are not finite .* row 1: drop them"),
    "infinite": ("shapes", [[[0, 0], [1, np.inf], [2, 2]]], {}, "shape 0: 1 of 3 rows are not finite"),
    "text": ("points", [["a", "b"]], {}, "coordinates are real numbers|dtype"),
    "a short property": ("points", np.zeros((3, 2)), {"properties": {"area": [1, 2]}}, "2 values, and there are 3"),
    "a long text": ("points", np.zeros((1, 2)), {"properties": {"a": ["x" * 65]}}, "at most 64: shorten it"),
    "a property of two axes": ("points", np.zeros((3, 2)), {"properties": {"a": np.zeros((3, 2))}}, "one value for"),
    "too many properties": ("points", [], {"properties": {str(n): [] for n in range(65)}}, "at most 64"),
    "column and axes": ("points", np.zeros((3, 3)), {"axes": {"z": 1}}, "both a column and in axes"),
    "a channel as column": ("points", np.zeros((3, 3)), {"dims": "cyx"}, "a channel is not a coordinate"),
    "no y": ("points", np.zeros((3, 2)), {"dims": "zx"}, "must name y, x"),
    "dims of another length": ("points", np.zeros((3, 2)), {"dims": "zyx"}, "name 3 columns, and there are 2"),
    "unknown style": ("points", [], {"style": {"colour": "red"}}, "no colour: it may have color"),
    "style of a wrong type": ("points", [], {"style": {"size": "big"}}, "can't be used: Expected `float`"),
    "colour by nothing": (
        "points",
        [],
        {"style": {"color_by": "area"}},
        "'area' is not a property; the properties are none",
    ),
    "unknown shape": ("shapes", [[[0, 0], [1, 1]]], {"shape_type": "circle"}, "use rectangle, ellipse, polygon"),
    "shape types": ("shapes", [[[0, 0], [1, 1]]], {"shape_type": ["line", "line"]}, "2 values, and there are 1"),
    "a polygon of two": ("shapes", [[[0, 0], [1, 1]]], {}, "needs 3 or more"),
    "shapes of mixed columns": ("shapes", [np.zeros((3, 2)), np.zeros((3, 3))], {}, r"\[2, 3\] columns"),
    "names": ("shapes", [np.zeros((3, 2))], {"names": ["a", "b"]}, "names has 2 values"),
    "tracks without time": ("tracks", [[1, 5, 5]], {}, "tracks need a time"),
    "tracks between frames": ("tracks", [[1, 0.5, 5, 5]], {}, "whole numbers"),
    "half a track": ("tracks", [[1.5, 0, 5, 5]], {}, "number of each point's track"),
    "a labelled time": ("tracks", [[1, 5, 5]], {"axes": {"t": "early"}}, "give a number"),
    "a graph of strangers": ("tracks", [[1, 0, 5, 5]], {"graph": {1: [9]}}, r"\[9\], which have no points"),
    "too large": (
        "points",
        np.zeros((4_200_000, 2)),
        {},
        "take 64.1 MiB, and .* at most 64 MiB: publish them in parts",
    ),
    "a long name": ("points", [], {"name": "n" * 65}, "at most 64 characters"),
    "another kind's keyword": ("points", [], {"graph": {}}, "has no keyword graph: .* name, properties, style"),
    "bytes of something else": ("rois", b"GIF89a" + bytes(100), {}, "not an ImageJ region of interest"),
    "no region at all": ("rois", 7, {}, "int is not a region of interest: pass roifile's"),
    "too many regions": ("rois", [b"Iout" + bytes(60)] * 10_001, {}, "at most 10000"),
    "a huge region": ("rois", b"Iout" + bytes(2**16), {}, "more than 64 KiB"),
}


@pytest.mark.parametrize(("kind", "data", "more", "problem"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_with_the_fix(kind: str, data: Any, more: dict[str, Any], problem: str):
    more = dict(more)
    with pytest.raises((ValueError, TypeError), match=problem):
        prepare(kind, data, more.pop("axes", {}), more.pop("dims", None), more)


# ---- hostile bytes -----------------------------------------------------------------------------------------------

NAN = floats(np.array([[np.nan, 0.0]]))
CONTRADICTIONS: dict[str, tuple[str, Any]] = {
    "half a row": ("points", Points([], ["z", "y", "x"], ONE_POINT)),
    "half a number": ("points", Points([], ["y", "x"], ONE_POINT[:13])),
    "not finite": ("points", Points([], ["y", "x"], NAN)),
    "columns that are not a plane's": ("points", Points([], ["x", "y"], ONE_POINT)),
    "a column that is fixed": ("points", Points(["z"], ["z", "y", "x"], floats(np.zeros((1, 3))))),
    "a long property": ("points", Points([], ["y", "x"], ONE_POINT, [Texts("a", ["x", "y"])])),
    "lengths": ("shapes", Shapes([], ["y", "x"], ["path"], [3], floats(np.zeros((2, 2))))),
    "lengths that are too many": ("shapes", Shapes([], ["y", "x"], ["path"], [2, 2], floats(np.zeros((4, 2))))),
    "a triangle as rectangle": ("shapes", Shapes([], ["y", "x"], ["rectangle"], [3], floats(np.zeros((3, 2))))),
    "shapes' names": ("shapes", Shapes([], ["y", "x"], ["line"], [2], floats(np.zeros((2, 2))), ["a", "b"])),
    "tracks' numbers": ("tracks", Tracks(["t"], ["y", "x"], integers(np.arange(2)), ONE_POINT)),
    "regions' names": ("rois", Rois([], [b"Iout"], ["a", "b"])),
}


@pytest.mark.parametrize(("kind", "document"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_document_that_contradicts_itself_is_refused(kind: str, document: Any):
    with pytest.raises(ProtocolError):
        documents.decode(kind, documents.encode(document))


BOMBS = {
    "depth at the top": b"\x91" * 60_000,
    "depth in a field": b"\x96\xa6POINTS" + b"\x91" * 60_000,
    "depth in an unknown field": bytes.fromhex("95" + GOLDEN["rois"][1][2:]) + b"\x91" * 60_000,
    "a huge array": b"\x94\xa4ROIS\xdd\xff\xff\xff\xff",
    "huge bytes": b"\x96\xa6POINTS\x90\x92\xa1y\xa1x\xc6\xff\xff\xff\xff",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
@pytest.mark.parametrize("kind", DOCUMENTS)
def test_bombs_are_a_protocol_error(kind: str, bomb: bytes):
    with pytest.raises(ProtocolError):
        documents.decode(kind, bomb)


@given(
    kind=st.sampled_from(DOCUMENTS),
    cut=st.integers(0, 60),
    changes=st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=6),
)
def test_a_damaged_document_is_a_protocol_error_at_most(kind: str, cut: int, changes: list[tuple[int, int]]):
    data = bytearray.fromhex(GOLDEN[kind][1])
    for place, value in changes:
        data[place % len(data)] = value
    with contextlib.suppress(ProtocolError):
        documents.decode(kind, bytes(data[: max(0, len(data) - cut)]))


# ---- archives (H7) -----------------------------------------------------------------------------------------------

ARCHIVES: dict[str, tuple[Callable[[zipfile.ZipFile], object], str]] = {
    "an entry of 100 MiB": (lambda z: z.writestr("a.roi", bytes(100 << 20)), "unpacks to 100 MiB"),
    "an entry of 1 MiB": (lambda z: z.writestr("a.roi", b"Iout" + bytes(1 << 20)), "more than 64 KiB"),
    "20,000 entries": (lambda z: [z.writestr(f"{n}.roi", b"") for n in range(20_000)], "20000 entries"),
    "1,100 entries of 64 KiB": (
        lambda z: [z.writestr(f"{n}.roi", b"Iout" + bytes(65532)) for n in range(1100)],
        "unpacks to 69 MiB",
    ),
}

IN_LITTLE_MEMORY = """
import resource, sys
from scopecast.frames.rois import read_rois
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20),) * 2)
for path in sys.argv[1:]:
    try:
        read_rois(path)
        print("read")
    except ValueError as error:
        print(error)
"""


@pytest.mark.fault("H7")
def test_archives_that_unpack_to_much_more_are_refused_in_little_memory(tmp_path: Any):
    for at, (content, _) in enumerate(ARCHIVES.values()):
        with zipfile.ZipFile(tmp_path / f"{at}.roi.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as z:
            content(z)
    # An entry that lies about its size: the declared one is what is trusted, and no more than that is unpacked.
    path = tmp_path / "liar.roi.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("a.roi", b"Iout" + bytes(8 << 20))
    lying = path.read_bytes().replace((4 + (8 << 20)).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    path.write_bytes(lying)
    child = subprocess.run(
        [sys.executable, "-c", IN_LITTLE_MEMORY, *(str(p) for p in sorted(tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert child.returncode == 0, child.stderr
    *lines, liar = child.stdout.splitlines()
    assert len(lines) == len(ARCHIVES)
    for line, (_, problem) in zip(lines, ARCHIVES.values(), strict=True):
        assert problem in line
    assert "is not an archive of regions of interest: Bad CRC-32" in liar


@pytest.mark.fault("H4")
def test_names_in_an_archive_are_no_paths(tmp_path: Any):
    region = b"Iout" + bytes(60)
    with zipfile.ZipFile(tmp_path / "set.roi.zip", "w") as z:
        for name in ("../../etc/passwd.roi", "/abs/cell.roi", r"C:\\users\\nucleus.ROI", "folder/", "plain"):
            z.writestr(name, b"" if name.endswith("/") else region)
    assert read_rois(tmp_path / "set.roi.zip") == [
        ("passwd", region),
        ("cell", region),
        ("nucleus", region),
        ("plain", region),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set.roi.zip"]


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "of another kind": lambda data: b"II*\0" + data[4:100],
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_archive_is_a_value_error_that_names_it(tmp_path: Any, damage: Callable[[bytes], bytes]):
    path = tmp_path / "set.roi.zip"
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("a.roi", b"Iout" + bytes(60))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"set\.roi\.zip is not an archive"):
        read_rois(path)

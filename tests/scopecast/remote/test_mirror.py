"""Frames that come from a relay, put together and published here; whatever a relay sends, nothing else is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receivers import Viewer
from scopecast.errors import ProtocolError
from scopecast.link import messages as local
from scopecast.remote import codec, messages
from scopecast.remote.companding import Companding
from scopecast.remote.mirror import Mirror
from scopecast.remote.quality import EXACT, LADDER

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "abcd2345"
PIXELS = np.arange(12 * 10, dtype=np.uint16).reshape(12, 10) * 7
ABOUT = local.Stream(3, "run", ["t"], {}, [0], [1.0, 1.0], [0.0], "pixel")
WHOLE = messages.Piece(
    1,
    1,
    1,
    0,
    "image",
    "",
    "<u2",
    [12, 10],
    [0],
    memoryview(codec.encode(PIXELS, EXACT)),
    metadata=msgspec.Raw(b"\x05"),
)


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    made = Mirror(messages.Source(1, TOKEN, "camera 1"), "lab-pc", ["headless"], launch=False)
    made.announce(ABOUT)
    yield made
    made.close()


def changed(**fields: Any) -> messages.Piece:
    return msgspec.structs.replace(WHOLE, **fields)


def cut(y: int, x: int, rows: int, columns: int, **fields: Any) -> messages.Piece:
    data = memoryview(codec.encode(PIXELS[y : y + rows, x : x + columns], EXACT))
    return changed(piece=[y, x, rows, columns], data=data, late=True, **fields)


def preview() -> messages.Piece:
    companding = Companding.covering(PIXELS)
    data = memoryview(codec.encode(PIXELS, LADDER[1], companding))
    return changed(quality=1, companding=list(companding.wire), data=data)


def test_pieces_are_shown_once_all_of_the_frame_has_come_also_if_some_come_twice(mirror):
    with Viewer() as viewer:
        assert mirror.take(3, preview())
        stack = viewer.wait_for(lambda: viewer.streams and viewer.streams[0].stacks)[0]
        viewer.wait_for(lambda: stack.tag((0,)) is not None)
        assert stack.tag((0,)).preview
        assert mirror.take(3, cut(2, 3, 4, 5)), "the region that is looked at"
        viewer.wait_for(lambda: np.array_equal(stack.plane((0,))[2:6, 3:8], PIXELS[2:6, 3:8]))
        assert stack.tag((0,)).preview, "the rest is not exact yet"
        for piece in (cut(0, 0, 6, 10, shown=False), cut(0, 0, 6, 10, shown=False)):
            assert not mirror.take(3, piece)
        assert mirror.take(3, cut(6, 0, 6, 10))
        viewer.wait_for(lambda: not stack.tag((0,)).preview)
        np.testing.assert_array_equal(stack.plane((0,)), PIXELS)
        assert (viewer.streams[0].title, stack.tag((0,)).metadata) == ("camera 1 @ lab-pc", b"\x05")


WRONG = {
    "another run": ({}, 4),
    "no such axis": ({"index": [0, 0]}, 3),
    "a kind that is none": ({"kind": "film"}, 3),
    "a dtype that is none": ({"dtype": "nonsense"}, 3),
    "objects": ({"dtype": "|O"}, 3),
    "another size": ({"shape": [12, 11]}, 3),
    "no size": ({"shape": [0, 10]}, 3),
    "a size beyond all memory": ({"shape": [2**31 - 1, 2**31 - 1]}, 3),
    "too many dimensions": ({"shape": [1, 2, 3, 4]}, 3),
    "a quality that is none": ({"quality": 200}, 3),
    "a preview without its companding": ({"quality": 1}, 3),
    "a companding that is none": ({"quality": 1, "companding": [5.0, 1.0]}, 3),
    "a piece outside": ({"piece": [0, 0, 13, 10]}, 3),
    "a piece of nothing": ({"piece": [0, 0, 0, 10]}, 3),
    "a piece of another size than its bytes": ({"piece": [0, 0, 3, 10]}, 3),
    "damaged bytes": ({"data": memoryview(bytes(WHOLE.data)[:-1])}, 3),
    "no bytes": ({"data": memoryview(b"")}, 3),
    "a document of pixels": ({"kind": "points"}, 3),
    "a document that is too large": ({"kind": "points", "dtype": "|u1", "shape": [2**30]}, 3),
}


@pytest.mark.fault("H15")
@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_refused_and_the_next_frame_is_shown(mirror, wrong):
    fields, number = WRONG[wrong]
    with pytest.raises((ProtocolError, ValueError, TypeError)):
        mirror.take(number, changed(**fields))
    assert mirror.take(3, WHOLE)


@pytest.mark.fault("H15")
@settings(max_examples=200)
@given(
    st.builds(
        messages.Piece,
        number=st.just(1),
        serial=st.integers(0, 2),
        stream=st.just(1),
        quality=st.integers(0, 8),
        kind=st.sampled_from(["image", "labels", "points", "tracks", ""]),
        name=st.just(""),
        dtype=st.sampled_from(["<u2", "|u1", "|b1", "<f4", "<c8", ">u2", "|O", "<U4", "", "u2,u2"]),
        shape=st.lists(st.integers(0, 16), max_size=4),
        index=st.lists(st.integers(0, 3), max_size=2),
        data=st.one_of(st.binary(max_size=64), st.just(bytes(WHOLE.data)), st.just(bytes(preview().data))).map(
            memoryview
        ),
        piece=st.sampled_from([[], [0, 0, 12, 10], [1, 1, 2, 2], [2**31 - 1] * 4]),
        companding=st.lists(st.floats(-1e300, 1e300), max_size=3),
    )
)
def test_whatever_is_said_of_a_frame_it_is_one_or_refused(piece):
    mirror = Mirror(messages.Source(1, TOKEN, "camera 1"), "lab-pc", [], launch=False)
    mirror.announce(ABOUT)
    try:
        mirror._assembled(piece)
    except (ProtocolError, ValueError, TypeError):
        return
    assert mirror._partial.keys() | mirror._previews.keys() <= {0, 1, 2}


@pytest.mark.fault("H15")
def test_an_announcement_that_contradicts_itself_is_refused(mirror):
    with pytest.raises(ProtocolError, match="1 axes, 2 steps"):
        mirror.announce(msgspec.structs.replace(ABOUT, steps=[0.0, 0.0]))
    with pytest.raises(ProtocolError, match="lost an axis"):
        mirror.announce(msgspec.structs.replace(ABOUT, axes=["z"]))
    with pytest.raises(ValueError, match="scale must be above 0"):
        mirror.announce(msgspec.structs.replace(ABOUT, id=9, scale=[0.0, 1.0]))

"""Streams: where a frame belongs among those before it, and when that is to be announced."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopecast.frames import streams
from scopecast.frames.streams import FrameStream
from scopecast.link import messages
from strikes import Strike


def announced(stream: FrameStream) -> messages.Stream:
    """What receivers are told, by way of its bytes."""
    data = messages.encode(stream.message())
    assert len(data) <= messages.MAX_MESSAGE_BYTES
    message = messages.decode_from_publisher(data)
    assert isinstance(message, messages.Stream)
    return message


def test_labels_are_placed_in_the_order_of_their_appearance():
    stream = FrameStream(0, "run")
    assert [stream.place({"c": name}) for name in ("FITC", "DAPI", "FITC", "Cy5")] == [[0], [1], [0], [2]]
    assert announced(stream).labels == {"c": ["FITC", "DAPI", "Cy5"]}


def test_channels_that_are_known_come_first():
    stream = FrameStream(0, "run", channels=["DAPI", "FITC"], colors=["blue", "green"])
    assert stream.place({"c": "FITC"}) == [1]
    assert stream.place({"c": "new"}) == [2]
    assert announced(stream).colors == ["blue", "green"]


def test_colours_may_be_given_by_the_names_of_channels_that_are_still_to_come():
    stream = FrameStream(0, "run", channels=["DAPI"], colors={"FITC": "viridis", "other": "red"})
    assert announced(stream).colors == []
    stream.place({"c": "FITC"})
    assert announced(stream).colors == ["", "viridis"]


def test_positions_that_have_names_are_placed_by_number_or_name():
    stream = FrameStream(0, "run", positions=["left", "", "left", "A1"])
    assert [stream.place({"p": where}) for where in (0, 1, 2, 3, "left", "A1", "new")] == [
        *([0], [1], [2], [3]),
        *([0], [3], [4]),
    ]
    assert announced(stream).labels == {"p": ["left", "1", "left (2)", "A1", "new"]}


def test_the_same_label_on_two_axes_has_two_places():
    stream = FrameStream(0, "run")
    stream.place({"c": "a", "well": "b"})
    assert stream.place({"c": "b", "well": "a"}) == [1, 1]
    assert stream.axes == ["well", "c"]


def test_integers_are_indices_as_they_stand():
    stream = FrameStream(0, "run")
    assert stream.place({"t": 7}) == [7]
    assert stream.place({"t": 2**31 - 1}) == [2**31 - 1]
    assert announced(stream).labels == {}


def test_axes_are_in_the_order_of_sliders_whatever_order_they_come_in():
    stream = FrameStream(0, "run")
    assert stream.place({"z": 3}) == [3]
    assert stream.place({"z": 3, "t": 1}) == [1, 3]
    assert stream.place({"c": "x", "z": 4}) == [0, 0, 4]
    assert stream.place({"well": 5, "p": 6}) == [5, 6, 0, 0, 0]
    assert stream.axes == ["well", "p", "t", "c", "z"]


def test_long_names_are_the_short_ones():
    stream = FrameStream(0, "run", sizes={"Time": 4})
    assert stream.place({"time": 2, "Channel": "DAPI"}) == stream.place({"t": 2, "c": "DAPI"}) == [2, 0]
    assert announced(stream).axes == ["t", "c"]
    assert announced(stream).sizes == [4, 0]


def test_it_is_announced_anew_only_when_an_axis_or_a_label_joins():
    stream = FrameStream(0, "run")
    steps: list[tuple[dict[str, Any], bool]] = [
        ({}, False),
        ({"t": 0}, True),
        ({"t": 1}, False),
        ({"t": 2, "c": "DAPI"}, True),
        ({"t": 2, "c": "DAPI"}, False),
        ({"t": 2, "c": "FITC"}, True),
        ({"c": 1}, False),
    ]
    assert not stream.announced
    for axes, anew in steps:
        stream.announced = True
        stream.place(axes)
        assert stream.announced is not anew, axes


def test_a_ninth_axis_is_an_error_and_changes_nothing():
    stream = FrameStream(0, "run")
    stream.place({f"a{n}": n for n in range(8)})
    stream.announced = True
    with pytest.raises(ValueError, match=r"at most 8 axes; .'ninth'. would join .*leave some out"):
        stream.place({"ninth": 1})
    assert len(stream.axes) == 8
    assert stream.announced
    assert stream.place({"a3": 1}) == [0, 0, 0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("axes", "error"),
    [({"x": 1}, ValueError), ({"t": -1}, ValueError), ({"t": 1.5}, TypeError), ({"t": ""}, ValueError)],
    ids=["the plane's own", "negative", "a float", "no label"],
)
def test_a_place_that_is_not_allowed(axes: dict[str, Any], error: type[Exception]):
    with pytest.raises(error):
        FrameStream(0, "run").place(axes)


def test_what_is_fixed_about_a_run_is_announced():
    stream = FrameStream(
        5, "run", sizes={"z": 9, "t": 3}, scale=(0.5, 0.25), steps={"z": 2.0}, units="um", channels=["DAPI"]
    )
    assert announced(stream) == messages.Stream(
        5, "run", ["t", "z"], {"c": ["DAPI"]}, [3, 9], [0.5, 0.25], [0.0, 2.0], "um", False, []
    )


@pytest.mark.parametrize(
    ("axes", "preview"),
    [({}, True), ({"c": "DAPI"}, True), ({"t": 0}, False), ({"c": 0, "z": 0}, False)],
    ids=["none", "channels", "time", "channels and z"],
)
def test_a_stream_that_does_not_grow_is_a_preview(axes: dict[str, Any], preview: bool):
    stream = FrameStream(0, "live")
    stream.place(axes)
    assert announced(stream).preview is preview


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "scale of one": ({"scale": (1.0,)}, "one number or two"),
    "scale of three": ({"scale": (1.0, 1.0, 1.0)}, "one number or two"),
    "scale that is not finite": ({"scale": (float("nan"), 1.0)}, "scale must be finite"),
    "scale of zero": ({"scale": (0.0, 0.0), "units": "um"}, r"scale must be above 0, not \(0.0, 0.0\): leave it out"),
    "negative scale": ({"scale": (1.0, -0.5)}, "scale must be above 0"),
    "scale of too many digits": ({"scale": (10**400, 1.0)}, "scale must be finite"),
    "infinite step": ({"steps": {"z": float("inf")}}, "steps must be finite"),
    "long unit": ({"units": "u" * 65}, "units is a text of at most 64"),
    "long colour": ({"colors": ["c" * 65]}, "a colour is a text of at most 64"),
    "long channel": ({"channels": ["c" * 65]}, "a label has 1 to 64"),
    "a channel without a name": ({"channels": [""]}, "a label has 1 to 64"),
    "negative size": ({"sizes": {"t": -1}}, "an index is from 0"),
    "size of y": ({"sizes": {"y": 5}}, "the plane's own"),
    "nine sizes": ({"sizes": {f"a{n}": 1 for n in range(9)}}, "too many"),
}


@pytest.mark.parametrize(("about", "problem"), WRONG.values(), ids=WRONG)
def test_what_receivers_would_refuse_is_refused_here(about: dict[str, Any], problem: str):
    with pytest.raises(ValueError, match=problem):
        FrameStream(0, "run", **about)


@pytest.mark.parametrize(
    ("about", "problem"),
    [
        ({"scale": "0.3"}, r"scale: numbers are needed, such as 0\.65; got '0\.3'"),
        ({"scale": ("small", 1.0)}, "scale: numbers are needed, such as 0.65; got 'small'"),
        ({"scale": (None, None)}, "scale: numbers are needed"),
        ({"scale": True}, "scale: numbers are needed"),
        ({"steps": {"z": "far"}}, "steps: numbers are needed"),
        ({"steps": 3}, r"steps are a mapping such as \{'z': 0\.5\}, not 3"),
        ({"sizes": 5}, r"sizes are a mapping such as \{'t': 20, 'c': 3\}, not 5"),
        ({"channels": 5}, "channels are names in order"),
        ({"colors": 7}, "colors are names in order"),
        ({"positions": 7}, "positions are names in order"),
    ],
)
def test_what_is_of_another_type_is_an_error_that_says_what_is_taken(about: dict[str, Any], problem: str):
    with pytest.raises(TypeError, match=problem):
        FrameStream(0, "run", **about)


@pytest.mark.parametrize(
    ("about", "scale", "units"),
    [
        ({}, [1.0, 1.0], "pixel"),
        ({"scale": 0.5}, [0.5, 0.5], "um"),
        ({"scale": np.float64(0.5)}, [0.5, 0.5], "um"),
        ({"scale": np.array([0.5, 0.25])}, [0.5, 0.25], "um"),
        ({"scale": 0.5, "units": "mm"}, [0.5, 0.5], "mm"),
        ({"units": "um"}, [1.0, 1.0], "um"),
    ],
)
def test_a_scale_is_in_micrometres_where_no_unit_is_given(about: dict[str, Any], scale: list[float], units: str):
    announced = FrameStream(0, "run", **about).message()
    assert (announced.scale, announced.units) == (scale, units)


def test_a_title_that_is_no_unicode_or_too_long_can_be_sent():
    assert announced(FrameStream(0, "caf\udce9.tif")).title == r"caf\udce9.tif"
    assert announced(FrameStream(0, "\U0001f52c" * 300)).title == "\U0001f52c" * 200


@pytest.mark.parametrize("letter", ["a", "\U0001f52c"], ids=["ASCII", "four bytes"])
def test_more_labels_than_a_message_can_hold_keep_their_places(letter: str):
    stream = FrameStream(0, "\U0001f52c" * 200, colors=["\U0001f52c" * 64] * 100, units="\U0001f52c" * 64)
    places = [stream.place({"file": f"{number:05}" + letter * 59}) for number in range(3000)]
    assert places == [[number] for number in range(3000)]
    stream.announced = True
    assert stream.place({"file": "00001" + letter * 59}) == [1]
    assert stream.place({"file": "another"}) == [3000]
    listed = announced(stream).labels["file"]
    assert listed == [f"{number:05}" + letter * 59 for number in range(len(listed))]
    assert len(listed) > 100


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["t", "c", "z", "well"]), st.integers(0, 9) | st.text("ab", min_size=1, max_size=2)
        )
    )
)
def test_a_place_stays_what_it_was(frames: list[dict[str, Any]]):
    stream = FrameStream(0, "run")
    seen: dict[tuple[tuple[str, Any], ...], dict[str, int]] = {}
    for axes in frames:
        index = stream.place(axes)
        place = {name: at for name, at in zip(stream.axes, index, strict=True) if name in axes}
        key = tuple(sorted(axes.items(), key=lambda item: item[0]))
        assert seen.setdefault(key, place) == place
        announced(stream)


@pytest.mark.fault("P11")
def test_ctrl_c_while_a_frame_is_placed_costs_no_other_its_place():
    """Raise at each line, one after the other, until the call comes through."""
    for number in range(1, 200):
        stream = FrameStream(0, "run")
        first = stream.place({"c": "DAPI"})
        told = stream.message()
        stream.announced = True
        strike = Strike(number, {Path(streams.__file__)})
        with contextlib.suppress(KeyboardInterrupt), strike:
            stream.place({"c": "GFP", "z": 2})
        assert not stream.announced or stream.message() == told, "what is new would not be told"
        channels = {stream.place({"c": name})[stream.axes.index("c")] for name in ("DAPI", "Cy5", "GFP")}
        assert len(channels) == 3, f"two channels have one place after {strike.struck}"
        assert stream.place({"c": "DAPI"})[stream.axes.index("c")] == first[0]
        if not strike.struck:
            assert number > 5, "it struck nowhere"
            return
    pytest.fail("it never came through")

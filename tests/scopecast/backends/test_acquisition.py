"""What pymmcore-plus says of sequences and frames, with useq's own objects."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import useq

from scopecast.backends.acquisition import (
    ChannelNames,
    corner_on_stage,
    describe_sequence,
    pixel_affine,
    pixel_size,
    place_event,
    recorded_with,
)
from scopecast.frames.axes import check_axes, short_label
from scopecast.frames.streams import FrameStream

# ---- events ------------------------------------------------------------------------------------------------------

EVENTS = {
    "nothing": (useq.MDAEvent(), {}),
    "time": (useq.MDAEvent(index={"t": 3}), {"t": 3}),
    "useq's axes": (
        useq.MDAEvent(index={useq.Axis.TIME: 3, useq.Axis.Z: 2, useq.Axis.POSITION: 1}),
        {"t": 3, "z": 2, "p": 1},
    ),
    "a channel's name comes before its number": (useq.MDAEvent(index={"c": 1}, channel="FITC"), {"c": "FITC"}),
    "a channel without an index": (useq.MDAEvent(channel={"config": "DAPI", "group": "Channel"}), {"c": "DAPI"}),
    "a channel's number": (useq.MDAEvent(index={"c": 1}), {"c": 1}),
    "two cameras": (useq.MDAEvent(index={"t": 0, "cam": 1}), {"t": 0, "cam": 1}),
    "a long name": (useq.MDAEvent(channel="x" * 100), {"c": short_label("x" * 100)}),
    "no event at all": (object(), {}),
}


@pytest.mark.parametrize(("event", "axes"), EVENTS.values(), ids=EVENTS)
def test_an_event_tells_where_its_frame_belongs(event: Any, axes: dict[str, Any]):
    placed = place_event(event)
    assert placed == axes
    assert check_axes(placed) == axes
    assert {type(name) for name in placed} <= {str}, "useq's enumeration stays out of messages"


def test_what_was_read_counts_and_what_was_asked_for_where_nothing_was():
    event = useq.MDAEvent(exposure=20, x_pos=1, y_pos=2, z_pos=3)
    read = {"exposure_ms": 10.5, "runner_time_ms": 2500.0, "position": {"x": 7.0, "z": float("nan")}}
    assert recorded_with(event, read) == {"elapsed_s": 2.5, "exposure_ms": 10.5, "x_um": 7, "y_um": 2, "z_um": 3}
    assert recorded_with(event, None) == {"exposure_ms": 20, "x_um": 1, "y_um": 2, "z_um": 3}
    assert recorded_with(None, {"position": None, "exposure_ms": "10"}) is None
    assert recorded_with(object(), object()) is None


@pytest.mark.parametrize("value", [10**400, -(10**400), float("inf"), float("nan"), "5", None])
def test_numbers_that_make_no_sense_are_left_out(value: Any):
    read = {"exposure_ms": value, "runner_time_ms": value, "position": {"x": value}, "pixel_size_um": value}
    assert recorded_with(None, {**read, "position": {"x": value, "y": 1}}) == {"y_um": 1}
    assert recorded_with(None, read) is None
    assert pixel_size(read) is None


def test_every_event_of_a_sequence_has_a_place_of_its_own():
    sequence = useq.MDASequence(
        axis_order="tpgcz",
        channels=["DAPI", "FITC"],
        time_plan={"interval": 0, "loops": 2},
        stage_positions=[(0, 0, 0), {"x": 5, "y": 5, "name": "well"}],
        grid_plan={"rows": 1, "columns": 2},
        z_plan={"relative": [-1, 0, 1]},
    )
    stream = FrameStream(0, "run", **describe_sequence(sequence, 0.25))
    places = [tuple(stream.place(place_event(event))) for event in sequence]
    assert stream.axes == ["p", "g", "t", "c", "z"]
    assert len(set(places)) == len(places) == 2 * 2 * 2 * 2 * 3
    sizes = dict(zip(stream.axes, stream.message().sizes, strict=True))
    assert sizes == {"p": 2, "g": 2, "t": 2, "c": 2, "z": 3}
    assert tuple(map(max, zip(*places, strict=True))) == tuple(size - 1 for size in sizes.values())


def test_the_order_of_acquisition_is_not_that_of_the_axes():
    sequence = useq.MDASequence(
        axis_order="zct", channels=["a", "b"], time_plan={"interval": 0, "loops": 2}, z_plan={"range": 1, "step": 1}
    )
    stream = FrameStream(0, "run", **describe_sequence(sequence))
    assert stream.axes == ["t", "c", "z"]
    assert stream.place(place_event(list(sequence)[1])) == [1, 0, 0]


# ---- sequences ---------------------------------------------------------------------------------------------------


def test_a_sequence_tells_what_is_fixed():
    sequence = useq.MDASequence(
        channels=["DAPI", {"config": "FITC", "exposure": 50}, "my own"],
        time_plan={"interval": 1, "loops": 20},
        z_plan={"range": 4, "step": 0.5},
    )
    assert describe_sequence(sequence, 0.65) == {
        "scale": (0.65, 0.65),
        "units": "um",
        "sizes": {"t": 20, "c": 3, "z": 9},
        "channels": ["DAPI", "FITC", "my own"],
        "steps": {"t": 1.0, "z": 0.5},
    }


@pytest.mark.parametrize("sequence", [None, object(), useq.MDASequence()], ids=["none", "another object", "empty"])
def test_of_a_generator_nothing_is_known(sequence: Any):
    assert {name: value for name, value in describe_sequence(sequence).items() if value} == {}
    about = describe_sequence(sequence, 0.5)
    assert (about["scale"], about["units"]) == ((0.5, 0.5), "um")


def test_a_generator_of_pymmcore_plus_can_be_described():
    runner = pytest.importorskip("pymmcore_plus.mda._runner")
    FrameStream(0, "run", **describe_sequence(runner.GeneratorMDASequence(), 0.5))


Z_PLANS = {
    "range around": ({"range": 4, "step": 0.5}, 0.5),
    "above and below": ({"above": 2, "below": 1, "step": 0.25}, 0.25),
    "top and bottom": ({"top": 10, "bottom": 0, "step": 2}, 2.0),
    "relative": ({"relative": [-1.5, 0, 1.5]}, 1.5),
    "downwards": ({"relative": [3, 0, -3]}, 3.0),
    "absolute": ({"absolute": [10, 11]}, 1.0),
    "one plane": ({"relative": [5]}, None),
    "the same plane": ({"relative": [1, 1]}, None),
}


@pytest.mark.parametrize(("plan", "step"), Z_PLANS.values(), ids=Z_PLANS)
def test_the_step_of_z_is_that_of_its_plan(plan: dict[str, Any], step: float | None):
    about = describe_sequence(useq.MDASequence(z_plan=plan), 0.5)
    assert about.get("steps") == (None if step is None else {"z": step})
    FrameStream(0, "run", **about)


TIME_PLANS = {
    "interval and loops": ({"interval": 2.5, "loops": 5}, 2.5),
    "duration and loops": ({"duration": 10, "loops": 5}, 2.5),
    "interval and duration": ({"interval": 0.5, "duration": 10}, 0.5),
    "one phase": ([{"interval": 2, "loops": 3}], 2.0),
    "two phases": ([{"interval": 1, "loops": 3}, {"interval": 2, "loops": 3}], None),
    "as fast as it goes": ({"interval": 0, "loops": 5}, None),
}


@pytest.mark.parametrize(("plan", "interval"), TIME_PLANS.values(), ids=TIME_PLANS)
def test_the_interval_is_that_of_the_time_plan(plan: Any, interval: float | None):
    about = describe_sequence(useq.MDASequence(time_plan=plan))
    assert about.get("steps") == (None if interval is None else {"t": interval})
    FrameStream(0, "run", **about)


def test_without_a_pixel_size_there_is_no_unit_for_steps():
    assert "steps" not in describe_sequence(useq.MDASequence(z_plan={"range": 4, "step": 0.5}))


def test_a_channel_without_a_name_or_named_twice_can_be_described():
    sequence = useq.MDASequence(
        channels=[
            {"config": "", "group": "A"},
            {"config": "DAPI", "group": "A"},
            {"config": "DAPI", "group": "B"},
            {"config": "x" * 100, "group": "A"},
        ]
    )
    about = describe_sequence(sequence)
    assert about["channels"] == ["0", "DAPI", "DAPI (B)", short_label("x" * 100)]
    names = ChannelNames()
    stream = FrameStream(0, "run", **describe_sequence(sequence, None, names))
    assert [stream.place(place_event(event, None, names)) for event in sequence] == [[0], [1], [2], [3]]


def test_no_two_channels_of_a_run_have_one_name():
    long = "a name of sixty-four letters that goes on until there is no room "
    sequence = useq.MDASequence(
        channels=[
            {"config": "DAPI", "group": "A", "exposure": 1},
            {"config": "DAPI", "group": "A", "exposure": 100},
            {"config": "DAPI", "group": "B"},
            {"config": "DAPI (B)", "group": "A"},
            {"config": long + "1", "group": "A"},
            {"config": long + "2", "group": "A"},
        ],
        stage_positions=[(0, 0), {"x": 1, "y": 1, "sequence": {"channels": [{"config": "DAPI", "group": "B"}]}}],
    )
    names = ChannelNames()
    stream = FrameStream(0, "run", **describe_sequence(sequence, None, names))
    places = [tuple(stream.place(place_event(event, None, names))) for event in sequence]
    assert places == [*((0, c) for c in range(6)), (1, 2)]
    assert stream.message().labels["c"][:4] == ["DAPI", "DAPI (2)", "DAPI (B)", "DAPI (B) (A)"]


def test_a_generators_channels_of_one_name_differ_by_their_index():
    names = ChannelNames()
    events = [useq.MDAEvent(index={"c": c}, channel="DAPI") for c in (0, 1, 0)]
    assert [place_event(event, None, names)["c"] for event in events] == ["DAPI", "DAPI (2)", "DAPI"]


def test_an_axis_of_another_spelling_is_taken_over():
    event = useq.MDAEvent(index={"t": 1, "stim phase": 2, "view-angle": 3})
    assert place_event(event) == {"t": 1, "stim_phase": 2, "view_angle": 3}
    about = describe_sequence(useq.MDASequence(channels=["a"]))
    FrameStream(0, "run", **about).place(place_event(event))


@pytest.mark.parametrize(
    ("affine", "size", "known"),
    [
        ((1.0, 0.0, 0.0, 0.0, 1.0, 0.0), 1.0, False),
        ((2.0, 0.0, 0.0, 0.0, 2.0, 0.0), 2.0, False),  # nobody has set one, and the binning is 2
        ((2.0, 0.0, 0.0, 0.0, 2.0, 0.0), 0.5, False),
        ((1.5, 0.0, 0.0, 0.0, 1.5, 0.0), 0.65, False),
        ((0.65, 0.0, 0.0, 0.0, 0.65, 0.0), 0.65, True),  # the stage's y points down
        ((0.0, -1.0, 0.0, 1.0, 0.0, 0.0), 1.0, True),
        ((-2.0, 0.0, 0.0, 0.0, 2.0, 0.0), 2.0, True),
        ((-2.0, 0.0, 0.0, 0.0, -2.0, 0.0), 2.0, True),
    ],
)
def test_an_affine_that_nobody_has_set_is_none_with_any_binning(affine: tuple[float, ...], size: float, known: bool):
    told = {"image_infos": [{"pixel_size_affine": affine, "pixel_size_um": size}]}
    assert pixel_affine(told) == (affine if known else None)
    assert pixel_affine({"pixel_size_affine": affine, "pixel_size_um": size}) == (affine if known else None)


def test_a_frame_lies_where_the_middle_of_its_first_pixel_does():
    axes, event = {"p": 0}, SimpleNamespace(x_pos=100.0, y_pos=50.0)
    assert corner_on_stage(axes, event, {"pixel_size_um": 2.0}, (5, 3)) == (-54.0, 98.0)
    # So that frames of two objectives at one position have their middles at one place.
    assert corner_on_stage(axes, event, {"pixel_size_um": 0.5}, (21, 13)) == (-55.0, 97.0)

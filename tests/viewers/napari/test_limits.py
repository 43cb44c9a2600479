"""What napari can't show is told, and everything else is shown: at the pixels of a real window."""

from __future__ import annotations

import numpy as np
import pytest

from receivers import check_stamp, stamped

SHAPE = (64, 48)
DOT = np.zeros(SHAPE, "uint16")
DOT[28:36, 20:28] = 1000


def ramp(t):
    """A picture that is brighter, evenly, with each t."""
    picture = np.full(SHAPE, 20 * t, "uint16")
    picture[0] = 1000
    return picture


def look_at(live, layer):
    """Put an image in the middle of the canvas, and return the picture of it, at a canvas pixel for each of its own."""
    live.viewer.reset_view(layers=[layer])
    live.qtbot.wait(20)
    return live.viewer.screenshot(canvas_only=True, flash=False)[..., :3]


def middle(picture):
    height, width = picture.shape[:2]
    return picture[height // 2 - 3 : height // 2 + 3, width // 2 - 3 : width // 2 + 3].mean(axis=(0, 1))


def problems(live):
    return " ".join(live.view.problems)


def check_all_goes_well(live, publisher, *, title="good"):
    """A stream that comes now is shown, frame by frame, on the canvas."""
    stream = publisher.new_stream(title)
    for t in (5, 50):
        publisher.publish(ramp(t), axes={"t": t}, stream=stream)
        live.settled(publisher)
        (mine,) = [each for each in live.view.layers if each.stream.about.title == title]
        mine.layer.contrast_limits = (0, 1000)
        live.until(lambda mine=mine, t=t: mine.shown is not None and live.view.where(mine.stream)["t"] == t)
        seen = middle(look_at(live, mine.layer))
        assert seen == pytest.approx(20 * t * 255 / 1000, abs=8), f"t = {t} is not on the canvas"
    assert not [problem for problem in live.view.problems if "an update of the window" in problem]


# ---- images ------------------------------------------------------------------------------------------------------

FAR = {
    "translate 1e9": ({}, {"translate": (1e9, 0)}),
    "translate 1e15": ({}, {"translate": (1e15, 0)}),
    "translate -1e300": ({}, {"translate": (0, -1e300)}),
    "labels at 1e15": ({}, {"translate": (1e15, 0), "kind": "labels"}),
    "pixels of 1e-12": ({"scale": (1e-12, 1e-12)}, {}),
    "pixels of 65 nm, in metres, said to be um": ({"scale": (6.5e-8, 6.5e-8), "units": "um"}, {}),
    "pixels of 1e12": ({"scale": (1e12, 1e12)}, {}),
    "pixels of 1e-300": ({"scale": (1e-300, 1e-300)}, {}),
    "steps of 1e-12": ({"steps": {"z": 1e-12}}, {"z": 3}),
    "steps of 1e12": ({"steps": {"z": 1e12}}, {"z": 3}),
    "steps of 1e300": ({"steps": {"z": -1e300}}, {"z": 3}),
    "t of 2e9, beside t of 0": ({}, {"t": 2_000_000_000}),
}
#: One of a kind, for what comes when another stream is shown already.
FAR_LATER = ("translate 1e15", "labels at 1e15", "pixels of 1e-12", "steps of 1e12", "t of 2e9, beside t of 0")


@pytest.mark.parametrize(
    ("about", "where", "first"),
    [
        pytest.param(*FAR[name], first, id=f"{name}-{'first' if first else 'second'}")
        for name in FAR
        for first in ((True, False) if name in FAR_LATER else (True,))
    ],
)
def test_a_stream_that_lies_beyond_all_limits_keeps_no_other_from_being_seen(live, about, where, first):
    with live.publisher(title="far") as far, live.publisher(title="near") as near:

        def publish_far():
            stream = far.new_stream("far", **about)
            axes = {"t": where.get("t", 0), **({"z": where["z"]} if "z" in where else {})}
            for z in range(axes.get("z", 1)):
                axes |= {"z": z} if "z" in axes else {}
                far.publish(
                    DOT, axes=axes, stream=stream, kind=where.get("kind", "image"), translate=where.get("translate", ())
                )
            live.settled(far)

        if first:
            publish_far()
        check_all_goes_well(live, near, title="before")
        if not first:
            publish_far()
            check_all_goes_well(live, near, title="after")
        shown = {each.stream.about.title for each in live.view.layers}
        scene = live.view.scene
        out_of_scene = {stream.about.title for stream in scene.runs if stream not in scene}  # as of an idle program
        assert "far" in shown | out_of_scene or any("far can't be shown: " in each for each in live.view.problems)
        assert "after" in shown or first
        assert sum("can't be shown" in problem for problem in live.view.problems) <= 1 + ("t" in where)


def test_a_stream_in_metres_lies_as_large_as_one_in_micrometres(live):
    with live.publisher() as publisher:
        for title, size, unit in (("metres", 6.5e-7, "m"), ("µm", 0.65, "um"), ("nm", 650, "nm")):
            stream = publisher.new_stream(title, scale=(size, size), steps={"z": size}, units=unit)
            publisher.publish(DOT, axes={"z": 4}, translate=(100 * size, 0), stream=stream)
            live.settled(publisher)
        assert live.view.problems == ()
        for each in live.view.layers:
            assert tuple(each.layer.scale) == pytest.approx((0.65, 0.65, 0.65), rel=1e-9)
            assert tuple(each.layer.translate) == pytest.approx((2.6, 65, 0), rel=1e-9)
            assert {str(unit) for unit in each.layer.units} == {"micrometer"}
        assert live.viewer.canvas.overlays.scale_bar.visible
        assert live.point()[0] == pytest.approx(2.6)
        seen = middle(look_at(live, live.layer("nm")))
        assert seen == pytest.approx(255, abs=8)


@pytest.mark.parametrize("unit", ["furlongz", "1/0", "°", "s", "degC"])
def test_a_unit_that_napari_does_not_know_is_no_obstacle(live, unit):
    with live.publisher() as publisher:
        publisher.publish(DOT, stream=publisher.new_stream("odd", scale=(2, 2), units=unit))
        live.settled(publisher)
        assert middle(look_at(live, live.layer("odd"))) == pytest.approx(255, abs=8)
        check_all_goes_well(live, publisher)
        assert live.view.problems == ()


def test_a_layer_whose_next_frame_lies_too_far_comes_back_with_one_that_does_not(live):
    with live.publisher() as publisher:
        publisher.new_stream("stage", scale=(0.5, 0.5), units="um")
        for t, y in ((0, 10.0), (1, 1e15), (2, 20.0)):
            publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t}, translate=(y, 0))
            live.settled(publisher)
            live.until(lambda t=t: bool(live.view.problems) == (t == 1))
        live.until(lambda: len(live.view.layers) == 1)
        assert check_stamp(live.shown("stage")) == (2, 0, 0)
        assert live.layer("stage").translate[-2] == 20


def test_problems_are_named_in_the_status_line(live):
    with live.publisher() as publisher:
        publisher.publish(DOT, translate=(1e15, 0), stream=publisher.new_stream("<far>"))
        live.settled(publisher)
        live.until(lambda: "&lt;far&gt; can't be shown: it lies at y = 1e+15 pixel" in live.view.status.text)


# ---- what lies on images -----------------------------------------------------------------------------------------


def triangle(far):
    return [np.array([[0, 0], [0, far], [far, far]]), np.array([[10.0, 10], [10, 30], [30, 30]])]


def track(far):
    return np.array([[1, 0, 20, 20.0], [1, 1, 30, 30], [2, 0, far, 5], [2, 1, 4, 5]])


BAD = {f"{kind} {far:g}": (kind, far) for kind in ("points", "shapes", "tracks") for far in (2e7, -3e9, 1e15, 1e300)}


@pytest.mark.parametrize(("kind", "far"), BAD.values(), ids=BAD.keys())
def test_a_coordinate_that_is_far_away_hides_no_other(live, kind, far):
    with live.publisher() as publisher:
        black = np.zeros(SHAPE, "uint16")
        black[0, 0] = 1
        for t in range(2):
            publisher.publish(black, axes={"t": t})
        if kind == "points":
            publisher.publish([[20, 20], [far, 5.0]], kind="points", style={"size": 30, "color": "#ff0000"})
        elif kind == "shapes":
            publisher.publish(triangle(far), kind="shapes", style={"color": "#ff0000", "edge_color": "#ff0000"})
        else:
            publisher.publish(track(far), kind="tracks", style={"edge_width": 40})
        publisher.publish([[40, 24]], kind="points", name="fine", style={"size": 12, "color": "#00ff00"})
        live.settled(publisher)
        live.until(lambda: live.view.problems)
        assert f"{kind} · live: 1 of " in problems(live)
        assert "can't be shown: they lie more than 16,777,216 pixels from the images" in problems(live)
        live.until(lambda: live.point()[0] == 1)
        # As "home" does, with all that is there: nothing far away may stretch the view.
        live.viewer.reset_view()
        live.qtbot.wait(20)
        picture = live.viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
        green = (picture[..., 1] > 200) & (picture[..., 0] < 90)
        assert green.sum() > 100, "the other layer is not on the canvas"
        if kind != "tracks":
            red = (picture[..., 0] > 200) & (picture[..., 1] < 90)
            assert red.sum() > 100, "what is near is not on the canvas"
        else:
            assert (picture.max(axis=-1) > 60).sum() > green.sum() + 100
        # And what has passed is told no more.
        good = {"points": [[20, 20]], "shapes": triangle(9)[1:], "tracks": track(9)[:2]}[kind]
        publisher.publish(good, kind=kind)
        live.settled(publisher)
        live.until(lambda: not live.view.problems)
        check_all_goes_well(live, publisher)


def test_what_is_published_for_a_place_far_away_is_told_and_the_sliders_stay(live):
    with live.publisher() as publisher:
        for t in range(3):
            publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
        publisher.publish([[1, 1]], kind="points", axes={"t": 2**31 - 1})
        live.settled(publisher)
        assert "the slider of t can't reach from 0 to 2.14748e+09" in problems(live)
        assert live.viewer.dims.range[0].stop == pytest.approx(2, abs=1e-3)
        check_all_goes_well(live, publisher)


# ---- whatever napari raises --------------------------------------------------------------------------------------

UNKNOWN = {
    "translate": (DOT, {"translate": (1e15, 0)}, {}),
    "labels": (DOT, {"translate": (1e12, 0), "kind": "labels"}, {}),
    "pixels": (DOT, {}, {"scale": (1e-13, 1e-13)}),
    "steps": (DOT, {"axes": {"z": 7}}, {"steps": {"z": 1e-12}}),
    "points": ([[1e10, 5]], {"kind": "points"}, {}),
    "shapes": (triangle(1e9), {"kind": "shapes"}, {}),
    "triangles": (triangle(1e30), {"kind": "shapes"}, {}),
    "tracks": (track(1e9), {"kind": "tracks"}, {}),
    "tracks that are singular": (track(1e300), {"kind": "tracks"}, {}),
}


@pytest.mark.parametrize(("data", "more", "about"), UNKNOWN.values(), ids=UNKNOWN.keys())
def test_what_is_not_known_to_overflow_is_undone(live, monkeypatch, data, more, about):
    monkeypatch.setattr("scopecast_viewers.napari.limits.Box.check", lambda *_: None)
    monkeypatch.setattr("scopecast_viewers.napari.limits.Box.objection", lambda *_: "")
    monkeypatch.setattr("scopecast_viewers.napari.contents.FAR", np.inf)
    with live.publisher() as publisher, live.publisher() as another:
        there = publisher.new_stream("there")
        if more.get("kind") in ("points", "shapes", "tracks"):
            publisher.publish(DOT, stream=there)
            publisher.publish(data, stream=there, **more)
        else:  # an image of another program, while this one delivers too: both are to be on the canvas
            odd = another.new_stream("odd", **about)
            for t in range(3):
                publisher.publish(DOT, axes={"t": t, "z": 3}, stream=there)
                live.settled(publisher)  # which has its layer before the other comes
                another.publish(data, stream=odd, **{**more, "axes": {"t": t, **more.get("axes", {})}})
        live.settled(publisher)
        live.settled(another)
        live.until(lambda: "can't be shown: " in problems(live))
        check_all_goes_well(live, publisher)
        assert len(live.viewer.layers) == len(live.view.layers) + len(list(live.view.annotations))


class MistakeError(Exception):
    pass


def fail(*_):
    raise MistakeError("on purpose")


@pytest.mark.parametrize("kind", ["image", "points"])
@pytest.mark.parametrize("event", ["inserting", "inserted", "range", "ndim", "active"])
def test_what_a_part_of_napari_raises_at_a_layer_is_told_once_and_the_next_is_shown(live, event, kind):
    viewer = live.viewer
    emitter = {
        "inserting": viewer.layers.events.inserting,
        "inserted": viewer.layers.events.inserted,
        "range": viewer.dims.events.range,
        "ndim": viewer.dims.events.ndim,
        "active": viewer.layers.selection.events.active,
    }[event]
    with live.publisher() as publisher:
        publisher.publish(DOT, axes={}, stream=publisher.new_stream("there"))
        live.settled(publisher)
        emitter.connect(fail)
        try:
            axes = {"t": 3, "z": 5} if event in ("range", "ndim") else {}
            if kind == "image" and event not in ("range", "ndim"):
                publisher.new_stream("next")  # whose layer is a new one
            publisher.publish(DOT if kind == "image" else [[3, 4]], kind=kind, axes=axes)
            publisher.publish(DOT, axes=axes)
            live.settled(publisher)
            live.until(lambda: "MistakeError: on purpose" in problems(live))
        finally:
            emitter.disconnect(fail)
        check_all_goes_well(live, publisher)
        canvas = {id(layer) for layer in viewer.window._qt_viewer.canvas.layer_to_visual}
        assert canvas == {id(layer) for layer in viewer.layers}, "a layer is on the canvas that is not in the list"


def test_what_the_status_line_or_an_update_raises_is_told_until_it_has_passed(live, monkeypatch):
    with live.publisher() as publisher:
        publisher.publish(DOT, axes={"t": 0})
        live.settled(publisher)
        with monkeypatch.context() as patched:
            patched.setattr(live.view.annotations, "update", fail)
            patched.setattr(live.view, "hint", fail)
            publisher.publish(DOT, axes={"t": 1})
            live.until(lambda: len(live.view.problems) == 2)
        publisher.publish(DOT, axes={"t": 2})
        live.until(lambda: not live.view.problems)
        check_all_goes_well(live, publisher)


# ---- following ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axis", "start", "spacing"),
    [  # only t's step is always 1
        *(("t", start, 1.0) for start in (100_000, 1_000_000, 1_700_000_000)),
        *(("z", start, spacing) for start in (100_000, 1_700_000_000) for spacing in (1.0, 0.7, 0.03)),
    ],
)
def test_the_sliders_follow_each_step_however_far_away(live, axis, start, spacing):
    with live.publisher() as publisher:
        publisher.new_stream("run", steps={axis: spacing}, units="um")
        for at in range(5):
            publisher.publish(ramp(at * 5), axes={axis: start + at})
            live.settled(publisher)
            (mine,) = live.view.layers
            mine.layer.contrast_limits = (0, 1000)
            live.until(lambda mine=mine, at=at: live.view.where(mine.stream) == {axis: start + at})
            live.until(lambda mine=mine: mine.shown is not None)
            seen = middle(look_at(live, mine.layer))
            assert seen == pytest.approx(at * 5 * 20 * 255 / 1000, abs=4), f"{axis} = {start} + {at}"
        assert live.view.follower.following
        step = live.viewer.dims.current_step[0]
        live.viewer.dims.set_current_step(0, step - 1)  # the user's hand
        assert not live.view.follower.following
        assert live.view.where(mine.stream) == {axis: start + 3}
        assert middle(look_at(live, mine.layer)) == pytest.approx(3 * 5 * 20 * 255 / 1000, abs=4)

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


def check_all_goes_well(live, publisher, *, stream=None, times=(5, 50)):
    """A stream that comes now, or one that goes on, is shown, frame by frame, on the canvas."""
    title = "good" if stream is None else stream.title
    stream = publisher.new_stream(title) if stream is None else stream
    for t in times:
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
#: One of a kind, for what comes before any other stream.
FAR_FIRST = ("translate 1e15", "labels at 1e15", "pixels of 1e-12", "steps of 1e12", "t of 2e9, beside t of 0")


def publish_far(live, far, name):
    about, where = FAR[name]
    stream = far.new_stream(name, **about)
    axes = {"t": where.get("t", 0)}
    for z in range(where.get("z", 1)):
        axes |= {"z": z} if "z" in where else {}
        far.publish(
            DOT, axes=axes, stream=stream, kind=where.get("kind", "image"), translate=where.get("translate", ())
        )
    live.settled(far)


def check_is_shown_or_told(live, name):
    shown = {each.stream.about.title for each in live.view.layers}
    scene = live.view.scene
    out_of_scene = {stream.about.title for stream in scene.runs if stream not in scene}  # as of an idle program
    assert name in shown | out_of_scene or any(f"{name} can't be shown: " in each for each in live.view.problems)
    assert sum(f"{name} can't be shown" in problem for problem in live.view.problems) <= 1


@pytest.mark.parametrize("name", FAR_FIRST)
def test_a_stream_that_lies_beyond_all_limits_keeps_no_later_one_from_being_seen(live, name):
    with live.publisher(title="far") as far, live.publisher(title="near") as near:
        publish_far(live, far, name)
        check_all_goes_well(live, near)
        check_is_shown_or_told(live, name)
        assert sum("can't be shown" in problem for problem in live.view.problems) <= 1 + ("t of" in name)


def test_streams_that_lie_beyond_all_limits_keep_no_other_from_being_seen(live):
    with live.publisher(title="far") as far, live.publisher(title="near") as near:
        stream = near.new_stream("good")
        check_all_goes_well(live, near, stream=stream)
        for number, name in enumerate(FAR):
            publish_far(live, far, name)
            check_all_goes_well(live, near, stream=stream, times=(number + 6,))
            check_is_shown_or_told(live, name)


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


def test_a_unit_that_napari_does_not_know_is_no_obstacle(live):
    with live.publisher() as publisher:
        for unit in ("furlongz", "1/0", "°", "s", "degC"):
            publisher.publish(DOT, stream=publisher.new_stream(f"in {unit}", scale=(2, 2), units=unit))
            live.settled(publisher)
            assert middle(look_at(live, live.layer(f"in {unit}"))) == pytest.approx(255, abs=8)
            assert live.view.problems == ()
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


def test_what_fails_once_is_shown_a_little_later(live, monkeypatch):
    for run in range(2):
        with live.publisher(title="cells") as publisher:
            publisher.new_stream(f"run {run}")
            publisher.publish(stamped(0, 0, 0, SHAPE), axes={"t": 0})
            live.settled(publisher)
            failures = [OSError("too many open files")]
            update = live.view.layers.update

            def failing(*arguments, failures=failures, update=update, **more):
                if failures:
                    raise failures.pop()
                return update(*arguments, **more)

            with monkeypatch.context() as patch:
                patch.setattr(live.view.layers, "update", failing)
                publisher.publish(stamped(1, 0, 0, SHAPE), axes={"t": 1})
                live.until(lambda: "too many open files" in problems(live))
                live.until(lambda run=run: check_stamp(live.shown(f"run {run}")) == (1, 0, 0))
            live.until(lambda: not problems(live))


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


@pytest.mark.parametrize("kind", ["points", "shapes", "tracks"])
def test_a_coordinate_that_is_far_away_hides_no_other(live, kind):
    with live.publisher() as publisher:
        black = np.zeros(SHAPE, "uint16")
        black[0, 0] = 1
        for t in range(2):
            publisher.publish(black, axes={"t": t})
        publisher.publish([[40, 24]], kind="points", name="fine", style={"size": 12, "color": "#00ff00"})
        for far in (2e7, -1e300):  # hardly too far, and as far as can be
            if kind == "points":
                publisher.publish([[20, 20], [far, 5.0]], kind="points", style={"size": 30, "color": "#ff0000"})
            elif kind == "shapes":
                publisher.publish(triangle(far), kind="shapes", style={"color": "#ff0000", "edge_color": "#ff0000"})
            else:
                publisher.publish(track(far), kind="tracks", style={"edge_width": 40})
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
            assert green.sum() > 100, f"{far:g}: the other layer is not on the canvas"
            if kind != "tracks":
                red = (picture[..., 0] > 200) & (picture[..., 1] < 90)
                assert red.sum() > 100, f"{far:g}: what is near is not on the canvas"
            else:
                assert (picture.max(axis=-1) > 60).sum() > green.sum() + 100, f"{far:g}"
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


@pytest.fixture
def no_known_limits(monkeypatch):
    monkeypatch.setattr("scopecast_viewers.napari.limits.Box.check", lambda *_: None)
    monkeypatch.setattr("scopecast_viewers.napari.limits.Box.objection", lambda *_: "")
    monkeypatch.setattr("scopecast_viewers.napari.contents.FAR", np.inf)


def check_is_told_and_undone(live, publisher, there, name, *, times):
    live.settled(publisher)
    live.until(lambda: [each for each in live.view.problems if name in each and "can't be shown: " in each])
    check_all_goes_well(live, publisher, stream=there, times=times)
    assert len(live.viewer.layers) == len(live.view.layers) + len(list(live.view.annotations)), name


@pytest.mark.usefixtures("no_known_limits", "unhurried")
def test_an_image_that_is_not_known_to_overflow_is_undone(live):
    cases = {
        "translate": ({"translate": (1e15, 0)}, {}),
        "labels": ({"translate": (1e12, 0), "kind": "labels"}, {}),
        "pixels": ({}, {"scale": (1e-13, 1e-13)}),
        "steps": ({"axes": {"z": 7}}, {"steps": {"z": 1e-12}}),
    }
    with live.publisher() as publisher, live.publisher() as another:
        there = publisher.new_stream("there")
        for number, (name, (more, about)) in enumerate(cases.items()):
            odd = another.new_stream(name, **about)
            # An image of another program, while this one delivers too: both are to be on the canvas.
            for t in range(4 * number, 4 * number + 3):
                publisher.publish(DOT, axes={"t": t, "z": 3}, stream=there)
                live.settled(publisher)  # which has its layer before the other comes
                another.publish(DOT, stream=odd, **{**more, "axes": {"t": t, **more.get("axes", {})}})
            live.settled(another)
            check_is_told_and_undone(live, publisher, there, name, times=(4 * number + 3,))


@pytest.mark.usefixtures("no_known_limits")
def test_marks_that_are_not_known_to_overflow_are_undone(live):
    cases = {
        "points": ([[1e10, 5]], "points"),
        "shapes": (triangle(1e9), "shapes"),
        "triangles": (triangle(1e30), "shapes"),
        "tracks": (track(1e9), "tracks"),
        "singular": (track(1e300), "tracks"),
    }
    with live.publisher() as publisher:
        there = publisher.new_stream("there")
        publisher.publish(DOT, stream=there)
        for number, (name, (data, kind)) in enumerate(cases.items()):
            publisher.publish(data, stream=there, kind=kind, name=name)
            check_is_told_and_undone(live, publisher, there, name, times=(number + 5,))


class MistakeError(Exception):
    pass


def fail(*_):
    raise MistakeError("on purpose")


@pytest.mark.parametrize("kind", ["image", "points"])
def test_what_a_part_of_napari_raises_at_a_layer_is_told_once_and_the_next_is_shown(live, kind):
    viewer = live.viewer
    emitters = {
        "inserting": viewer.layers.events.inserting,
        "inserted": viewer.layers.events.inserted,
        "range": viewer.dims.events.range,
        "ndim": viewer.dims.events.ndim,
        "active": viewer.layers.selection.events.active,
    }
    with live.publisher() as publisher:
        for event, emitter in emitters.items():
            publisher.publish(DOT, axes={}, stream=publisher.new_stream(f"there at {event}"))
            live.settled(publisher)
            emitter.connect(fail)
            try:
                axes = {"t": 3, "z": 5} if event in ("range", "ndim") else {}
                if kind == "image" and event not in ("range", "ndim"):
                    publisher.new_stream(f"next at {event}")  # whose layer is a new one
                publisher.publish(DOT if kind == "image" else [[3, 4]], kind=kind, axes=axes)
                publisher.publish(DOT, axes=axes)
                live.settled(publisher)
                live.until(
                    lambda event=event: [
                        each
                        for each in live.view.problems
                        if "MistakeError: on purpose" in each and (event in each or "an update of" in each)
                    ]
                )
            finally:
                emitter.disconnect(fail)
            check_all_goes_well(live, publisher, times=(50,))
            canvas = {id(layer) for layer in viewer.window._qt_viewer.canvas.layer_to_visual}
            assert canvas == {id(layer) for layer in viewer.layers}, (
                f"{event}: a layer is on the canvas that is not in the list"
            )


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


def test_the_sliders_follow_each_step_however_far_away(live):
    cases = [  # only t's step is always 1
        *(("t", start, 1.0) for start in (1_000_000, 1_700_000_000)),
        *(("z", start, spacing) for start, spacing in ((100_000, 0.7), (1_700_000_000, 1.0), (1_700_000_000, 0.03))),
    ]
    with live.publisher() as publisher:
        for axis, start, spacing in cases:
            publisher.new_stream(f"{axis} from {start} by {spacing}", steps={axis: spacing}, units="um")
            for at in range(4):
                publisher.publish(ramp(at * 5), axes={axis: start + at})
                live.settled(publisher)
                (mine,) = live.view.layers
                mine.layer.contrast_limits = (0, 1000)
                live.until(lambda: live.view.where(mine.stream) == {axis: start + at})  # noqa: B023
                live.until(lambda: mine.shown is not None)  # noqa: B023
                seen = middle(look_at(live, mine.layer))
                assert seen == pytest.approx(at * 5 * 20 * 255 / 1000, abs=4), f"{axis} = {start} + {at}"
            assert live.view.follower.following
            step = live.viewer.dims.current_step[0]
            live.viewer.dims.set_current_step(0, step - 1)  # the user's hand
            assert not live.view.follower.following
            assert live.view.where(mine.stream) == {axis: start + 2}
            assert middle(look_at(live, mine.layer)) == pytest.approx(2 * 5 * 20 * 255 / 1000, abs=4)

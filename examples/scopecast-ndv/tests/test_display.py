"""scopecast's contract of a viewer, with a real window; and what a display of ndv's needs besides."""

import threading
from types import SimpleNamespace

import numpy as np
import pyconify
import pytest
from scopecast_ndv import icons
from scopecast_ndv.display import NdvDisplay, StackData

from scopecast.testing import DisplayContract
from scopecast_viewers.stacks.history import History
from scopecast_viewers.stacks.stack import Stack


class TestNdvDisplay(DisplayContract):
    """The display of this package."""

    kind = "ndv"


def test_what_ndv_shows_keeps_its_axes_while_others_join() -> None:
    stack = Stack(("t", "c"), (4, 5), "uint16", History())
    for t in range(3):
        stack.put((t, 0), np.full((4, 5), t, "uint16"))
    shown = StackData(SimpleNamespace(label=lambda axis, index: f"{axis}{index}"), stack, stack.layout)
    stack.add_axis("z", 1)
    stack.put((3, 1, 0), np.full((4, 5), 3, "uint16"))
    assert shown.dims == ("t", "c", "y", "x")
    assert shown.coords == {"t": range(3), "c": ["c0"], "y": range(4), "x": range(5)}
    part = shown.isel({0: slice(2, 3), 1: slice(0, 1)})
    np.testing.assert_array_equal(part, np.full((1, 1, 4, 5), 2))


def test_a_frame_that_is_painted_once_more_as_an_axis_has_joined_is_counted_once() -> None:
    counted = []
    display = NdvDisplay()
    display._shown = SimpleNamespace(stream=SimpleNamespace(log=SimpleNamespace(paint=counted.extend)))
    for tag in ("first", "first", "second"):
        display._pending, display._in_canvas = tag, True
        display._painted()
        assert display._pending is None
    assert counted == ["first", "second"]
    display.pool.close()


def test_the_window_does_not_wait_for_icons_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    monkeypatch.setattr(pyconify, "last_modified", lambda: answer.wait(60))
    monkeypatch.setattr("pyconify.api._session", lambda: pytest.fail("it asks the server"))
    monkeypatch.setattr(icons, "PATIENCE", 0.01)
    icons.spare_icons(icons.look_for_icons())
    with pytest.raises(OSError, match="did not answer"):
        pyconify.svg_path("scopecast:no-such-icon")
    answer.set()


def test_icons_are_fetched_where_there_is_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyconify, "last_modified", dict)
    monkeypatch.setattr("pyconify.api._session", ask := object())
    icons.spare_icons(icons.look_for_icons())
    assert pyconify.api._session is ask

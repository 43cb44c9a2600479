"""What shapes measure of a plane."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from scopecast_viewers.napari.measures import _Series
from scopecast_viewers.napari.measuring import DrawnRegion
from scopecast_viewers.stacks.history import History
from scopecast_viewers.stacks.stack import Stack

PLANE = np.arange(64 * 48, dtype="uint16").reshape(64, 48)


def box(top, left, bottom, right):
    return np.array([(top, left), (top, right), (bottom, right), (bottom, left)], float)


def test_a_rectangle_has_the_pixels_whose_middles_are_in_it():
    measured = DrawnRegion("rectangle", box(9.5, 4.5, 19.5, 14.5), PLANE.shape).measure(PLANE)
    inside = PLANE[10:20, 5:15]
    assert measured[:4] == (inside.mean(), inside.min(), inside.max(), 100)


def test_an_ellipse_and_a_polygon_have_their_areas_wherever_they_are_turned():
    turn = np.array([(np.cos(0.5), -np.sin(0.5)), (np.sin(0.5), np.cos(0.5))])
    middle = np.array((30.0, 24.0))
    corners = (box(-8, -16, 8, 16) @ turn.T) + middle
    ellipse = DrawnRegion("ellipse", corners, PLANE.shape).measure(PLANE)
    assert ellipse.area == pytest.approx(np.pi * 8 * 16, rel=0.02)
    assert ellipse.mean == pytest.approx(30 * 48 + 24, abs=2)
    rectangle = DrawnRegion("polygon", corners, PLANE.shape).measure(PLANE)
    assert rectangle.area == pytest.approx(16 * 32, rel=0.03)


def test_a_line_has_a_profile_and_its_length():
    measured = DrawnRegion("line", np.array([(10.0, 5.0), (10.0, 25.0)]), PLANE.shape).measure(PLANE)
    np.testing.assert_allclose(measured.profile, PLANE[10, 5:26])
    assert measured.area == 20
    path = DrawnRegion("path", np.array([(10.0, 5.0), (10.0, 9.0), (13.0, 9.0)]), PLANE.shape).measure(PLANE)
    np.testing.assert_allclose(path.profile, [*PLANE[10, 5:10], *PLANE[11:14, 9]])


def test_what_reaches_over_the_border_counts_what_is_inside_and_what_lies_outside_is_nothing():
    over = DrawnRegion("rectangle", box(-10, -10, 3.5, 3.5), PLANE.shape).measure(PLANE)
    assert over.area == 16
    for kind in ("rectangle", "ellipse", "polygon"):
        assert DrawnRegion(kind, box(-20, -20, -5, -5), PLANE.shape).measure(PLANE) is None
        assert DrawnRegion(kind, box(100, 100, 120, 120), PLANE.shape).measure(PLANE) is None
    assert DrawnRegion("line", np.array([(-9.0, 0.0), (-9.0, 20.0)]), PLANE.shape).measure(PLANE) is None
    nothing = DrawnRegion("ellipse", box(5, 5, 5, 5), PLANE.shape).measure(PLANE)
    assert nothing is None


def test_of_a_frame_in_colour_the_mean_of_its_colours_counts():
    color = np.stack([PLANE, PLANE, PLANE + 30], axis=-1)
    measured = DrawnRegion("rectangle", box(9.5, 4.5, 19.5, 14.5), PLANE.shape).measure(color)
    assert measured.mean == pytest.approx(PLANE[10:20, 5:15].mean() + 10)


def test_a_time_point_of_which_another_channel_comes_first_is_measured_when_its_own_comes():
    series = _Series(DrawnRegion("rectangle", box(9.5, 4.5, 19.5, 14.5), PLANE.shape))
    with History(1 << 20, None) as history:
        stack = Stack("tc", PLANE.shape, PLANE.dtype, history)
        for sequence, index in enumerate([(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]):
            tag = SimpleNamespace(sequence=sequence, sent_ns=10**9 * (sequence + 1))
            stack.put(index, np.full_like(PLANE, sequence), tag=tag)
            series.fill(stack, (0, 1), math.inf)
    times, means = series.curve
    assert times.tolist() == [2, 4, 6]
    assert means.tolist() == [1, 3, 5]

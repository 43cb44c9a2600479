"""The colours that channels are shown in."""

from __future__ import annotations

import pytest

from scopecast_viewers.look.colors import GRAY, channel_color


@pytest.mark.parametrize(
    ("name", "color"),
    [("dapi", "#4080ff"), ("mCherry", "#ff0000"), ("Cy5", "#ff00ff"), ("Far Red", "#ff00ff"), ("BF", GRAY)],
)
def test_usual_names_have_their_usual_colours(name: str, color: str):
    assert channel_color(name, 3, 5) == color


def test_what_is_announced_comes_first():
    assert channel_color("DAPI", 0, 2, "viridis") == "viridis"


def test_unknown_channels_differ_and_a_single_one_is_gray():
    assert channel_color("x", 0, 1) == GRAY
    assert len({channel_color(f"x{index}", index, 6) for index in range(6)}) == 6

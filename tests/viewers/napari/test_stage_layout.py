"""Where fields lie on the canvas, by where the stage was and what they are called."""

from __future__ import annotations

import pytest

from scopecast_viewers.napari.stage_layout import Field, arrange


def fields(corners, names=(), size=(10.0, 8.0)):
    named = [*names, *("" for _ in corners)]
    return {(("p", p),): Field(corner, size, named[p]) for p, corner in enumerate(corners)}


def cells(layout):
    """Return row and column of each field."""
    ys, xs = (sorted({corner[axis] for corner in layout.corners.values()}) for axis in (0, 1))
    return [(ys.index(y), xs.index(x)) for y, x in layout.corners.values()]


@pytest.mark.parametrize(
    "corners",
    [
        pytest.param([(3.0, 4.0)], id="one"),
        pytest.param([(10.0 * p, 8.0 * (p % 2)) for p in range(4)], id="adjoining"),
        pytest.param([(9.0 * (p // 3), 7.0 * (p % 3)) for p in range(9)], id="overlapping"),
        pytest.param([(14.0 * (p // 3), 11.0 * (p % 3)) for p in range(9)], id="with small gaps"),
        pytest.param([(0.0, 0.0), (0.0, 0.0)], id="the same place twice"),
        pytest.param([], id="none"),
    ],
)
def test_what_adjoins_stays_as_it_lies_on_the_stage(corners):
    layout = arrange(fields(corners))
    assert not layout.sparse
    assert list(layout.corners.values()) == corners
    assert set(layout.shifts.values()) <= {(0.0, 0.0)}
    assert layout.names == ()


def test_wells_lie_by_their_names_even_where_the_stage_runs_the_other_way():
    wanted = {"A1": (0, 0), "B03": (1, 1), "C12": (2, 2), "A12": (0, 2)}
    corners = [(-9000.0 * row, -9000.0 * column) for row, column in wanted.values()]
    layout = arrange(fields(corners, list(wanted)))
    assert cells(layout) == list(wanted.values()), "rows and columns that were not taken are left out"
    assert [name for _, name in layout.names] == list(wanted)


def test_wells_to_come_keep_their_places():
    names = [f"{row}{column}" for row in "ABCD" for column in range(1, 7)]
    corners = [(9000.0 * (p // 6), 9000.0 * (p % 6)) for p in range(24)]
    whole = arrange(fields(corners, names), names)
    for count in range(2, 24):
        layout = arrange(fields(corners[:count], names), names)
        assert layout.extent == whole.extent
        assert all(layout.corners[place] == whole.corners[place] for place in layout.corners)


def test_positions_in_rows_and_columns_stay_in_them():
    jitter = 0.5  # of a stage that reads where it is
    layout = arrange(fields([(500.0 * (p // 3) + jitter * (p % 2), 700.0 * (p % 3)) for p in range(6)]))
    assert cells(layout) == [divmod(p, 3) for p in range(6)]


def test_positions_anywhere_lie_in_the_order_of_their_visits():
    corners = [(0.0, 0.0), (911.0, 37.0), (-500.0, 2000.0), (77.0, -3000.0), (4000.0, 600.0)]
    layout = arrange(fields(corners), expected=9)
    assert cells(layout) == [divmod(p, 3) for p in range(5)]


def test_fields_of_a_well_that_do_not_adjoin_are_put_together_within_it():
    corners = [(2000.0 * n + 90000.0 * well, 1300.0 * n) for well in range(2) for n in range(4)]
    layout = arrange(fields(corners, [f"{well}_{n}" for well in ("A1", "B1") for n in range(4)]))
    tall, wide = layout.extent
    assert tall < 60
    assert wide < 30
    assert len({*layout.corners.values()}) == 8

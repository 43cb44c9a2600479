"""Where a frame belongs: what a user may say, and what a file name says."""

import doctest
import enum
import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import scopecast.frames.axes
from scopecast.frames.axes import (
    CANONICAL,
    MAX_INDEX,
    MAX_LABEL,
    axes_from_path,
    axis_name,
    check_axes,
    sort_axes,
)


def test_the_examples_in_the_docstrings_hold():
    results = doctest.testmod(scopecast.frames.axes)
    assert results.attempted > 0
    assert results.failed == 0


# --- names and their order ---


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param((), (), id="none"),
        pytest.param(("z", "c", "t", "cam", "g", "p"), CANONICAL, id="known-axes"),
        pytest.param(("z", "well", "t", "site"), ("site", "well", "t", "z"), id="unknown-first-by-the-alphabet"),
        pytest.param(("z", "t", "z"), ("t", "z"), id="repeated-once"),
        pytest.param(iter("zt"), ("t", "z"), id="an-iterator"),
    ],
)
def test_axes_are_sorted_as_sliders_show_them(given, expected):
    assert sort_axes(given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("time", "t"),
        ("Channel", "c"),
        ("POSITION", "p"),
        ("slice", "z"),
        ("grid", "g"),
        ("camera", "cam"),
        ("T", "t"),
        ("Y", "y"),
        ("well_row2", "well_row2"),
        ("a" * 32, "a" * 32),
    ],
)
def test_a_name_has_one_spelling(given, expected):
    assert axis_name(given) == expected


@pytest.mark.parametrize("name", ["", "2d", "_t", "t ", "t\n", "a-b", "zeit°", "\u017f", "a" * 33], ids=ascii)
def test_a_name_that_cannot_be_one_is_refused(name):
    with pytest.raises(ValueError, match="at most 31 letters"):
        check_axes({name: 0})


# --- what a user says ---


class Wheel(enum.IntEnum):
    RED = 4


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({}, {}, id="nothing"),
        pytest.param({"T": 3, "channel": "DAPI", "z": 7}, {"t": 3, "c": "DAPI", "z": 7}, id="aliases-keep-the-order"),
        pytest.param({"t": 0, "z": MAX_INDEX}, {"t": 0, "z": MAX_INDEX}, id="the-limits-of-an-index"),
        pytest.param({"t": np.uint16(5)}, {"t": 5}, id="numpy-int"),
        pytest.param({np.str_("t"): np.str_("a")}, {"t": "a"}, id="numpy-str"),
        pytest.param({"filter": Wheel.RED}, {"filter": 4}, id="enum-of-ints"),
        pytest.param({"c": "µ" * MAX_LABEL}, {"c": "µ" * MAX_LABEL}, id="the-longest-label"),
        pytest.param({"c": "0"}, {"c": "0"}, id="digits-stay-a-label"),
        pytest.param({f"a{n}": n for n in range(8)}, {f"a{n}": n for n in range(8)}, id="eight-axes"),
    ],
)
def test_good_axes_come_back_plain(given, expected):
    checked = check_axes(given)
    assert list(checked.items()) == list(expected.items())
    assert {type(part) for item in checked.items() for part in item} <= {int, str}


@pytest.mark.parametrize(
    ("axes", "error", "words"),
    [
        pytest.param([("t", 1)], TypeError, "a mapping such as", id="no-mapping"),
        pytest.param({1: 1}, TypeError, "named by a str, and 1 is of type int", id="name-is-no-str"),
        pytest.param({f"a{n}": n for n in range(9)}, ValueError, "9 axes .* at most 8", id="nine-axes"),
        pytest.param({"t": 1, "time": 2}, ValueError, "'t' is given twice, the second time as 'time'", id="twice"),
        pytest.param({"y": 1}, ValueError, "'y' is the plane's own", id="y"),
        pytest.param({"X": 1}, ValueError, "'x' is the plane's own", id="x"),
        pytest.param({"t": -1}, ValueError, "'t' is -1: .* from 0 to 2147483647", id="negative"),
        pytest.param({"t": 2**31}, ValueError, "'t' is 2147483648: .* from 0 to 2147483647", id="too-large"),
        pytest.param({"t": 10**5000}, ValueError, "'t' is an int of 16610 bits", id="too-large-to-write-out"),
        pytest.param({"t": True}, TypeError, "'t' is True, of type bool", id="bool"),
        pytest.param({"t": np.True_}, TypeError, "'t' is np.True_|'t' is True", id="numpy-bool"),
        pytest.param({"t": 3.0}, TypeError, r"'t' is 3.0, of type float: .* int\(\) or str\(\)", id="float"),
        pytest.param({"t": None}, TypeError, "'t' is None", id="none"),
        pytest.param({"c": b"DAPI"}, TypeError, "'c' is b'DAPI', of type bytes", id="bytes"),
        pytest.param({"c": ""}, ValueError, "'c' has a label of 0 characters .* leave the axis out", id="empty-label"),
        pytest.param({"c": "a" * 65}, ValueError, "65 characters .* 1 to 64; shorten it", id="label-too-long"),
        pytest.param({"c": "a\udcff"}, ValueError, "lone surrogate", id="label-is-not-unicode"),
    ],
)
def test_bad_axes_are_refused_with_the_limit_and_the_fix(axes, error, words):
    with pytest.raises(error, match=words):
        check_axes(axes)


names = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,31}", fullmatch=True)
labels = st.text(st.characters(codec="utf-8"), min_size=1, max_size=MAX_LABEL)


@given(st.dictionaries(names, st.integers(0, MAX_INDEX) | labels, max_size=4))
def test_checking_twice_changes_nothing(axes):
    try:
        once = check_axes(axes)
    except ValueError:
        spelled = [axis_name(name) for name in axes]
        assert len(set(spelled)) < len(spelled) or {"y", "x"} & set(spelled)
    else:
        assert check_axes(once) == once
        assert list(once.values()) == list(axes.values())


# --- what a file name says ---


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("img_t000_c1_z05.tif", {"t": 0, "c": "1", "z": 5}),
        ("img_channel000_position000_time000000000_z000.tif", {"c": "0", "p": 0, "t": 0, "z": 0}),
        ("img_channel001_position002_time000000013_z004.tif", {"c": "1", "p": 2, "t": 13, "z": 4}),
        ("img_000000003_DAPI_005.tif", {"t": 3, "c": "DAPI", "z": 5}),
        ("img_000000003_Cy5 long_pass_005.tif", {"t": 3, "c": "Cy5 long_pass", "z": 5}),
        ("img_000000003_000_005.tif", {"t": 3, "c": "0", "z": 5}),
        ("img_000000003__005.tif", {"t": 3, "z": 5}),
        ("A01_s1_w1_z1_t1.tif", {"well": "A01", "site": 1, "c": "1", "z": 1, "t": 1}),
        ("A01_s001_w2_z003_t004.tif", {"well": "A01", "site": 1, "c": "2", "z": 3, "t": 4}),
        ("plate 7_p24_w01.TIF", {"well": "P24", "c": "1"}),
        ("t003_c01_s1_w2.tif", {"t": 3, "well": "C01", "site": 1, "c": "2"}),
        ("x_G10_s1_w1BEDC2073-A983-4B98-95E9-84466707A25D.tif", {"well": "G10", "site": 1, "c": "1"}),
        ("x_G10_s1_w29ABCDEF0-C123-4B98-95E9-84466707A25D.tif", {"well": "G10", "site": 1, "c": "2"}),
        ("exp1_T003_Z012_C01.ome.tif", {"t": 3, "z": 12, "c": "1"}),
        ("xy1_t02.tif", {"p": 1, "t": 2}),
        ("scan-t12.tif", {"t": 12}),
        ("pos03", {"p": 3}),
        ("Pos0 ch2 slice7.tif", {"p": 0, "c": "2", "z": 7}),
        ("t000c1z05.tif", {"t": 0, "c": "1", "z": 5}),
        ("a.t1.z2.zarr", {"t": 1, "z": 2}),
        ("grid2_timepoint4", {"g": 2, "t": 4}),
        ("T2_scan_t001.tif", {"t": 1}),
    ],
)
def test_the_axes_of_a_name(name, expected):
    axes = axes_from_path(name)
    assert axes == expected
    assert check_axes(axes) == expected


@pytest.mark.parametrize(
    "name",
    [
        *("", "/", "image.tif", "test12.tif", "cat3.tif", "image_10.tif", "c.elegans_5.tif", "treated2.tif", "dz3.tif"),
        *("c57bl6_10.tif", "c3d_scan.tif", "exp1t3.tif", "t_3.tif", "w1_s2.tif", "A01.tif", "2024-01-01T12-30-00.tif"),
        pytest.param("z0.5_t1.5s.tif", id="decimals"),
        pytest.param("t20240501123456.tif", id="a-date"),
        pytest.param("t" + "9" * 5000, id="more-digits-than-int-takes"),
        pytest.param("c" + "9" * 65, id="more-digits-than-a-label-takes"),
        pytest.param("t٣.tif", id="digits-of-another-script"),
        pytest.param("\u017flice3.tif", id="a-letter-that-folds-to-s"),
    ],
)
def test_ordinary_words_are_no_axes(name):
    assert axes_from_path(name) == {}


@pytest.mark.parametrize(
    "path",
    [
        "t9_z9/img_t1.tif",
        "/data/t9/img_t1.tif",
        r"C:\data\z9\img_t1.tif",
        Path("z9") / "img_t1.tif",
        "z9/img_t1.zarr/",
    ],
    ids=str,
)
def test_only_the_last_component_counts(path):
    assert axes_from_path(path) == {"t": 1}


def test_a_name_that_is_not_utf8_gives_a_label_that_can_be_sent():
    axes = axes_from_path(os.fsdecode(b"img_000000003_\xff_005.tif"))
    assert axes == {"t": 3, "c": r"\xff" if os.name == "nt" else r"\udcff", "z": 5}
    check_axes(axes)


def test_bytes_are_no_path():
    with pytest.raises(TypeError, match="fsdecode"):
        axes_from_path(b"img_t1.tif")  # type: ignore[arg-type]


@given(st.text(max_size=300) | st.text("tczpsw019_-. A", max_size=300))
def test_any_name_gives_axes_that_can_be_published(name):
    axes = axes_from_path(name)
    assert check_axes(axes) == axes
    assert isinstance(axes.get("c", ""), str)


@given(st.integers(0, MAX_INDEX), st.integers(0, MAX_INDEX), st.integers(0, MAX_INDEX), st.integers(1, 9))
def test_indices_are_read_as_they_stand(t, c, z, width):
    assert axes_from_path(f"run_t{t:0{width}}_c{c:0{width}}_z{z:0{width}}.tif") == {"t": t, "c": str(c), "z": z}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("t1" * 5000, id="a-chain"),
        pytest.param("t1" * 5000 + "!", id="a-chain-that-fails-at-its-end"),
        pytest.param("t" + "1" * 9999 + "!", id="a-number-that-fails-at-its-end"),
        pytest.param("_t1" * 3000, id="many-tokens"),
        pytest.param("A01_s1" * 1500, id="many-wells"),
        pytest.param("img_" + "0" * 9 + "_0" * 5000, id="many-fields"),
    ],
)
def test_a_long_name_takes_no_long_time(name):
    # The test's own timeout is the measure: a pattern that backtracks would not come back.
    check_axes(axes_from_path(name))


# --- the user's own pattern ---


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        pytest.param(r"(?P<t>\d+)h", "dish 012h.tif", {"t": 12}, id="anywhere-in-the-name"),
        pytest.param(r"(?P<time>\d+)_(?P<Channel>\d+)", "03_007.tif", {"t": 3, "c": "7"}, id="aliases"),
        pytest.param(r"(?P<c>[^_]+)_(?P<well>\w\d+)", "GFP_B2.tif", {"c": "GFP", "well": "B2"}, id="labels"),
        pytest.param(r"t(?P<t>\d+)(?:z(?P<z>\d+))?", "t1.tif", {"t": 1}, id="a-group-that-took-no-part"),
        pytest.param(r"t(?P<t>\d+)z(?P<z>\d*)", "t1z.tif", {"t": 1}, id="a-group-that-matched-nothing"),
        pytest.param(r"a(?P<t>\d)|b(?P<time>\d)", "b4.tif", {"t": 4}, id="two-groups-for-one-axis"),
        pytest.param(r"(?P<t>\d+)", "20240501123456.tif", {"t": "20240501123456"}, id="a-date-is-a-label"),
        pytest.param(r"(?P<t>\d+)", "٣.tif", {"t": "٣"}, id="digits-of-another-script-are-a-label"),
        pytest.param(re.compile(r"T(?P<t>\d+)", re.IGNORECASE), "t5.tif", {"t": 5}, id="compiled"),
        pytest.param(r"q(?P<t>\d+)", "img_t1_z2.tif", {}, id="no-match-gives-nothing"),
        pytest.param(r"(?P<t>\d+)", "7/a.tif", {}, id="folders-do-not-count"),
    ],
)
def test_a_pattern_of_your_own(pattern, name, expected):
    assert axes_from_path(name, pattern) == expected


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        pytest.param(r"t(\d+)", r"no named groups: .*\(\?P<t>", id="no-named-groups"),
        pytest.param(r"(?P<t>\d+", r"not a valid regular expression .*\(\?P<t>", id="no-regex"),
        pytest.param("", "no named groups", id="empty"),
        pytest.param(r"(?P<y>\d+)", "not an axis: axis 'y' is the plane's own", id="y"),
        pytest.param(r"(?P<_t>\d+)", "not an axis: '_t' cannot name an axis", id="no-name-for-an-axis"),
    ],
)
def test_a_pattern_that_cannot_work_is_refused_whatever_the_name(pattern, words):
    with pytest.raises(ValueError, match=words):
        axes_from_path("nothing", pattern)


@pytest.mark.parametrize("pattern", [rb"(?P<t>\d)", re.compile(rb"(?P<t>\d)"), 3], ids=repr)
def test_a_pattern_of_another_type_is_refused(pattern):
    with pytest.raises(TypeError, match="a pattern is a str"):
        axes_from_path("t1.tif", pattern)


def test_what_a_pattern_matched_has_limits_too():
    with pytest.raises(ValueError, match="65 characters"):
        axes_from_path("a" * 65, r"(?P<c>.*)")
    with pytest.raises(ValueError, match="'t' is given twice"):
        axes_from_path("1_2.tif", r"(?P<t>\d)_(?P<time>\d)")

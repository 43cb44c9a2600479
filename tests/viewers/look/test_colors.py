"""The colours that channels are shown in."""

from __future__ import annotations

import pytest

from scopecast.link.messages import Stream
from scopecast_viewers.look.colors import GRAY, channel_colormap, channel_colors, plain_color

BLUE, CYAN, GREEN, YELLOW, ORANGE, RED, FAR_RED = (
    *("#4080ff", "#00ffff", "#00ff00", "#ffff00", "#ff8000", "#ff0000", "#ff00ff"),
)
EXPECTED = {
    BLUE: ["dapi", "Widefield DAPI", "DAPI_40x", "Hoechst 33342", "Hoechst33342", "405", "385 nm", "EBFP2", "AF405"],
    CYAN: ["CFP", "ECFP", "mTurquoise2", "mCerulean3", "445 nm", "458"],
    GREEN: [
        *("GFP", "EGFP", "mEGFP", "sfGFP", "GCaMP", "GCaMP6f", "jGCaMP8s", "FITC", "488 nm", "Confocal - 488", "AF488"),
        *(
            "Alexa488",
            "Alexa Fluor 488",
            "mNeonGreen",
            "Fluo-4",
            "470 LED",
            "Calcein AM",
            "CSU-488",
            "H2B-GFP",
            "Cal-520",
        ),
    ],
    YELLOW: ["YFP", "EYFP", "mVenus", "Citrine", "514", "Cy3"],
    ORANGE: ["TRITC", "AF546", "AF555", "mOrange2", "mKO2", "Cy3.5"],
    RED: [
        *(
            "Alexa 568",
            "tdTomato",
            "mScarlet",
            "mScarlet-I",
            "mCherry",
            "H2B-mCherry",
            "TxRed",
            "Texas Red",
            "TXR",
            "561",
        ),
        *("594 nm", "RFP", "TagRFP", "mRuby3", "mKate2", "DsRed", "Rhodamine", "jRGECO1a", "PI", "JF585"),
    ],
    FAR_RED: [
        *(
            "AF647",
            "Alexa Fluor 647",
            "Cy5",
            "Cy5.5",
            "Cy7",
            "iRFP",
            "iRFP670",
            "miRFP703",
            "Far Red",
            "CellMask Deep Red",
        ),
        *("640", "633 nm", "SiR-actin", "ATTO 647N", "JF646", "DRAQ5", "AF750"),
    ],
    GRAY: [
        "BF",
        "brightfield",
        "Bright field",
        "DIC",
        "DIC-20x",
        "Phase",
        "phase contrast",
        "Trans",
        "TL",
        "T-PMT",
        "PH2",
    ],
}


@pytest.mark.parametrize(("color", "name"), [(color, name) for color, names in EXPECTED.items() for name in names])
def test_usual_names_have_their_usual_colours(color: str, name: str):
    assert channel_colors(["x", name, "y"])[1] == color
    assert channel_colors(["x", name.upper()])[1] == color


@pytest.mark.parametrize("name", ["Camera 1", "0", "Hoechstadt", "camera", "phasor", "channel 12", "33342", "left"])
def test_other_names_tell_nothing(name: str):
    assert channel_colors([name]) == [GRAY]


def test_what_is_announced_comes_first():
    assert channel_colors(["DAPI", "GFP"], ["viridis"]) == ["viridis", GREEN]
    assert channel_colors(["x", "GFP"], ["green"])[1] != GREEN, "that is taken"
    assert channel_colors(["x", "y"], ["red", "red"]) == ["red", "red"], "the publisher wants it so"


@pytest.mark.parametrize(
    "names",
    [
        ["GFP", "FITC", "488", "AF488"],
        ["mCherry", "RFP", "568", "594", "TxRed", "tdTomato"],
        ["BF", "DIC", "DAPI", "Hoechst"],
        ["x", "GFP", "y", "DAPI", "z", "Cy5"],
        list(map(str, range(30))),
    ],
)
def test_no_two_channels_have_one_colour(names: list[str]):
    colors = channel_colors(names)
    assert len(set(colors)) == len(names)
    about = Stream(
        1, "run", axes=["c"], sizes=[len(names)], labels={"c": names}, scale=[1.0, 1.0], steps=[0.0], units=""
    )
    assert len({channel_colormap(about, channel, 1).name for channel in range(len(names))}) == len(names)


def test_a_single_channel_without_a_telling_name_is_gray():
    assert channel_colors(["x"]) == [GRAY]
    assert len(set(channel_colors([f"x{index}" for index in range(6)]))) == 6


def test_colours_are_known_by_css_and_by_dye():
    assert plain_color("Alexa 568") == RED
    assert plain_color("forestgreen") == "#228b22"
    assert plain_color("mangenta") == ""

"""The compiled Java classes are those of their sources; and what is chosen without any Java."""

from __future__ import annotations

import pytest

from fiji_folder import compile_java, scijava_jars
from scopecast.errors import ViewerStartError
from scopecast_viewers.fiji.folding import Folding
from scopecast_viewers.fiji.jvm import CLASSES, Choice, choose
from scopecast_viewers.stacks.history import StackLayout


def test_the_classes_are_what_their_sources_compile_to(tmp_path):
    sources = sorted((CLASSES / "scopecast").glob("*.java"))
    compile_java(sources, tmp_path, *scijava_jars())
    compiled = {path.name: path.read_bytes() for path in (tmp_path / "scopecast").iterdir()}
    shipped = {path.name: path.read_bytes() for path in (CLASSES / "scopecast").glob("*.class")}
    assert sorted(compiled) == sorted(shipped)
    assert compiled == shipped, "run java/build.sh"


def test_which_imagej_is_chosen(tmp_path):
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars" / "ij.jar").touch()
    assert choose({}) == choose({"SCOPECAST_FIJI": "imagej"}) == Choice("plain")
    assert choose({"FIJI_HOME": str(tmp_path)}) == Choice("folder", str(tmp_path))
    both = {"SCOPECAST_FIJI": "net.imagej:imagej:2.17.0+net.imagej:imagej-legacy", "FIJI_HOME": str(tmp_path)}
    assert choose(both) == Choice("endpoint", both["SCOPECAST_FIJI"])


@pytest.mark.parametrize("wanted", ["/nowhere/Fiji.app", "fiji", "a:", ":b", "C:\\Fiji.app"])
def test_what_is_no_imagej_is_refused_with_what_to_do(wanted):
    with pytest.raises(ViewerStartError, match=r"use the path of a Fiji\.app, or an endpoint"):
        choose({"SCOPECAST_FIJI": wanted})


@pytest.mark.parametrize(
    ("axes", "origin", "shape", "announced"),
    [
        (("t",), (7,), (5,), {}),
        (("c", "z"), (0, 2), (2, 3), {}),
        (("t", "c", "z"), (2, 0, 0), (3, 1, 2), {"c": 2, "z": 5, "t": 100}),
        (("p", "t", "c", "z"), (0, 3, 0, 1), (4, 3, 2, 2), {"p": 6}),
        (("file",), (0,), (9,), {}),
        ((), (), (), {}),
    ],
)
def test_every_slice_has_one_place_and_back(axes, origin, shape, announced):
    folding = Folding.of(StackLayout(axes, origin, shape, {}), announced)
    channels, slices, frames = folding.dimensions
    places = [folding.place(number) for number in range(1, channels * slices * frames + 1)]
    assert len(set(places)) == len(places)
    assert [folding.number(place) for place in places] == list(range(1, len(places) + 1))
    for place in places:
        channel, slice_, frame = folding.position(place)
        assert folding.number(place) == ((frame - 1) * slices + slice_ - 1) * channels + channel


def test_more_time_points_only_add_slices_at_the_end():
    def folding(times, positions):
        return Folding.of(StackLayout(("p", "t", "c"), (0, 0, 0), (positions, times, 2), {}), {})

    assert folding(3, 2).only_longer(folding(2, 2))
    assert not folding(3, 3).only_longer(folding(3, 2))
    old, new = folding(2, 2), folding(3, 2)
    assert [new.place(number) for number in range(1, 9)] == [old.place(number) for number in range(1, 9)]

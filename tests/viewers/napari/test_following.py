"""Which runs are in the scene, and which one is followed, at times of the test's own."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from scopecast_viewers.napari.scene import IDLE_S, Scene


@dataclass
class Run:
    """As much of a LiveStream as the scene looks at."""

    source: str
    number: int = 0
    state: str = "live"
    received: int = 0
    sent: list[float] = field(default_factory=list)
    labels: bool = False
    alive: bool = True

    @property
    def key(self):
        return (self.source, self.number)

    @property
    def newest(self):
        return (None, (), SimpleNamespace(sent_ns=int(self.sent[-1] * 1e9))) if self.sent else None

    @property
    def pace_s(self):
        times = [] if self.labels else self.sent
        return max((b - a for a, b in itertools.pairwise(times)), default=0.0)


class Stage:
    """A scene, and runs that deliver at times of the test's own."""

    def __init__(self, *runs):
        self.runs = list(runs)
        self.scene = Scene()

    def at(self, now, *delivering):
        for run in delivering:
            run.sent.append(now)
            run.received += not run.labels
        self.scene.update(self.runs)
        return self.here

    @property
    def here(self):
        followed = self.scene.followed
        return (followed and followed.key, {run.key for run in self.runs if run in self.scene})


A, A2, B = ("a", 0), ("a", 1), ("b", 0)


def test_the_next_run_of_a_source_takes_the_scene():
    first, second = Run("a"), Run("a", 1)
    stage = Stage(first, second)
    assert stage.at(100, first) == (A, {A})
    assert stage.scene.begun
    stage.scene.begun = False
    assert stage.at(101, first) == (A, {A})
    assert not stage.scene.begun
    assert stage.at(102, second) == (A2, {A2})
    assert stage.scene.begun
    assert [run.key for run in stage.scene.runs] == [A, A2]


def test_an_older_one_that_is_heard_of_later_does_not():
    first, second = Run("a"), Run("a", 1)
    stage = Stage(first, second)
    stage.at(100, second)
    first.sent.append(50.0)
    first.received = 1
    assert stage.at(101) == (A2, {A2})


def test_a_former_run_that_goes_on_comes_back_but_no_straggler_of_it():
    live, series = Run("a"), Run("a", 1)
    stage = Stage(live, series)
    stage.at(100, live)
    stage.at(101, series)
    live.sent.append(100.9)
    assert stage.at(101.1) == (A2, {A2})
    series.state = "ended"
    assert stage.at(110, live) == (A, {A})


def test_two_runs_of_a_source_that_are_sent_by_turns_do_not_drive_each_other_out():
    images, results = Run("a"), Run("a", 1)
    stage = Stage(images, results)
    seen = {stage.at(100 + step, run)[0] for step in range(10) for run in (images, results)}
    assert stage.here == (A2, {A, A2})
    assert seen == {A, A2}


@pytest.mark.parametrize("pace", [0.1, 1.0, 60.0])
def test_two_sources_do_not_take_turns(pace):
    a, b = Run("a"), Run("b")
    stage = Stage(a, b)
    followed = []
    for step in range(40):
        followed.append(stage.at(100 + step * pace, a)[0])
        followed.append(stage.at(100 + (step + 0.5) * pace, b)[0])
    assert len(set(followed[10:])) == 1, "once it is known how often they deliver"


def test_one_image_of_another_program_changes_nothing():
    acquisition, notebook = Run("a"), Run("b")
    stage = Stage(acquisition, notebook)
    for step in range(5):
        stage.at(100 + step, acquisition)
    assert stage.at(104.1, notebook) == (A, {A})
    for step in range(5, 50):
        assert stage.at(100 + step, acquisition) == (A, {A})
    assert notebook in stage.scene.runs
    assert stage.at(149.1, notebook) == (A, {A, B}), "it delivers after all"


def test_an_idle_source_is_followed_no_more_once_another_delivers():
    a, b = Run("a"), Run("b")
    stage = Stage(a, b)
    stage.at(100, a)
    assert stage.at(100.5, b) == (A, {A, B})
    assert stage.at(100.9, b)[0] == A
    assert stage.at(100.1 + IDLE_S, b)[0] == B


def test_a_single_image_yields_to_a_source_that_delivers_at_once():
    notebook, acquisition = Run("a"), Run("b")
    stage = Stage(notebook, acquisition)
    stage.at(100, notebook)
    assert [stage.at(100 + step / 100, acquisition)[0] for step in range(1, 4)] == [A, A, B]


def test_a_time_series_rests_between_its_points_and_stays():
    series, other = Run("a"), Run("b")
    stage = Stage(series, other)
    for step in range(3):
        stage.at(100 + 60 * step, series)
    stage.at(250, other)
    assert series in stage.scene


def test_a_source_that_has_ended_leaves_to_a_new_run():
    a, b = Run("a"), Run("b")
    stage = Stage(a, b)
    stage.at(100, a)
    a.state = "ended"
    assert stage.at(101, b) == (B, {B})


def test_labels_drive_out_no_images_and_are_not_followed():
    images, labels = Run("a"), Run("b", labels=True)
    stage = Stage(images, labels)
    stage.at(100, images)
    images.state = "ended"
    assert stage.at(200, labels) == (A, {A, B})
    assert stage.at(210, labels)[0] == A


def test_labels_alone_are_followed_until_an_image_comes():
    images, labels = Run("a"), Run("b", labels=True)
    stage = Stage(images, labels)
    assert stage.at(100, labels) == (B, {B})
    assert stage.at(101, images) == (A, {A, B})


def test_what_the_user_brings_back_stays_until_the_next_run():
    runs = [Run("a", number) for number in range(3)]
    stage = Stage(*runs)
    stage.at(100, runs[0])
    stage.at(101, runs[1])
    stage.scene.show(runs[0])
    assert stage.at(102, runs[1]) == (A2, {A, A2})
    assert stage.scene.on_top is runs[0]
    assert stage.at(103, runs[2]) == (("a", 2), {("a", 2)})


def test_a_run_that_is_gone_is_followed_no_more():
    a, b = Run("a"), Run("b")
    stage = Stage(a, b)
    stage.at(100, a)
    stage.at(100.5, b)
    stage.runs = [b]
    assert stage.at(101) == (B, {B})


def test_the_source_that_the_user_has_chosen_is_followed_from_run_to_run_until_it_is_gone():
    a, b, b2, a2 = Run("a"), Run("b"), Run("b", 1), Run("a", 1)
    stage = Stage(a, b, b2, a2)
    for step in range(3):
        stage.at(100 + step, a, b)
    assert stage.at(103)[0] == A
    stage.scene.follow("b")
    assert stage.at(104, a, b)[0] == B
    for step in range(100):  # it rests, while the other goes on
        assert stage.at(105 + step, a)[0] == B
    b.state = "ended"
    assert stage.at(210, a2)[0] == B, "nor does a new run of the other take over"
    assert stage.at(211, b2)[0] == ("b", 1)
    b.alive = b2.alive = False
    b2.state = "ended"
    stage.at(220, a2)
    assert stage.at(221, a2)[0] == ("a", 1)
    assert stage.scene.chosen is None


def test_without_a_choice_it_is_whichever_delivers_again():
    a, b = Run("a"), Run("b")
    stage = Stage(a, b)
    for step in range(3):
        stage.at(100 + step, a, b)
    stage.scene.follow("b")
    stage.at(103, a, b)
    stage.scene.follow(None)
    assert stage.at(104, a)[0] == B
    assert stage.at(105.1 + IDLE_S, a)[0] == A

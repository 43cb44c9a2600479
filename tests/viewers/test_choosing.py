"""A receiver that attaches where it is told to, and leaves and comes back with its frames."""

from __future__ import annotations

import pytest

from children import wait_until
from receivers import Viewer, check_stamp, planes_of, stamped
from scopecast import Publisher
from scopecast.rundir.directory import RunDirectory

SHAPE = (64, 48)


@pytest.fixture
def viewer():
    with Viewer() as made:
        yield made


def publisher(title="cells", **arguments):
    made = Publisher("headless", title=title, policy="every", budget=8 * 2**20, **arguments)
    made.open(SHAPE, "uint16")
    return made


def token(title):
    """Return a publisher's token as soon as it has one, which may be before it can be reached."""
    found = wait_until(lambda: [each for each in RunDirectory().entries("publisher") if each.title == title])
    return found[0].token


def attached(made):
    return [row for row in made.stats().receivers if row.attached]


def test_a_receiver_that_chooses_lists_everybody_and_attaches_only_where_it_is_told(viewer):
    viewer.receiver.attach_to_new = False
    with publisher("wanted") as wanted, publisher("unwanted") as unwanted:
        names = viewer.wait_for(lambda: len(viewer.receiver.publishers) == 2 and viewer.receiver.publishers)
        assert {entry.title for entry in names} == {"wanted", "unwanted"}
        assert not viewer.sources
        viewer.receiver.attach(token("wanted"))
        viewer.wait_for(lambda: attached(wanted))
        wanted.publish(stamped(1, 0, 0, SHAPE), axes={"t": 1})
        assert wanted.flush(10)
        assert [stream.title for stream in viewer.streams] == ["wanted"]
        # A later scan, which attaches nothing else.
        scanned = viewer.display.version
        viewer.wait_for(lambda: viewer.display.version > scanned + 2)
        assert not attached(unwanted)
        viewer.receiver.attach_to_new = True
        viewer.wait_for(lambda: attached(unwanted))


def test_a_publisher_that_comes_later_is_attached_as_soon_as_it_can_be_reached(viewer):
    viewer.receiver.attach_to_new = False
    with publisher() as later:
        viewer.receiver.attach(token("cells"))
        viewer.wait_for(lambda: attached(later))


def test_nobody_relies_on_a_receiver_that_chooses(viewer):
    """A program that opens a viewer where none runs must open one: this one might show nothing."""
    (entry,) = RunDirectory().entries("receiver")
    assert entry.state == "ready"
    viewer.receiver.attach_to_new = False
    assert [entry.state for entry in RunDirectory().entries("receiver")] == ["choosing"]
    with Publisher("headless", policy="every", launch=False, timeout=30.0) as alone:
        # It would wait for a receiver that is ready.
        alone.publish(stamped(0, 0, 0, SHAPE), axes={"t": 0})
        assert alone.stats().skipped == {"no viewer": 1}
    viewer.receiver.attach_to_new = True
    assert [entry.state for entry in RunDirectory().entries("receiver")] == ["ready"]


def test_a_detached_publisher_is_left_in_good_order_and_goes_on_in_the_same_stack(viewer, caplog):
    with publisher() as made:
        viewer.wait_for(lambda: attached(made))
        for t in range(3):
            made.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
        assert made.flush(10)
        (source,), (stream,) = viewer.sources, viewer.streams
        with caplog.at_level("INFO", "scopecast"):
            viewer.receiver.detach(token("cells"))
            viewer.wait_for(lambda: not attached(made))  # the goodbye is sent before the state is changed
            viewer.wait_for(lambda: (source.state, stream.state) == ("detached", "detached"))
        assert [record.levelname for record in caplog.records if "has left" in record.message] == ["INFO"]
        made.publish(stamped(3, 0, 0, SHAPE), axes={"t": 3})  # for nobody
        assert {check_stamp(plane)[0] for plane in planes_of(stream).values()} == {0, 1, 2}
        # It stays detached, although every new publisher is attached.
        scanned = viewer.display.version
        viewer.wait_for(lambda: viewer.display.version > scanned + 2)
        assert source.state == "detached"
        viewer.receiver.attach(token("cells"))
        viewer.wait_for(lambda: attached(made))
        made.publish(stamped(4, 0, 0, SHAPE), axes={"t": 4})
        assert made.flush(10)
        assert viewer.sources == (source,)
        assert viewer.streams == (stream,)
        assert stream.state == "live"
        # The newest before is sent to who comes late.
        assert {check_stamp(plane)[0] for plane in planes_of(stream).values()} == {0, 1, 2, 3, 4}
        assert made.stats().balanced


def test_a_publisher_that_ends_while_it_is_detached_is_known_to_have_ended(viewer):
    with publisher() as made:
        viewer.wait_for(lambda: attached(made))
        viewer.receiver.detach(token("cells"))
        viewer.wait_for(lambda: viewer.sources and viewer.sources[0].state == "detached")
    viewer.wait_for(lambda: viewer.sources and viewer.sources[0].state == "ended")
    assert viewer.receiver.publishers == ()


def test_a_stopped_receiver_leaves_the_run_directory_and_keeps_its_frames(viewer):
    with publisher("kept") as kept, publisher("detached") as detached:
        viewer.wait_for(lambda: attached(kept) and attached(detached))
        kept.publish(stamped(0, 0, 0, SHAPE), axes={"t": 0})
        assert kept.flush(10)
        viewer.receiver.detach(token("detached"))
        viewer.wait_for(lambda: not attached(detached))
        for turn in range(1, 4):
            viewer.receiver.stop()
            viewer.receiver.stop()
            wait_until(lambda: not attached(kept))
            assert RunDirectory().entries("receiver") == []
            (stream,) = viewer.streams
            assert len(planes_of(stream)) == turn
            viewer.receiver.start()
            viewer.wait_for(lambda: attached(kept))
            kept.publish(stamped(turn, 0, 0, SHAPE), axes={"t": turn})
            assert kept.flush(10)
            assert sorted(index[0] for index in planes_of(stream)) == list(range(turn + 1))
            assert not attached(detached), "who was detached by the user stays so"


def test_what_was_lost_before_it_was_detached_stays_counted(viewer):
    with publisher() as made:
        viewer.wait_for(lambda: attached(made))
        (source,) = viewer.sources
        source._settled, source.superseded, source.dropped = (0, 0), 5, 2  # as a PING has said
        viewer.receiver.detach(token("cells"))
        viewer.wait_for(lambda: source.state == "detached")
        viewer.receiver.attach(token("cells"))
        heard = source.last_heard
        viewer.wait_for(lambda: source.state == "attached" and source.last_heard > heard + 1.0)  # a PING of the new row
        assert (source.superseded, source.dropped) == (5, 2)


def test_a_closed_receiver_says_that_it_can_not_start_again(viewer):
    viewer.receiver.close()
    with pytest.raises(RuntimeError, match="is closed; make a new one"):
        viewer.receiver.start()

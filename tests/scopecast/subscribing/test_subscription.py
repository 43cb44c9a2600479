"""Programs that look at live frames: which they get, how long, and what becomes of what they reply."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

from children import wait_until
from receivers import Viewer, check_stamp, stamped
from scopecast import FrameGoneError, Publisher, UnsupportedDtypeError, subscribe
from scopecast.cli.main import app
from scopecast.publishing.receivers import RECENT
from scopecast.rundir.directory import RunDirectory

if TYPE_CHECKING:
    from scopecast import Subscription

SHAPE = (64, 48)


def publish(publisher: Publisher, t: int, **where: Any) -> int:
    return publisher.publish(stamped(t), axes={"t": t, **where})


def attached(publisher: Publisher, count: int = 1) -> None:
    wait_until(lambda: sum(row.attached for row in publisher.stats()) == count, f"{count} attached")


def opened(**arguments: Any) -> Publisher:
    publisher = Publisher(**{"kind": "headless", "title": "camera 1", "budget": 8 * 2**20, "linger": 5.0, **arguments})
    publisher.open(SHAPE, wait=30.0)
    return publisher


def settled(frames: Subscription) -> bool:
    stats = frames.stats()
    return stats.balanced and not stats.on_the_way


# ---- which frames ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("transport")
def test_every_frame_comes_in_order_with_all_that_is_known_of_it():
    with subscribe(policy="every", name="watcher") as frames, opened(policy="every") as publisher:
        attached(publisher)
        publisher.new_stream("run 7", scale=(0.5, 0.25), units="um", sizes={"t": 3}, channels=["DAPI"])
        for t in range(3):
            publisher.publish(stamped(t), axes={"t": t, "c": "DAPI"}, translate=(3, 4), metadata={"gain": t})
        for t in range(3):
            frame = next(frames)
            assert check_stamp(frame.copy()) == (t, 0, 0)
            assert frame.axes == {"t": t, "c": "DAPI"}
            assert (frame.channel, frame.stream, frame.source) == ("DAPI", "run 7", "camera 1")
            assert (frame.scale, frame.units, frame.translate) == ((0.5, 0.25), "um", (3.0, 4.0))
            assert (frame.metadata, frame.sequence, frame.shape) == ({"gain": t}, t, SHAPE)
            assert 0 <= frame.age_s < 60
            assert frame.array is frame.array, "one view"
        frame.release()
        wait_until(lambda: not publisher.stats().frames.in_flight)
        (row,) = publisher.stats()
        assert (row.kind, row.title, row.frames.delivered) == ("*", "watcher", 3)
        stats = wait_until(lambda: (stats := frames.stats()).looked_at == 3 and stats)
        assert stats.balanced
        assert stats.received == 3


def test_the_newest_of_each_channel_is_what_comes_and_the_rest_is_accounted_for():
    with subscribe() as frames, opened() as publisher:
        attached(publisher)
        publish(publisher, 0, c="a")
        assert next(frames).axes["t"] == 0
        for t in range(1, 200):
            publish(publisher, t, c="ab"[t % 2])
        wait_until(lambda: {frame.axes["t"] for frame in frames._waiting.values()} == {198, 199})
        newest = {frame.axes["c"]: frame.axes["t"] for frame in (next(frames), next(frames))}
        assert newest == {"a": 198, "b": 199}
        frames.close()
        assert frames.stats().balanced
        wait_until(lambda: publisher.stats().balanced and not publisher.stats().frames.in_flight)
        (row,) = publisher.stats()
        assert row.frames.published == 200


def test_only_what_is_asked_for_comes():
    chosen = {"title": "camera 1", "stream": "wanted", "channels": ["b"], "axes": {"z": 1}, "policy": "every"}
    with (
        opened(title="another", policy="every") as other,
        opened(policy="every") as publisher,
        subscribe(**chosen) as frames,
    ):
        attached(publisher)
        for title in ("not wanted", "wanted"):
            publisher.new_stream(title)
            for place in range(8):
                publisher.publish(stamped(place), axes={"t": place, "c": "ab"[place % 2], "z": place // 2 % 2})
        assert [next(frames).axes["t"] for _ in range(2)] == [3, 7]
        assert frames.sources == ("camera 1",)
        assert not any(row.attached for row in other.stats())
    assert frames.stats().balanced
    assert frames.stats().skipped == 14


def test_one_of_no_such_title_says_what_there_is():
    with opened(), subscribe(title="camera 2", wait=0.5) as frames:
        assert list(frames) == []
        assert frames.problem == "no program publishes under the title 'camera 2', only camera 1"


def test_nothing_is_wrong_any_more_once_a_program_of_that_title_has_come():
    with opened(title="camera 2"), subscribe(title="camera 1") as frames:
        wait_until(lambda: "under the title 'camera 1'" in frames.problem)
        with opened() as publisher:
            attached(publisher)
            publish(publisher, 0)
            assert next(frames).axes == {"t": 0}
            wait_until(lambda: not frames.problem)


def test_a_program_that_publishes_for_two_kinds_is_seen_once_and_by_the_other_when_one_ends():
    with subscribe(policy="every") as frames, opened(kind="napari") as second:
        attached(second)
        with opened(kind="fiji") as first, opened(kind="fiji", title="camera 2") as other:
            attached(other)
            # The publisher knows it first: its answer is on the way.
            wait_until(lambda: frames.sources == ("camera 1", "camera 2"), "both are sources")
            assert not any(row.attached for row in first.stats())
            second.close()
            attached(first)
            publish(first, 3)
            assert next(frames).axes == {"t": 3}


def test_it_is_listed_as_what_it_is_and_no_viewer_is_kept_from_starting(runtime_dir):
    with subscribe(name="segment") as frames:
        listed = json.loads(CliRunner().invoke(app, ["viewers", "--json"]).stdout)
        assert [(each["role"], each["kind"], each["title"]) for each in listed] == [("subscriber", "*", "segment")]
        row = re.search("subscriber.*", CliRunner().invoke(app, ["viewers"]).stdout)
        assert row is not None
        assert [cell.strip() for cell in row[0].split("│")][:3] == ["subscriber", "any", "segment"]
        with opened(launch=True) as publisher:
            attached(publisher, 2)
            publish(publisher, 0)
            assert next(frames).axes == {"t": 0}
            assert sorted(row.kind for row in publisher.stats()) == ["*", "headless"]
    for viewer in RunDirectory().living("receiver"):
        import psutil

        psutil.Process(viewer.pid).terminate()
    wait_until(lambda: not RunDirectory().living("receiver"))


# ---- how long ----------------------------------------------------------------------------------------------------


def test_an_array_is_read_only_and_raises_once_the_next_frame_was_asked_for():
    with subscribe(policy="every") as frames, opened(policy="every") as publisher:
        attached(publisher)
        for t in range(3):
            publish(publisher, t)
        frame = next(frames)
        late, part, kept, computed = frame.array, frame.array[2:], frame.copy(), frame.array * 1
        assert late.base is not None, "no copy"
        with pytest.raises(ValueError, match="read-only"):
            late[0, 0] = 1
        assert type(computed) is type(kept) is np.ndarray
        plain = np.asarray(late)
        next(frames)
        for use in (
            lambda array, _: array.sum(),
            lambda array, _: array[0, 0],
            lambda array, _: array + 1,
            lambda array, _: np.median(array),
            lambda array, _: list(array),
            lambda array, _: array.shape,
            lambda _, frame: frame.array,
            lambda _, frame: frame.copy(),
        ):
            for array in (late, part):
                with pytest.raises(FrameGoneError, match="earlier frame"):
                    use(array, frame)
        assert check_stamp(kept) == check_stamp(computed) == (0, 0, 0)
        assert check_stamp(plain) == (0, 0, 0), "what can't raise is still there"
        assert publisher.stats().frames.delivered == 0, "and its slot is not given back"
        del late, part, plain, array
        gc.collect()
        wait_until(lambda: publisher.stats().frames.delivered == 1)


def test_who_keeps_the_arrays_of_many_frames_is_told():
    with subscribe(policy="every") as frames, opened(policy="every") as publisher:
        attached(publisher)
        for t in range(12):
            publish(publisher, t)
        kept: list[np.ndarray] = []
        with pytest.raises(RuntimeError, match=r"at most 8 are lent: keep frame\.copy"):
            kept.extend(frame.array for frame in frames)
        assert len(kept) == 9
        kept.clear()
        assert next(frames).axes["t"] == 9


def test_the_loop_ends_when_there_is_no_source_any_more_and_goes_on_with_one_that_comes_again():
    with subscribe(policy="every", wait=20.0) as frames:
        for run in range(2):
            with opened(policy="every") as publisher:
                attached(publisher)
                publish(publisher, run)
                frame = next(frames)
                assert check_stamp(frame.copy())[0] == run
                frame.release()
        frames._patience = 0.3
        assert list(frames) == []


def test_what_was_sent_before_the_source_ended_is_seen():
    with subscribe(policy="every", wait=0.2) as frames:
        publisher = opened(policy="every")
        attached(publisher)
        for t in range(3):
            publish(publisher, t)
        wait_until(lambda: frames.stats().received == 3)
        publisher.close(linger=0.0)
        assert publisher.stats().frames.delivered == 3, "it has them, whatever of them it has looked at by now"
        assert [check_stamp(frame.copy())[0] for frame in frames] == [0, 1, 2]
    assert frames.stats().balanced


def test_a_larger_frame_takes_nothing_from_the_one_that_is_looked_at():
    with subscribe(policy="every") as frames, opened() as publisher:
        attached(publisher)
        publish(publisher, 0)
        frame = next(frames)
        before = frame.array
        publisher.publish(stamped(1, shape=(600, 1000)), axes={"t": 1}, policy="every")
        assert publisher.flush(30), "it waits for nobody who looks at a frame"
        wait_until(lambda: frames.stats().received == 2)
        assert check_stamp(before) == (0, 0, 0)
        assert check_stamp(next(frames).array) == (1, 0, 0)


def test_closing_gives_back_what_the_program_has_and_what_it_did_not_ask_for():
    with opened(policy="every") as publisher:
        with subscribe(policy="every") as frames:
            attached(publisher)
            for t in range(4):
                publish(publisher, t)
            next(frames)
            kept = next(frames)
            array = kept.array
            wait_until(lambda: frames.stats().received == 4)
        stats = frames.stats()
        assert (stats.looked_at, stats.skipped, stats.held, stats.balanced) == (2, 2, 0, True)
        for late in (lambda: kept.array, lambda: array.sum()):
            with pytest.raises(FrameGoneError, match="the subscription was closed"):
                late()
        wait_until(lambda: not publisher.stats().frames.in_flight)
        assert publisher.stats().balanced


def test_async_for_gets_the_frames_while_the_loop_goes_on():
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    async def look(publisher: Publisher) -> list[int]:
        seen = []
        async with subscribe(policy="every") as frames:
            await asyncio.to_thread(attached, publisher)
            beside = asyncio.create_task(tick())
            await asyncio.to_thread(lambda: [publish(publisher, t) for t in range(5)])
            async for frame in frames:
                seen.append(check_stamp(frame.array)[0])
                if len(seen) == 5:
                    break
            beside.cancel()
        return seen

    with opened(policy="every") as publisher:
        assert asyncio.run(look(publisher)) == [0, 1, 2, 3, 4]
    assert ticks


def test_what_can_not_be_is_said_at_once():
    with pytest.raises(ValueError, match="policy 'newest' is not known"):
        subscribe(policy="newest")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no argument 'channel': did you mean 'channels'"):
        subscribe(channel="a")  # type: ignore[call-arg]
    closed = subscribe()
    closed.close()
    with pytest.raises(RuntimeError, match="is closed"):
        closed.start()


# ---- replies -----------------------------------------------------------------------------------------------------


def cells(t: int) -> np.ndarray:
    made = np.zeros(SHAPE, "int64")
    made[10:20, 5:15] = t + 1
    return made


def test_replies_are_shown_on_their_frames_and_take_nothing_over():
    with Viewer() as viewer, opened(policy="every") as publisher, subscribe(policy="every") as frames:
        attached(publisher, 2)
        publisher.new_stream("run", sizes={"t": 4})
        for t in range(3):
            publish(publisher, t)
            frame = next(frames)
            assert frame.reply(cells(t), name="cells")
            assert frame.reply([[t, 2.5]], kind="points", name="spots", properties={"area": [4.0]})
            assert frame.reply(frame.array * 0.5, kind="image", name="half")
        frame.release()
        wait_until(lambda: settled(frames) and publisher.flush(1))
        (stream,) = viewer.streams
        assert [(stack.sent.kind, stack.sent.name) for stack in stream.stacks] == [
            ("image", ""),
            ("labels", "cells"),
            ("image", "half"),
        ]
        images, labels, half = stream.stacks
        for t in range(3):
            np.testing.assert_array_equal(labels.plane((t,)), cells(t))
            np.testing.assert_array_equal(half.plane((t,)), stamped(t) * 0.5)
            (spots,) = stream.annotations.sets[0].at({"t": t})
            assert spots.document.coordinates.tolist() == [[t, 2.5]]
        assert stream.received == 3, "the rate, the status and what is followed are the camera's"
        assert stream.newest[0] is images
        stats = publisher.stats()
        assert (stats.frames.published, stats.frames.delivered) == (3, 3)
        assert (stats.replies.published, stats.replies.delivered) == (9, 9)
        assert stats.balanced
        mine = frames.stats()
        assert (mine.replies, mine.taken, mine.received) == (9, 9, 3), "none of its own came back"
        assert next(row for row in stats if row.kind == "headless").frames.published == 12


def test_the_last_replies_are_shown_when_the_loop_is_left_at_once():
    with Viewer() as viewer, opened() as publisher, subscribe() as frames:
        attached(publisher, 2)
        publish(publisher, 0)
        for frame in frames:
            for name in "abcde":
                frame.reply(cells(0), name=name)
            frames.close()
        assert (frames.stats().taken, frames.stats().on_the_way) == (5, 0)
        viewer.wait_for(lambda: viewer.streams and len(viewer.streams[0].stacks) == 6)


def test_a_late_joiner_gets_the_newest_reply():
    with opened() as publisher, subscribe() as frames:
        attached(publisher)
        for t in range(3):
            publish(publisher, t)
            frame = next(frames)
            frame.reply(cells(frame.axes["t"]), name="cells")
            frame.release()
            wait_until(lambda: settled(frames))
        with Viewer() as viewer:
            viewer.wait_for(lambda: viewer.streams and len(viewer.streams[0].stacks) == 2)
            (stream,) = viewer.streams
            assert {stack.sent.kind: tuple(stack.layout.planes) for stack in stream.stacks} == {
                "image": ((2,),),
                "labels": ((2,),),
            }


def test_a_reply_to_a_frame_that_no_viewer_has_got_is_superseded():
    with Viewer() as viewer, opened() as publisher, subscribe() as frames:
        attached(publisher, 2)
        publish(publisher, 0)
        frame = next(frames)
        viewer.wait_for(lambda: viewer.streams and viewer.streams[0].received)
        (receiver,) = publisher.session.receivers.viewers
        known = publisher.session.receivers.recent[frame.sequence]
        wait_until(lambda: receiver.account.fates["delivered"] == 1)
        known.frame.missed = (receiver.account,)  # as it is noted for a viewer that is behind
        frame.reply(cells(0), name="cells")
        wait_until(lambda: frames.stats().reply_superseded == 1)
        assert publisher.stats().replies.superseded == 1
        known.frame.missed = ()
        for t in range(1, RECENT + 1):
            publish(publisher, t)
        frame.reply(cells(0), name="cells")
        wait_until(lambda: frames.stats().reply_superseded == 2)
        frame.release()
        assert publisher.stats().balanced
        assert frames.stats().balanced


def test_in_live_mode_a_reply_lies_on_the_image_and_an_older_one_does_not_come_after_it():
    with Viewer() as viewer, opened() as publisher, subscribe(policy="every") as frames:
        attached(publisher, 2)
        publisher.publish(stamped(0))
        old = next(frames)
        publisher.publish(stamped(1))
        new = next(frames)
        assert new.reply(cells(1), name="cells")
        assert old.reply(cells(0), name="cells")
        wait_until(lambda: settled(frames))
        assert (frames.stats().taken, frames.stats().reply_superseded) == (1, 1)
        viewer.wait_for(lambda: len(viewer.streams[0].stacks) == 2)
        (labels,) = (stack for stack in viewer.streams[0].stacks if stack.is_labels)
        np.testing.assert_array_equal(labels.plane(()), cells(1))


def test_labels_that_need_larger_slots_are_shown_after_those_were_made():
    with Viewer() as viewer, opened() as publisher, subscribe(policy="every") as frames:
        attached(publisher, 2)
        big = np.zeros((60, 400), "uint8")
        publisher.publish(big, axes={"t": 0}, policy="every")
        frame = next(frames)
        slot = publisher.session.slots.ring.layout.slot_bytes
        wanted = np.zeros((2 * slot // 400, 400), "float64")
        for number in range(3):
            frame.reply(wanted, kind="image", name=f"wide {number}")
        wait_until(lambda: frames.stats().taken == 3)
        wait_until(lambda: publisher.session.slot_bytes > slot)
        assert (frames.stats().reply_dropped, publisher.stats().replies.dropped, frames.problem) == (0, 0, "")
        viewer.wait_for(lambda: len(viewer.streams[0].stacks) == 4)


@pytest.mark.parametrize(
    ("data", "about", "error", "text"),
    [
        (np.zeros((5, 5), int), {}, ValueError, r"labels of the shape \(5, 5\) don't fit a frame of \(64, 48\)"),
        (np.zeros(SHAPE), {}, UnsupportedDtypeError, "labels are whole numbers"),
        ([[1.0, 2.0, 3.0]], {"kind": "points"}, ValueError, r"give coordinates \(y, x\), without z"),
        ([[1.0, float("nan")]], {"kind": "points"}, ValueError, "not finite"),
        (np.zeros(SHAPE), {"kind": "volume"}, ValueError, "frames of the kind 'volume' can't be published"),
        ([[1, 0, 2.0, 3.0]], {"kind": "tracks"}, ValueError, r"give the tracks as \(id, y, x\), without t"),
        (np.zeros(SHAPE, int), {"name": 3}, ValueError, "name must be a str of at most 64 characters.* got 3"),
        (np.zeros(SHAPE), {"kind": "image", "name": "x" * 65}, ValueError, "name must be a str"),
        (np.zeros(SHAPE, int), {"colour": "red"}, TypeError, "^kind='labels' has no keyword colour"),
        (np.zeros(SHAPE, int), {"axes": {"t": 0}}, TypeError, "^kind='labels' has no keyword axes"),
        (np.zeros(SHAPE), {"kind": "image", "style": {}}, TypeError, "reply.* has no keyword style"),
    ],
)
def test_a_reply_that_can_not_be_shown_raises_where_it_was_made(data, about, error, text):
    with opened() as publisher, subscribe() as frames:
        attached(publisher)
        publish(publisher, 0)
        with pytest.raises(error, match=text):
            next(frames).reply(data, **about)
        assert frames.stats().replies == 0


def test_a_reply_after_the_source_has_gone_is_dropped_and_said_so(caplog):
    caplog.set_level(logging.WARNING, "scopecast")
    with subscribe() as frames:
        publisher = opened()
        attached(publisher)
        publish(publisher, 0)
        frame = next(frames)
        frame.release()
        publisher.close()
        wait_until(lambda: not frames.sources)
        assert not frame.reply(cells(0))
        assert frames.stats().reply_dropped == 1
        assert frames.stats().balanced
    assert not caplog.records


def test_what_a_hostile_subscriber_replies_is_refused(runtime_dir):
    import msgspec

    from scopecast.link import messages
    from scopecast.subscribing.outbox import Outbox

    with opened() as publisher, subscribe() as frames, Viewer() as viewer:
        attached(publisher, 2)
        publish(publisher, 0)
        frame = next(frames)
        source = frames._sources[0]
        answers: list[messages.Replied] = []
        source._answered = lambda _, answer: answers.append(answer)
        box = Outbox(frames._member, lambda *_: None)
        posted = box.put(np.zeros(SHAPE, "uint8"), 1.0)
        right = messages.Reply(1, frame.sequence, *posted, "labels", "|u1", list(SHAPE), "x")
        wrong = [
            {"segment": "reply_zzzzzzzz_0"},
            {"epoch": 9},
            {"slot": 10**6},
            {"generation": 77},
            {"shape": [2**31 - 1, 2**31 - 1]},
            {"shape": [2**10] * 4},
            {"dtype": "|O8"},
            {"dtype": "nonsense"},
            {"dtype": "<f4"},
            {"kind": "image", "name": ""},
            {"kind": "points"},
            {"kind": "nonsense"},
        ]
        for change in wrong:
            frames._asked.append(lambda change=change: source.send(msgspec.structs.replace(right, **change)))
        frames._wake.wake()
        wait_until(lambda: len(answers) == len(wrong), "answered")
        assert [(answer.fate, bool(answer.reason)) for answer in answers] == [("refused", True)] * len(wrong)
        assert len(viewer.streams[0].stacks) == 1
        frames._asked.append(lambda: source.send(right))
        frames._wake.wake()
        viewer.wait_for(lambda: len(viewer.streams[0].stacks) == 2)
        stats = publisher.stats()
        assert (stats.replies.skipped, stats.keeper_errors) == (len(wrong), 0)
        box.close()
        frame.release()


def test_planes_are_whole_for_a_viewer_beside_many_replies():
    """Frames are never overtaken by what is replied: with few slots all images come, and the accounts are right."""
    with (
        Viewer() as viewer,
        opened(policy="every", budget=2**18) as publisher,
        subscribe(policy="every") as frames,
    ):
        attached(publisher, 2)
        publisher.new_stream("run", sizes={"t": 60})
        import threading

        thread = threading.Thread(target=lambda: [publish(publisher, t) for t in range(60)])
        thread.start()
        for _ in range(60):
            frame = next(frames)
            for name in "abc":
                frame.reply(cells(frame.axes["t"]), name=name)
        thread.join()
        frame.release()
        wait_until(lambda: settled(frames) and publisher.flush(1))
        (stream,) = viewer.streams
        (images,) = (stack for stack in stream.stacks if stack.sent.kind == "image")
        assert {check_stamp(images.plane(index))[0] for index in images.layout.planes} == set(range(60))
        assert publisher.stats().balanced
        assert publisher.stats().replies.published == frames.stats().replies == 180
        assert frames.stats().taken == publisher.stats().replies.published - frames.stats().reply_dropped - (
            frames.stats().reply_superseded + frames.stats().reply_refused
        )

"""A producer that is killed, ends without a word, forks, or is interrupted."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

import scopecast
from children import Child, stop, wait_until
from crashpoints import LAUNCH_STEPS, STEPS
from peers import entry_of
from receivers import Viewer, check_stamp, planes_of, stamped
from scopecast import ClosedError, Publisher
from scopecast.memory.ring import RingLayout
from scopecast.memory.segment import Segment
from scopecast.rundir.directory import RunDirectory
from strikes import Strike

SHM = Path("/dev/shm")
PRODUCER = Path(scopecast.__file__).parent


def remove(folder: Path) -> None:
    """Remove a folder in which others may be writing at the same time."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


def segments_of(token: str) -> list[str]:
    return [path.name for path in SHM.glob(f"*_{token}_*")]


def files_of(directory: RunDirectory, token: str) -> list[str]:
    return [path.name for path in directory.path.glob(f"{token}.*")]


def dead_tokens(directory: RunDirectory) -> list[str]:
    return [entry.token for entry in directory.entries("publisher") if not directory.alive(entry.token)]


# ---- killed ------------------------------------------------------------------------------------------------------


@pytest.mark.fault("P1")
@pytest.mark.parametrize("step", ["slot-odd", "slot-copied", "frame-committed"])
@pytest.mark.usefixtures("transport")
def test_the_last_good_image_stays_when_the_producer_is_killed(step):
    directory = RunDirectory()
    with Viewer() as viewer, Child("produce", 100, "--each", crash=f"{step}:20") as child:
        assert child.wait() == -signal.SIGKILL
        viewer.wait_for(lambda: viewer.sources and viewer.sources[0].state == "lost")
        (stream,) = viewer.streams
        assert stream.state == "lost"
        shown = [check_stamp(plane)[0] for _, plane in sorted(planes_of(stream).items())]
        assert shown in (list(range(19)), list(range(20))), "each of the others was delivered before the next"
        if step != "frame-committed":
            assert len(shown) == 19
        (token,) = dead_tokens(directory)
        assert len(segments_of(token)) == 1

        with Publisher("headless") as next_one:
            next_one.open((64, 48), wait=10)
            assert segments_of(token) == []
            assert files_of(directory, token) == []
        assert check_stamp(planes_of(stream)[(18,)])[0] == 18


def tokens(directory: RunDirectory) -> set[str]:
    """The members that have any file in the run directory."""
    return {path.stem for path in directory.path.glob("????????.*")}


@pytest.mark.fault("P3", "P7")
@pytest.mark.parametrize("step", STEPS)
def test_a_crash_at_any_step_leaves_little_and_the_next_open_removes_it(step, monkeypatch):
    monkeypatch.setattr("scopecast.rundir.directory.KEEP_S", 0.0)
    directory = RunDirectory()
    with Publisher("headless", title="living") as living:
        living.open((64, 48), wait=10)
        token = entry_of(living).token
        with Child("produce", 3, "--grow", crash=step) as child:
            assert child.wait() == -signal.SIGKILL, f"it never came to {step}"
        (dead,) = tokens(directory) - {token}
        assert not directory.alive(dead)
        assert len(segments_of(dead)) <= (2 if step == "ring-replaced" else 1)
        assert {name.split(".")[1] for name in files_of(directory, dead)} <= {"lock", "json", "sock", "new"}

        with Publisher("headless", title="next") as next_one:
            next_one.open((64, 48), wait=10)
            assert segments_of(dead) == []
            assert files_of(directory, dead) == []
            assert len(directory.living("publisher")) == 2
        assert len(segments_of(token)) == 1
        assert set(files_of(directory, token)) >= {f"{token}.lock", f"{token}.json", f"{token}.sock"}
        assert living.publish(stamped(0), axes={"t": 0}) >= 0


@pytest.mark.fault("P3", "P7")
@pytest.mark.parametrize("step", ["locked", "drafted", "segment-planned", "segment-created", "ready", "ring-replaced"])
def test_cleaning_removes_what_a_crash_left(step):
    directory = RunDirectory()
    with Child("produce", 3, "--grow", crash=step) as child:
        assert child.wait() == -signal.SIGKILL
    (dead,) = tokens(directory)
    left = segments_of(dead)
    cleaned = directory.clean(everything=True)
    assert sorted(cleaned.segments) == sorted(left)
    assert (segments_of(dead), files_of(directory, dead)) == ([], [])


def viewers_in(directory):
    """The processes of viewers that were started with a run directory, whether or not they have come to their entry."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("SCOPECAST_RUNTIME_DIR") == str(directory.path):
                found += [process] if "scopecast_viewers" in process.cmdline() else []
    return found


@pytest.mark.fault("P3", "P7")
@pytest.mark.parametrize("step", LAUNCH_STEPS)
def test_a_crash_while_a_viewer_is_started_does_not_keep_others_from_theirs(step):
    directory = RunDirectory()
    with Child("produce", 3, "--launch", crash=step) as child:
        assert child.wait() == -signal.SIGKILL
    with Publisher("headless", launch=True, policy="every") as publisher:
        assert publisher.publish(stamped(0), axes={"t": 0}) == 0
        assert publisher.flush(10)
        assert publisher.stats().frames.delivered == 1
        assert [entry.pid for entry in directory.entries("publisher")] == [os.getpid()]
        # The first one's viewer, if it came so far, attaches as well, however long it takes to start.
        wait_until(lambda: len(directory.living("receiver")) == len(viewers_in(directory)))
        wait_until(lambda: {row.token for row in publisher.stats()} == {e.token for e in directory.living("receiver")})
        for entry in directory.living("receiver"):
            os.kill(entry.pid, signal.SIGTERM)
        wait_until(lambda: not directory.living("receiver"))


@pytest.mark.fault("P3")
def test_the_whole_group_is_killed_at_once():
    """Also whoever would clean up after one that is killed alone, such as Python's resource tracker."""
    directory = RunDirectory()
    with Viewer() as viewer, Child("produce", 10, "--ending", "wait", "--helper") as child:
        assert child.line() == [[viewer.token, 10]]
        group = [child.pid, *(process.pid for process in psutil.Process(child.pid).children(recursive=True))]
        assert len(group) > 1
        os.killpg(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        viewer.wait_for(lambda: viewer.sources and viewer.sources[0].state == "lost")
        (dead,) = dead_tokens(directory)
        assert len(segments_of(dead)) == 1
        assert directory.clean().members == [dead]
        assert (segments_of(dead), files_of(directory, dead)) == ([], [])
        assert len(planes_of(viewer.streams[0])) == 10


@pytest.mark.fault("P7")
def test_two_cleaners_at_once_remove_everything_once(tmp_path):
    directory = RunDirectory()
    with Publisher("headless") as living:
        living.open((64, 48), wait=10)
        kept = entry_of(living).token
        # Each is entered by a process of its own, which is killed.
        code = (
            "import os, signal, sys\n"
            "from scopecast.rundir.directory import RunDirectory\n"
            "from scopecast.memory.segment import Segment\n"
            "for _ in range(10):\n"
            "    member = RunDirectory().join('publisher', 'headless')\n"
            "    member.entry.segments = [f'headless_{member.token}_0']\n"
            "    member.write()\n"
            "    globals()[member.token] = (member, Segment.create(f'headless_{member.token}_0', 8192))\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == -signal.SIGKILL
        dead = dead_tokens(directory)
        assert len(dead) == 10

        barrier = threading.Barrier(2)
        cleaned = []

        def clean() -> None:
            barrier.wait(10)
            cleaned.append(RunDirectory().clean())

        cleaners = [threading.Thread(target=clean) for _ in range(2)]
        for cleaner in cleaners:
            cleaner.start()
        for cleaner in cleaners:
            cleaner.join(30)
        cleaned.append(directory.clean())  # what both left to the other
        names = [name for each in cleaned for name in each.segments]
        assert sorted(names) == sorted(f"headless_{token}_0" for token in dead)
        assert sum(each.bytes for each in cleaned) == 10 * 8192
        assert not [token for token in dead if files_of(directory, token)]
        assert len(segments_of(kept)) == 1
        assert living.publish(stamped(0), axes={"t": 0}) >= 0


# ---- ends without a word -----------------------------------------------------------------------------------------


@pytest.mark.fault("P2")
@pytest.mark.parametrize(("ending", "code"), [("none", 0), ("exit", 7), ("raise", 1), ("_exit", 0)])
def test_a_producer_that_ends_without_close_loses_nothing(ending, code):
    directory = RunDirectory()
    with Viewer() as viewer:
        # os._exit runs nothing at all, so that each frame must have been delivered before.
        with Child("produce", 60, "--ending", ending, *(["--each"] if ending == "_exit" else [])) as child:
            if ending != "_exit":
                assert child.line()["frames"]["delivered"] == 60
            assert child.wait() == code
            assert ("LookupError" in child.errors) == (ending == "raise")
            assert child.errors.count("Traceback") == (ending == "raise"), child.errors
        viewer.wait_for(lambda: viewer.sources and viewer.sources[0].state in ("ended", "lost"))
        (stream,) = viewer.streams
        assert [check_stamp(plane)[0] for _, plane in sorted(planes_of(stream).items())] == list(range(60))
        token = viewer.sources[0].entry.token
        if ending == "_exit":
            assert viewer.sources[0].state == "lost"
            assert segments_of(token)
            assert directory.clean().members == [token]
        else:
            assert viewer.sources[0].state == "ended"
        assert segments_of(token) == []
        assert files_of(directory, token) == []


# ---- interrupted -------------------------------------------------------------------------------------------------


@pytest.mark.fault("P11")
@pytest.mark.parametrize("policy", ["latest", "every"])
def test_ctrl_c_anywhere_in_publish_leaves_everything_in_order(policy):
    with Child("view") as viewer, Child("interrupted", 40, policy) as child:
        viewer.line()
        for number in range(40):
            assert child.line() == number
            child.process.send_signal(signal.SIGINT)
        assert child.line() == {"free": 15, "pinned": 1, "attached": 1}, "no slot is lost"
        assert child.wait() == 0
        assert viewer.ask()["bad"] == 0


@pytest.mark.fault("P11")
def test_ctrl_c_ends_a_script_at_once_with_one_traceback():
    with Viewer() as viewer, Child("run_until_interrupted") as child:
        assert child.line() == "running"
        child.process.send_signal(signal.SIGINT)
        assert child.wait() in (-signal.SIGINT, 130)
        assert child.errors.count("Traceback") == 1
        assert "KeyboardInterrupt" in child.errors
        viewer.wait_for(lambda: viewer.sources and viewer.sources[0].state == "ended")
        token = viewer.sources[0].entry.token
        assert segments_of(token) == []
        assert files_of(RunDirectory(), token) == []


STRUCK = frozenset(
    (
        *(PRODUCER / "publishing").glob("*.py"),
        *(PRODUCER / each for each in ("link/router.py", "memory/ring.py", "frames/streams.py")),
    )
)


@pytest.mark.fault("P11")
@pytest.mark.parametrize("what", ["publish", "reserve", "abort", "flush"])
def test_ctrl_c_at_every_single_line(what):
    """One call after another, each interrupted one line later than the one before, until one comes through."""

    def call() -> None:
        if what == "publish":
            publisher.publish(stamped(t, shape=(128, 128)), axes={"t": t % 50})
        elif what == "reserve":
            with publisher.reserve((128, 128), "uint16", axes={"t": t % 50}) as slot:
                slot.array[:] = stamped(t, shape=(128, 128))
        elif what == "abort":
            publisher.reserve((128, 128), "uint16", axes={"t": t % 50}).abort()
        else:
            publisher.flush(5)

    # Two viewers: a message that was half sent to one must not end up with the other.
    with Viewer() as viewer, Viewer() as other, Publisher("headless", budget=RingLayout(16, 32768).size) as publisher:
        publisher.open((128, 128), wait=10)
        publisher.publish(stamped(0, shape=(128, 128)), axes={"t": 0})
        viewer.wait_for(lambda: viewer.attached and other.attached)
        for t in range(1, 4000):
            if what == "flush":
                publisher.publish(stamped(t, shape=(128, 128)), axes={"t": t % 50})
            strike = Strike(t, STRUCK)
            try:
                with strike:
                    call()
            except KeyboardInterrupt:
                pass
            assert publisher.session.guard.lock.acquire(timeout=5), f"the lock stays held after {strike.struck}"
            publisher.session.guard.lock.release()
            assert publisher.stats().balanced, strike.struck
            if not strike.struck:
                assert t > 20, "it struck nowhere"
                break
            publisher.publish(stamped(t, shape=(128, 128)), axes={"t": t % 50}, policy="every")
            assert publisher.flush(10), f"a viewer did not get the next frame after {strike.struck}"
        else:
            pytest.fail("never came through")
        # No slot is lost, and all goes on.
        publisher.publish(stamped(9, shape=(128, 128)), axes={"t": 9}, policy="every")
        assert publisher.flush(10)
        assert publisher.stats().balanced
        slots = publisher.session.slots
        assert (slots.free, slots.leased, slots.writing) == (15, 0, 0)
        assert [row.attached for row in publisher.stats()] == [True, True]
        assert publisher.session.keeper.errors == 0
        for index, plane in planes_of(viewer.streams[0]).items():
            assert check_stamp(plane)[0] % 50 == index[0]


# ---- forked ------------------------------------------------------------------------------------------------------


@pytest.mark.fault("P4")
@pytest.mark.parametrize("method", ["os.fork", "fork", "spawn", "forkserver"])
@pytest.mark.usefixtures("transport")
def test_a_publisher_is_inert_in_a_child_and_its_end_takes_nothing_away(method):
    with Viewer() as viewer, Child("forking", method) as child:
        answer = child.line(60)
        assert set(answer["codes"]) == {0}, child.errors
        assert answer["segment"]
        assert answer["flushed"]
        stream = next(stream for stream in viewer.streams if stream.title == "parent")
        assert sorted(check_stamp(plane)[0] for plane in planes_of(stream).values()) == list(range(20))
        assert stream.state == "live"
        others = [stream for stream in viewer.streams if stream.title == "child"]
        assert len(others) == (method in ("spawn", "forkserver"))
        child.tell()
        assert child.wait() == 0
        viewer.wait_for(lambda: all(source.state == "ended" for source in viewer.sources))


# ---- raises, closes, forgets -------------------------------------------------------------------------------------


@pytest.mark.fault("P5")
def test_an_exception_in_the_middle_of_a_frame_leaves_the_others_intact():
    with Viewer() as viewer, Publisher("headless", budget=RingLayout(16, 32768).size) as publisher:
        publisher.publish(stamped(0, shape=(128, 128)), axes={"t": 0}, policy="every")
        for _ in range(50):  # more than there are slots
            with pytest.raises(LookupError), publisher.reserve((128, 128), "uint16") as slot:  # noqa: PT012
                slot.array[:64] = 7
                raise LookupError
            assert not slot.array.flags.writeable
        for t in range(1, 30):
            publisher.publish(stamped(t, shape=(128, 128)), axes={"t": t}, policy="every")
        assert publisher.flush(10)
        (stream,) = viewer.streams
        assert [check_stamp(plane)[0] for _, plane in sorted(planes_of(stream).items())] == list(range(30))
        assert publisher.stats().frames.published == 30
        assert publisher.stats().balanced


@pytest.mark.fault("P5")
def test_reservations_that_are_forgotten_are_given_back():
    with Publisher("headless", budget=RingLayout(16, 32768).size) as publisher:
        publisher.open((128, 128), wait=10)
        for t in range(50):
            publisher.reserve((128, 128), "uint16", axes={"t": t})
        assert publisher.publish(stamped(0, shape=(128, 128)), axes={"t": 0}) == 0
        assert not publisher.session.slots.writing


def test_a_reservation_that_outlives_its_publisher_says_so():
    publisher = Publisher("headless")
    publisher.open((64, 48), wait=10)
    kept, dropped = (publisher.reserve((64, 48), "uint16") for _ in range(2))
    publisher.close()
    kept.array[:] = 1  # still memory
    with pytest.raises(ClosedError):
        kept.commit()
    dropped.abort()


@pytest.mark.parametrize(
    "about",
    [{"translate": ("a", "b")}, {"translate": (1.0,)}, {"translate": (1.0, float("nan"))}, {"axes": {"t": -1}}],
    ids=str,
)
def test_a_callers_mistake_costs_no_slot(about):
    with Publisher("headless", budget=8 * 32768 + 3 * 4096) as publisher:
        publisher.open((128, 128), wait=10)
        for _ in range(20):
            with pytest.raises(ValueError):  # noqa: PT011 - whichever it is
                publisher.publish(stamped(0, shape=(128, 128)), **about)
        publisher.publish(stamped(0, shape=(128, 128)), axes={"t": 0}, path="b\udcff.tif")
        assert not publisher.session.slots.writing


def test_a_publisher_that_is_closed_while_others_publish_raises_only_that_it_is_closed():
    errors: list[BaseException] = []
    publisher = Publisher("headless", linger=0.0)
    publisher.open((64, 48), wait=10)
    started = threading.Barrier(4)

    def publish() -> None:
        started.wait(10)
        try:
            while True:
                publisher.publish(stamped(1), axes={"t": 1})
        except Exception as error:  # noqa: BLE001 - looked at below
            errors.append(error)

    threads = [threading.Thread(target=publish) for _ in range(3)]
    for thread in threads:
        thread.start()
    started.wait(10)
    wait_until(lambda: publisher.stats().frames.published > 100)
    publisher.close()
    for thread in threads:
        thread.join(20)
    assert [type(error) for error in errors] == [ClosedError] * 3


def test_a_publisher_forgotten_in_a_cycle_is_closed_by_the_garbage_collector(nothing_left):
    import gc

    directory = RunDirectory()
    publisher = Publisher("headless")
    publisher.open((64, 48), wait=10)
    publisher.itself = publisher  # type: ignore[attr-defined]
    with pytest.warns(ResourceWarning, match="was not closed"):  # noqa: PT031
        del publisher
        gc.collect()
    wait_until(lambda: directory.entries("publisher") == [])


@pytest.mark.fault("P10")
def test_two_threads_publish_thousands_of_frames_each():
    with Child("view") as viewer, Publisher("headless", policy="latest") as publisher:
        viewer.line()
        publisher.open((32, 32), wait=10)
        wait_until(lambda: [row.attached for row in publisher.stats()] == [True])
        sequences: list[list[int]] = [[], []]

        def publish(c: int) -> None:
            frames = [stamped(t, c, shape=(32, 32)) for t in range(100)]
            for t in range(2_000):
                sequences[c].append(publisher.publish(frames[t % 100], axes={"t": t % 100, "c": c}))

        threads = [threading.Thread(target=publish, args=(c,)) for c in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert publisher.flush(20)
        assert sorted(sequences[0] + sequences[1]) == list(range(4_000))
        assert all(part == sorted(part) for part in sequences)
        frames = publisher.stats().frames
        assert frames.published == 4_000
        assert publisher.stats().balanced
        report = viewer.ask()
        assert report["bad"] == 0
        assert report["rejected"] == 0, "a lease keeps a frame from being overwritten"
        assert len(report["places"]) <= 200


@pytest.mark.fault("P6")
def test_two_publishers_of_one_title_are_both_live():
    with Viewer() as viewer, Publisher("headless", title="scope") as one, Publisher("headless", title="scope") as two:
        for t in range(5):
            one.publish(stamped(t), axes={"t": t}, policy="every")
            two.publish(stamped(t + 50), axes={"t": t}, policy="every")
        assert one.flush(10)
        assert two.flush(10)
        assert len({source.entry.token for source in viewer.sources}) == 2
        shown = sorted(
            tuple(sorted(check_stamp(plane)[0] for plane in planes_of(stream).values())) for stream in viewer.streams
        )
        assert shown == [(0, 1, 2, 3, 4), (50, 51, 52, 53, 54)]


# ---- the run directory and the names in shared memory are removed ------------------------------------------------


@pytest.mark.fault("P12")
@pytest.mark.parametrize("what", ["directory", "segment", "both"])
def test_a_stream_goes_on_after_its_names_were_removed(what):
    """logind does it at logout: those that are attached miss nothing, and those that come later find the stream."""
    directory = RunDirectory()
    with Publisher("headless", policy="every", title="scope", budget=64 * 8192) as publisher, Viewer() as viewer:
        publisher.open((64, 48), wait=10)
        viewer.wait_for(lambda: viewer.attached)
        for t in range(20):
            publisher.publish(stamped(t), axes={"t": t})
        token = entry_of(publisher).token
        (name,) = segments_of(token)
        if what != "segment":
            remove(directory.path)
        if what != "directory":
            (SHM / name).unlink()
        t = 20
        while not (segments_of(token) and files_of(directory, token) and directory.alive(token)) or t < 60:
            publisher.publish(stamped(t), axes={"t": t % 500})
            t += 1
            assert t < 100_000
        with Viewer(title="late") as late:
            late.wait_for(lambda: late.attached)
            for _ in range(50):
                publisher.publish(stamped(t), axes={"t": t % 500})
                t += 1
            assert publisher.flush(10)
            late.wait_for(lambda: late.sources and late.sources[0].delivered >= 50)
        (source,) = viewer.sources
        assert (source.state, source.delivered, source.rejected, source.errors) == ("attached", t, 0, 0)
        (stream,) = viewer.streams
        assert len(planes_of(stream)) == min(t, 500)
        stats = publisher.stats()
        assert stats.balanced
        assert (stats.frames.delivered, stats.frames.superseded, stats.frames.dropped) == (t, 0, 0)
        assert publisher.session.slots.ring.epoch == (0 if what == "directory" else 1)
    assert segments_of(token) == []
    assert files_of(directory, token) == []


@pytest.mark.fault("P12")
def test_a_stream_goes_on_while_the_run_directory_cannot_be_made_anew(tmp_path, monkeypatch, caplog):
    """After a logout the directory above is gone too, and belongs to root."""
    above = tmp_path / "above"
    directory = RunDirectory(above / "run")
    monkeypatch.setenv("SCOPECAST_RUNTIME_DIR", str(directory.path))
    with Publisher("headless", policy="every") as publisher, Viewer() as viewer:
        publisher.open((64, 48), wait=10)
        viewer.wait_for(lambda: viewer.attached)
        remove(above)
        above.touch()  # whoever runs the tests: no directory can be made here
        wait_until(lambda: [text for text in caplog.messages if "new viewers can't find" in text])
        # Longer than anyone takes a removed directory for a death.
        now = time.monotonic
        monkeypatch.setattr("scopecast.rundir.directory.time.monotonic", lambda: now() + 60)
        seen = publisher.session.receivers.attached
        (receiver,) = seen.values()
        beats = receiver.pong.number
        wait_until(lambda: receiver.pong.number >= beats + 4)
        for t in range(20):
            publisher.publish(stamped(t), axes={"t": t})
        assert publisher.flush(10)
        assert publisher.stats().frames.delivered == 20
        assert sum("new viewers can't find" in text for text in caplog.messages) == 1
        above.unlink()
        with Viewer() as late:
            late.wait_for(lambda: late.attached)


@pytest.mark.fault("P12")
def test_without_the_run_directory_a_producer_that_dies_is_noticed_all_the_same():
    directory = RunDirectory()
    with Viewer() as viewer, Child("produce", 5, "--ending", "wait") as child:
        assert child.line() == [[viewer.token, 5]]
        stop(child.pid)  # it makes nothing anew
        remove(directory.path)
        directory.path.touch()  # neither does the viewer
        child.process.kill()
        child.wait()
        viewer.wait_for(lambda: viewer.sources and viewer.sources[0].state == "lost")
        assert len(planes_of(viewer.streams[0])) == 5
        directory.path.unlink()
        segment = SHM / viewer.sources[0].entry.segments[0]
        segment.unlink()


@pytest.mark.fault("P9")
@pytest.mark.usefixtures("transport")
def test_a_publisher_restarted_twenty_times_leaks_nothing_in_the_viewer():
    with Child("view") as viewer:
        viewer.line()
        reports = []
        for _ in range(20):
            with Publisher("headless", policy="every", title="again") as publisher:
                for t in range(5):
                    publisher.publish(stamped(t), axes={"t": t})
            reports.append(viewer.ask())
        steady, last = reports[9], reports[-1]  # by then as many publishers that have gone are kept as ever will be
        assert set(last["states"]) == {"ended"}
        assert last["segments"] == 0
        # Sockets are closed in the background, a moment later.
        fewest = min(report["descriptors"] for report in reports[9:])
        wait_until(lambda: viewer.ask()["descriptors"] <= fewest)
        assert last["threads"] == steady["threads"]
        assert last["maps"] <= steady["maps"] + 8
        assert last["bad"] == 0
        assert set(last["delivered"]) == {5}


def test_a_segment_outlives_a_cleaner_that_knows_its_name_only():
    """A live publisher's segment is safe although another run's file names it."""
    directory = RunDirectory()
    with Publisher("headless") as publisher:
        publisher.open((64, 48), wait=10)
        (name,) = entry_of(publisher).segments
        forged = directory.join("publisher", "headless")
        forged.entry.segments = [name]
        forged.write()
        entry = directory.file(forged.token, "json").read_bytes()
        forged.close()
        directory.file(forged.token, "json").write_bytes(entry)
        directory.clean()
        Segment.attach(name).close()

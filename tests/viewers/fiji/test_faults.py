"""Faults of the table that have a side of ImageJ's own; V1, V2, V5 and V6 are in ``test_process.py``."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

import pytest
import roifile

from fiji_live import LiveFiji, pixels_of
from receivers import Viewer, WatchedDisplay, check_stamp, stamped
from scopecast import FijiStreamingBackend
from scopecast.link import messages
from scopecast_viewers.fiji.awt import java
from scopecast_viewers.fiji.hyperstack import Hyperstack

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (128, 128)
FRAME = 32768  # bytes


@pytest.mark.fault("V4")
def test_a_slow_imagej_loses_the_oldest_frames_and_a_fast_viewer_beside_it_nothing(
    live: LiveFiji, monkeypatch: pytest.MonkeyPatch
):
    last = 119
    with (
        Viewer(display=WatchedDisplay("fiji")) as fast,
        live.publisher(SHAPE, policy="latest", budget=16 * FRAME + 3 * 4096) as publisher,
    ):
        token = live.receiver.member.token
        fast.wait_for(lambda: fast.attached)
        take = live.display.take

        def take_slowly(view: Any, *, magnitude: bool) -> Any:
            """Take a frame while the fast viewer gets ten."""
            due = min(fast.sources[0].delivered + 10, last + 2) if fast.sources else 0
            fast.wait_for(lambda: fast.sources[0].delivered >= due)
            return take(view, magnitude=magnitude)

        monkeypatch.setattr(live.display, "take", take_slowly)
        for t in range(last + 1):
            publisher.publish(stamped(t, 0, shape=SHAPE), axes={"t": t, "c": 0})
            if t == 10:
                publisher.publish(stamped(t, 1, shape=SHAPE), axes={"t": t, "c": 1})  # the only one of its channel
            fast.wait_for(lambda due=t: fast.sources[0].delivered >= due + 1)
        live.until(lambda: publisher.flush(0))
        rows = {row.token: row.frames for row in publisher.stats().receivers}
        assert publisher.stats().balanced
        assert rows[fast.token].delivered == last + 2
        slow = rows[token]
        assert slow.superseded > 0
        assert (slow.dropped, slow.skipped) == (0, 0)
        assert slow.delivered + slow.superseded == last + 2
        live.settled(publisher)
        imp = live.image().imp
        assert check_stamp(live.pixels(imp, 1, 1, last + 1)) == (last, 0, 0), "the newest gets there"
        assert check_stamp(live.pixels(imp, 2, 1, 11)) == (10, 1, 0), "the only one of its channel is never superseded"
        live.until(lambda: live.position(imp)[2] == last + 1)
        labels = [str(imp.getStack().getSliceLabel(imp.getStackIndex(1, 1, t + 1))) for t in range(last + 1)]
        assert sum(label.endswith("no frame here yet") for label in labels) == slow.superseded


@pytest.mark.fault("V7")
@pytest.mark.parametrize(
    ("spoken", "said"), [(0, "update this viewer"), (2, "update scopecast in the acquisition")], ids=["older", "newer"]
)
def test_an_imagej_of_another_protocol_says_what_to_update(
    imagej: Any, live: LiveFiji, monkeypatch: pytest.MonkeyPatch, spoken: int, said: str
):
    with monkeypatch.context() as patch:
        patch.setattr(messages, "PROTOCOL", spoken)
        other = LiveFiji(imagej)
    try:
        with live.publisher(title="scope") as publisher:
            live.until(lambda: other.receiver.sources and other.receiver.sources[0].state == "refused")
            live.until(lambda: any(said in text for text in live.told), what=f"a status bar that says {said!r}")
            live.on_awt(other.display.menu.open)
            live.until(lambda: said in str(other.display.menu._note.getText()))
            publisher.publish(stamped(0), axes={"t": 0})
            live.settled(publisher)
            assert check_stamp(live.pixels(live.image().imp)) == (0, 0, 0)
            assert [row.frames.delivered for row in publisher.stats().receivers if row.attached] == [1]
            assert other.receiver.streams == ()
    finally:
        other.close()


def outline(name: str) -> bytes:
    made = roifile.ImagejRoi.frompoints([[1, 1], [10, 2], [8, 12]], name=name)
    return bytes(made.tobytes())


def claiming(at: int, claim: int) -> bytes:
    """Return a region in which four bytes say that it has so much."""
    data = bytearray(outline("liar"))
    data[at : at + 4] = claim.to_bytes(4, "big")
    return bytes(data)


def with_coordinates(count: int) -> bytes:
    data = bytearray(claiming(18, count))
    data[16:18] = bytes(2)
    return bytes(data)


@pytest.mark.fault("H7")
def test_regions_that_claim_to_be_huge_and_archives_that_are_cost_nothing_but_themselves(
    live: LiveFiji, tmp_path: Path
):
    header2 = int.from_bytes(outline("liar")[60:64], "big")
    hostile = [
        *(with_coordinates(count) for count in (2**31 - 1, 10**8, 10**5)),  # 8 GiB of coordinates, and less
        claiming(36, 2**30),  # a composite of 4 GiB
        claiming(header2 + 20, 2**30),  # a name of 2 GiB
        claiming(header2 + 44, 2**30),  # properties of 2 GiB
        outline("cut")[:70],
    ]
    bomb = tmp_path / "bomb_t001.roi.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.roi", b"Iout" + bytes(100 << 20))
    with FijiStreamingBackend(title="cells", launch=False, policy="every") as backend:
        backend.save(stamped(0), "cells_t000.tif")
        publisher = backend.publisher
        token = live.receiver.member.token
        live.until(lambda: any(row.attached and row.token == token for row in publisher.stats()))
        runtime = java("java.lang.Runtime").getRuntime()
        before = int(runtime.totalMemory())
        for t in range(3):
            names = [f"cells_t{t:03}.tif", f"cells_t{t:03}.roi.zip", str(bomb)]
            with pytest.raises(ValueError, match="unpacks to 100 MiB"):
                backend.save_batch([stamped(t), [outline("good"), *hostile], None], names)
            live.settled(publisher)
        overlay = live.until(lambda: live.image().imp.getOverlay())
        live.until(lambda: overlay.size() == 3)
        assert [str(overlay.get(n).getName()) for n in range(3)] == ["good"] * 3
        live.until(lambda: f"{len(hostile)} regions can't be read" in live.image().strip.text)
        assert int(runtime.totalMemory()) - before < 200 << 20
        assert check_stamp(live.pixels(live.image().imp, 1, 1, 3)) == (2, 0, 0)
        assert publisher.stats().balanced
        live.on_awt(java("ij.plugin.frame.RoiManager").getInstance().close)


def test_what_fails_once_is_shown_a_little_later(live: LiveFiji, monkeypatch: pytest.MonkeyPatch):
    found = Hyperstack._target
    with live.publisher() as publisher:
        for run in range(2):
            publisher.new_stream(f"run {run}")
            publisher.publish(stamped(0), axes={"t": 0})
            live.settled(publisher)
            image = live.images[-1]
            failures = [OSError("too many open files")]

            def target(image: Hyperstack, failures: list[OSError] = failures) -> int:
                if failures:
                    raise failures.pop()
                return found(image)

            with monkeypatch.context() as patch:
                patch.setattr(Hyperstack, "_target", target)
                publisher.publish(stamped(1), axes={"t": 1})
                live.until(lambda image=image: "too many open files" in image.problem)
                live.until(lambda image=image: check_stamp(pixels_of(image.imp.getProcessor())) == (1, 0, 0))
            live.until(lambda image=image: not image.problem)
            assert not live.display.gallery.problems


@pytest.mark.parametrize("newer", ["", "12 particles"])
def test_the_end_of_a_problem_takes_back_no_newer_message(live: LiveFiji, newer: str):
    bar = java("ij.IJ").getInstance().getStatusBar().getComponent(0)

    def change() -> list[str]:
        seen = []
        for problem, told in (("the run directory can't be read", newer), ("", "")):
            live.receiver.problem = problem
            live.display.menu.update()
            seen.append(str(bar.getText()))
            if told:
                java("ij.IJ").showStatus(told)
        return seen

    assert live.on_awt(change) == ["scopecast: the run directory can't be read", newer]

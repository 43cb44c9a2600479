"""``scopecast pipe``: a function sees the frames, what it returns is shown, what it raises is told."""

from __future__ import annotations

import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from children import wait_until
from receivers import Viewer, stamped
from scopecast import Publisher, subscribe
from scopecast.subscribing.pipe import NamedFunction, describe

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "analyse"
SHAPE = (64, 48)


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with Publisher("headless", title="camera", policy="every", budget=8 * 2**20, linger=5.0) as publisher:
        publisher.open(SHAPE, wait=30.0)
        yield publisher


def attached(publisher: Publisher, count: int) -> None:
    wait_until(lambda: sum(row.attached for row in publisher.stats()) == count, f"{count} attached")


def test_a_function_is_called_its_errors_are_told_and_counted_and_it_is_loaded_again(
    publisher: Publisher, tmp_path: Path
):
    source = tmp_path / "cells.py"
    text = (
        "from beside import CELL\n\ndef segment(frame):\n    if frame.axes['t'] % 2:\n"
        "        raise LookupError(frame.axes)\n    return (frame.array > 0).astype('uint8') * CELL\n"
    )
    (tmp_path / "beside.py").write_text("CELL = 3\n")
    source.write_text(text)
    log = tmp_path / "log"
    with Viewer() as viewer, log.open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "scopecast", "pipe", f"{source}:segment", "--every", "--name", "cells"],
            stdout=said,
            stderr=said,
        )
        try:
            attached(publisher, 2)
            for t in range(4):
                publisher.publish(stamped(t), axes={"t": t})
            wait_until(lambda: publisher.stats().replies.delivered == 2, "two replies")
            source.write_text(text.replace("return (", "return 1 + ("))
            publisher.publish(stamped(4), axes={"t": 4})
            wait_until(lambda: publisher.stats().replies.delivered == 3, "of the new function")
            source.write_text("def segment(frame:\n")
            publisher.publish(stamped(6), axes={"t": 6})
            wait_until(lambda: publisher.stats().replies.delivered == 4, "the previous version stays in use")
            source.write_text("def others(frame):\n    return None\n")
            publisher.publish(stamped(8), axes={"t": 8})
            wait_until(lambda: publisher.stats().replies.delivered == 5, "the previous version stays in use")
            labels = next(stack for stack in viewer.streams[0].stacks if stack.is_labels)
            assert labels.sent.name == "cells"
            for t, more in ((0, 0), (2, 0), (4, 1), (6, 1), (8, 1)):
                np.testing.assert_array_equal(labels.plane((t,)), more + 3 * (stamped(t) > 0))
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(60)
        text = log.read_text()
        assert code == 130, text
        assert text.count("LookupError: {'t': 1} (cells.py:5)") == text.count("LookupError") == 1, "though texts differ"
        assert "segment was reloaded" in text
        said = " ".join(text.split())
        assert re.search(r"cells\.py can't be loaded: SyntaxError: .* \(cells\.py, line 1\); the previous", said)
        assert re.search(r"cells\.py has no function 'segment'; the previous version stays in use", said)
        assert text.count("was reloaded") == 1
        ended = re.search(r"Looked at 7 frames \(.*\), 0 superseded; 5 of 5 replies taken; 2 frames failed\.", text)
        assert ended, text


@pytest.mark.parametrize(
    ("named", "problem"),
    [
        ("segment", "does not name a function"),
        ("nowhere.py:segment", "there is no file nowhere.py"),
        ("no_such_module:segment", "no_such_module can't be imported: ModuleNotFoundError"),
        ("math:segment", "math has no function 'segment'"),
    ],
)
def test_what_is_no_function_is_said(named: str, problem: str):
    with pytest.raises(ValueError, match=problem):
        NamedFunction(named)


def test_what_a_file_lacks_is_said_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("cells.py").write_text("def segment(frame):\n    return None\n")
    with pytest.raises(ValueError, match=r"^cells\.py has no function 'segmnet'$"):
        NamedFunction("cells.py:segmnet")


def test_an_error_is_told_with_the_line_of_the_users_file(publisher: Publisher, tmp_path: Path):
    (tmp_path / "cells.py").write_text("def spots(frame):\n    frame.reply([[1, 2, 3]], kind='points')\n")
    function = NamedFunction(f"{tmp_path / 'cells.py'}:spots")
    with subscribe(policy="every") as frames:
        attached(publisher, 1)
        publisher.publish(stamped(0), axes={"t": 0})
        with pytest.raises(ValueError, match="without z") as raised:
            function.call(next(frames))
    assert describe(raised.value).endswith("(cells.py:2)")


def test_the_examples_do_what_they_say(publisher: Publisher):
    """In this process; `scopecast pipe` calls them likewise."""
    flat_field, project, spots = (
        runpy.run_path(str(EXAMPLES / f"{name}.py"))[function]
        for name, function in (
            ("flat_field", "flat_field"),
            ("max_projection", "max_projection"),
            ("spot_counter", "count_spots"),
        )
    )
    rng = np.random.default_rng(1)
    _, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    with Viewer() as viewer, subscribe(policy="every") as frames:
        attached(publisher, 2)
        planes = []
        for z in range(4):
            light = 1000 + 20 * x + rng.normal(0, 5, SHAPE)
            light[10 * z + 10, 20] += 3000
            planes.append(light.astype("uint16"))
            publisher.publish(planes[-1], axes={"z": z})
            frame = next(frames)
            flat = flat_field(frame)
            frame.reply(flat, kind="image", name="flat")
            frame.reply(project(frame), kind="image", name="projection")
            spots(frame)
        frame.release()
        wait_until(lambda: not frames.stats().on_the_way)
        assert publisher.flush(30), "a reply is answered when it is on its way to the viewer"
        stream = viewer.streams[0]
        stacks = {stack.sent.name: stack for stack in stream.stacks}
        np.testing.assert_array_equal(stacks["projection"].plane((3,)), np.max(planes, axis=0))
        assert flat[:, :8].mean() == pytest.approx(flat[:, -8:].mean(), rel=0.25)
        assert planes[3][:, -8:].mean() > 1.5 * planes[3][:, :8].mean()
        found = {each.name: each for each in stream.annotations}
        (points,) = found["spots"].at({"z": 2})
        assert points.document.coordinates.tolist() == [[30.0, 20.0]]
        (plot,) = found["number of spots"].at({"z": 3})
        assert plot.document.names == ["1 spots"]
        assert frames.stats().taken == frames.stats().replies

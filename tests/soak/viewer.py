"""A viewer of the soak: ``python -m soak.viewer NAME KIND SEED [--window]``.

The real receiver, with or without a napari window, that checks each frame's stamp at the moment when it is put into its
stack, and all that its stacks hold when it is told to end by a line on its standard input.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import threading
import time
from typing import Any

from receivers import WatchedDisplay, check_stamp
from scopecast_viewers.receiver import SWITCH_INTERVAL_S, Receiver
from scopecast_viewers.receiving.live import LiveStream
from scopecast_viewers.stacks.history import History
from scopecast_viewers.stacks.scratch import Scratch
from soak.producer import open_files

_REPORT_S = 0.5
_MIB = 2**20


class Verifier:
    """Checks every frame, and remembers what was wrong."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.checked = 0
        self.by_source: dict[str, int] = {}

    def watch(self) -> None:
        """See every frame that is put into a stack from now on, after the receiver itself has accepted it."""
        put = LiveStream.put

        def put_and_check(stream: LiveStream, frame: Any, plane: Any, *, magnitude: bool = False) -> None:
            put(stream, frame, plane, magnitude=magnitude)
            where = dict(zip(stream.axes, frame.index, strict=True))
            self.check(f"frame {frame.sequence} of {stream.title}", plane, where)
            self.by_source[stream.source] = self.by_source.get(stream.source, 0) + 1

        LiveStream.put = put_and_check  # type: ignore[method-assign]

    def check(self, what: str, plane: Any, where: dict[str, int]) -> None:
        """Compare a plane with its stamp, and the stamp with its place."""
        self.checked += 1
        try:
            t, c, _ = check_stamp(plane)
        except AssertionError as error:
            self.wrong.append(f"{what} is torn: {error}")
            return
        if (t, c) != (where.get("t", t), where.get("c", c)):
            self.wrong.append(f"{what} shows t={t} c={c}, and lies at {where}")

    def check_stacks(self, receiver: Receiver) -> int:
        """Check all that is in the stacks now: nothing may have been written over since. Return how many planes."""
        planes = 0
        for stream in receiver.streams:
            for stack in stream.stacks:
                layout = stack.layout
                for index in tuple(layout.planes):
                    if (plane := stack.plane(index)) is not None:
                        where = dict(zip(layout.axes, index, strict=True))
                        self.check(f"the plane {index} of {stream.title}", plane, where)
                        planes += 1
        return planes


class SoakDisplay(WatchedDisplay):
    """No window, and now and then slow."""

    def __init__(self, kind: str, seed: int) -> None:
        super().__init__(kind)
        self.draw = random.Random(seed)
        self.slow = self.draw.choice((0.0, 0.0, 0.002, 0.02))

    def take(self, view: Any, *, magnitude: bool) -> Any:
        time.sleep(self.slow * self.draw.random())
        return super().take(view, magnitude=magnitude)


def main() -> None:
    """Receive until the line comes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("kind")
    parser.add_argument("seed", type=int)
    parser.add_argument("--window", action="store_true")
    options = parser.parse_args()
    verifier = Verifier()
    verifier.watch()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    display: Any
    if options.window:
        from scopecast_viewers.napari.display import NapariDisplay

        display = NapariDisplay()
    else:
        display = SoakDisplay(options.kind, options.seed)
    before = open_files()
    history = History(64 * _MIB, Scratch(limit=256 * _MIB))
    told = threading.Event()

    def report(**more: Any) -> None:
        value = {
            "token": receiver.member.token,
            "checked": verifier.checked,
            "by_source": dict(verifier.by_source),
            "rejected": sum(source.rejected for source in receiver.sources),
            "errors": sum(source.errors for source in receiver.sources),
            "wrong": verifier.wrong[:20],
            **more,
        }
        print(json.dumps(value), flush=True)

    def wait_for_the_line() -> None:
        sys.stdin.readline()
        told.set()
        display.quit()

    def report_now_and_then() -> None:
        while not told.wait(_REPORT_S):
            report()

    receiver = Receiver(display, title=options.name, history=history)
    with receiver:
        signal.signal(signal.SIGTERM, lambda *_: display.quit())
        threading.Thread(target=wait_for_the_line, daemon=True).start()
        reporter = threading.Thread(target=report_now_and_then, daemon=True)
        reporter.start()
        display.run(receiver)
        told.set()
        reporter.join()
        planes = verifier.check_stacks(receiver)
        painted = sum(source.log.painted for source in receiver.sources)
        if problems := [source.problem for source in receiver.sources if source.problem]:
            verifier.wrong += problems
        report(planes=planes, painted=painted)
    left: list[str] = []
    if not options.window:  # Qt, fontconfig and the driver keep files of their own open
        deadline = time.monotonic() + 10.0
        while (left := [name for name in open_files() if name not in before]) and time.monotonic() < deadline:
            time.sleep(0.02)
    if left:
        verifier.wrong.append(f"left open: {left[:5]}")
    report(planes=planes, painted=painted, ended=True)


if __name__ == "__main__":
    main()

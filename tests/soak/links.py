"""``python -m soak.links [--seconds N] [--seed N]``: views on another machine, by connections that break at random.

A camera publishes run after run, and is watched by two desks: one has the newest frames, and a viewer; the other has
every frame, and a program. Meanwhile what carries their bytes is killed, stopped, slowed down and barred, and so are
the relay and the first desk. Whatever happens: publishing goes on, no pixel is wrong, the program gets its frames in
order and none twice, and the viewer has each run once. When all is quiet, both have the last run, bit by bit.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from children import wait_until
from desks import ConnectProcess, OtherMachine
from receivers import Viewer, check_stamp, planes_of, stamped
from scopecast import Publisher, subscribe
from scopecast.errors import ScopecastError
from soak.__main__ import private_run_directory

__all__ = ["Action", "main", "make_plan"]

SHAPE = (96, 128)
#: Frames of a run, and seconds from one to the next.
FRAMES, PAUSE_S = 100, 0.025
#: Seconds until all is well again after the last fault; and that one publish() may take.
QUIET_S, LIMIT_S = 120.0, 5.0
#: Seconds between two faults, and that each of them lasts.
_BETWEEN, _LASTS = (0.5, 3.0), (0.2, 12.0)
_VERBS = {"break": 4, "bar": 2, "stop": 3, "slow": 2, "kill the relay": 2, "kill the desk": 2}


class Action(NamedTuple):
    """What goes wrong, when (in seconds since the begin), and for how many seconds."""

    at: float
    verb: str
    lasts: float


def make_plan(seed: int, seconds: float) -> list[Action]:
    """Return what will go wrong, in order."""
    chance, at, plan = random.Random(seed), 1.0, []
    while at < seconds:
        verb = chance.choices(list(_VERBS), list(_VERBS.values()))[0]
        lasts = chance.uniform(*_LASTS) if verb in ("bar", "stop", "slow") else 0.0
        plan.append(Action(at, verb, min(lasts, seconds / 4)))
        at += plan[-1].lasts + chance.uniform(*_BETWEEN)
    return plan


class Camera:
    """Publishes run after run on the other machine, until it is to end with a last one."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self.runs = self.frames = 0
        self.longest_s = 0.0
        self.over = threading.Event()
        self._thread = threading.Thread(target=self._publish, daemon=True)
        self._thread.start()

    def _publish(self) -> None:
        while not self.over.is_set():
            self.run()
            self._publisher.end_stream(self._stream)

    @property
    def is_watched(self) -> bool:
        """Whether a relay gets the frames."""
        return any(row.attached and row.kind == "*" for row in self._publisher.stats().receivers)

    def run(self) -> None:
        """Publish a run."""
        self._stream = self._publisher.new_stream(f"run {self.runs}", sizes={"t": FRAMES})
        for t in range(FRAMES):
            frame = stamped(t, self.runs, 0, SHAPE)
            began = time.monotonic()
            self._publisher.publish(frame, axes={"t": t})
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            self.frames += 1
            time.sleep(PAUSE_S)
        self.runs += 1

    def end(self) -> str:
        """Let it end the run, publish one more, and return the title of that."""
        self.over.set()
        self._thread.join()
        self.run()
        return f"run {self.runs - 1}"


class Program:
    """Looks at every frame, and notes what is wrong with their order."""

    def __init__(self, title: str, wrong: list[str]) -> None:
        self._frames = subscribe(title=title, policy="every")
        self._frames.start()
        self.came, self.last, self._wrong = 0, (-1, -1), wrong
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        with contextlib.suppress(ScopecastError):  # it is closed
            for frame in self._frames:
                try:
                    t, run, _ = check_stamp(frame.array)
                except AssertionError as error:
                    self._wrong.append(f"the program got a frame that is torn: {error}")
                    continue
                if (run, t) <= self.last:
                    self._wrong.append(f"the program got {(run, t)} after {self.last}")
                self.came, self.last = self.came + 1, (run, t)

    def close(self) -> None:
        if not self._frames.stats().balanced:
            self._wrong.append(f"the program's account is not right: {self._frames.stats()}")
        self._frames.close()
        self._thread.join(10.0)


class Soak:
    """All that takes part."""

    def __init__(self, machine: OtherMachine, stack: contextlib.ExitStack) -> None:
        self.machine, self.wrong = machine, list[str]()
        with machine.there():
            publisher = stack.enter_context(Publisher("headless", title="camera 1", budget=16 * 2**20))
            publisher.open(SHAPE, "uint16", wait=30.0)
        self.viewer = stack.enter_context(Viewer())
        self.desk = stack.enter_context(ConnectProcess(machine))
        self.every = stack.enter_context(ConnectProcess(machine, "--every", host="lossless", kind="napari"))
        self.program = Program("camera 1 @ lossless", self.wrong)
        stack.callback(self.program.close)
        for desk in (self.desk, self.every):
            desk.line("Connected")
        self.camera = Camera(publisher)
        self._stack = stack

    def carriers(self) -> list[psutil.Process]:
        """The processes that carry the bytes of a connection."""
        found = []
        for pid in self.machine.pids:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def _signal(self, number: int) -> None:
        for process in self.carriers():
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)

    def do(self, action: Action) -> None:
        """Let something go wrong, and set it right."""
        if action.verb == "break":
            self._signal(signal.SIGKILL)
        elif action.verb == "bar":
            self.machine.close_the_way()
            self._signal(signal.SIGKILL)
            time.sleep(action.lasts)
            self.machine.close_the_way(closed=False)
        elif action.verb == "stop":
            self._signal(signal.SIGSTOP)
            time.sleep(action.lasts)
            self._signal(signal.SIGCONT)
        elif action.verb == "slow":
            self.machine.slow_down(100_000.0)
            self._signal(signal.SIGKILL)
            time.sleep(action.lasts)
            self.speed_up()
        elif action.verb == "kill the relay":
            for entry in self.machine.directory.living("relay"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(entry.pid, signal.SIGKILL)
        else:
            self.desk.process.kill()
            self.desk.process.wait()
            self.desk = self._stack.enter_context(ConnectProcess(self.machine))
            self.desk.line("Connected")  # a first attempt that fails is not repeated

    def speed_up(self) -> None:
        """Let connections be as fast as they can be."""
        (self.machine.path / "rate").unlink(missing_ok=True)
        self._signal(signal.SIGKILL)

    def check_the_end(self) -> None:
        """Check that both desks have the last run, and that all is accounted for."""
        with contextlib.suppress(AssertionError):
            wait_until(self._is_watched, timeout=QUIET_S)
        last = self.camera.end()
        try:
            self.viewer.wait_for(lambda: self._has(last), QUIET_S)
            wait_until(lambda: self.program.last == (self.camera.runs - 1, FRAMES - 1), timeout=QUIET_S)
        except AssertionError as error:
            self.wrong.append(f"{last} has not arrived: {error}; the program got {self.program.last}")
        titles = [stream.about.title for stream in self.viewer.streams]
        if len(set(titles)) < len(titles):
            self.wrong.append(f"runs are there twice: {titles}")
        for stream in self.viewer.streams:
            if stream.received > FRAMES:
                self.wrong.append(f"{stream.about.title} has {stream.received} frames, of {FRAMES}")
        for row in self.machine.listed():
            settled = sum(row[name] for name in ("exact", "preview", "superseded", "refused", "waiting", "sending"))
            if row["came"] != settled or row["refused"]:
                self.wrong.append(f"the relay's account is not right: {row}")
        if self.camera.longest_s > LIMIT_S:
            self.wrong.append(f"a publish() took {self.camera.longest_s:.1f} s")

    def _is_watched(self) -> bool:
        """Whether both desks are connected, to a relay that has found the camera."""
        states = [row["state"] for row in self.machine.listed()]
        return states.count("connected") == 2 and self.camera.is_watched

    def _has(self, title: str) -> bool:
        """Whether the viewer has all frames of a run, exact."""
        stream = next((each for each in self.viewer.streams if each.about.title == title), None)
        if stream is None or not stream.stacks:
            return False
        planes = planes_of(stream)
        if len(planes) < FRAMES or any(stream.stacks[0].tag(index).preview for index in planes):
            return False
        return sorted(check_stamp(plane)[0] for plane in planes.values()) == list(range(FRAMES))


def _left_over(*folders: Path) -> list[str]:
    """The processes that still have one of these run directories."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            where = process.environ().get("SCOPECAST_RUNTIME_DIR", "")
            if process.pid != os.getpid() and where in map(str, folders):
                found.append(" ".join(process.cmdline()))
    return found


def main() -> int:
    """Run it. Return 0 if all that must hold held."""
    parser = argparse.ArgumentParser(prog="make soak-remote", description=__doc__.split("\n\n")[1])
    parser.add_argument("--seconds", type=float, default=600.0, help="how long things go wrong (600)")
    parser.add_argument("--seed", type=int, default=None, help="of an earlier run, to do the same again")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    plan = make_plan(seed, options.seconds)
    print(f"seed {seed}: {len(plan)} faults in {options.seconds:g} s", flush=True)
    with private_run_directory(), OtherMachine.made() as machine:
        here = Path(os.environ["SCOPECAST_RUNTIME_DIR"])
        with contextlib.ExitStack() as stack:
            soak = Soak(machine, stack)
            began = time.monotonic()
            for action in plan:
                time.sleep(max(0.0, began + action.at - time.monotonic()))
                print(f"{action.at:7.1f} s  {action.verb}{f', {action.lasts:.1f} s' * bool(action.lasts)}", flush=True)
                soak.do(action)
            soak.speed_up()
            soak.check_the_end()
            camera, program = soak.camera, soak.program
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not _left_over(here, machine.path))
        soak.wrong += [f"still running: {each}" for each in _left_over(here, machine.path)]
        print(
            f"{camera.frames} frames published in {camera.runs} runs, {program.came} looked at by the program; the "
            f"longest publish() took {1000 * camera.longest_s:.1f} ms (limit {LIMIT_S:g} s)"
        )
    for text in soak.wrong[:20]:
        print(f"✗ {text}")
    if not soak.wrong:
        print("✓ nothing torn, twice, out of order, or lost at the end")
    return 1 if soak.wrong else 0


if __name__ == "__main__":
    sys.exit(main())

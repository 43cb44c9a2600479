"""What desks on other machines cost the acquisition and the relay, and how soon it is noticed that one has gone."""

from __future__ import annotations

import shlex
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import msgspec
import psutil
import zmq

from benchmarks.camera import Published
from scopecast.benchmarks.figures import Row, name_of
from scopecast.benchmarks.processes import wait_for
from scopecast.errors import ProtocolError
from scopecast.link import transport
from scopecast.remote import messages, stdio
from scopecast.remote.command import command_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.links import TwoMachines
    from benchmarks.programs import Program
    from scopecast.rundir.directory import RunDirectory

__all__ = ["DeskRow", "Listing", "connect_command", "measure", "region_seconds", "relay_ends"]

_ANSWER_S: Final = 10.0
_FIGURE: Final = "a relay"
#: Mbit/s of a desk whose link is fast enough for previews in full size, of most of many, and of the slowest.
_FAST, _USUAL, _SLOW = 100.0, 20.0, 5.0
#: Frames each second where what one costs is measured: each is sent to every desk.
_SPARSE: Final = 10.0
_LONGER, _MORE_MS = 1.5, 0.5
_FIRST_CPU_MS, _MORE_CPU_MS = 12.0, 3.0
_MEMORY_MIB: Final = 64.0
_KILLED_S, _STOPPED_S = 0.1, 2.0


class DeskRow(NamedTuple):
    """What the relay says of a desk."""

    title: str
    state: str
    quality: str
    account: messages.DeskAccount


class Listing:
    """Asks the relay of a run directory again and again who watches. Use it as a context manager."""

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._connected = False

    def ask(self) -> list[DeskRow]:
        """Return the desks; none as long as no relay runs."""
        if not self._connected:
            entry = stdio.running_relay(self._directory)
            if entry is None:
                return []
            transport.connect(self._socket, entry, None)
            self._connected = True
        self._socket.send(messages.encode(messages.ListDesks()), zmq.NOBLOCK)
        deadline = time.monotonic() + _ANSWER_S
        while (left := deadline - time.monotonic()) > 0:
            if self._socket.poll(int(1000 * left) + 1):
                answer = messages.decode_from_relay(self._socket.recv(zmq.NOBLOCK))
                if isinstance(answer, messages.Listed):
                    return [DeskRow(*each) for each in answer.desks]
        raise ProtocolError(f"the relay has not answered for {_ANSWER_S:g} s")

    def state(self, title: str) -> str:
        """Return what is said of a desk; ``""`` if nothing is."""
        return next((row.state for row in self.ask() if row.title == title), "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._context.term()


def _command() -> str:
    return f"{shlex.quote(sys.executable)} -P -m scopecast"


def connect_command(ssh: str, *options: str) -> Sequence[str]:
    """Return the arguments of Python for ``scopecast connect``."""
    where = ("--ssh", ssh, "--command", _command(), "--end-after", "2s")
    return ("scopecast", "connect", "microscope", "--viewer", "headless", "--no-open", *where, *options)


def _desk(machines: TwoMachines, title: str, mbit: float = 0.0, region: int = 0) -> Program:
    """Start a desk that does nothing with what it gets."""
    command = command_for(
        "microscope", ["relay", "--stdio", "--end-after", "2s"], ssh=machines.ssh(mbit), command=_command()
    )
    return machines.program_here("benchmarks.desk", title, str(region), *command)


def relay_ends(machines: TwoMachines) -> None:
    """Wait until the relay, which nobody needs any more, has ended."""
    wait_for(lambda: not machines.there.living("relay"), "the end of the relay", 30.0)


@contextmanager
def _watched(
    machines: TwoMachines, effort: Any, rate: float, desks: Sequence[float]
) -> Iterator[tuple[Program, list[Program], psutil.Process]]:
    """A camera, and desks with links of so many Mbit/s; and the relay's process."""
    machines.limit(1000.0)
    with ExitStack() as stack:
        there = [stack.enter_context(_desk(machines, f"desk {i}", mbit)) for i, mbit in enumerate(desks)]
        for each in there:
            each.report()
        (relay,) = machines.there.living("relay")
        arguments = (str(effort.side), str(rate), str(effort.seconds))
        camera = stack.enter_context(machines.program_there("benchmarks.camera", *arguments))
        camera.report()
        yield camera, there, psutil.Process(relay.pid)
    relay_ends(machines)


def measure(bench: Any, machines: TwoMachines) -> Iterator[Row]:
    """Measure the acquisition beside many desks, the relay's time and memory, and how soon it notices."""
    effort = bench.effort
    bench.say("publish() with a local viewer")
    local = _beside_local_viewer(machines, effort)
    bench.say(f"publish() with {effort.desks} desks")
    yield from _beside_desks(machines, effort, local)
    bench.say("the relay's time for each frame")
    yield from _time_rows(machines, effort)
    bench.say("how soon the relay notices")
    yield from _noticing_rows(machines, effort)


def _beside_local_viewer(machines: TwoMachines, effort: Any) -> Published:
    arguments = (str(effort.side), "50", str(effort.seconds))
    with (
        machines.program_there("scopecast_viewers", "headless"),
        machines.program_there("benchmarks.camera", *arguments) as camera,
    ):
        camera.report()
        return msgspec.convert(camera.report(effort.seconds + 60.0), Published)


def _beside_desks(machines: TwoMachines, effort: Any, local: Published) -> Iterator[Row]:
    desks = [_SLOW, *[_USUAL] * (effort.desks - 1)]
    with _watched(machines, effort, 50.0, desks) as (camera, there, relay):
        before = relay.memory_full_info().uss
        stopped = psutil.Process(there[-1].pid)
        stopped.suspend()
        most, until = before, time.monotonic() + effort.seconds
        while time.monotonic() < until:
            time.sleep(0.5)
            most = max(most, relay.memory_full_info().uss)
        published = msgspec.convert(camera.report(60.0), Published)
        with Listing(machines.there) as listing:
            sent = [row.account.preview + row.account.exact for row in listing.ask()]
        stopped.resume()
    limit = _LONGER * local.p99_ms + _MORE_MS
    yield Row(
        figure=_FIGURE,
        frame=name_of(effort.side),
        mode=f"publish() at 50/s with {effort.desks} desks, one stopped and one at {_SLOW:g} Mbit/s",
        p50_ms=published.p50_ms,
        p99_ms=published.p99_ms,
        ratio=published.p99_ms / local.p99_ms,
        target=f"p99 ≤ {_LONGER:g} times that with one local viewer + {_MORE_MS:g} ms",
        met=published.p99_ms <= limit,
        note=f"with one local viewer {local.p50_ms:.2f} / {local.p99_ms:.2f} ms; of {published.frames} frames the "
        f"desks got {', '.join(map(str, sorted(sent)))}",
    )
    yield Row(
        figure=_FIGURE,
        frame=name_of(effort.side),
        mode=f"memory of its own with {effort.desks} desks, more than before the first frame",
        mib=(most - before) / 2**20,
        target=f"≤ {_MEMORY_MIB:g} MiB and the frames that it keeps",
        met=(most - before) / 2**20 <= _MEMORY_MIB + 2 * effort.side**2 / 2**20,
        note=f"a live view: one frame of {2 * effort.side**2 / 2**20:.1f} MiB is kept; {before / 2**20:.0f} MiB before",
    )


def _time_rows(machines: TwoMachines, effort: Any) -> Iterator[Row]:
    used = {}
    for count in (1, 4):
        with (
            _watched(machines, effort, _SPARSE, [_FAST] * count) as (camera, _, relay),
            Listing(machines.there) as list_,
        ):
            time.sleep(effort.settle_s)
            began, cpu, sent = time.monotonic(), sum(relay.cpu_times()[:2]), _sent(list_)
            time.sleep(max(0.5, effort.seconds - effort.settle_s - 1.0))
            frames = (_sent(list_) - sent) / count
            used[count] = (
                1000 * (sum(relay.cpu_times()[:2]) - cpu) / max(1.0, frames),
                frames / (time.monotonic() - began),
                list_.ask()[0].quality,
            )
            camera.report(60.0)
    first, more = used[1][0], (used[4][0] - used[1][0]) / 3
    rows = (("for the first desk", first, _FIRST_CPU_MS, 1), ("for each more", more, _MORE_CPU_MS, 4))
    for what, value, limit, count in rows:
        yield Row(
            figure=_FIGURE,
            frame=name_of(effort.side),
            mode=f"processor time of a frame {what}, {_FAST:g} Mbit/s",
            p50_ms=value,
            p99_ms=value,
            target=f"≤ {limit:g} ms",
            met=value <= limit,
            note=f"{used[count][2]}; {used[count][1]:.1f} frames/s to each of {count}; with all that it does beside",
        )


def _sent(listing: Listing) -> int:
    return sum(row.account.preview + row.account.exact for row in listing.ask())


def _noticing_rows(machines: TwoMachines, effort: Any) -> Iterator[Row]:
    with _watched(machines, effort, 50.0, [_USUAL, _USUAL]) as (_, there, _), Listing(machines.there) as listing:
        time.sleep(1.0)
        for number, how, limit, target in (
            (0, "stopped", _STOPPED_S, "does not answer"),
            (1, "killed", _KILLED_S, "away"),
        ):
            process = psutil.Process(there[number].pid)
            at = time.monotonic()
            if how == "killed":
                process.kill()
            else:
                process.suspend()
            title = f"desk {number}"
            try:
                wait_for(lambda title=title, target=target: listing.state(title) == target, "it", 15.0)
            except TimeoutError:
                took, note = None, f"the relay says: {listing.state(title)}"
            else:
                took, note = time.monotonic() - at, ""
            if how == "stopped":
                process.resume()
            yield Row(
                figure=_FIGURE,
                frame=name_of(effort.side),
                mode=f"a {how} desk is noticed",
                p50_ms=None if took is None else 1000 * took,
                p99_ms=None if took is None else 1000 * took,
                target=f"≤ {limit:g} s",
                met=took is not None and took <= limit,
                note=note,
            )


def region_seconds(machines: TwoMachines, effort: Any, side: int) -> float:
    """Return the seconds that the exact pixels of a square of a paused camera's frame take, by the link as it is."""
    with _desk(machines, "region", region=side) as desk:
        desk.report()
        seconds = min(3.0, effort.seconds)
        with machines.program_there("benchmarks.camera", str(effort.side), "50", str(seconds)) as camera:
            camera.report()
            camera.report(seconds + 60.0)
            took = float(desk.report())
    relay_ends(machines)
    return took

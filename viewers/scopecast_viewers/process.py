"""The receiver: finds the publishers of its kind, attaches to them, and drains them on a thread of its own."""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import zmq

from scopecast import wire
from scopecast.runs import RunDirectory
from scopecast.transport import KeyPair
from scopecast.wakeup import WakeUp
from scopecast_viewers.history import History
from scopecast_viewers.source import Source

if TYPE_CHECKING:
    from collections.abc import Collection

    from scopecast.runs import Member
    from scopecast_viewers.display import Display
    from scopecast_viewers.live import LiveStream

__all__ = ["Receiver", "main"]

logger = logging.getLogger(__name__)

SCAN_S = 0.2
#: The GUI's Python would else keep the interpreter from the receiver's thread for 5 ms at a time.
SWITCH_INTERVAL_S = 0.0005
#: Publishers that have gone stay listed, with their frames, up to this many.
KEPT_SOURCES = 8


class Receiver:
    """Attaches a display to every publisher of its kind.

    Parameters
    ----------
    display
        What shows the frames.
    token
        This receiver's token; a new one by default.
    title
        What it calls itself.
    directory
        The run directory; the user's by default.
    history
        Which planes stay in memory; its own by default.

    Attributes
    ----------
    sources : tuple of Source
        The publishers that it is or was attached to.
    """

    def __init__(
        self,
        display: Display,
        *,
        token: str = "",
        title: str = "",
        directory: RunDirectory | None = None,
        history: History | None = None,
    ) -> None:
        self.display = display
        self.directory = directory or RunDirectory()
        self.history = history or History()
        self.sources: tuple[Source, ...] = ()
        self._keys = KeyPair.if_possible()
        key = self._keys.public if self._keys else ""
        self.member: Member = self.directory.join(
            "receiver", display.kind, token=token, title=title or display.kind, key=key
        )
        self._hello = wire.Hello(
            wire.PROTOCOL, wire.PROTOCOL, self.member.token, display.kind, os.getpid(), self.member.entry.title
        )
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._stop = WakeUp()
        self._thread: threading.Thread | None = None
        self._stopping = False

    @property
    def streams(self) -> tuple[LiveStream, ...]:
        """The streams of all sources, in the order in which they were announced."""
        return tuple(stream for source in self.sources for stream in source.streams)

    def start(self) -> None:
        """Begin to attach and to receive; from now on publishers find this receiver."""
        self._thread = threading.Thread(target=self._receive, name="scopecast-receiver", daemon=True)
        self._thread.start()
        self.member.entry.state = "ready"
        self.member.write()

    def close(self, reason: str = "the viewer was closed") -> None:
        """Say goodbye to every publisher, end the thread, and let go of all planes. Idempotent."""
        if self._stopping:
            return
        self._stopping = True
        if self._thread is not None:
            self.member.entry.state = "leaving"  # nobody is to wait for this viewer any more
            with suppress(OSError):
                self.member.write()
        self._stop.wake()
        if self._thread is not None:
            self._thread.join(10.0)
        for source in self.sources:
            source.leave(reason)
            source.remove()
        self._context.term()
        self._stop.close()
        self.history.close()
        self.member.close()

    def _receive(self) -> None:
        poller = zmq.Poller()
        watched: dict[zmq.Socket[bytes], Source] = {}
        next_scan = 0.0
        more = False
        while not self._stopping:
            sockets = {socket: source for source in self._open() for socket in (source.socket, source.monitor)}
            if sockets != watched:
                poller = zmq.Poller()
                poller.register(self._stop, zmq.POLLIN)
                for socket in sockets:
                    poller.register(socket, zmq.POLLIN)
                watched = sockets
            wait = 0.0 if more else max(0.0, next_scan - time.monotonic())
            ready = dict(poller.poll(int(wait * 1000) + (not more)))
            more = received = False
            for source in self._open():
                if source.socket in ready or source.monitor in ready:
                    more = self._attend(source, ready) or more
                    received = True
            if time.monotonic() >= next_scan:
                self._scan()
                next_scan = time.monotonic() + SCAN_S
            if received:
                self.display.changed()

    def _attend(self, source: Source, ready: Collection[object]) -> bool:
        """Read what a publisher sent. Return whether there may be more."""
        more = False
        try:
            if source.socket in ready:
                more = source.drain()
            if source.state not in ("ended", "lost") and source.monitor in ready:
                source.check()
        except Exception as error:  # noqa: BLE001 - the other publishers' frames go on; counted
            source.failed("what it sent", error)
        return more

    def _open(self) -> list[Source]:
        return [source for source in self.sources if source.state not in ("ended", "lost")]

    def _scan(self) -> None:
        """Look after the sources, and attach to the publishers that are new."""
        for source in self._open():
            try:
                source.check()
            except Exception as error:  # noqa: BLE001 - see _attend
                source.failed("its connection", error)
        # One that was lost, and lives: it was away from the run directory for too long.
        known = {source.entry.token for source in self.sources if source.state != "lost"}
        entries = [] if self._gone() else self.directory.entries("publisher", self.display.kind)
        for entry in entries:
            if entry.token not in known and entry.state == "ready" and self.directory.alive(entry.token):
                try:
                    source = Source(
                        entry, self.directory, self._hello, self.display, self.history, self._context, self._keys
                    )
                except zmq.ZMQError as error:  # no descriptors left; tried again by the next scan
                    logger.debug("cannot attach to %s: %s", entry.title, error)
                    continue
                self.sources = (*self.sources, source)
        gone = [source for source in self.sources if source.state in ("ended", "lost")]
        for source in gone[:-KEPT_SOURCES]:
            source.remove()
            self.sources = tuple(kept for kept in self.sources if kept is not source)
        self.display.changed()

    def _gone(self) -> bool:
        """Whether the run directory was removed under us; write our entry anew once it is back."""
        if self.directory.file(self.member.token, "json").exists():
            return False
        with suppress(OSError):
            self.member.write()
        return not self.directory.path.is_dir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def main(arguments: list[str] | None = None) -> int:
    """Run a receiver process: ``python -m scopecast_viewers napari``."""
    parser = argparse.ArgumentParser(prog="python -m scopecast_viewers", description="Show live streams in a viewer.")
    entries = {entry.name: entry for entry in importlib.metadata.entry_points(group="scopecast.viewers")}
    parser.add_argument("kind", choices=sorted(entries), help="the viewer")
    parser.add_argument("--token", default="", help="the token to use in the run directory")
    parser.add_argument("--title", default="", help="what the viewer calls itself")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    display: Display = entries[options.kind].load()()
    with Receiver(display, token=options.token, title=options.title) as receiver:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: display.quit())
        display.run(receiver)
    return 0

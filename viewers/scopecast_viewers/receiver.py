"""The receiver: finds the publishers of its kind, attaches to them, and drains them on a thread of its own."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Self
from weakref import WeakSet

import zmq

from scopecast.link import messages
from scopecast.link.transport import KeyPair
from scopecast.link.wakeup import WakeUp
from scopecast.rundir.directory import RunDirectory, new_token
from scopecast.subscribing.line import LinePoller
from scopecast_viewers.receiving.runs import Runs
from scopecast_viewers.receiving.source import Source
from scopecast_viewers.stacks.history import History

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from scopecast.rundir.directory import Entry, Member, Rescue, Rescued
    from scopecast_viewers.display import Display
    from scopecast_viewers.receiving.live import LiveStream

__all__ = ["Receiver"]

logger = logging.getLogger(__name__)

SCAN_S = 0.2
#: Only when the run directory was written to is it read so soon: a publisher's first frames wait for its viewers.
LOOK_S = 0.05
#: The GUI's Python would else keep the interpreter from the receiver's thread for 5 ms at a time.
SWITCH_INTERVAL_S = 0.0005
#: So long is the interpreter given away, so that the receiver's thread, if it has something to read, begins.
_YIELD_S = 0.0002
#: So long at most a window waits until what has arrived is read: the copy of a large frame takes 1 to 3 ms.
_CATCH_UP_S = 0.005
#: So long at most until it has noticed that a program was killed.
_NOTICED_S = 5.0
#: Seconds of rest after a turn that failed.
_REST_S = 0.05


class Receiver:
    """Attaches a display to the publishers of its kind: to all of them, or to those that the user chooses.

    It can be started and stopped as often as one likes; what it has received stays until `close`.

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
    publishers : tuple of scopecast.rundir.directory.Entry
        The publishers of its kind that are alive, whether it is attached to them or not; looked for every 0.2 s, and
        when one has just come.
    keepers : tuple of scopecast.rundir.directory.Entry
        The recorders that keep the last seconds in memory.
    errors : int
        How often the display failed when it was told that something is new, or the receiver's own thread at what it
        did; it goes on in any case.
    problem : str
        Why publishers may be missing, and that it is tried again; ``""`` while nothing is wrong.
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
        self._keys = KeyPair.if_possible()
        self.token = token or new_token()
        self._title = title or display.kind
        self.member: Member = self._join()  # which may fail, before there is anything to be closed
        self.history = history or History()
        self.sources: tuple[Source, ...] = ()
        self._runs = Runs(self.history)
        self.errors = 0
        self.problem = ""
        self._told: set[str] = set()  # of what a user was told once
        self._rescued: WeakSet[LiveStream] = WeakSet()
        self._kept: dict[str, int] = {}  # by the token of a recorder, the number of what it has told last
        self._rescuing = threading.Lock()  # who has asked may have given up meanwhile, and another ask
        self.publishers: tuple[Entry, ...] = ()
        self.keepers: tuple[Entry, ...] = ()
        self._attach_to_new = True
        self._chosen: set[str] = set()  # publishers that `attach` was called for
        self._asked: deque[Callable[[], None]] = deque()
        self._looked_at: tuple[LiveStream, messages.Look] | None = None
        self._hello = messages.Hello(
            messages.PROTOCOL, messages.PROTOCOL, self.token, display.kind, os.getpid(), self.member.entry.title
        )
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._wake = WakeUp()
        self._thread: threading.Thread | None = None
        self._stopping = self._closed = False
        self._poller = LinePoller(self._wake)
        self._all_read = threading.Event()  # it waits for what publishers send
        self._all_read.set()
        self._next_look = self._next_scan = 0.0
        self._changed_ns = 0
        self._problems: dict[str, str] = {}

    def _join(self) -> Member:
        key = self._keys.public if self._keys else ""
        return self.directory.join("receiver", self.display.kind, token=self.token, title=self._title, key=key)

    @property
    def streams(self) -> tuple[LiveStream, ...]:
        """The streams of all sources, in the order in which they were announced; a run that several share once."""
        return tuple(dict.fromkeys(stream for source in self.sources for stream in source.streams))

    @property
    def running(self) -> bool:
        """Whether it is started: it looks for publishers, and they find it."""
        return self._thread is not None

    @property
    def attach_to_new(self) -> bool:
        """Whether it attaches to every publisher that it has not known; if not, to those that `attach` names.

        One that does not is no viewer that a program could rely on to show its frames: a program that starts a viewer
        where none runs will start one.
        """
        return self._attach_to_new

    @attach_to_new.setter
    def attach_to_new(self, every: bool) -> None:
        if every != self._attach_to_new:
            self._attach_to_new = every
            if self.running:
                self._enter()
                self._ask(self._scan)

    def attach(self, token: str) -> None:
        """Attach to a publisher, as soon as it can be reached; again, if it was detached. Called from any thread.

        Parameters
        ----------
        token
            The publisher's, as in `publishers`.
        """
        self._ask(lambda: self._attach(token))

    def detach(self, token: str, reason: str = "its user has detached it") -> None:
        """Say goodbye to a publisher until `attach` is called for it; its frames stay. Called from any thread.

        Parameters
        ----------
        token
            The publisher's.
        reason
            Told to the publisher.
        """
        self._ask(lambda: self._detach(token, reason))

    def listens(self, stream: LiveStream | None) -> bool:
        """Whether a program that publishes a run takes marks."""
        tokens = () if stream is None else stream.publishers
        return any(source.listens for source in self.sources if source.name in tokens)

    def send_marks(self, stream: LiveStream, marks: messages.Marks, done: Callable[[bool, str], None]) -> None:
        """Send what the user points at in a frame to the frame's publisher. Called from any thread.

        Parameters
        ----------
        stream
            The run of the frame.
        marks
            As `scopecast_viewers.receiving.marks.message_of` makes them.
        done
            Called from the receiver's thread: with whether the program has taken them, and a text for the user. Called
            again if it then refuses them.
        """
        self._ask(lambda: self._send_marks(stream, marks, done))

    def look(self, stream: LiveStream, index: Sequence[int], region: Sequence[int]) -> None:
        """Tell what the user looks at, where that is a preview; as often as one likes. Called from any thread.

        Parameters
        ----------
        stream, index
            The run, and the place of the frame along its axes.
        region
            y, x, rows, columns of what is visible of it, in pixels; empty for all of it.
        """
        look = (stream, messages.Look(0, list(index), list(region)))
        if look != self._looked_at:
            self._looked_at = look
            self._ask(self._tell_look)

    def forget(self, stream: LiveStream) -> None:
        """Discard the frames of a stream that is no longer wanted. Called from any thread."""
        self._ask(lambda: self._forget(stream))

    def start(self) -> None:
        """Begin to attach and to receive; from now on publishers find this receiver. Idempotent.

        Raises
        ------
        RuntimeError
            If it is closed.
        """
        if self._closed:
            raise RuntimeError(f"the {self.display.kind} receiver {self.token} is closed; make a new one")
        if self.running:
            return
        if self._stopping:  # it was stopped, and has left the run directory
            self.member, self._stopping = self._join(), False
        self._thread = threading.Thread(target=self._receive, name="scopecast-receiver", daemon=True)
        self._thread.start()
        self._enter()

    def _enter(self) -> None:
        """Enter this receiver into the run directory."""
        self.member.entry.state = "ready" if self._attach_to_new else "choosing"
        self.member.write()

    def stop(self, reason: str = "the viewer was closed") -> None:
        """Say goodbye to every publisher, and leave the run directory; all frames stay. Idempotent."""
        if self._stopping:
            return
        if self._thread is not None:
            self.member.entry.state = "leaving"  # nobody is to wait for this viewer any more
            with suppress(OSError):
                self.member.write()
        self._stopping = True
        self._wake.wake()
        if self._thread is not None:
            self._thread.join(10.0)
            self._thread = None
        for source in self.sources:
            source.leave(reason)
        self.publishers = ()
        self.member.close()

    def close(self, reason: str = "the viewer was closed") -> None:
        """Stop, and let go of all planes. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self.stop(reason)
        for source in self.sources:
            source.remove()
        self._context.term()
        self._wake.close()
        self.history.close()

    # ---- on the receiver's thread --------------------------------------------------------------------------------

    def _ask(self, work: Callable[[], None]) -> None:
        """Let the receiver's thread do something soon; at the next start, if it is stopped."""
        self._asked.append(work)
        if not self._closed:
            self._wake.wake()

    def _attach(self, token: str) -> None:
        self._chosen.add(token)
        for source in self.sources:
            if source.entry.token == token:
                source.wanted = True
        self._scan()

    def _detach(self, token: str, reason: str) -> None:
        self._chosen.discard(token)
        for source in self.sources:
            if source.entry.token == token:
                source.wanted = False
                source.leave(reason)
        self._tell_display()

    def _send_marks(self, stream: LiveStream, marks: messages.Marks, done: Callable[[bool, str], None]) -> None:
        source = next((each for each in reversed(self.sources) if each.name == marks.token), None)
        title = stream.title if source is None else source.entry.title
        number = len(marks.types)
        what = "the mark" if number == 1 else f"the {number} marks"

        def tell(taken: bool, reason: str) -> None:
            done(taken, f"{title} has taken {what}" if taken else f"{title} has not taken {what}: {reason}")

        if source is None or not source.connected:
            tell(False, "the program that sent this frame is no longer there")
        else:
            source.send_marks(stream, marks, tell)

    def _tell_look(self) -> None:
        """Tell what is looked at to those who did not want to know it so far, or did not know it."""
        if self._looked_at is not None:
            for source in self.sources:
                source.tell_look(*self._looked_at)

    def _forget(self, stream: LiveStream) -> None:
        for source in self.sources:
            source.forget(stream)
        self._tell_display()

    def _receive(self) -> None:
        """Receive until it is stopped, whatever a publisher or the run directory does."""
        more = False
        while not self._stopping:
            try:
                more = self._turn(more)
            except Exception as error:  # noqa: BLE001 - there is no other thread that would receive; counted, and told
                more = False
                self._failed("receiving", error)
                time.sleep(_REST_S)  # it may come again at once, and would then take the whole processor
            else:
                self._recovered("receiving")
        self._all_read.set()

    def _turn(self, more: bool) -> bool:
        """Wait for what publishers send, or until it is time to look for them. Return whether there may be more."""
        while self._asked:
            self._asked.popleft()()
        if not more:
            self._all_read.set()
        ready = self._poller.wait(self._open(), None if more else self._next_look)
        if ready:
            self._all_read.clear()
        more = received = False
        for source in self._open():
            if source.socket in ready or source.monitor in ready:
                more = self._attend(source, ready) or more
                received = True
        if time.monotonic() >= self._next_look:
            self._look()
        if received:
            self._tell_look()
            self._tell_display()
        return more

    def let_read(self) -> bool:
        """Let the receiver's thread read what has arrived, for some milliseconds at most. Called on the GUI's thread.

        A GUI that paints keeps the interpreter for as long as that takes, tens of milliseconds with software OpenGL.
        What arrives meanwhile would be read in pieces between two pictures, and be a picture or two behind.

        Returns
        -------
        bool
            Whether all is read.
        """
        time.sleep(_YIELD_S)
        return self._all_read.wait(_CATCH_UP_S)

    def _failed(self, what: str, error: Exception) -> None:
        """Count an error, let viewers show it, and log the first one of its kind."""
        self.errors += 1
        self._problems[what] = f"{what}: {type(error).__name__}: {error} (will be tried again)"
        self.problem = "; ".join(self._problems.values())
        level = logging.DEBUG if what in self._told else logging.WARNING
        self._told.add(what)
        logger.log(level, "the %s receiver: %s", self.display.kind, self._problems[what], exc_info=error)

    def _recovered(self, what: str) -> None:
        if self._problems and self._problems.pop(what, ""):
            self.problem = "; ".join(self._problems.values())
            self._told.discard(what)

    def _attend(self, source: Source, ready: Collection[object]) -> bool:
        """Read what a publisher sent. Return whether there may be more."""
        try:
            return source.attend(ready)
        except Exception as error:  # noqa: BLE001 - the other publishers' frames go on; counted
            source.failed("what it sent", error)
            return False

    def _tell_display(self) -> None:
        """Notify the display; if that fails, receiving and the accounts go on."""
        try:
            self.display.changed()
        except Exception:
            self.errors += 1
            if self.errors == 1:
                logger.exception("the %s display failed when it was told of new frames", self.display.kind)

    def _open(self) -> list[Source]:
        return [source for source in self.sources if source.connected]

    def _look(self) -> None:
        """Look for publishers where one may have come, and every 0.2 s in any case: the time of a change is coarse."""
        now, changed_ns = time.monotonic(), self.directory.changed_ns
        self._next_look = now + LOOK_S
        if now >= self._next_scan or changed_ns != self._changed_ns:
            self._next_scan, self._changed_ns = now + SCAN_S, changed_ns  # first: what fails is not tried again at once
            self._scan()

    def _scan(self) -> None:
        """Check the sources, and attach to new publishers."""
        for source in self._open():
            try:
                source.check()
            except Exception as error:  # noqa: BLE001 - see _attend
                source.failed("its connection", error)
        try:
            alive = self._living()
        except OSError as error:  # no descriptors left, for one: those that we know go on
            self._failed("looking for publishers", error)
            self._tell_display()
            return
        self._recovered("looking for publishers")
        self.publishers = tuple(alive)
        if (asked := self.directory.asked_to_rescue(self.token)) is not None:
            self.directory.work_on_rescue(self.token)
            threading.Thread(target=self._rescue, args=(asked,), name="scopecast-rescue", daemon=True).start()
        self._return_to(alive)
        self._greet([entry for entry in alive if self._attach_to_new or entry.token in self._chosen])
        gone = [source for source in self.sources if source.state in ("ended", "lost") and not source.held]
        for source in gone[: -self.display.kept_sources]:
            source.remove()
            self.sources = tuple(kept for kept in self.sources if kept is not source)
        self._tell_display()

    def keep(self) -> tuple[bool, str]:
        """Ask the recorders to write the last seconds that they keep; return whether there is one, and what to tell."""
        for recorder in self.keepers:
            self._kept.setdefault(recorder.token, max((at for at, _ in self.directory.kept(recorder.token)), default=0))
        asked = self.directory.ask_to_keep()
        if not asked:
            return False, "nothing is kept: the recorder is not running any more"
        return True, f"{'the recorder writes' if asked == 1 else f'{asked} recorders write'} the last seconds to files"

    def kept(self) -> list[str]:
        """Return what recorders have written since this was called last, once this viewer has asked them to."""
        told = []
        for token, before in self._kept.items():
            for number, text in self.directory.kept(token):
                if number > before:
                    self._kept[token] = number
                    told.append(text)
        return told

    def _rescue(self, asked: Rescue) -> None:
        """Write what there is of programs that were killed, unless it has been written; on a thread of its own."""
        with self._rescuing:
            rescued = self._write_lost(asked)
        with suppress(OSError):  # there is no room for the answer: who has asked will give up
            self.directory.tell_of_rescue(self.token, rescued)

    def _write_lost(self, asked: Rescue) -> Rescued:
        from scopecast_viewers.receiving.rescue import rescue

        def working() -> None:
            self.directory.work_on_rescue(self.token)

        dead = [each for each in self.sources if not self.directory.alive(each.entry.token)]
        until = time.monotonic() + _NOTICED_S
        while any(each.connected for each in dead) and time.monotonic() < until:  # its last frames may be on their way
            time.sleep(LOOK_S)
        lost = [each for each in dead if each.state == "lost"]
        wanted = [(each.entry.title, stream) for each in lost for stream in each.streams]
        rescued = rescue(asked, [each for each in wanted if each[1] not in self._rescued], working)
        rescued.publishers = [each.entry.token for each in lost]
        if not rescued.problems:
            self._rescued.update(stream for _, stream in wanted)
        return rescued

    def _living(self) -> list[Entry]:
        """Return the publishers of our kind that can be reached; note the recorders, too."""
        entries = [] if self._gone() else self.directory.entries()
        self.keepers = self.directory.keepers(entries)
        ours = [entry for entry in entries if (entry.role, entry.kind) == ("publisher", self.display.kind)]
        alive = [entry for entry in ours if entry.state == "ready" and self.directory.alive(entry.token)]
        # What comes from another machine by several ways is shown once.
        return [
            entry
            for entry in alive
            if not any(each.connected and each.entry.token != entry.token for each in self._same(entry))
        ]

    def _same(self, entry: Entry) -> list[Source]:
        """Return the sources of what a publisher publishes: of itself, or of another with the same from elsewhere."""

        def origin(one: Entry) -> str:
            return one.origin or one.token

        return [source for source in self.sources if origin(source.entry) == origin(entry)]

    def _greet(self, entries: list[Entry]) -> None:
        """Attach to publishers that we do not know yet."""
        # One that was lost, and lives: it was away from the run directory for too long.
        known = {source.entry.token for source in self.sources if source.state != "lost"}
        for entry in entries:
            if entry.token not in known and not any(each.connected for each in self._same(entry)):
                try:
                    source = Source(
                        entry,
                        self.directory,
                        self._hello,
                        self.display,
                        self.history,
                        self._context,
                        self._keys,
                        self._runs,
                    )
                except Exception as error:  # noqa: BLE001 - no descriptors left, for one; the others are attached to
                    self._failed(f"attaching to {entry.title}", error)
                    continue
                self._recovered(f"attaching to {entry.title}")
                gone = [each for each in self._same(entry) if each.state in ("ended", "lost")]
                for former in gone:
                    source.take_over(former)
                self.sources = (*(each for each in self.sources if each not in gone), source)

    def _return_to(self, alive: list[Entry]) -> None:
        """Attach again to publishers that we had left, if that is wanted."""
        tokens = {entry.token for entry in alive}
        for source in self.sources:
            if source.state != "detached":
                continue
            if source.entry.token not in tokens:
                if not self.directory.alive(source.entry.token):
                    source.end()
            elif source.wanted:
                what = f"attaching to {source.entry.title}"
                try:
                    source.attach()
                except Exception as error:  # noqa: BLE001 - see _greet
                    self._failed(what, error)
                else:
                    self._recovered(what)

    def _gone(self) -> bool:
        """Whether the run directory was removed; write our entry again once it is back.

        Raises
        ------
        OSError
            If that can't be done.
        """
        if not self.member.removed:
            return False
        self.member.write()
        return not self.directory.path.is_dir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

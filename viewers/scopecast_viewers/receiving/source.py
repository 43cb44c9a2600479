"""A source: the receiver's end of the connection to one publisher. Validates, copies out, acknowledges."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from scopecast.errors import ProtocolError, UnsupportedDtypeError
from scopecast.frames.documents import DOCUMENTS, MAX_DOCUMENT_BYTES, decode
from scopecast.link import messages
from scopecast.subscribing.line import Line
from scopecast_viewers.receiving.live import LiveStream, PaintLog
from scopecast_viewers.receiving.runs import SharedStream

if TYPE_CHECKING:
    from collections.abc import Callable

    import zmq

    from scopecast.link.transport import KeyPair
    from scopecast.memory.ring import RingReader
    from scopecast.rundir.directory import Entry, RunDirectory
    from scopecast.subscribing.line import LineState
    from scopecast_viewers.display import Display
    from scopecast_viewers.receiving.runs import Runs
    from scopecast_viewers.stacks.history import History

__all__ = ["Source"]

logger = logging.getLogger(__name__)

#: Marks whose sender is told if the program refuses them after it has taken them: the last.
_MOST_MARKS = 64


class Source(Line):
    """One publisher that a receiver is attached to, or tries to be.

    Used by the receiver's thread alone; other threads read its attributes.

    Parameters
    ----------
    entry
        The publisher's entry in the run directory.
    directory
        The run directory, which knows whether the publisher lives.
    hello
        What this receiver says of itself.
    display
        Takes the planes.
    history
        Keeps them.
    context
        The receiver's ZeroMQ context.
    keys
        The receiver's, for publishers that are reached by tcp; the public one is in its entry.
    runs
        The receiver's, which several publishers have parts of.

    Attributes
    ----------
    problem : str
        Why frames of this publisher can't be shown, or ``""``; what was wrong with one frame is over with the next.
    delivered, rejected : int
        Frames put into a stack; frames that were overwritten before they were copied, and so never shown.
    wanted : bool
        Whether it is to be attached again when the receiver starts again; False once the user has detached it.
    name : str
        What its streams have as their source: the publisher's token; where several have brought what one program on
        another machine publishes, that of the first.
    """

    def __init__(
        self,
        entry: Entry,
        directory: RunDirectory,
        hello: messages.Hello,
        display: Display,
        history: History,
        context: zmq.Context[zmq.Socket[bytes]],
        keys: KeyPair | None,
        runs: Runs,
    ) -> None:
        self.streams: tuple[LiveStream, ...] = ()
        self.delivered = self.rejected = 0
        self.wanted = True
        self.name = entry.token
        self._mark_numbers = itertools.count(1)
        self._marks_sent: dict[int, Callable[[bool, str], None]] = {}  # whom to tell of the fate of each
        self._told_look: tuple[LiveStream, messages.Look] | None = None
        self._unanswered: set[int] = set()
        self.log = PaintLog()
        self.answers: list[tuple[int, str]] = []
        self._display, self._history, self._runs = display, history, runs
        self._by_id: dict[int, LiveStream | SharedStream] = {}
        self._current: LiveStream | SharedStream | None = None  # whose frames come now
        self._taken_over: set[int] = set()  # streams of another source that were not announced again so far
        self._has_taken_over = False
        self._complained = False
        super().__init__(entry, directory, hello, context, keys)

    @property
    def held(self) -> bool:
        """Whether the user works with one of its streams."""
        return any(stream.held for stream in self.streams)

    def take_over(self, former: Source) -> None:
        """Go on with the streams of a source that has gone, and had what this one has.

        It is the same publisher, which was given up as lost; or another one of what comes from another machine.
        """
        self.name, self.log = former.name, former.log
        self.delivered, self.rejected, self.errors = former.delivered, former.rejected, former.errors
        self.superseded, self.dropped = former.superseded, former.dropped
        self._by_id, former._by_id = {**self._by_id, **former._by_id}, {}
        self._taken_over, self._has_taken_over = set(self._by_id), True
        for stream in self._by_id.values():
            stream.alive = True
        self._list_streams()
        former._list_streams()

    # ---- what comes in -------------------------------------------------------------------------------------------

    def _handle(self, message: messages.FromPublisher) -> None:
        if isinstance(message, messages.Capture):
            # The display calls back from its own thread; the answer is sent from this one, by `check`.
            number = message.number
            self._display.capture(message.path, lambda error: self.answers.append((number, error)))
        elif isinstance(message, messages.Marked):
            self._unanswered.discard(message.number)
            if (done := self._marks_sent.get(message.number)) is not None:
                done(message.fate == "taken", message.reason)
        else:
            superseded, dropped = self.superseded, self.dropped
            super()._handle(message)
            if isinstance(message, messages.Ping):
                self._note_losses(self.superseded - superseded, self.dropped - dropped)

    def _note_losses(self, superseded: int, dropped: int) -> None:
        """Count frames that were lost as those of the run that is on; its last account comes before the next run."""
        current = self._current
        stream = current.stream if isinstance(current, SharedStream) else current
        if stream is not None:
            stream.superseded += superseded
            stream.dropped += dropped

    def _take(self, frame: messages.Frame) -> None:
        fate: messages.AckFate = "skipped"
        try:
            fate = self._receive(frame)
            if fate == "delivered" and self.problem:
                self.problem = ""
        except Exception as error:  # noqa: BLE001 - a display's mistake; unanswered, the slot would be lost
            self.failed("a frame", error)
        self.acknowledge(frame, fate)

    def _announce(self, about: messages.Stream) -> None:
        if stream := self._by_id.get(about.id):
            if not set(stream.axes) <= set(about.axes):
                msg = f"stream {about.id} lost an axis: {stream.axes} became {about.axes}"
                raise ProtocolError(msg)
            stream.update(about)
            if stream.state == "detached" or about.id in self._taken_over:
                stream.state = "live"
            self._taken_over.discard(about.id)
            return
        if about.run:
            stream = SharedStream(self.name, about, self.log, self._runs)
        else:
            stream = LiveStream(self.name, self.entry.title, about, self._history, self.log)
        replaced = {each.key for each in self._replaced_by(stream)}
        self._by_id[about.id] = self._current = stream
        kept = [number for number, each in self._by_id.items() if each.key not in replaced]
        # Live mode goes on between any number of runs, in one stream, and takes the place of none.
        live = next((number for number in reversed(kept) if self._by_id[number].about.preview), None)
        old = [number for number in kept if number != live and not self._by_id[number].held]
        for number in old[: max(0, len(kept) - (live is not None) - self._display.kept_streams)]:
            self._by_id.pop(number).remove()
        self._list_streams()

    def _end_stream(self, number: int) -> None:
        if stream := self._by_id.get(number):
            stream.state = "ended"

    def _list_streams(self) -> None:
        """Bring `streams` up to date; a share has none before its first frame."""
        found = (each.stream if isinstance(each, SharedStream) else each for each in self._by_id.values())
        self.streams = tuple(dict.fromkeys(stream for stream in found if stream is not None))

    def _replaced_by(self, stream: LiveStream | SharedStream) -> list[LiveStream | SharedStream]:
        """Return the streams whose place in the viewer another takes with its first image.

        Live mode is one image, whatever becomes of its pixel size: with another one a stream of the same title begins.
        """
        if not stream.about.preview:
            return []
        return [
            each
            for number, each in self._by_id.items()
            if number < stream.about.id and each.about.preview and each.about.title == stream.about.title
        ]

    def _replace(self, stream: LiveStream | SharedStream) -> None:
        if former := self._replaced_by(stream):
            for each in former:
                del self._by_id[each.about.id]
            self._list_streams()  # one that is gone and one that is there: never both, never none
            for each in former:
                each.remove()

    def _receive(self, frame: messages.Frame) -> messages.AckFate:
        """Copy a frame out of its slot into its stack."""
        reader, stream = self.reader, self._by_id.get(frame.stream)
        if reader is None or reader.epoch != frame.epoch or stream is None:
            return "skipped"
        index = stream.place(frame.index)
        if index is None:
            return "skipped"
        frame.index = index
        known = stream if isinstance(stream, LiveStream) else stream.stream
        if self._has_taken_over and known is not None:
            frame.late = frame.late or known.has(frame)
        if frame.preview and known is not None and known.has(frame, exact=True):
            return "delivered"  # the connection was made again, and the exact pixels are here
        if isinstance(stream, SharedStream) and stream.stream not in self.streams:
            self._list_streams()
        if frame.kind in DOCUMENTS:
            return self._receive_document(frame, stream, reader)
        try:
            dtype = np.dtype(frame.dtype)
            if frame.kind == "labels" and (dtype.kind not in "biu" or len(frame.shape) != 2):
                return "skipped"
            if not self._display.shows(dtype, frame.kind):
                return "skipped"
            view = self.view(frame)
        except (TypeError, ValueError, UnsupportedDtypeError) as error:
            self.errors += 1
            logger.debug("ignored a frame of %s: %s", self.entry.title, error)
            return "skipped"
        if view is None:
            self.rejected += 1
            return "skipped"
        if frame.kind == "labels" and dtype.kind == "b":
            view = view.view(np.uint8)  # what viewers take for labels
        magnitude = dtype.kind == "c"
        if frame.kind == "labels":
            plane = self._display.take_labels(view)
        else:
            plane = self._display.take(view, magnitude=magnitude)
        # A lease that was taken back (this process was stopped for too long) lets the slot be overwritten any time.
        if not self.intact(frame):
            self.rejected += 1
            return "skipped"
        stream.put(frame, plane, magnitude=magnitude)
        if not frame.late:
            self._current = stream
        if stream.received == 1:
            self._replace(stream)
        self.delivered += 1
        return "delivered"

    def _receive_document(
        self, frame: messages.Frame, stream: LiveStream | SharedStream, reader: RingReader
    ) -> messages.AckFate:
        """Copy a document out of its slot, decode it, and put it beside the stacks."""
        dtype = np.dtype(np.uint8)
        if frame.dtype != dtype.str or len(frame.shape) != 1 or frame.shape[0] > MAX_DOCUMENT_BYTES:
            return "skipped"
        if not self._display.shows(dtype, frame.kind):
            return "skipped"
        try:
            view = reader.view(frame.slot, frame.shape, dtype)
            data = view.tobytes() if reader.generation(frame.slot) == frame.generation else b""
            if reader.generation(frame.slot) != frame.generation:
                self.rejected += 1
                return "skipped"
            document = decode(frame.kind, data)
        except ValueError as error:  # ProtocolError is one
            self.errors += 1
            logger.debug("ignored %s of %s: %s", frame.kind, self.entry.title, error)
            return "skipped"
        if not stream.annotate(frame, document):
            return "skipped"
        self.delivered += 1
        return "delivered"

    def _pong(self, number: int) -> messages.Pong:
        p50, p99 = self.log.percentiles()
        return messages.Pong(
            number=number,
            painted=self.log.painted,
            age_p50_ms=p50,
            age_p99_ms=p99,
            first_ms=self.log.first_ms,
            rejected=self.rejected,
            forgotten=sum(stack.forgotten for stream in self.streams for stack in stream.stacks)
            + sum(stream.annotations.forgotten for stream in self.streams),
            **self._display.report(self.name),
        )

    # ---- coming and going ----------------------------------------------------------------------------------------

    def check(self) -> None:
        """Check the connection: answer what the display has finished, notice a publisher that has gone."""
        while self.answers:
            number, error = self.answers.pop(0)
            self.send(messages.Captured(number, error[:2000]))
        super().check()

    def failed(self, what: str, error: Exception) -> None:
        """Count a mistake, and say the first one."""
        self.errors += 1
        self.problem = f"{what} could not be shown: {type(error).__name__}: {error}"
        level = logging.DEBUG if self._complained else logging.WARNING
        self._complained = True
        logger.log(level, "%s: %s", self.entry.title, self.problem, exc_info=error)

    def send_marks(self, stream: LiveStream, marks: messages.Marks, done: Callable[[bool, str], None]) -> None:
        """Send marks to the publisher.

        Parameters
        ----------
        stream
            The run of the frame that they are in.
        marks
            What to send.
        done
            Called with whether they were taken, and why not; again if the program refuses later what it has taken.
        """
        numbers = [
            number
            for number, each in self._by_id.items()
            if (each.stream if isinstance(each, SharedStream) else each) is stream
        ]
        if self.state != "attached" or not self.listens:
            done(False, "it is not taking marks now")
        elif not numbers:
            done(False, "the frame is stale: its run has been removed")
        else:
            number = next(self._mark_numbers)
            token = self.entry.token if marks.token == self.name else marks.token
            if not self.send(msgspec.structs.replace(marks, token=token, number=number, stream=numbers[-1])):
                done(False, "it does not read its messages: try again")
                return
            self._marks_sent[number] = done
            self._unanswered.add(number)
            while len(self._marks_sent) > _MOST_MARKS and len(self._marks_sent) > len(self._unanswered):
                del self._marks_sent[min(set(self._marks_sent) - self._unanswered)]

    def tell_look(self, stream: LiveStream, look: messages.Look) -> None:
        """Tell the publisher once what is looked at, if it wants to know that, and it is of a run of its own."""
        if not self.connected or not self.looks or self._told_look == (stream, look):
            return
        number = next((number for number, each in self._by_id.items() if each is stream), None)
        if number is not None and self.send(msgspec.structs.replace(look, stream=number)):
            self._told_look = (stream, look)

    def _forgotten(self) -> None:
        self._told_look = None
        self._give_up_marks("the connection to it broke: it may or may not have taken them")

    def _give_up_marks(self, reason: str) -> None:
        """Tell of the marks that no answer will come for."""
        sent, self._marks_sent = self._marks_sent, {}
        unanswered, self._unanswered = self._unanswered, set()
        for number in sorted(unanswered):
            sent[number](False, reason)

    def _left(self) -> None:
        # By a connection with another machine it is told first that a run has ended.
        state: LineState = "lost" if self.state == "ended" and self.entry.origin else self.state
        for stream in self._by_id.values():
            stream.alive = state == "detached"
            if stream.state == "live":
                stream.state = "lost" if state == "lost" else "detached" if state == "detached" else "ended"
        self._give_up_marks("it was detached before" if state == "detached" else "it ended before it took them")

    def end(self) -> None:
        """Note that a publisher that we have left is gone."""
        if self.state == "detached":
            self.state = "ended"
            for stream in self._by_id.values():
                stream.alive = False
                if stream.state == "detached":
                    stream.state = "ended"

    def forget(self, stream: LiveStream) -> None:
        """Let go of what a stream has; and of the stream, if nothing can come any more."""
        for number, each in tuple(self._by_id.items()):
            if (each.stream if isinstance(each, SharedStream) else each) is stream:
                each.clear()
                if each.state != "live":
                    del self._by_id[number]
                    if isinstance(each, SharedStream):
                        each.remove()
        self._list_streams()

    def remove(self) -> None:
        """Let go of all planes of its streams."""
        for stream in self._by_id.values():
            stream.remove()
        self._by_id.clear()
        self.streams = ()

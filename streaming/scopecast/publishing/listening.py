"""Listening: marks come from viewers, wait for the program, and the viewer is told what has become of them.

Viewers offer to send marks only while somebody listens. The keeper's thread takes them; what the program does with
them, it does in threads of its own.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import numpy as np

from scopecast.frames.marks import Mark, Marks, on_stage
from scopecast.link import messages
from scopecast.protocol import clock_ns, printable
from scopecast.publishing.wait import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from typing import Any

    from scopecast.frames.streams import FrameStream

    #: An `AttachedReceiver`, of which this knows no more than its name: it is only handed back.
    Sender = Any

__all__ = ["Inbox", "Listener", "Listening"]

logger = logging.getLogger(__name__)

#: How many times marks may be sent before the program takes the first of them.
MOST_WAITING: Final = 16
_LOOK_S: Final = 0.25  # Windows lets Ctrl-C through only between two waits
_NOBODY: Final = "the program no longer takes marks"


class Waiting(NamedTuple):
    """Marks that have come, and not been taken yet."""

    sender: Sender
    message: messages.Marks
    stream: FrameStream
    age_s: float


class Inbox:
    """Marks that wait for one listener.

    Attributes
    ----------
    waiting : deque of Waiting
        In the order in which they came.
    closed : bool
        Nobody takes them any more. Set without the lock, as the garbage collector may do it.
    came : Event
        Something is waiting, or it is closed.
    max_age_s : float or None
        Frames that were published longer ago are stale.
    """

    def __init__(self, max_age_s: float | None) -> None:
        self.waiting: deque[Waiting] = deque()
        self.closed = False
        self.came = Event()
        self.max_age_s = max_age_s

    def close(self) -> None:
        """Take nothing more. What waits is refused by `Listening.settle`."""
        self.closed = True
        self.came.set()


class Listening:
    """Whether somebody listens, and to what. Used under the publisher's lock.

    Attributes
    ----------
    inbox : Inbox or None
        Of who listens, or did so last.
    looks : bool
        Whether viewers are to tell what is looked at.
    """

    def __init__(self) -> None:
        self.inbox: Inbox | None = None
        self.looks = False
        self._streams: dict[int, FrameStream] = {}
        self._over = ""  # why nobody will ever listen again

    @property
    def active(self) -> bool:
        """Whether somebody listens."""
        return self.inbox is not None and not self.inbox.closed

    def know(self, stream: FrameStream, known: Collection[int]) -> None:
        """Take note of a stream that is announced; of the others those stay that are known to receivers, too."""
        self._streams[stream.number] = stream
        self._streams = {number: each for number, each in self._streams.items() if number in known}

    def begin(self, inbox: Inbox) -> None:
        """Listen.

        Raises
        ------
        RuntimeError
            If somebody does already: it would not be clear who gets what.
        """
        if self.active:
            msg = "this publisher's marks are already taken by another listener: close that one first"
            raise RuntimeError(msg)
        self.inbox = inbox

    def take(self, sender: Sender, message: messages.Marks) -> str:
        """Let marks wait for the program; return why not, or ``""``."""
        inbox = self.inbox
        if inbox is None or inbox.closed:
            return self._over or _NOBODY
        age_s = (clock_ns() - message.sent_ns) / 1e9
        stream = self._streams.get(message.stream)
        if stream is None or age_s < 0:
            kept = messages.KEPT_STREAMS
            return f"the frame is stale: it is not from this program's last {kept} runs; mark one of a newer run"
        if inbox.max_age_s is not None and age_s > inbox.max_age_s:
            return f"the frame is stale: it is {age_s:.1f} s old, and the program takes {inbox.max_age_s:g} s at most"
        if len(inbox.waiting) >= MOST_WAITING:
            return f"the last {MOST_WAITING} still wait for the program: try again later"
        inbox.waiting.append(Waiting(sender, message, stream, age_s))
        inbox.came.set()
        return ""

    def end(self, reason: str) -> None:
        """Let nobody listen any more."""
        self._over = reason
        if self.inbox is not None:
            self.inbox.close()

    def settle(self) -> Iterator[tuple[Sender, messages.Marked]]:
        """Yield the refusals of what nobody will take any more."""
        if self.inbox is not None and self.inbox.closed:
            while self.inbox.waiting:
                left = self.inbox.waiting.popleft()
                yield left.sender, messages.Marked(left.message.number, "refused", self._over or _NOBODY)


class Listener:
    """Takes the marks that users send from their viewers: iterate over it, in one thread.

    Made by `Publisher.marks` and `Publisher.on_marks`. Viewers offer to send marks while it is open. It ends with the
    publisher; close it, or use it as a context manager, if you want no more marks before that.

    Attributes
    ----------
    errors : int
        How often the callback failed.
    """

    def __init__(
        self,
        inbox: Inbox,
        answer: Callable[[Sender, messages.Marked], None],
        timeout: float | None,
    ) -> None:
        self.errors = 0
        self._inbox, self._answer, self._timeout = inbox, answer, timeout
        # It takes no lock: the garbage collector may call it in any thread.
        self._finalizer = weakref.finalize(self, inbox.close)

    @property
    def waiting(self) -> int:
        """How many times marks were sent that have not been taken yet."""
        return len(self._inbox.waiting)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Marks:
        """Wait for marks; end with the publisher, when this is closed, or after the timeout."""
        inbox = self._inbox
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        while not inbox.closed:
            inbox.came.clear()
            try:
                taken = inbox.waiting.popleft()
            except IndexError:
                left = _LOOK_S if deadline is None else min(_LOOK_S, deadline - time.monotonic())
                if left <= 0:
                    break
                inbox.came.wait(left)
                continue
            self._answer(taken.sender, messages.Marked(taken.message.number, "taken"))
            return self._made(taken)
        raise StopIteration

    def _made(self, taken: Waiting) -> Marks:
        from scopecast.images.ome import micrometers

        sender, message, stream, age_s = taken
        shape = (message.shape[0], message.shape[1])
        factor = micrometers(stream.units)
        pixel = [side * factor for side in stream.scale]
        vertices = np.array(message.vertices).reshape(-1, 2)
        parts = np.split(vertices, np.cumsum(message.lengths)[:-1])
        names = message.names or [""] * len(parts)
        answer = self._answer

        def refuse(reason: str) -> None:
            answer(sender, messages.Marked(message.number, "refused", printable(str(reason), 2000)))

        return Marks(
            [
                Mark(kind, part, on_stage(part, shape, message.position, pixel, stream.affine), name)
                for kind, part, name in zip(message.types, parts, names, strict=True)
            ],
            axes={**message.axes, **message.labels},
            shape=shape,
            stream=stream.title,
            position=tuple(message.position),
            layer=message.layer,
            viewer=str(sender),
            age_s=age_s,
            refuse=refuse,
        )

    def events(self, sequence: Any = None) -> Iterator[Any]:
        """Yield the events of a sequence at each position that is marked, as they come.

        Marks in frames whose place on the stage is not known are refused.

        Parameters
        ----------
        sequence : useq.MDASequence, optional
            What to acquire at each position; by default one frame.

        Yields
        ------
        useq.MDAEvent
            For ``core.run_mda``: the run goes on until this listener is closed, or its timeout expires.
        """
        first = 0
        for marks in self:
            try:
                marks.positions()
            except ValueError as error:
                marks.refuse(str(error))
                continue
            yield from marks.events(sequence, first=first)
            first += len(marks)

    def call(self, callback: Callable[[Marks], object]) -> None:
        """Call a function with all marks that come, on a thread of its own. If it raises an error, they are refused."""
        threading.Thread(target=_call, args=(self, callback), name="scopecast-marks", daemon=True).start()

    def close(self) -> None:
        """Take no more marks; what has not been taken is refused. Idempotent."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _call(listener: Listener, callback: Callable[[Marks], object]) -> None:
    for marks in listener:
        try:
            callback(marks)
        except Exception as error:
            listener.errors += 1
            why = f"{type(error).__name__}: {error}"
            marks.refuse(why)
            logger.log(
                logging.WARNING if listener.errors == 1 else logging.DEBUG,
                "scopecast: marks could not be used: %s",
                printable(why),
                exc_info=error,
            )

"""What subscribers reply to frames: it joins the stream of the frame, at the frame's place, for the viewers to show.

A reply lies in the subscriber's own memory, and is copied from there into a slot of the publisher's ring, by the thread
"keeper" and never by ``publish()``. There it is a frame like any other, except that it

* never takes the place of a frame of the source: if no slot is free it is dropped, but it waits for larger slots,
* is sent only to viewers, and to relays, that have got the frame that it is about, or will,
* counts in an account of its own.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from scopecast.errors import ClosedError, SharedMemoryError, UnsupportedDtypeError
from scopecast.frames.annotations import KINDS
from scopecast.frames.arrays import check_plane, native
from scopecast.frames.documents import DOCUMENTS, check_document
from scopecast.link import messages
from scopecast.memory.copying import copy_frame
from scopecast.memory.ring import RingReader
from scopecast.publishing.draft import NOTHING, Draft, What

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    import numpy.typing as npt

    from scopecast.publishing.accounts import Accounts, Fate
    from scopecast.publishing.budget import Budget
    from scopecast.publishing.guard import Guard
    from scopecast.publishing.receivers import AttachedReceiver, Receivers, RecentFrame

__all__ = ["Replies"]

logger = logging.getLogger(__name__)

#: Seconds that replies wait for larger slots.
_PATIENCE_S: Final = 5.0
_FATES: Final[dict[str, Fate]] = {"superseded": "superseded", "dropped": "dropped", "refused": "skipped"}


class Replies:
    """Shows what subscribers reply. Used by the thread "keeper" alone.

    Parameters
    ----------
    receivers, guard, accounts, budget
        The publisher's.
    sequence
        Numbers its frames.
    ensure
        Requests slots for frames of so many bytes, without waiting for them.
    """

    def __init__(
        self,
        receivers: Receivers,
        guard: Guard,
        accounts: Accounts,
        budget: Budget,
        sequence: Iterator[int],
        ensure: Callable[[int], object],
    ) -> None:
        self._receivers, self._guard, self._accounts, self._budget = receivers, guard, accounts, budget
        self._sequence, self._ensure = sequence, ensure
        self._readers: dict[str, RingReader] = {}  # of the subscribers, by their tokens
        self._waits_since = 0.0  # the first of them, for new slots

    def show_next(self) -> bool:
        """Show the reply that has waited longest, and answer it. Return whether there was one."""
        receivers = self._receivers
        if not receivers.replies:
            return False
        with self._guard.lock, self._guard:
            subscriber, reply = receivers.replies.popleft()
            known = receivers.recent.get(reply.sequence) if subscriber.attached else None
        answer: messages.Replied | None
        if not subscriber.attached:
            answer = messages.Replied(reply.number, "dropped")
        elif known is None:
            answer = messages.Replied(reply.number, "superseded")
        else:
            answer = self._show(subscriber, reply, known)
            if answer is not None and answer.fate == "taken":  # and told so
                self._waits_since = 0.0
                return True
        if answer is None:
            self._waits_since = self._waits_since or time.monotonic()
            if time.monotonic() - self._waits_since < _PATIENCE_S:
                with self._guard.lock, self._guard:
                    receivers.replies.appendleft((subscriber, reply))
                return False  # the new slots wake the keeper
            answer = messages.Replied(reply.number, "dropped", "larger slots could not be made in time")
        self._waits_since = 0.0
        with self._guard.lock, self._guard:
            self._accounts.replies.count(_FATES[answer.fate])
            receivers.answer(subscriber, answer)
        return True

    def _show(self, subscriber: AttachedReceiver, reply: messages.Reply, known: RecentFrame) -> messages.Replied | None:
        """Return the answer to a reply; None while new slots are being made, in which it will have room."""
        try:
            dtype = _checked(reply)
            reader = self._reader(subscriber.token, reply)
            array = reader.view(reply.slot, reply.shape, dtype)
            return self._publish(subscriber, reply, known, reader, array)
        except ClosedError:
            return messages.Replied(reply.number, "dropped")
        except (ValueError, TypeError, UnsupportedDtypeError, SharedMemoryError) as error:
            logger.debug("scopecast: refused a reply of %s: %s", subscriber, error)
            return messages.Replied(reply.number, "refused", str(error))

    def _reader(self, token: str, reply: messages.Reply) -> RingReader:
        reader = self._readers.get(token)
        if reader is None or (reader.name, reader.epoch) != (reply.segment, reply.epoch):
            if reader is not None:
                self._readers.pop(token).close()
            reader = self._readers[token] = RingReader(reply.segment, token, reply.epoch)
        return reader

    def _publish(
        self,
        subscriber: AttachedReceiver,
        reply: messages.Reply,
        known: RecentFrame,
        reader: RingReader,
        array: npt.NDArray[Any],
    ) -> messages.Replied | None:
        receivers, taken = self._receivers, messages.Replied(reply.number, "taken")
        axes = dict(zip(known.axes, known.place, strict=False))
        about = (NOTHING[0], known.translate, NOTHING[2])
        what = What(reply.kind, reply.name)
        draft = Draft(known.stream, axes, array.shape, array.dtype, "latest", what, about, of=reply.sequence)
        if self._budget.plan(draft.nbytes) is None:
            raise ValueError(self._budget.why_too_small(draft.nbytes))
        with self._guard.lock:
            self._guard.check_usable()
            draft.place()
            slots = receivers.slots
            if slots is not None and draft.nbytes > slots.ring.layout.slot_bytes:
                slots = None
                self._ensure(self._budget.with_room(draft.nbytes))  # for the replies after this one
            if slots is None or not slots.ring.whole:
                return None
            accounts = self._accounts.receivers.values()
            if not known.stream.preview:
                draft.missed = known.frame.missed
            elif (newest := slots.newest(draft.channel)) is not None and newest.of > reply.sequence:
                return messages.Replied(reply.number, "superseded")
            shown = [account for account in accounts if account.replies]
            if shown and all(account in draft.missed for account in shown):
                return messages.Replied(reply.number, "superseded")
            draft.missed = (*draft.missed, *(account for account in accounts if not account.replies))
            with self._guard:
                if not receivers.claim(draft):
                    return messages.Replied(reply.number, "dropped", "no slot is free")
        try:
            assert draft.frame is not None
            assert draft.array is not None
            copy_frame(draft.array, array)
            if reader.generation(reply.slot) != reply.generation:
                raise ValueError("it was overwritten before it was copied")
            with self._guard.lock:
                self._guard.check_usable()
                if draft.frame.slots.retired:
                    return None
                with self._guard:
                    receivers.publish(draft, next(self._sequence))
                    receivers.answer(subscriber, taken)  # at once: a BYE between the two would make it a dropped one
        finally:
            if draft.frame is not None:
                with self._guard.lock, self._guard:
                    draft.frame.slots.cancel(draft.frame)  # if it was not published
        return taken

    def tidy(self) -> None:
        """Let go of the memory of subscribers that have left."""
        if self._readers:
            with self._guard.lock:
                attached = {receiver.token for receiver in self._receivers.attached.values()}
            for token in self._readers.keys() - attached:
                self._readers.pop(token).close()

    def close(self) -> None:
        """Let go of all of it. Idempotent."""
        while self._readers:
            self._readers.popitem()[1].close()


def _checked(reply: messages.Reply) -> np.dtype[Any]:
    """Return the dtype of a reply.

    Raises
    ------
    ValueError, TypeError, UnsupportedDtypeError
        If it is nothing that can be shown.
    """
    dtype = native(reply.dtype)
    if reply.kind in DOCUMENTS:
        check_document(reply.shape, dtype)
        return dtype
    if reply.kind not in KINDS:
        msg = f"the kind {reply.kind!r} can't be shown: use one of {', '.join(KINDS)}"
        raise ValueError(msg)
    check_plane(reply.shape, dtype)
    if reply.kind == "labels" and (dtype.kind not in "biu" or len(reply.shape) != 2):
        raise ValueError("labels are a plane of whole numbers")
    if reply.kind == "image" and not reply.name:
        raise ValueError("an image that is a reply needs a name, to tell it from the source's images")
    return dtype

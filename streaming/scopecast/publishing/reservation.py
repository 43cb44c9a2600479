"""A slot that a camera writes into directly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from scopecast.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from scopecast.publishing.draft import Draft
    from scopecast.publishing.session import Session

__all__ = ["Reservation"]


class Reservation:
    """A slot that is written in place; made by `Publisher.reserve`.

    Attributes
    ----------
    array : numpy.ndarray
        The slot's memory, writable until the frame is published.
    """

    def __init__(self, session: Session, draft: Draft, publish: Callable[[Draft], int]) -> None:
        assert draft.array is not None
        self.array = draft.array
        self._session, self._draft, self._publish = session, draft, publish
        self._open = True

    def commit(self) -> int:
        """Publish the frame, and revoke the array. Return its sequence number; -1 if it had no slot."""
        if not self._open:
            msg = "this reservation was committed or aborted already; reserve another slot"
            raise ClosedError(msg)
        self._session.guard.check_process()
        self.array.flags.writeable = False
        sequence = self._publish(self._draft)
        self._open = False  # not earlier, so that the slot is given back if this is interrupted
        return sequence

    def abort(self) -> None:
        """Give the slot back; nothing is published or counted. Idempotent."""
        if self._open:
            self.array.flags.writeable = False
            if self._session.guard.is_ours:
                self._session.give_back(self._draft)
            self._open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.abort()
        elif self._open:
            self.commit()

    def __del__(self) -> None:
        # Neither committed nor aborted: the ring would lose the slot. This can't call abort(), as the garbage
        # collector may run it in a thread that holds the publisher's lock.
        if getattr(self, "_open", False):
            self._open = False
            if self._draft.frame is not None:
                self._session.forgotten.append(self._draft.frame)

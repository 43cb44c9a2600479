"""``scopecast relay --to HOST``: a machine that dials out itself, and shows there what is published here.

For the nodes of a cluster, and for containers, into which nobody can log in: ssh goes from here to the desk, and its
pipes lead to the relay on this machine as if it had come the other way.
"""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Final

from scopecast.errors import TransportError
from scopecast.remote.asking import ask
from scopecast.remote.command import LinkError
from scopecast.remote.stdio import carry
from scopecast.rundir.directory import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Callable

    from scopecast.remote.command import Way
    from scopecast.remote.messages import DeskAccount

__all__ = ["Dial"]

logger = logging.getLogger(__name__)

#: Seconds until it is tried again: the first time, and at most.
PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
#: Seconds between two looks whether all is over.
_LOOK_S: Final = 1.0
#: Seconds after the end of the last program in which the desk is told that nothing more comes of it.
_LEAST_S: Final = 8.0
#: Seconds without anything that arrives, after which nobody wants the exact pixels of previews.
_STILL_S: Final = 5.0


class Dial:
    """Shows on another machine what is published on this one.

    Parameters
    ----------
    way
        What leads there: a command that runs ``scopecast connect --stdio``.
    end_after_s
        End once so many seconds nobody has published, and all that was has arrived; None: never.
    end_after
        How long the relay, if it is started for this, stays without desks and publishers.
    tell
        Called with each line that the user is to see.

    Attributes
    ----------
    lost : bool
        A relay has ended before all of its frames were sent.
    """

    def __init__(
        self,
        way: Way,
        *,
        end_after_s: float | None = None,
        end_after: str = "",
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._way, self._end_after, self._tell = way, end_after, tell
        self._end_after_s = None if end_after_s is None else max(end_after_s, _LEAST_S)
        self._directory = RunDirectory()
        self._busy = self._looked = time.monotonic()
        self._over = self._ever = False
        self._accounts: list[DeskAccount] = []  # when something arrived last
        self._changed = 0.0
        self._since = math.inf  # when the desk has answered last
        self._problem = ""  # why it is not connected; told once
        self._relay = ""  # the token of the one that has been sent from
        self.lost = False

    def run(self) -> None:
        """Dial, and again whenever the connection breaks, until all is over.

        Raises
        ------
        LinkError
            If there has been no connection yet, or trying again is of no use.
        """
        pause = PAUSE_S
        while not self._over:
            self._since = math.inf
            try:
                self._carry()
            except LinkError as error:
                if error.hopeless or not self._ever:
                    raise
                if str(error) != self._problem:
                    self._tell(f"{error}; trying again")
                self._problem = str(error)
            if time.monotonic() - self._since > pause:  # it was not in vain
                pause = PAUSE_S
            until = time.monotonic() + pause
            while not self._over and (left := until - time.monotonic()) > 0:
                time.sleep(min(0.1, left))
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _carry(self) -> None:
        try:
            reading, writing = self._way.open()
            there = carry(reading, writing, self._end_after, self._is_over, self._connected)
            if not self._over:
                raise self._way.why(was_there=there)
        finally:
            self._way.end()

    def _connected(self) -> None:
        first = "Connected. What is published here is shown there. Stop with Ctrl-C."
        self._tell("Connected again." if self._ever else first)
        former, self._relay = self._relay, next((each.token for each in self._directory.living("relay")), "")
        if former not in ("", self._relay):
            self.lost = True
            self._tell("The relay here has been started anew: what it had not sent by then is lost.")
        self._ever, self._since, self._problem = True, time.monotonic(), ""
        self._busy = time.monotonic()  # the relay does not know yet that the desk is back

    def _is_over(self) -> bool:
        """Whether nobody has published for long enough, and all has arrived."""
        now = time.monotonic()
        if self._end_after_s is None or self._over or now - self._looked < _LOOK_S:
            return self._over
        self._looked = now
        if self._directory.living("publisher"):
            self._busy = now
        elif now - self._busy >= self._end_after_s:
            self._over = self._has_arrived()
        return self._over

    def _has_arrived(self) -> bool:
        try:
            # Those that are away may be of a job before this one, and never come back.
            accounts = [account for _, state, _, account in ask(self._directory).desks if state != "away"]
            now = time.monotonic()
            if accounts != self._accounts:
                self._accounts, self._changed = accounts, now
        except TransportError as error:
            logger.debug("the relay does not say what has arrived: %s", error)
            return False
        if not accounts or any(account.waiting or account.sending for account in accounts):
            return False
        # Exact pixels still take the places of previews, if somebody there looks at them.
        return now - self._changed >= _STILL_S or not any(account.preview for account in accounts)

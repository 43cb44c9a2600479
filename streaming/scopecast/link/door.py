"""The file of a publisher's Unix socket: the door through which new receivers come in."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from scopecast.link import descriptors

if TYPE_CHECKING:
    from pathlib import Path

    from scopecast.rundir.directory import Member

__all__ = ["Door"]


class Door:
    """Where the socket's file lies: under its name, or put away, so that nobody new finds it.

    Who is connected stays so in either case. A publisher that is reached by tcp has no such file: its door is open.

    Parameters
    ----------
    member
        The publisher's entry in the run directory.

    Attributes
    ----------
    shut : bool
        Whether the file is put away.
    """

    def __init__(self, member: Member) -> None:
        self.shut = False
        self._member = member

    @property
    def lost(self) -> bool:
        """Whether another program has removed the file."""
        if not self._is_a_file:
            return False
        path, away = self._places()
        return not (away if self.shut else path).exists()

    @property
    def is_right(self) -> bool:
        """Whether it is shut while few descriptors are left, and open otherwise."""
        return not self._is_a_file or self.shut == descriptors.are_scarce()

    def turn(self) -> None:
        """Shut it if it is open, and open it if it is shut."""
        path, away = self._places()
        with suppress(FileNotFoundError):  # removed by another; made again once there are descriptors
            (away if self.shut else path).rename(path if self.shut else away)
        self.shut = not self.shut

    @property
    def _is_a_file(self) -> bool:
        return self._member.entry.endpoint.startswith("ipc:")

    def _places(self) -> tuple[Path, Path]:
        path = self._member.directory.socket_path(self._member.token)
        return path, path.with_suffix(".shut")

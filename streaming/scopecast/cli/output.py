"""Where the command line writes: to somebody who may stop reading, to a disk that may be full, to nobody."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from scopecast.cli.errors import print_line, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import ReadableBuffer

__all__ = ["UNREAD", "guard_streams"]

#: What a command exits with whose output nobody reads any more: 128 + SIGPIPE, as shells say it of other programs. The
#: signal itself would end the process before it has given back what it holds.
UNREAD: Final = 128 + 13


class _Descriptor(io.FileIO):
    """A file descriptor that is written to until that fails; what comes later is dropped.

    Were the error raised at each attempt, the last one would be Python's own at the very end, where nobody can catch
    it: "Exception ignored …", and exit code 120.
    """

    def __init__(self, number: int, failed: Callable[[OSError], None]) -> None:
        super().__init__(number, "w", closefd=False)
        self._failed = failed
        self._lost = False

    def write(self, data: ReadableBuffer, /) -> int:
        """Write; the first time that this fails, tell."""
        if not self._lost:
            try:
                return super().write(data)
            except OSError as error:
                self._lost = True
                self._failed(error)
        return memoryview(data).nbytes


def guard_streams() -> None:
    """Have this process end in order and without a traceback when its output can't be written.

    Why is told on stderr, unless a reader has left, as in ``scopecast viewers | head -1``. What goes to stderr itself
    only accompanies the work, which goes on if it can't be told.
    """
    sys.stdout = _guarded(sys.stdout, _end)
    sys.stderr = _guarded(sys.stderr, lambda _: None)


def _guarded(stream: TextIO | None, failed: Callable[[OSError], None]) -> TextIO:
    if stream is None:  # closed by whoever started this, as by `>&-`
        return Path(os.devnull).open("w")
    if stream.isatty():  # Windows' console is no file
        return stream
    binary = io.BufferedWriter(_Descriptor(stream.fileno(), failed))
    return io.TextIOWrapper(binary, stream.encoding, stream.errors, line_buffering=stream is sys.stderr)


def _end(error: OSError) -> None:
    if isinstance(error, BrokenPipeError):
        raise SystemExit(UNREAD) from None
    print_line(f"the output can't be written: {text_of(error)}")
    raise SystemExit(1) from None

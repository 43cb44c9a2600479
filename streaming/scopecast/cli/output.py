"""The command line's output: its reader may have left, its disk may be full, it may be closed."""

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

#: The exit code when the reader of the output has left: 128 + SIGPIPE, as shells report it for other programs. The
#: signal itself would end the process before it has given back what it holds.
UNREAD: Final = 128 + 13


class _Descriptor(io.FileIO):
    """A file descriptor that is written to until that fails; later output is dropped.

    Were the error raised at each attempt, the last one would be Python's own at the very end, where nobody can catch
    it: "Exception ignored …", and exit code 120.
    """

    def __init__(self, number: int, failed: Callable[[OSError], None]) -> None:
        super().__init__(number, "w", closefd=False)
        self._failed = failed
        self._lost = False

    def write(self, data: ReadableBuffer, /) -> int:
        """Write; report the first failure."""
        if not self._lost:
            try:
                return super().write(data)
            except OSError as error:
                self._lost = True
                self._failed(error)
        return memoryview(data).nbytes


def guard_streams() -> None:
    """Let this process end in order and without a traceback when its output can't be written.

    The reason goes to stderr, unless the reader has left, as in ``scopecast viewers | head -1``. What goes to stderr
    only accompanies the work, which goes on without it.
    """
    sys.stdout = _guarded(sys.stdout, _end)
    sys.stderr = _guarded(sys.stderr, lambda _: None)


def _guarded(stream: TextIO | None, failed: Callable[[OSError], None]) -> TextIO:
    if stream is None:  # closed by the parent process, as by `>&-`
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

"""Errors of the command line: one line with the cause and the fix; tracebacks only with --debug."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import typer
from rich.text import Text
from typer.core import TyperGroup

from scopecast.cli.console import err
from scopecast.errors import ScopecastError, ViewerStartError
from scopecast.protocol import printable
from scopecast.publishing.causes import cause_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import FrameType

__all__ = ["Commands", "check_writable", "print_json", "print_line", "text_of", "values", "write_json"]

INTERRUPTED = 128 + signal.SIGINT
#: The file that is standard output.
STDOUT = "-"
#: The exit code for a mistake in the arguments, as is usual.
MISUSED = 2


class Commands(TyperGroup):
    """The commands, with errors in one line: what is wrong and how to fix it."""

    def main(self, args: Sequence[str] | None = None, *, standalone_mode: bool = True, **more: Any) -> Any:  # type: ignore[override]
        """Run the command line; ``--debug`` may be anywhere in it."""
        given = list(sys.argv[1:] if args is None else args)
        if "--debug" in given:
            given = ["--debug", *(argument for argument in given if argument != "--debug")]
        if not standalone_mode:
            return super().main(given, standalone_mode=False, **more)
        try:
            code = super().main(given, standalone_mode=False, **more)
        except Exception as error:
            if not _is_misuse(error):
                raise
            _explain_misuse(error)
            sys.exit(MISUSED)
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: Any) -> Any:  # click's Context, which typer has its own copy of since 0.26
        """Run a command, and say what went wrong."""
        try:
            with _ending_in_order():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            err.print("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except _MisusedError as error:
            if ctx.params.get("debug"):
                err.print_exception()
            print_line(text_of(error))
            raise typer.Exit(MISUSED) from None
        except (ScopecastError, OSError, ValueError, MemoryError) as error:
            if ctx.params.get("debug"):
                raise
            _fail(text_of(error))
        except Exception as error:
            if ctx.params.get("debug") or type(error).__module__.startswith(("click", "typer")):
                raise
            _fail(f"{type(error).__name__}: {text_of(error)} (this should not happen; --debug shows where)")


class _MisusedError(ScopecastError):
    """A value in the arguments can't be used."""


@contextlib.contextmanager
def values() -> Iterator[None]:
    """Check the values of arguments: what is wrong with them is the user's mistake, like a misspelt option."""
    try:
        yield
    except (ScopecastError, ValueError, OSError) as error:
        raise _MisusedError(text_of(error)) from error


def _is_misuse(error: Exception) -> bool:
    """Whether an error is click's, about the arguments; typer brings its own click or uses the installed one."""
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


def _explain_misuse(error: Any) -> None:
    """Say what is wrong with the arguments, and where they are documented."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return
    text = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "scopecast"
    print_line(f"{text[:1].lower()}{text[1:].rstrip('.')} (see {command} --help)")


def print_line(text: str) -> None:
    """Print what went wrong, on stderr."""
    err.print(Text.assemble(("scopecast: ", "bold red"), printable(text)), soft_wrap=True)


def _fail(text: str) -> None:
    print_line(text)
    raise typer.Exit(1)


def text_of(error: Exception) -> str:
    """Return an error's text as one line: its first line, plus the cause if that is given further down."""
    if isinstance(error, OSError) and error.strerror:
        # str() of these begins with "[Errno 13]", which tells a user nothing.
        return _of_the_system(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if isinstance(error, MemoryError):
        return f"there is not enough memory: {lines[0]}; use smaller or fewer frames"
    if len(lines) == 1:
        return lines[0]
    if isinstance(error, ViewerStartError):  # its first line has the cause
        return f"{lines[0].rstrip('.')}; `scopecast doctor` looks for what is missing"
    return f"{lines[0]} {cause_in(chr(10).join(lines[1:]))}"


def _of_the_system(error: OSError) -> str:
    if isinstance(error, ScopecastError):
        return " ".join(str(error.strerror).split())
    what = f"{error.filename}: " if error.filename is not None else ""
    fix = {
        errno.ENOSPC: "free some space, or write elsewhere",
        errno.EACCES: "write elsewhere, or change the permissions",
        errno.EROFS: "write elsewhere",
        errno.EMFILE: "raise the limit: ulimit -n 4096",
    }.get(error.errno or 0, "")
    return f"{what}{error.strerror}" + (f"; {fix}" if fix else "")


def check_writable(*paths: Path | None) -> None:
    """Raise a ScopecastError if one of the files can't be written, before the work that it is to hold is done."""
    for path in paths:
        if path is None or str(path) == STDOUT:
            continue
        folder = path.absolute().parent
        if not folder.is_dir():
            reason = f"there is no folder {folder}; create it, or name another"
        elif path.is_dir():
            reason = "it is a folder; name a file in it"
        elif not os.access(path if path.exists() else folder, os.W_OK):
            reason = f"you have no permission to write {'it' if path.exists() else f'into {folder}'}; name another file"
        else:
            continue
        raise ScopecastError(f"{path} can't be written: {reason}")


def print_json(what: Any) -> None:
    """Write JSON to standard output."""
    sys.stdout.write(json.dumps(what, indent=2) + "\n")


def write_json(path: Path, what: Any) -> None:
    """Write a file, or standard output (``-``); an error names it, also where the disk is full only at the end."""
    if str(path) == STDOUT:
        print_json(what)
        return
    try:
        path.write_text(json.dumps(what, indent=2) + "\n")
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextlib.contextmanager
def _ending_in_order() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and the terminal's end unwind everything, once: a second signal must not interrupt that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # of these, each system has some
    numbers = [number for name in names if (number := getattr(signal, name, None)) is not None]
    numbers = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]  # nohup wants it so

    def unwind(number: int, _: FrameType | None) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    before = {number: signal.signal(number, unwind) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

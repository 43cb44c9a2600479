"""Another machine for the tests: a second run directory, and a command in the place of ssh that runs things there."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psutil
import pytest

from children import wait_until
from scopecast.rundir.directory import RunDirectory
from talking import Talking

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ConnectProcess", "OtherMachine", "ShareProcess", "SshServer"]


class OtherMachine:
    """A run directory of its own, in which commands are run as ssh would run them.

    Attributes
    ----------
    path
        The run directory there.
    ssh
        What `scopecast connect --ssh` is given: it runs the command there. While the file `closed` beside it exists, it
        fails as ssh does that finds no way.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.directory = RunDirectory(path)
        self._program = path / "ssh"
        self._program.write_text(
            f"#!{sys.executable} -S\n"
            "import os, sys\n"
            "here = os.path.dirname(os.path.abspath(__file__))\n"
            "if os.path.exists(os.path.join(here, 'closed')):\n"
            "    sys.exit(print('ssh: connect to host lab-pc port 22: No route to host', file=sys.stderr) or 255)\n"
            "with open(os.path.join(here, 'ssh.pids'), 'a') as pids:\n"
            "    pids.write(f'{os.getpid()}\\n')\n"
            "os.environ['SCOPECAST_RUNTIME_DIR'] = here\n"
            "command = ['sh', '-c', 'exec ' + sys.argv[-1]]\n"
            "if not os.path.exists(os.path.join(here, 'rate')):\n"
            "    os.execvp('sh', command)\n"
            "import fcntl, subprocess, time\n"  # a link: so many bytes a second, and little room on the way
            "rate = float(open(os.path.join(here, 'rate')).read())\n"
            "child = subprocess.Popen(command, stdout=subprocess.PIPE)\n"
            "for pipe in (child.stdout.fileno(), 1):\n"
            "    fcntl.fcntl(pipe, getattr(fcntl, 'F_SETPIPE_SZ', 1031), 4096)\n"
            "free = 0.0\n"
            "while data := os.read(child.stdout.fileno(), 4096):\n"
            "    free = max(free, time.monotonic()) + len(data) / rate\n"
            "    time.sleep(max(0.0, free - time.monotonic()))\n"
            "    os.write(1, data)\n"
        )
        self._program.chmod(0o700)

    @property
    def ssh(self) -> str:
        return str(self._program)

    @property
    def pids(self) -> list[int]:
        """The processes that were started there, the newest last: the relay's end of each connection."""
        path = self.path / "ssh.pids"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    @contextlib.contextmanager
    def there(self) -> Iterator[None]:
        """Publish there, in this process, for as long as this lasts."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SCOPECAST_RUNTIME_DIR", str(self.path))
            yield

    def close_the_way(self, closed: bool = True) -> None:
        """Let no new connection be made, or again."""
        path = self.path / "closed"
        path.touch() if closed else path.unlink()

    def slow_down(self, rate: float) -> None:
        """Let new connections carry so many bytes a second from there to here."""
        (self.path / "rate").write_text(str(rate))

    def listed(self) -> list[dict[str, Any]]:
        """What ``scopecast relay --list --json`` says there."""
        import json

        done = subprocess.run(
            [sys.executable, "-m", "scopecast", "relay", "--list", "--json"],
            env={**os.environ, "SCOPECAST_RUNTIME_DIR": str(self.path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found

    def relay_ends(self) -> None:
        """Wait until no relay runs there any more."""
        wait_until(lambda: not self.directory.living("relay"), "the relay ends")

    @classmethod
    @contextlib.contextmanager
    def made(cls) -> Iterator[Self]:
        """Make one; the relay that was started there has ended when this ends."""
        with tempfile.TemporaryDirectory(prefix="sc-", dir="/tmp") as folder:
            machine = cls(Path(folder))
            yield machine
            machine.relay_ends()


class SshServer:
    """A real sshd on the loopback, with keys of its own, whose logins find themselves on the other machine.

    Attributes
    ----------
    ssh
        What `scopecast connect --ssh` is given to reach it.
    """

    def __init__(self, machine: OtherMachine, folder: Path) -> None:
        self._folder = folder
        for name in ("host", "user"):
            self._run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
        self.admit()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        host_key = (folder / "host.pub").read_text()
        (folder / "known").write_text(f"[127.0.0.1]:{port} {host_key}")
        (folder / "config").write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/admitted\n"
            f"PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n"
            f"KbdInteractiveAuthentication no\nSetEnv SCOPECAST_RUNTIME_DIR={machine.path}\n"
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # which sshd of root wants
        self._log = folder / "log"
        self._process = subprocess.Popen(
            ["/usr/sbin/sshd", "-D", "-f", str(folder / "config"), "-E", str(self._log)], start_new_session=True
        )
        self.ssh = (
            f"ssh -F none -p {port} -i {folder}/user -o IdentitiesOnly=yes -o UserKnownHostsFile={folder}/known "
            f"-o StrictHostKeyChecking=yes"
        )
        wait_until(lambda: self._log.exists() and "Server listening" in self._log.read_text(), "sshd listens")

    @staticmethod
    def _run(*command: str) -> None:
        subprocess.run(command, check=True, timeout=60, stdin=subprocess.DEVNULL)

    def admit(self, admitted: bool = True) -> None:
        """Let the user's key in, or not."""
        (self._folder / "admitted").write_text((self._folder / "user.pub").read_text() if admitted else "")

    def sessions(self) -> list[psutil.Process]:
        """The processes of sshd that carry a connection."""
        # Newer ones have two for a connection, called sshd-session.
        below = psutil.Process(self._process.pid).children(recursive=True)
        return [process for process in below if process.name().startswith("sshd")]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*psutil.Process(self._process.pid).children(recursive=True), self._process):
            with contextlib.suppress(psutil.Error):
                process.kill()
        self._process.wait(10)


class ShareProcess(Talking):
    """``scopecast share`` on the other machine, at the loopback.

    Attributes
    ----------
    link, address
        What it has printed: the link, ``""`` with ``--no-invite``; and that without the key.
    """

    def __init__(self, machine: OtherMachine, *options: str) -> None:
        with self._there(machine):
            super().__init__([*self._COMMAND, "--address", "127.0.0.1", "--end-after", "1s", *options])
        self.link = ""
        if "--no-invite" not in options:
            self.link = self.line("connect 'scopecast://").split("'")[1]
        self.address = self.line("have been admitted: ").split()[-4].rstrip(".")

    _COMMAND = (sys.executable, "-m", "scopecast", "share")

    @staticmethod
    @contextlib.contextmanager
    def _there(machine: OtherMachine) -> Iterator[None]:
        with machine.there(), pytest.MonkeyPatch.context() as patch:
            patch.setenv("SCOPECAST_CONFIG", str(machine.path / "config"))
            yield

    @classmethod
    def _done(cls, machine: OtherMachine, options: tuple[str, ...], code: int) -> subprocess.CompletedProcess[str]:
        with cls._there(machine):
            done = subprocess.run([*cls._COMMAND, *options], capture_output=True, text=True, timeout=60)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    @classmethod
    def said(cls, machine: OtherMachine, *options: str) -> str:
        """What the command prints there with options that do not serve; it succeeds."""
        return cls._done(machine, options, 0).stdout

    @classmethod
    def refused(cls, machine: OtherMachine, *options: str) -> str:
        """What the command says that fails there."""
        return cls._done(machine, options, 1).stderr

    def close(self) -> None:
        """End it in order. Idempotent."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.end()
        super().close()


class ConnectProcess(Talking):
    """``scopecast connect`` in a process of its own, whose lines are read as they come."""

    def __init__(
        self, machine: OtherMachine, *options: str, host: str = "lab-pc", ssh: str = "", kind: str = "headless"
    ) -> None:
        command = f"{shlex.quote(sys.executable)} -m scopecast"
        super().__init__(
            [
                *(sys.executable, "-m", "scopecast", "connect", host, "--viewer", kind, "--no-open"),
                *("--ssh", ssh or machine.ssh, "--command", command, "--end-after", "1s", *options),
            ]
        )

    def end(self, number: int = signal.SIGINT) -> int:
        """Stop it, as Ctrl-C does, and return its exit code."""
        return super().end(number)

    def close(self) -> None:
        """End it in order, so that it ends what it has started. Idempotent."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
        super().close()

"""Characters that act on what shows them: no peer, no entry and no file gets them to a terminal, a log or a window."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import unicodedata
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from peers import peers
from receivers import Viewer, stamped
from scopecast import Publisher
from scopecast.cli import doctor
from scopecast.cli import main as cli
from scopecast.doctor import diagnose
from scopecast.doctor.rundirectory import members
from scopecast.frames import documents
from scopecast.frames.documents import Points, Rois, Shapes, Style, Texts, floats
from scopecast.link import messages
from scopecast.protocol import printable
from scopecast.rundir.directory import RunDirectory, new_token

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMAND = [sys.executable, "-P", "-m", "scopecast"]
#: The title of a terminal's window, its screen, colours, lines, by C0 and C1; and text that is turned round.
NASTY = "\x1b]0;pwned\x07\x1b[2J\x1b[31mRED\r\n\x9b31m\x85\u2028\u202eevil\u2066\x7f[bold]b[/]:warning:"
SEEN = "pwned"
BIDI = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def acting(text: str, but: str = "") -> set[str]:
    """The characters of a text that would do something to a terminal or to the order of what follows."""
    return {c for c in text if c not in but and (unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in BIDI)}


def command(*arguments: object) -> str:
    """What a command prints, on both streams."""
    done = subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, timeout=60)
    return (done.stdout + done.stderr).decode()


# ---- the function ----------------------------------------------------------------------------------------------------


@given(st.text())
def test_no_text_acts(text: str):
    shown = printable(text)
    assert not acting(shown)
    shown.encode()
    assert printable(shown) == shown


def test_what_people_write_stays_as_it_is():
    for text in ("10 µm", "5\xa0µm", "Zelle Ä", "細胞", "تصویر", "नमूना", "👩‍🔬 run", r"C:\data"):
        assert printable(text) == text


# ---- peers -----------------------------------------------------------------------------------------------------------


@pytest.mark.fault("H1")
def test_what_a_viewer_says_of_itself_reaches_no_log(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG, "scopecast")
    with Publisher("headless") as publisher:
        publisher.open((8, 8), "u2", wait=10)
        with peers(publisher) as (peer,):
            peer.socket.send(msgspec.msgpack.encode(["HELLO", 1, 1, new_token(), "headless", 1, NASTY]))
            assert isinstance(peer.answer(), messages.Welcome)
            (receiver,) = publisher.stats().receivers
            assert SEEN in receiver.title
            peer.socket.send(msgspec.msgpack.encode([NASTY, 1]))
            peer.socket.send(msgspec.msgpack.encode(["ACK", 0, 0, 2, NASTY]))
            peer.socket.send(msgspec.msgpack.encode(["BYE", NASTY]))
            peer.socket.send(msgspec.msgpack.encode(["PONG", 1]))
            assert peer.answer().again
    lines = [record.getMessage() for record in caplog.records if SEEN in record.getMessage()]
    assert len(lines) >= 4, caplog.text  # attached, has left, and two that are no messages
    assert not acting("".join(lines))


def test_what_a_publisher_says_of_itself_reaches_no_window(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG, "scopecast_viewers")
    directory = RunDirectory()
    with zmq.Context() as context, directory.join("publisher", "headless", title="x") as member:
        socket = context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, 20_000)
        member.entry.endpoint = f"ipc://{directory.socket_path(member.token)}"
        socket.bind(member.entry.endpoint)
        member.entry.state, member.entry.title, member.entry.host = "ready", NASTY, NASTY  # after it was checked
        member.write()
        with Viewer() as viewer:
            address, _ = socket.recv_multipart()
            stream = [
                "STREAM",
                0,
                NASTY,
                ["c"],
                {"c": [NASTY[:64]]},
                [0],
                [1.0, 1.0],
                [0.0],
                NASTY[:64],
                False,
                ["\x1b"],
            ]
            for message in (["NEWS", NASTY], stream, ["REJECT", 1, 1, NASTY]):
                socket.send_multipart([address, msgspec.msgpack.encode(message)])
            (source,) = viewer.wait_for(lambda: [each for each in viewer.sources if each.state == "refused"])
            about = source.streams[0].about
            shown = [source.entry.title, source.entry.host, source.problem, about.title, about.units]
            shown += [about.labels["c"][0], about.colors[0]]
            assert all(shown)
            assert not acting("".join(shown))
        socket.close()
    assert not acting("".join(record.getMessage() for record in caplog.records))


def test_documents_keep_their_lines_and_nothing_else_that_acts():
    data = floats(np.zeros((1, 2)))
    nasty, lines = NASTY[:64], "cell 1\narea 3"
    points = Points([], ["y", "x"], data, [Texts("name", [nasty]), Texts("lines", [lines])], Style(color="\x1b"))
    shapes = Shapes([], ["y", "x"], ["line"], [2], floats(np.zeros((2, 2))), [nasty])
    raw = msgspec.msgpack.Encoder()
    sent = msgspec.msgpack.decode(raw.encode(points))
    sent[4][0][2], sent[5][0] = [nasty], "\x1b"
    got = documents.decode("points", raw.encode(sent))
    assert isinstance(got, Points)
    assert got.properties[1].values[0] == lines
    assert not acting(str(got.properties[0].values[0]) + got.style.color, but="\n")
    got = documents.decode("shapes", raw.encode(["SHAPES", *msgspec.structs.astuple(shapes)[:5], [nasty]]))
    assert isinstance(got, Shapes)
    assert not acting("".join(got.names), but="\n")
    got = documents.decode("rois", raw.encode(["ROIS", [], [b"Iout"], [nasty]]))
    assert isinstance(got, Rois)
    assert not acting("".join(got.names), but="\n")


# ---- the run directory -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def forged(**fields: object) -> Iterator[None]:
    """An entry of a living process that did not write these fields by our code."""
    directory = RunDirectory()
    with directory.join("publisher", "headless", title="forged") as member:
        path = directory.file(member.token, "json")
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))
        yield


def printed(*arguments: str) -> str:
    done = CliRunner().invoke(cli.app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


@pytest.fixture
def only_members(monkeypatch: pytest.MonkeyPatch):
    """Let the doctor look at the run directory only."""
    monkeypatch.setattr(doctor, "diagnose", lambda **_: diagnose((members,)))


def test_viewers_prints_no_title_that_acts():
    with forged(title=NASTY, host=NASTY, created=1e9), forged(title="[bold]b[/]:warning:"):
        text = printed("viewers")
        assert "headless" in text
        assert "[bold]" in text
        assert not acting(text, but="\n")
        assert SEEN in printed("viewers", "--json")


@pytest.mark.usefixtures("only_members")
def test_an_entry_that_makes_no_sense_is_nobodys():
    strange: list[dict[str, object]] = [
        *({"created": created} for created in (1e300, -1e300, -5, 1e12)),
        *({"kind": kind} for kind in ("[/red]", "\x1b[2J", "a b", "", 5)),
        *({"endpoint": endpoint} for endpoint in ("tcp://192.0.2.1:80", "inproc://x", "ipc://", "tcp://127.0.0.1:1\n")),
        {"pid": -1},
        {"pid": 2**62},
        {"title": "x" * 1000},
        {"segments": ["x" * 1000]},
        {"segments": ["x"] * 1000},
    ]
    with contextlib.ExitStack() as stack:
        for fields in strange:
            stack.enter_context(forged(**fields))
        with Publisher("headless", title="camera") as publisher, Viewer() as viewer:
            publisher.open((8, 8), wait=20)
            assert viewer.wait_for(lambda: viewer.attached)
            assert [source.entry.title for source in viewer.sources] == ["camera"]
            for text in map(printed, ("viewers", "doctor", "clean")):
                assert not acting(text, but="\n")
                assert "forged" not in text
        assert len(RunDirectory().entries()) == 0


@pytest.mark.usefixtures("only_members")
@pytest.mark.skipif(sys.platform == "win32", reason="there no file has such a name")
def test_doctor_and_clean_print_no_name_of_a_file_that_acts(runtime_dir: Path):
    RunDirectory()
    for name in ("\x1b[2Jevil.json", "\n\r\x1b\x9b\u202eabc.json"):
        (runtime_dir / name).write_text("{")
        assert "can't be understood" in (text := printed("doctor"))
        assert not acting(text + printed("clean"), but="\n")
        (runtime_dir / name).unlink()


# ---- files -----------------------------------------------------------------------------------------------------------

NAME = "\x1b]0;pwned\x07\x1b[2J\r\x9b\u202e[bold]x"


@pytest.mark.skipif(sys.platform == "win32", reason="there no file has such a name")
def test_show_and_replay_print_no_name_that_acts(tmp_path: Path):
    bad = tmp_path / f"{NAME}.tif"
    bad.write_bytes(b"no image")
    for arguments in (("show", bad), ("show", tmp_path / NAME), ("replay", bad), ("watch", tmp_path / NAME)):
        text = command(*arguments, "--viewer", "headless")
        assert SEEN in text
        assert not acting(text, but="\n")


@pytest.mark.skipif(sys.platform == "win32", reason="there no file has such a name")
def test_watch_prints_no_name_that_acts(tmp_path: Path):
    folder = tmp_path / NAME
    folder.mkdir()
    np.save(folder / f"{NAME}.npy", stamped(0))
    text = ""
    with subprocess.Popen(
        [*COMMAND, "watch", str(folder), "--existing", "--viewer", "headless"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as watching:
        assert watching.stdout is not None
        for line in watching.stdout:
            text += line.decode()
            if b"shown: " in line:
                watching.send_signal(signal.SIGINT)
        watching.wait(30)
    assert text.count(SEEN) >= 3
    assert not acting(text, but="\n")

"""Links, and the files of who may come in: what is refused, and that nothing is given away."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING

import pytest

from scopecast.errors import ScopecastError
from scopecast.link.transport import KeyPair
from scopecast.remote.guests import Guest, Guests, Invited, own_keys, own_port, remember_port
from scopecast.remote.invitation import Address, Invitation, is_link, parse
from scopecast.remote.private import PrivateFile

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def config(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SCOPECAST_CONFIG", str(tmp_path / "config"))
    return tmp_path / "config" / "remote"


@pytest.mark.parametrize("host", ["192.168.1.20", "lab-pc.example.org", "::1"])
def test_a_link_is_read_as_it_was_written(host):
    made = Invitation(Address(host, 51234), KeyPair().public, KeyPair().secret)
    assert parse(f" {made.link}\n") == made
    assert is_link(made.link)
    assert made.secret not in repr(made)
    assert not is_link("user@lab-pc")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda link: link.replace("scopecast:", "https:"), "begins with https:, not scopecast://"),
        (lambda link: link[:-1], "its key has 87 characters, not 88"),
        (lambda link: link[:-3] + "%20", "has characters that no key has"),
        (lambda link: link[:-9] + ("x" if link[-9] != "x" else "y") + link[-8:], "a mistake in the key"),
        (lambda link: link.replace(":51234", ""), "does not name a machine and a port"),
        (lambda link: link.replace(":51234", ":x"), "no machine and port that can be read"),
        (lambda link: link.replace("//", "//user@"), "does not name a machine and a port"),
        (lambda link: link.replace("//", ""), "does not name a machine and a port"),
    ],
    ids=["scheme", "cut off", "characters", "mistake", "no port", "port", "user", "slashes"],
)
def test_what_is_no_link_is_refused_without_its_key(change, said):
    link = Invitation(Address("lab-pc", 51234), KeyPair().public, KeyPair().secret).link
    with pytest.raises(ValueError, match="a link looks like scopecast://192") as error:
        parse(change(link))
    assert said in str(error.value)
    assert link[-40:-20] not in str(error.value)


def test_an_invitation_admits_one_key_once(config):
    guests, other = Guests(), Guests()
    invited = KeyPair(guests.invite("Ana", "watch", 60.0))
    other.refresh()
    assert isinstance(other.find(invited.public), Invited)
    own = KeyPair()
    assert other.enrol(invited.public, own.public) == other.find(own.public)
    guests.refresh()
    found = guests.find(own.public)
    assert isinstance(found, Guest)
    assert (found.name, found.role, found.seen) == ("Ana", "watch", 0.0)
    guests.saw([own.public])
    assert guests.guests[0].seen >= found.since
    assert guests.find(invited.public) is None
    assert guests.enrol(invited.public, KeyPair().public) is None
    text = (config / "guests.json").read_text()
    assert own.secret not in text
    assert invited.secret not in text


def test_an_expired_invitation_admits_nobody():
    guests = Guests()
    invited = KeyPair(guests.invite("Ana", "watch", 0.0))
    assert guests.find(invited.public) is None
    assert guests.enrol(invited.public, KeyPair().public) is None
    assert not guests.invited


def test_names_are_of_one_guest_each():
    guests = Guests()
    first, second = (KeyPair(guests.invite("Ana", "watch", 60.0)) for _ in range(2))
    assert guests.find(first.public) is None, "the newer link has taken its place"
    guests.enrol(second.public, KeyPair().public)
    with pytest.raises(ScopecastError, match="Ana has been admitted already"):
        guests.invite("Ana", "marks", 60.0)
    for _ in range(2):
        guests.invite("", "watch", 60.0)
    assert [each.name for each in guests.everybody] == ["Ana", "guest 1", "guest 2"]
    with pytest.raises(ScopecastError, match="there is no guest Bob; there are: Ana, guest 1, guest 2"):
        guests.revoke("Bob")
    guests.revoke("Ana")
    guests.revoke("guest 1")
    assert [each.name for each in guests.everybody] == ["guest 2"]
    with pytest.raises(ScopecastError, match="all of them printable"):
        guests.invite("A\n", "watch", 60.0)


def test_the_gateway_has_the_same_keys_and_port_each_time(config):
    keys = own_keys()
    assert own_port() == 0
    remember_port(51234)
    assert (own_keys().public, own_keys().secret, own_port()) == (keys.public, keys.secret, 51234)
    (config / "gateway.json").write_text('{"secret": "' + "'" * 40 + '"}')
    with pytest.raises(ScopecastError, match="is damaged"):
        own_keys()


@pytest.mark.needs("file modes")
def test_files_that_others_may_read_are_refused(config):
    guests = Guests()
    guests.invite("Ana", "watch", 60.0)
    own_keys()
    for path in config.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.stat().st_mode) == 0o700
    (config / "guests.json").chmod(0o640)
    with pytest.raises(ScopecastError, match=r"guests.json is open to others \(mode 640\): 'chmod 600' it"):
        Guests()
    config.chmod(0o755)
    with pytest.raises(ScopecastError, match=r"open to others \(mode 755; 'chmod 700' it\)"):
        Guests()
    config.chmod(0o700)
    (config / "guests.json").chmod(0o600)
    config.parent.chmod(0o777)
    with pytest.raises(ScopecastError, match=r"lies in .*, where anybody can write \(mode 777\)"):
        Guests()
    config.parent.chmod(0o1777)  # as of /tmp: others can't take away what is not theirs
    Guests()
    config.parent.chmod(0o700)
    (config / "guests.json").unlink()
    (config / "guests.json").mkdir()
    with pytest.raises(ScopecastError, match="is not a file of ours"):
        Guests()


@pytest.mark.parametrize(
    "text",
    ["", "{", "\xff", "[" * 100_000, '{"guests": [{"name": "Ana"}]}', '{"guests": 7}'],
    ids=["empty", "cut off", "no text", "deep", "fields", "type"],
)
def test_a_damaged_list_admits_nobody(config, text):
    guests = Guests()
    invited = KeyPair(guests.invite("Ana", "watch", 60.0))
    (config / "guests.json").write_bytes(text.encode("latin-1"))
    os.utime(config / "guests.json", (time.time(), time.time()))
    with pytest.raises(ScopecastError, match=r"guests.json is damaged"):
        guests.enrol(invited.public, KeyPair().public)


def test_a_list_that_is_damaged_meanwhile_stays_as_it_was_and_cannot_be_changed():
    guests = Guests()
    secret = guests.invite("Ana", "watch", 60.0)
    good = PrivateFile("guests").path.read_bytes()
    PrivateFile("guests").path.write_bytes(b"")
    guests.refresh()
    assert [each.name for each in guests.everybody] == ["Ana"]
    with pytest.raises(ScopecastError, match="damaged"):
        guests.revoke("Ana")
    with pytest.raises(ScopecastError, match="damaged"):
        guests.enrol(KeyPair(secret).public, KeyPair().public)
    PrivateFile("guests").path.write_bytes(good)
    guests.revoke("Ana")
    assert not guests.everybody

"""Knocks at a publisher's tcp port in every way that a stranger could, and says what became of each.

With a user's number it is that user's process. It is given the publisher's public key, which a stranger can't read.
"""

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

import zmq
from zmq.utils.monitor import parse_monitor_message

from scopecast.link import messages as wire

endpoint, key, runtime, user = sys.argv[1], sys.argv[2].encode(), Path(sys.argv[3]), int(sys.argv[4])
if user:
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)

FAILED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
HELLO = wire.encode(wire.Hello(1, 1, "abcdefgh", "headless", 1))


def knock(socket, messages):
    """Return whether the publisher let the socket in."""
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RECONNECT_IVL, -1)
    events = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | FAILED
    monitor = socket.get_monitor_socket(events)
    socket.connect(endpoint)
    with suppress(zmq.Again):  # refused by now: there is nobody to send to, and there won't be
        for message in messages:
            socket.send(message, zmq.NOBLOCK)
    heard = monitor.poll(20_000)
    event = parse_monitor_message(monitor.recv_multipart())["event"] if heard else None
    socket.disable_monitor()
    monitor.close(0)
    return event == zmq.EVENT_HANDSHAKE_SUCCEEDED if heard else "no answer"


answers = {}
with zmq.Context() as context:
    for way in ("null", "plain", "wrong key", "unknown key"):
        with context.socket(zmq.DEALER) as socket:
            if way == "plain":
                socket.plain_username, socket.plain_password = b"admin", b"admin"
            elif way != "null":
                socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()
                socket.curve_serverkey = zmq.curve_keypair()[0] if way == "wrong key" else key
            answers[way] = knock(socket, [HELLO, b"nonsense", HELLO])
try:
    answers["may read"] = bool(list(runtime.iterdir()))
except PermissionError:
    answers["may read"] = False
print(json.dumps(answers), flush=True)

"""Sends a publisher whatever comes to mind, as fast as it can; says when it is done."""

import json
import random
import sys

import msgspec
import zmq

from peers import Peer
from scopecast.link import messages
from scopecast.rundir.directory import RunDirectory, new_token

token, count = sys.argv[1], int(sys.argv[2])
random.seed(1)
words = [
    b"",
    b"\x00" * 100,
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x91" * 5000,  # deep nesting
    b"\xdd\xff\xff\xff\xff",  # an array of 2**32 - 1
    b"x" * 60_000,
    messages.encode(messages.Pong(2**62)),
    messages.encode(messages.Bye("no")),
    msgspec.msgpack.encode(["ACK", -1, -1, -1, "delivered"]),
    msgspec.msgpack.encode(["ACK", 0, 0, 0, "superseded"]),
]
words += [messages.encode(messages.Ack(0, slot, number * 2, "delivered")) for slot in range(16) for number in range(20)]
words += [messages.encode(messages.Ack(epoch, 10**9, 2, "skipped")) for epoch in (0, 1, 2**63 - 1)]
with zmq.Context() as context:
    (entry,) = [entry for entry in RunDirectory().entries("publisher") if entry.token == token]
    peer = Peer(context, entry)
    socket = peer.socket
    socket.setsockopt(zmq.SNDTIMEO, 30_000)
    hello = messages.encode(messages.Hello(1, 1, new_token(), "headless", 1))
    for number in range(count):
        if number % 1000 == 500:
            socket.send(hello)  # now and then it is a viewer, and its wild acknowledgements are looked at
        socket.send(random.choice(words))
        if number == count // 10:
            print(json.dumps("flooding"), flush=True)
    print(json.dumps("done"), flush=True)
    sys.stdin.readline()
    peer.close()

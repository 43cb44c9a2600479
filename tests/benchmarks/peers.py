"""Other ways to bring frames to another process, for comparison; each as its own documentation uses it.

``python -m benchmarks.peers send NAME SIDE COUNT`` starts a receiver of its own, which copies every frame
into memory that was touched beforehand, and reports how many frames per second arrived there. What gives the other
libraries an advantage is left to them: they hand over the producer's own arrays where they can, and are done when the
receiver has copied the last frame.
"""

from __future__ import annotations

import math
import sys
import tempfile
import threading
import time
import types
from multiprocessing import resource_tracker, shared_memory
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zmq

from benchmarks.programs import Program, end_with_parent, leave_in_peace, report
from scopecast.benchmarks.figures import source_frames

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Send = Callable[[npt.NDArray[Any]], object]
    Sink = Callable[[npt.NDArray[Any]], None]

__all__ = ["PEERS", "frames_per_second"]

#: The libraries; the same of polystore without its own sleep of 0.1 s a batch.
PEERS = ("pyzmq", "imagezmq", "polystore", "polystore-unslept")
_MODULE = "benchmarks.peers"
#: Frames before the clock starts: connections are made, caches filled.
_WARM = 3
_QUEUE = 32
_TIMEOUT_MS = 60_000
_POOL = 4
_PORT = 1  # names a socket file in a private directory


def frames_per_second(peer: str, side: int, count: int) -> float:
    """Run one comparison in processes of its own, and return the frames per second that arrived."""
    with Program(_MODULE, "send", peer, str(side), str(count)) as program:
        return float(program.report(timeout=300.0))


# ---- the sending program -------------------------------------------------------------------------------------------


def _send(peer: str, side: int, count: int) -> None:
    frames = source_frames(side)
    with tempfile.TemporaryDirectory(prefix="sc-peer-") as folder:
        senders = _senders(folder)
        send, close = senders[peer]()
        with Program(_MODULE, "receive", peer, str(side), str(count), folder) as receiver:
            receiver.report()
            for i in range(_WARM):
                send(frames[i % len(frames)])
            receiver.report()
            begin = time.perf_counter()
            for i in range(count):
                send(frames[i % len(frames)])
            receiver.report(timeout=120.0)
            seconds = time.perf_counter() - begin
        close()
    leave_in_peace()
    report(count / seconds)


def _senders(folder: str) -> dict[str, Callable[[], tuple[Send, Callable[[], object]]]]:
    return {
        "pyzmq": lambda: _pyzmq_sender(folder),
        "imagezmq": lambda: _imagezmq_sender(folder),
        "polystore": lambda: _polystore_sender(folder),
        "polystore-unslept": lambda: _polystore_sender(folder, sleep=False),
    }


def _address(folder: str) -> str:
    return f"ipc://{Path(folder) / 'frames.sock'}"


def _pyzmq_sender(folder: str) -> tuple[Send, Callable[[], object]]:
    context = zmq.Context()
    socket = context.socket(zmq.PUSH)
    socket.setsockopt(zmq.SNDHWM, _QUEUE)
    socket.setsockopt(zmq.SNDTIMEO, _TIMEOUT_MS)
    socket.bind(_address(folder))
    return (lambda frame: socket.send(frame, copy=False)), lambda: context.destroy(linger=0)


def _imagezmq_sender(folder: str) -> tuple[Send, Callable[[], object]]:
    import imagezmq

    sender = imagezmq.ImageSender(connect_to=_address(folder))  # REQ/REP, its default
    sender.zmq_socket.setsockopt(zmq.RCVTIMEO, _TIMEOUT_MS)
    return (lambda frame: sender.send_image("frame", frame)), sender.close


class _Display:
    """What polystore asks of a viewer's display settings: a list of axes."""

    COMPONENT_ORDER = ("timepoint",)

    def component_modes(self) -> dict[str, str]:
        return {"timepoint": "stack"}

    def display_payload_extra(self) -> dict[str, str]:
        return {}


def _polystore_sender(folder: str, *, sleep: bool = True) -> tuple[Send, Callable[[], object]]:
    from polystore.napari_stream import NapariStreamingBackend
    from polystore.streaming import _streaming_backend as module
    from polystore.streaming import viewer_transport as transport
    from polystore.streaming.identity import FixedStreamProducerIdentityKind, StreamProducerIdentity

    if not sleep:
        module.time = types.SimpleNamespace(sleep=lambda _: None, time=time.time)
    identity = StreamProducerIdentity.fixed_output(FixedStreamProducerIdentityKind.DIRECT, "frames")
    request = transport.ViewerStreamRequest(
        viewer_transport=transport.ViewerTransportEndpoint("localhost", _PORT, transport.TransportMode.IPC),
        display_config=_Display(),
        source=transport.ViewerStreamSource(
            transport.ViewerStreamSourceIdentity(microscope_handler=None),
            transport.BatchViewerStreamSourceMetadata({"timepoint": 1}),
        ),
        producer=transport.ViewerStreamProducer.from_identity(identity),
    )
    backend = NapariStreamingBackend(_polystore_config(folder))
    return (lambda frame: backend.save_batch([frame], ["frame.tif"], stream_request=request)), backend.cleanup


def _polystore_config(folder: str) -> Any:
    from polystore.streaming.viewer_transport import ZMQConfig

    return ZMQConfig(ipc_socket_dir=folder)


# ---- the receiving program -----------------------------------------------------------------------------------------


def _receive(peer: str, side: int, count: int, folder: str) -> None:
    pool = np.ones((_POOL, side, side), np.uint16)
    taken = 0

    def take(frame: npt.NDArray[Any]) -> None:
        nonlocal taken
        np.copyto(pool[taken % _POOL], frame.reshape(side, side))
        taken += 1

    receivers = {"pyzmq": _pyzmq_receiver, "imagezmq": _imagezmq_receiver}
    receive = receivers.get(peer, _polystore_receiver)(folder, take)
    report("ready")
    for stage, frames in (("warm", _WARM), ("done", count)):
        for _ in range(frames):
            receive()
        report(stage)
    threading.Event().wait()  # for the sender, which may not have read the last reply yet


def _pyzmq_receiver(folder: str, take: Sink) -> Callable[[], None]:
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PULL)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RCVHWM, _QUEUE)
    socket.setsockopt(zmq.RCVTIMEO, _TIMEOUT_MS)
    socket.connect(_address(folder))
    return lambda: take(np.frombuffer(socket.recv(copy=False).buffer, np.uint16))


def _imagezmq_receiver(folder: str, take: Sink) -> Callable[[], None]:
    import imagezmq

    hub = imagezmq.ImageHub(open_port=_address(folder))
    hub.zmq_socket.setsockopt(zmq.LINGER, 0)
    hub.zmq_socket.setsockopt(zmq.RCVTIMEO, _TIMEOUT_MS)

    def receive() -> None:
        take(hub.recv_image()[1])
        hub.send_reply()

    return receive


def _polystore_receiver(folder: str, take: Sink) -> Callable[[], None]:
    """Answer as polystore's own viewer does: attach the segment of each item, copy, let go, acknowledge the batch."""
    from polystore.streaming.viewer_transport import TransportMode, ViewerTransportEndpoint

    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.REP)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RCVTIMEO, _TIMEOUT_MS)
    config = _polystore_config(folder)
    socket.bind(ViewerTransportEndpoint("localhost", _PORT, TransportMode.IPC).data_url(config))

    def receive() -> None:
        batch: Any = socket.recv_json()
        for item in batch["images"]:
            memory = shared_memory.SharedMemory(name=item["shm_name"])
            # The sender unlinks it; the tracker of this process would do so, and complain, at its end.
            resource_tracker.unregister(f"/{memory.name}", "shared_memory")
            assert memory.buf is not None
            frame = np.frombuffer(memory.buf, item["dtype"], math.prod(item["shape"]))
            take(frame)
            del frame
            memory.close()
        socket.send_json({"status": "success"})

    return receive


if __name__ == "__main__":
    end_with_parent()
    command, name, pixels, number, *rest = sys.argv[1:]
    if command == "send":
        _send(name, int(pixels), int(number))
    else:
        _receive(name, int(pixels), int(number), *rest)

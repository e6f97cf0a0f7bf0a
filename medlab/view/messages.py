"""Messages: what a widget sends to a kernel that is busy with a cell, delivered between two steps of that cell.

In: the comm of a widget. Out: its waiting messages, handed to its callbacks. All others wait for the end of the cell,
in their order. ipykernel has no public call for this; where it is built otherwise, nothing happens, and the kernel's
interrupt button remains.
"""

from __future__ import annotations

import json
import threading
from typing import Any


def deliver(comm_id: str) -> None:
    """Hands the messages that wait for the widget with this comm to its callbacks.

    To be called from the cell's own thread, the kernel's main thread; from others it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    from IPython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    stream = None if kernel is None else _stream(kernel)
    if not (hasattr(stream, "_run_callback") and getattr(stream, "_recv_callback", None)):
        return
    for frames in _waiting(stream.socket):
        _, parts = kernel.session.feed_identities(frames, copy=False)
        # Signature, header, parent, metadata, content; Session.deserialize takes each signature only once.
        kind = json.loads(bytes(parts[1]))["msg_type"]
        if kind == "comm_msg" and json.loads(bytes(parts[4])).get("comm_id") == comm_id:
            message = kernel.session.deserialize(parts, content=True, copy=False)
            kernel.comm_manager.comm_msg(None, None, message)
        else:
            # As if the stream had read it now: one that it has read already is a step ahead, and stays so.
            stream._run_callback(stream._recv_callback, frames)


def _stream(kernel: Any) -> Any:
    """Where messages for the main thread wait: in ipykernel 7 a pair inside the process, before it the shell's own."""
    thread = getattr(kernel, "shell_channel_thread", None)
    if thread is None:
        return getattr(kernel, "shell_stream", None)
    pair = getattr(getattr(thread, "manager", None), "_shell_channel_to_main", None)
    return getattr(pair, "to_stream", None)


def _waiting(socket: Any) -> list[Any]:
    """All messages that have come, as frames."""
    import zmq

    found = []
    while True:
        try:
            found.append(socket.recv_multipart(zmq.NOBLOCK, copy=False))
        except zmq.Again:
            return found

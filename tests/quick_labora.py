"""`labora` for the pages' commands: a process that has all of it imported, and forks for each call.

The command is the real one, with its own arguments, environment, folder, input and output; only its start, most of a
second each of a hundred times, is spared. `python -m tests.docs.quick_labora SOCKET`; `CLIENT` is what calls it.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Final

from interface.cli import COMMANDS, labora, run_command

# The daemon itself is started as everybody starts it.
CLIENT: Final = """#!/usr/bin/python3 -ISs
import os, signal, socket, sys
if sys.argv[1:2] == ["run"]:
    os.execv({labora!r}, [{labora!r}, *sys.argv[1:]])
import json
with socket.socket(socket.AF_UNIX) as server:
    server.connect({socket!r})
    call = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(call).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(call)
    child = int.from_bytes(server.recv(4), "big")
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda number, _: os.kill(child, number))
    status = server.recv(1)
sys.exit(status[0] if status else 1)
"""


def _import(command: object, context_path: tuple[str, ...] = ()) -> None:
    """Every module that some command is in."""
    table = getattr(command, "table", None) or {}
    for where, _ in table.values():
        module, _, attribute = where.partition(":")
        _import(getattr(importlib.import_module(module), attribute))


def _call(peer: socket.socket) -> None:
    """In a process of its own: be the command."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    length, fds, _, _ = socket.recv_fds(peer, 4, 3)
    data = b""
    while len(data) < int.from_bytes(length, "big"):
        data += peer.recv(1 << 16)
    arguments, folder, environment = json.loads(data)
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # as in a terminal: in the order as said
    peer.sendall(os.getpid().to_bytes(4, "big"))
    status = run_command(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    peer.sendall(bytes([status]))
    os._exit(0)


def main(path: str) -> None:
    assert len(COMMANDS) > 20
    _import(labora)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        Path(f"{path}.ready").touch()
        while True:
            peer, _ = server.accept()
            if os.fork() == 0:
                server.close()
                try:
                    _call(peer)
                finally:
                    os._exit(1)
            peer.close()


if __name__ == "__main__":
    main(sys.argv[1])

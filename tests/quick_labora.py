"""`labora` for tests that call it often: a process that has all of it imported, and forks for each call.

The command is the real one, with its own process, arguments, environment, folder, input and output. Spared are its
start, most of a second each of a hundred times, and as in every test process (`conftest.quick_passwords`) the price of
a password, a tenth each time. `python -m tests.quick_labora SOCKET [--impatient]`; `forking` starts it.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from argon2 import PasswordHasher

from interface.cli import COMMANDS, labora, run_command

ROOT: Final = Path(__file__).parent.parent
PATIENCE_S: Final = 900.0  # beside much else; alone it starts in a second
HASHER: Final = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
IMPATIENT_S: Final = 0.5
# `labora run`, without more, is started as everybody starts it: a daemon that stays.
_CLIENT: Final = """#!/usr/bin/python3 -ISs
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


def _changed(*, impatient: bool) -> None:
    """What costs time and is the subject of tests of its own."""
    from interface.flow import passwords
    from interface.store import db, embedded, migrate

    passwords._hasher = HASHER
    for module in (db, embedded, migrate) if impatient else ():
        vars(module)["START_WAIT_S"] = IMPATIENT_S


def main(path: str, *options: str) -> None:
    assert len(COMMANDS) > 20
    _import(labora)
    _changed(impatient="--impatient" in options)
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
                except BaseException:
                    traceback.print_exc()  # as of a program that ends so
                finally:
                    os._exit(1)
            peer.close()


@contextmanager
def forking(folder: Path, environment: Mapping[str, str], *, impatient: bool = False) -> Iterator[Path]:
    """The program to call for `labora`, in `folder`. `impatient`: a server that cannot be reached is tried for
    IMPATIENT_S only."""
    client, door = folder / "labora", folder / "door"
    client.write_text(_CLIENT.format(labora=str(Path(sys.executable).parent / "labora"), socket=str(door)))
    client.chmod(0o755)
    command = [sys.executable, "-m", "tests.quick_labora", str(door), *(["--impatient"] if impatient else [])]
    server = subprocess.Popen(
        command, cwd=ROOT, env={**environment, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        began = time.monotonic()
        while not Path(f"{door}.ready").exists():
            assert server.poll() is None and time.monotonic() - began < PATIENCE_S, "it did not start"
            time.sleep(0.01)
        yield client
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])

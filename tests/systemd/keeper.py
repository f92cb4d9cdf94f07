"""What systemd does at the other end of sd_notify(3), as far as a test needs it: it hears, it keeps sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Keeper:
    """`heard`: what was said, in order, but for sockets. `store`: the sockets kept, by name."""

    channel: socket.socket
    heard: list[str] = field(default_factory=list)
    store: dict[str, socket.socket] = field(default_factory=dict)

    def hear(self) -> None:
        """Take in all that was said so far."""
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self.channel, 4096, 4)
            except BlockingIOError:
                return
            said = dict(line.partition("=")[::2] for line in data.decode().splitlines())
            match said:
                case {"FDSTORE": "1", "FDNAME": name}:
                    if name in self.store:
                        self.store[name].close()
                    self.store[name] = socket.socket(fileno=fds[0])
                case {"FDSTOREREMOVE": "1", "FDNAME": name}:
                    if name in self.store:
                        self.store.pop(name).close()
                case {"BARRIER": "1"}:
                    os.close(fds[0])
                case _:
                    self.heard.append(data.decode())

    def passed(self) -> list[tuple[str, socket.socket]]:
        """What the next process gets: copies, as ever."""
        return [(name, socket.socket(fileno=os.dup(kept.fileno()))) for name, kept in self.store.items()]


@contextmanager
def keeper(path: Path | str) -> Iterator[Keeper]:
    """A socket at `path`, for NOTIFY_SOCKET; `"\\0name"` for an abstract one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(path))
        channel.setblocking(False)
        found = Keeper(channel)
        yield found
        for kept in found.store.values():
            kept.close()

"""Connections of one listening socket are shared out among those who take from it."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterator

import pytest

from interface.api.connections import Accepting


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


class Taker:
    """Takes connections and holds them, beside `more` that it has already."""

    def __init__(self, listener: socket.socket, more: int = 0) -> None:
        self.taken: list[socket.socket] = []
        self.came = asyncio.Event()
        self.accepting = Accepting(listener, self._take, lambda: more + len(self.taken))

    async def _take(self, connection: socket.socket) -> None:
        self.taken.append(connection)
        self.came.set()

    def close(self) -> None:
        self.accepting.close()
        for one in self.taken:
            one.close()


async def test_who_has_no_connection_takes_before_who_has_some(listener: socket.socket) -> None:
    address = listener.getsockname()
    busy, idle = Taker(listener.dup(), more=4), Taker(listener.dup())
    with socket.create_connection(address):
        async with asyncio.timeout(20):
            await idle.came.wait()
        assert (len(busy.taken), len(idle.taken)) == (0, 1)
    busy.close()
    idle.close()


async def test_who_is_alone_takes_everybody(listener: socket.socket) -> None:
    address, taker = listener.getsockname(), Taker(listener.dup())
    clients = [socket.create_connection(address) for _ in range(20)]
    async with asyncio.timeout(20):
        while len(taker.taken) < len(clients):
            taker.came.clear()
            await taker.came.wait()
    taker.close()
    for one in clients:
        one.close()


async def test_what_is_closed_takes_nothing_more_and_holds_no_socket(listener: socket.socket) -> None:
    own = listener.dup()
    taker = Taker(own)
    taker.close()
    assert own.fileno() == -1
    with socket.create_connection(listener.getsockname()):
        await asyncio.sleep(0)
    assert not taker.taken


async def test_without_descriptors_it_takes_again_later(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interface.api.connections._WITHOUT_DESCRIPTORS_S", 0.001)
    refused = [OSError(errno.EMFILE, "Too many open files")]

    class Short(socket.socket):
        def accept(self) -> tuple[socket.socket, object]:
            if refused:
                raise refused.pop()
            return super().accept()

    taker = Taker(Short(fileno=listener.dup().detach()))
    with socket.create_connection(listener.getsockname()):
        async with asyncio.timeout(20):
            await taker.came.wait()
    assert not refused
    taker.close()


async def test_a_queue_of_short_connections_is_taken_in_few_turns(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[int] = []
    real = Accepting._accept

    def counted(self: Accepting) -> None:
        turns.append(1)
        real(self)

    monkeypatch.setattr(Accepting, "_accept", counted)
    clients = [socket.create_connection(listener.getsockname()) for _ in range(100)]
    all_taken, taken = asyncio.Event(), 0

    async def take(connection: socket.socket) -> None:
        nonlocal taken
        connection.close()  # so that none is held
        taken += 1
        if taken == len(clients):
            all_taken.set()

    accepting = Accepting(listener.dup(), take, lambda: 0)
    async with asyncio.timeout(20):
        await all_taken.wait()
    assert len(turns) <= 10
    accepting.close()
    for one in clients:
        one.close()

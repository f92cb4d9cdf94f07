"""Connections of one listening socket are shared out among those who take from it."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from interface.api.connections import Accepting
from interface.api.shares import EACH_S, FULL_S, MOST_PLACES, MUCH_S, NOBODY, Share, Shares, memory


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@pytest.fixture
def shares() -> Iterator[Shares]:
    fd = memory()
    yield Shares(fd)
    os.close(fd)


class Taker:
    """Takes connections and holds them, beside `more` that it has already."""

    def __init__(self, listener: socket.socket, share: Share | None = None, more: int = 0) -> None:
        self.taken: list[socket.socket] = []
        self.came = asyncio.Event()
        self.accepting = Accepting(listener, self._take, lambda: more + len(self.taken), share)

    async def _take(self, connection: socket.socket) -> None:
        self.taken.append(connection)
        self.came.set()

    def close(self) -> None:
        self.accepting.close()
        for one in self.taken:
            one.close()


def close(*each: Taker | socket.socket) -> None:
    for one in each:
        one.close()


async def taken_by(takers: list[Taker], number: int) -> None:
    async with asyncio.timeout(20):
        while sum(len(taker.taken) for taker in takers) < number:
            for taker in takers:
                taker.came.clear()
            await asyncio.wait(
                [asyncio.ensure_future(taker.came.wait()) for taker in takers], return_when=asyncio.FIRST_COMPLETED
            )


async def test_who_has_fewer_connections_takes_until_it_has_as_many(listener: socket.socket, shares: Shares) -> None:
    address = listener.getsockname()
    busy, idle = Taker(listener.dup(), Share(shares, 0), more=4), Taker(listener.dup(), Share(shares, 1))
    clients = []
    for number in range(1, 5):
        clients.append(socket.create_connection(address))
        await taken_by([busy, idle], number)
    assert (len(busy.taken), len(idle.taken)) == (0, 4)
    close(busy, idle, *clients)


async def test_those_who_come_at_once_are_shared_out(listener: socket.socket, shares: Shares) -> None:
    clients = [socket.create_connection(listener.getsockname()) for _ in range(16)]
    takers = [Taker(listener.dup(), Share(shares, place)) for place in (3, 60)]
    await taken_by(takers, len(clients))
    assert {len(taker.taken) for taker in takers} <= {7, 8, 9}
    close(*takers, *clients)


async def test_who_takes_none_though_it_has_fewest_is_not_waited_for(listener: socket.socket, shares: Shares) -> None:
    """It hangs, perhaps. Who says that it takes no more is not waited for at all."""
    shares.tell(9, 0)
    taker = Taker(listener.dup(), Share(shares, 1), more=1)
    clients = [socket.create_connection(listener.getsockname()) for _ in range(20)]
    await taken_by([taker], len(clients))
    assert shares.least_beside(9) == 21
    shares.tell(9, NOBODY)
    assert Share(shares, 1).others() is None
    taker.close()
    assert shares.least_beside(9) is None
    for one in clients:
        one.close()


def test_every_place_begins_without_anybody(shares: Shares) -> None:
    assert all(shares.least_beside(place) is None for place in range(MOST_PLACES))


async def test_who_is_alone_takes_everybody(listener: socket.socket) -> None:
    clients = [socket.create_connection(listener.getsockname()) for _ in range(20)]
    taker = Taker(listener.dup())
    await taken_by([taker], len(clients))
    close(taker, *clients)


@pytest.mark.parametrize(("per_s", "asked"), [(1, False), (50, False), (0.8 / EACH_S, False), (1.2 / EACH_S, True)])
def test_all_processes_see_when_clients_ask_for_much(
    shares: Shares, monkeypatch: pytest.MonkeyPatch, per_s: float, asked: bool
) -> None:
    now = [5.0]
    monkeypatch.setattr("interface.api.shares.time", SimpleNamespace(monotonic=lambda: now[0]))
    assert not shares.asked
    for number in range(200):
        Share(shares, number % 9).ask()
        now[0] += 1 / per_s
    assert shares.asked == asked


def test_that_clients_asked_for_much_is_soon_forgotten(shares: Shares, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [5.0]
    monkeypatch.setattr("interface.api.shares.time", SimpleNamespace(monotonic=lambda: now[0]))
    for _ in range(100_000):
        shares.ask()
    assert shares.asked
    now[0] += FULL_S - MUCH_S + 0.001
    assert not shares.asked


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
    listener: socket.socket, shares: Shares, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[int] = []
    real = Accepting._accept

    def counted(self: Accepting, wanted: int = 1) -> None:
        turns.append(1)
        real(self, wanted)

    monkeypatch.setattr(Accepting, "_accept", counted)
    clients = [socket.create_connection(listener.getsockname()) for _ in range(100)]
    all_taken, taken = asyncio.Event(), 0

    async def take(connection: socket.socket) -> None:
        nonlocal taken
        connection.close()  # so that none is held
        taken += 1
        if taken == len(clients):
            all_taken.set()

    shares.tell(7, 0)
    accepting = Accepting(listener.dup(), take, lambda: 0, Share(shares, 8))
    async with asyncio.timeout(20):
        await all_taken.wait()
    assert len(turns) <= 10
    accepting.close()
    for one in clients:
        one.close()

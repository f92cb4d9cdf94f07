"""Sending to endpoints: the address that is checked is the one that is used."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from interface.errors import DeliveryAmbiguous, DeliveryTransient
from interface.flow import hooks
from interface.flow.hooks import Hooks


@pytest.fixture
async def listener() -> AsyncIterator[tuple[int, list[bytes]]]:
    """A port on loopback, and what came to it; it answers nothing."""
    got: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.read(1000))
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], got


async def sent(site: Hooks, endpoint: str) -> None:
    async with site.opened(endpoint) as sender:
        await sender.send("POST", "", {}, b"")


async def test_a_name_that_leads_inside_is_not_connected_to(
    listener: tuple[int, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, got = listener
    asked: list[str] = []

    async def resolves(host: str, at: int, **_: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", at))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolves)
    endpoint = f"https://emr.example.org:{port}/fhir"
    with pytest.raises(DeliveryTransient, match="at an address that is not allowed"):
        await sent(Hooks.of([endpoint], ["10.0.0.0/8"]), endpoint)
    assert (asked, got) == (["emr.example.org"], [])


async def test_what_is_not_on_the_list_any_more_is_not_sent(listener: tuple[int, list[bytes]]) -> None:
    port, got = listener
    with pytest.raises(DeliveryTransient, match="list of endpoints"):
        await sent(Hooks.of([], []), f"http://127.0.0.1:{port}/fhir")
    assert got == []


async def test_an_answer_that_does_not_come_leaves_it_open_whether_it_was_taken(
    listener: tuple[int, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, got = listener
    endpoint = f"http://127.0.0.1:{port}/fhir"
    with pytest.raises(DeliveryAmbiguous):
        await sent(Hooks.of([endpoint], []), endpoint)
    assert got[0].startswith(b"POST /fhir HTTP/1.1\r\n")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(hooks, "TOTAL_S", 0.05)
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(DeliveryAmbiguous, match="TimeoutError"):
            await sent(Hooks.of([endpoint], []), endpoint)


async def test_nobody_there_is_certainly_not_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(DeliveryTransient, match="refuses the connection"):
        await sent(Hooks.of([endpoint], []), endpoint)

"""The harness's own parts, where they are not shown by what they find."""

from __future__ import annotations

import asyncio

import uvloop

from interface.settings import Address
from tests.e2e.standby import ACK, ENQ, Analyzer


async def _host(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes every session and every frame."""
    while said := await reader.read(1):
        if said in (ENQ, b"\n"):
            writer.write(ACK)
    writer.close()


async def _sent_after_a_cut() -> int:
    server = await asyncio.start_server(_host, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        analyzer = Analyzer((Address(host, port),), "A", astm=True)
        await analyzer.send()
        assert analyzer._line is not None
        analyzer._line[1].transport.abort()  # as a host that was killed cuts it
        await asyncio.sleep(0)
        await analyzer.send()
        await analyzer.close()
    return len(analyzer.acknowledged)


def test_an_analyzer_whose_line_was_cut_sends_on_another() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(_sent_after_a_cut()) == 2

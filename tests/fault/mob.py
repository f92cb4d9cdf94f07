"""`python -m tests.fault.mob PORT QUIET BUSY IDLE DRIBBLING CONNECTS`: everybody who wants to wear a daemon out, at
once, until standard input ends (F10).

At QUIET, a link that takes as many: so many connections that say nothing. At BUSY: so many that say a byte a second,
one whose message of 17 MB has no end, one that reads no reply. At PORT, where good analyzers are too: so many
connections a second that are made and left. A line is written once all of them are there.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

from tests.bench.messages import hl7_message

HOST = "127.0.0.1"
ENDLESS_MB, PIECE = 17, 1 << 16


async def _idle(port: int) -> asyncio.StreamWriter:
    return (await asyncio.open_connection(HOST, port))[1]


async def _dribble(writer: asyncio.StreamWriter) -> None:
    said = b"\x0b" + hl7_message("SLOW", "SLOW")
    for at in range(len(said)):
        writer.write(said[at : at + 1])
        await asyncio.sleep(1.0)


async def _endless(port: int) -> None:
    while True:
        with suppress(OSError):
            _, writer = await asyncio.open_connection(HOST, port)
            writer.write(b"\x0bMSH|^~\\&|ENDLESS")
            for _ in range((ENDLESS_MB << 20) // PIECE):
                writer.write(b"x" * PIECE)
                await writer.drain()
                await asyncio.sleep(0.02)
            writer.transport.abort()
        await asyncio.sleep(1.0)


async def _deaf(port: int) -> None:
    """Sends, and reads nothing of what it is answered."""
    number = 0
    while True:
        with suppress(OSError):
            _, writer = await asyncio.open_connection(HOST, port, limit=1 << 10)
            while True:
                number += 1
                writer.write(b"\x0b" + hl7_message(f"SDEAF{number}", f"DEAF{number}") + b"\x1c\r")
                await writer.drain()
                await asyncio.sleep(0.05)
        await asyncio.sleep(1.0)


async def _come_and_go(port: int, a_second: int) -> None:
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        due += 1 / a_second
        await asyncio.sleep(due - loop.time())
        with suppress(OSError):
            _, writer = await asyncio.open_connection(HOST, port)
            writer.close()


async def main(port: int, quiet: int, busy: int, idle: int, dribbling: int, connects: int) -> None:
    lines = [await _idle(to) for to in (*[quiet] * idle, *[busy] * dribbling)]
    tasks = [asyncio.create_task(_dribble(writer)) for writer in lines[idle:]]
    tasks += [asyncio.create_task(one) for one in (_endless(busy), _deaf(busy), _come_and_go(port, connects))]
    sys.stdout.write(f"{len(lines)}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for writer in lines:
        writer.transport.abort()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))

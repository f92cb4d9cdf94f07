"""What a daemon weighs: itself and what it has started, but for what is there for a moment only."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import BinaryIO

from tests.bench.memory import at_rest, started_by, weight_mb
from tests.bench.soak import memory_mb

# It starts a process from a thread that is not its first, which ends with its input; then it waits for that.
_STARTS = """
import subprocess, sys, threading
def start():
    global child
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=int(sys.argv[1]))
    print("started", flush=True)
    child.wait()
threading.Thread(target=start).start()
"""


@asynccontextmanager
async def _starting() -> AsyncIterator[tuple[int, BinaryIO]]:
    """The pid of a process that has started another, and what to close to end that, after which it ends itself."""
    theirs, mine = os.pipe()
    ours = os.fdopen(mine, "wb")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _STARTS + "sys.stdin.read()", str(theirs), pass_fds=(theirs,),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    os.close(theirs)
    assert process.stdin is not None and process.stdout is not None
    try:
        await process.stdout.readline()
        yield process.pid, ours
    finally:
        ours.close()
        process.stdin.close()
        await process.wait()


async def test_what_a_process_has_started_weighs_with_it_whichever_thread_it_was() -> None:
    async with _starting() as (pid, _):
        (child,) = started_by(pid)
        own, theirs = memory_mb(pid), memory_mb(child)
        assert theirs > 0
        assert weight_mb(pid) >= own + theirs, "looked at later: who is still starting grows"


async def test_what_stays_is_counted_at_rest() -> None:
    async with _starting() as (pid, _):
        weight, others = await at_rest(pid, patience_s=0.0)
        assert others == 1 and weight > memory_mb(pid)


async def test_what_ends_soon_is_waited_for() -> None:
    async with _starting() as (pid, ends):
        resting = asyncio.create_task(at_rest(pid, patience_s=60.0))
        await asyncio.sleep(0)
        assert not resting.done()
        ends.close()
        weight, others = await resting
        assert others == 0 and weight == memory_mb(pid)

"""The harness's own parts, where they are not shown by what they find."""

from __future__ import annotations

import asyncio
import shutil
import subprocess

import pytest
import uvloop

from interface.settings import Address
from tests.cluster import new_state_dir
from tests.e2e.standby import ACK, ENQ, Analyzer
from tests.fault.disk import LoopDisk, obstacle


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


@pytest.mark.skipif(obstacle() is not None, reason=f"no power can be cut: {obstacle()}")
def test_a_disk_whose_power_was_cut_is_mounted_anew_though_somebody_held_a_copy_of_its_mount() -> None:
    folder = new_state_dir()
    disk = LoopDisk(folder)
    copy = ("unshare", "--mount", "--propagation", "private", "sh", "-c", "echo; read -r line")
    try:
        with subprocess.Popen(copy, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline()
            disk.cut()
            assert not disk.is_unmounted()
            assert not disk.path.is_mount()
        asyncio.run(disk.unmount())  # now that the other has let go
        disk.mount()
        (disk.path / "written").write_text("again")
    finally:
        asyncio.run(disk.unmount())
        shutil.rmtree(folder)

"""Reports printed by a process of its own: the same bytes, and neither its faults nor its weight are the daemon's."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from interface.domain.report import Language, Paper
from interface.flow.printing import Printer, PrintError
from interface.render import report_json
from interface.render.report_pdf import pdf
from tests.render.order_reports import corrected, usual

FORM = (Paper.A4, Language.ENGLISH)
BROKEN = b'{"number": "CANARY"}'


async def test_it_prints_one_report_after_the_other_as_who_reads_them_does() -> None:
    async with Printer() as printer:
        for report in (usual(), corrected()):
            for paper, language in (FORM, (Paper.LETTER, Language.INDONESIAN)):
                printed = await printer.pdf(report_json.dumps(report), paper, language)
                assert printed == pdf(report, paper, language)


async def test_one_that_cannot_be_printed_says_where_and_nothing_of_it_and_the_next_is_printed() -> None:
    async with Printer() as printer:
        with pytest.raises(PrintError, match=r"^\w+Error in .+\.py, line \d+$") as raised:
            await printer.pdf(BROKEN, *FORM)
        assert "CANARY" not in str(raised.value)
        assert await printer.pdf(report_json.dumps(usual()), *FORM) == pdf(usual(), *FORM)


async def test_when_the_process_is_gone_another_prints_the_next_report() -> None:
    async with Printer() as printer:
        await printer.pdf(report_json.dumps(usual()), *FORM)
        os.kill(_process(printer), signal.SIGKILL)
        with pytest.raises(PrintError, match="does not answer"):
            await printer.pdf(report_json.dumps(usual()), *FORM)
        assert await printer.pdf(report_json.dumps(usual()), *FORM) == pdf(usual(), *FORM)


async def test_the_process_ends_with_who_gave_it_work_at_whatever_point() -> None:
    printing = asyncio.create_task(_prints_for_ever(begun := asyncio.Queue[int]()))
    pid = await begun.get()
    printing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await printing
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_the_process_ends_when_the_daemon_that_gave_it_work_is_gone() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "interface.flow.printing", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate(b"")  # its input ends
    assert (said, process.returncode) == (b"", 0)


async def _prints_for_ever(begun: asyncio.Queue[int]) -> None:
    async with Printer() as printer:
        while True:
            await printer.pdf(report_json.dumps(usual()), *FORM)
            begun.put_nowait(_process(printer))


def _process(printer: Printer) -> int:
    assert printer._process is not None
    return printer._process.pid

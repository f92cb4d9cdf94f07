"""Reports that nobody has asked for yet are printed in a process of its own. Who prints holds the interpreter, which an
acknowledgement would wait for, and the libraries for it stay in memory once they are imported.

A patient's data goes through the pipes only, in frames that have their length before them: in no argument, file or log.
At the end of its input, as when the daemon ends, so does the process.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from typing import BinaryIO

from interface.domain.report import Language, Paper
from interface.errors import LaboraError

WAIT_S = 60.0  # for one report, and for the process to be there
_NICE = 10  # where systemd lets it: links and deciding go first
_LENGTH = 4  # bytes
_PDF = b"%PDF-"


class PrintError(LaboraError):
    """A report could not be printed; who reads it prints it then."""

    slug = "print"


class Printer:
    """One process, begun with the first report; `async with` ends it."""

    def __init__(self) -> None:
        self._process: Process | None = None

    async def __aenter__(self) -> Printer:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def pdf(self, content: bytes, paper: Paper, language: Language) -> bytes:
        """The pages of `content`, a report as `report_json` writes it. Raises PrintError."""
        asked = f"{paper.value} {language.value}\n".encode() + content
        try:
            async with asyncio.timeout(WAIT_S):
                said = await self._said(asked)
        except (OSError, asyncio.IncompleteReadError) as error:  # TimeoutError is one of the first
            await self._end()  # it may answer late, which would be taken for the next report's pages
            raise PrintError(f"the process that prints does not answer: {type(error).__name__}") from None
        if not said.startswith(_PDF):
            raise PrintError(said.decode())
        return said

    async def _said(self, asked: bytes) -> bytes:
        if self._process is None:
            command = (sys.executable, "-m", "interface.flow.printing")
            self._process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL)
        into, out = self._process.stdin, self._process.stdout
        assert into is not None and out is not None  # noqa: S101 - they are pipes
        into.write(len(asked).to_bytes(_LENGTH) + asked)
        await into.drain()
        return await out.readexactly(int.from_bytes(await out.readexactly(_LENGTH)))

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.kill()
        if process.stdin is not None:
            process.stdin.close()
        await process.communicate()


# ---- in the process -------------------------------------------------------------------------------------------------


def _main() -> None:
    with suppress(OSError):
        os.nice(_NICE)
    into, out = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # nothing else may stand between the frames
    while length := into.read(_LENGTH):
        _write(out, _answer(into.read(int.from_bytes(length))))


def _write(out: BinaryIO, said: bytes) -> None:
    out.write(len(said).to_bytes(_LENGTH) + said)
    out.flush()


def _answer(asked: bytes) -> bytes:
    """The document, or what kept it from being made, without a word of its content."""
    from interface.render import report_json
    from interface.render.report_pdf import pdf

    form, _, content = asked.partition(b"\n")
    paper, language = form.decode().split()
    try:
        return pdf(report_json.loads(content), Paper(paper), Language(language))
    except Exception as error:
        at = error.__traceback__
        while at is not None and at.tb_next is not None:
            at = at.tb_next
        where = f"{at.tb_frame.f_code.co_filename}, line {at.tb_lineno}" if at is not None else "an unknown place"
        return f"{type(error).__name__} in {where}".encode()


if __name__ == "__main__":
    _main()

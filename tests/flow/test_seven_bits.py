"""What is said over a serial line of seven data bits, over a pseudo-terminal and PostgreSQL."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from interface.flow.intake import LinkIntake
from interface.flow.outgoing import LinkOutgoing
from interface.flow.speeches import answer_of, speech_of
from interface.link.supervisor import LinkSpec, Supervisor
from interface.settings import LineFormat, Parity, Transport, TransportType
from interface.wire.frames import build_frame, parse_frame
from tests.flow.dispatching import begin
from tests.flow.laboratory import laboratory
from tests.link.bench import ACK, ENQ, EOT, PATIENCE_S, Analyzer
from tests.link.cable import Cable

QUESTION = b"H|\\^&\rQ|1|^S-1||ALL||||||||O\rL|1|N\r"


@pytest.mark.parametrize("encoding", ["", "latin-1", "utf-8"])
@pytest.mark.parametrize("download", [False, True])
async def test_a_name_has_no_letters_that_the_line_lacks(
    database_url: str, tmp_path: Path, encoding: str, download: bool
) -> None:
    """Without its eighth bit ü is a field delimiter, and of two of them the checksum is right again: at the analyzer
    the birth date and the sex stood in other fields. Of one alone the frame was refused, and the order never taken."""
    cable = Cable(tmp_path / "port")
    port = replace(cable.port, format=LineFormat(7, Parity.EVEN, 1))
    async with laboratory(database_url, "generic_lis2") as lab:
        settings = replace(
            lab.context.settings, transport=Transport(TransportType.SERIAL, port), encoding=encoding, download=download
        )
        link = replace(lab.context, settings=settings)
        if download:
            await begin(lab, link)
        await lab.order("S-1", "GLU", family="Müller", given="Jürgen")
        outgoing = LinkOutgoing(link, lab.database, answer_of(link), speech_of(link))
        supervisor = Supervisor([LinkSpec(settings, LinkIntake(link, lab.journal, outgoing=outgoing))])
        await supervisor.start()
        analyzer = Analyzer(cable)
        try:
            if not download:
                await analyzer.talk((ENQ, ACK), (build_frame(1, QUESTION, True), ACK), (EOT, b""))
            await analyzer.talk((b"", ENQ))
            await analyzer.send(ACK)
            said = b""
            async with asyncio.timeout(PATIENCE_S):
                while not said.endswith(b"\r\n"):
                    said += await cable.read()
            fn, text, last = parse_frame(said)
            assert said == build_frame(fn, text, last)
            assert text.split(b"\r")[1].split(b"|")[5:9] == [b"Muller^Jurgen", b"", b"19800501", b"F"]
            await analyzer.talk((ACK, EOT))
        finally:
            await supervisor.stop(0.0)
            await cable.close()

"""What a hospital writes in other letters than Latin is stored as it is written, and answered so."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from interface.wire import charsets
from tests.flow.hospital_use import Hospital, header, hospital, order
from tests.flow.test_hospital_patients import known


@pytest.fixture
async def his(database_url: str) -> AsyncIterator[Hospital]:
    async with hospital(database_url) as made:
        yield made


@pytest.mark.parametrize("named", ["~ISO IR87", "ISO IR6~ISO IR87", "ASCII~ISO IR13~ISO IR87"])
async def test_names_in_the_second_of_two_charsets(his: Hospital, named: str) -> None:
    """As Japanese systems send them: the bytes of 本 are K\\, and those of 美 H~, which in ASCII are an escape and the
    end of the name."""
    first = header("OML^O21^OML_O21", "H1") + f"||{named}||ISO 2022-1994"
    pid = "PID|1||P-1^^^HOSP^MR||山本^美子^^^^^L^I||19800501|F"
    block = "".join(f"{line}\r" for line in (first, pid, *order("A1"))).encode("iso2022_jp")
    said = await his.send(block)
    assert (said.code, said.errors, said.controls) == ("AA", [], ["OK"])
    assert [(one.family, one.given) for one in await known(his)] == [("山本", "美子")]
    assert said.reply.header.field(18) == named


def test_of_two_charsets_what_fits_neither_is_said() -> None:
    block = f"{header('OML^O21', 'H1')}||ASCII~ISO IR87\rNTE|1||".encode() + b"\x1b$B\x1b(B\xfc\r"
    decoded = charsets.decode(block)
    assert (decoded.text[-2], decoded.fault) == ("ü", "the bytes are not ASCII")


def test_where_nothing_is_switched_to_the_first_charset_counts() -> None:
    block = f"{header('OML^O21', 'H1')}||8859/1~ISO IR87\rNTE|1||ü\r".encode("latin-1")
    assert charsets.decode(block).encoding == "iso8859-1"

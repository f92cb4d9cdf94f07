"""What the host writes by a driver's dialect is what a simulated analyzer understands, for every driver that asks."""

from __future__ import annotations

from datetime import datetime

import pytest

from interface.domain.check_digits import CheckDigit, check_character
from interface.driver import registry
from interface.driver.compose import compose, compose_query
from interface.driver.defaults import DEFAULT_ANSWERS
from interface.driver.dialogue import Ordered, Work, answer, ordered_code, read_query
from interface.driver.hearing import ordered
from interface.driver.parse import parse_manifest
from interface.driver.planned import Stamp
from interface.driver.repertoire import repertoire
from interface.simulator.analyzer import told
from interface.simulator.invent import Dice, measure, specimen_ids
from tests.analyzers import modelled

AT = datetime(2026, 2, 3, 4, 5, 6)  # noqa: DTZ001 - an instrument's clock has no zone
ASKING = [driver.id for driver in registry.find_all() if modelled(driver.id).known.asking]

HEAD = """
[driver]
id = "acme_one"
revision = "1"
protocol = "{protocol}"
tier = "simulated"
title = "Acme One"
document = "Acme One manual"
[status]
F = "ok"
"" = "ok"
[flags]
"" = ""
"""
DSR = (
    HEAD.format(protocol="hl7")
    + r"""
[match]
"MSH-3" = "^ACME"
[paths]
specimen_id = "OBR-3.1"
[query]
message_types = "QRY^Q02"
specimen_id = "QRD-8.1"
[answer]
[[answer.found]]
lines = ['MSH|^~\&|||{MSH-3}||{now}||QCK^Q02|{control_id}|P|2.3.1', 'MSA|AA|{MSH-10}', 'QAK|SR|OK']
[[answer.found]]
lines = ['MSH|^~\&|||{MSH-3}||{now}||DSR^Q03|{control_id}|P|2.3.1', '{QRD}', 'DSP|21||{specimen_id}|||',
  {each = "test", lines = ['DSP|{n}||{code}^^^|||']}, 'DSC||']
[[answer.none]]
lines = ['MSH|^~\&|||{MSH-3}||{now}||QCK^Q02|{control_id}|P|2.3.1', 'MSA|AA|{MSH-10}', 'QAK|SR|NF']
"""
)
CHECKED = (
    HEAD.format(protocol="lis2")
    + """
[match]
"H.5" = "^ACME"
[specimen_id]
padding = "0"
check_digit = "luhn"
drop_check_digit = true
"""
)


@pytest.mark.parametrize("driver_id", ASKING)
def test_the_answer_orders_what_the_host_meant(driver_id: str) -> None:
    one = modelled(driver_id)
    (specimen,) = specimen_ids(one.known, 1, Dice(9))
    codes = tuple(one.known.sayings)[:5]
    query = compose_query(one.known, specimen, Stamp(AT, "C1"))
    dialect = one.driver.answer or DEFAULT_ANSWERS[one.driver.protocol]
    asked = read_query(one.driver.protocol, query, one.driver.encoding)
    kind = next(iter(dialect.specimen_types or {}), "")  # one that the dialect has a word for
    work = Work(specimen, tuple(map(Ordered, codes)), specimen_type=kind)
    said = answer(dialect, asked, [work], AT, "L1", encoding=one.driver.encoding)
    assert set(ordered(one.driver, said, specimen)) == {ordered_code(dialect, code) for code in codes}
    assert told(one.driver, said, specimen) == ordered(one.driver, said, specimen)
    nothing = answer(dialect, asked, [], AT, "L1", missing=[specimen], encoding=one.driver.encoding)
    assert ordered(one.driver, nothing, specimen) == ()
    assert told(one.driver, nothing, specimen) == ()


def test_a_dialect_that_no_decoder_reads_is_understood() -> None:
    driver = parse_manifest(DSR, "acme")
    query = b"MSH|^~\\&|ACME|||||QRY^Q02|1|P|2.3.1\rQRD|20260203|R|D|1|||RD|S-7|OTH|||T\r"
    asked = read_query(driver.protocol, query)
    assert driver.answer is not None
    work = Work("S-7", (Ordered("GLU"), Ordered("A^1")))
    said = answer(driver.answer, asked, [work], AT, "L1")
    assert len(said) == 2
    assert ordered(driver, said, "S-7") == ("GLU", "A^1")
    assert ordered(driver, said, "S-8") == ()


def test_a_check_digit_that_is_not_read_is_sent_and_right() -> None:
    driver = parse_manifest(CHECKED, "acme")
    barcode = "000041000123" + check_character(CheckDigit.LUHN, "41000123")
    text = f"H|\\^&|||ACME\rP|1|X1\rO|1|{barcode}||^^^GLU\rR|1|^^^GLU|5.1|mmol/L||||F\rL|1|N\r".encode()
    known = repertoire(driver, [text])
    (specimen,) = specimen_ids(known, 1, Dice(3))
    assert (len(specimen), specimen[-1:].isdigit()) == (8, True)
    (made,) = compose(known, measure(known, specimen, Dice(3)), Stamp(AT))
    sent = made.split(b"O|1|")[1].split(b"|")[0].decode()
    assert len(sent) == len(barcode)
    assert registry.decode(driver, made).specimens[0].specimen_id == specimen

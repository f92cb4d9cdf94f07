"""What a hospital's fields mean, one by one, and how its orders are answered; on any bytes, nothing is raised."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interface.domain.model import Priority, Sex
from interface.domain.specimens import RejectReason
from interface.driver import decode_orders
from interface.driver.encode_orders import MOST_ERRORS, Answered, Outcome, Tube, reply
from interface.driver.orders import Fault, OrderMessage, OrderRequest, Terms
from interface.errors import SegmentError, UnsupportedMessage
from interface.flow.conformance import check
from interface.wire import hl7
from interface.wire.hl7_ack import AckCode
from tests.flow.hospital_use import PID, message, order

ZONE = ZoneInfo("Asia/Jakarta")
NO_TERMS = Terms()
NOW = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)


def read(*segments: str, kind: str = "OML^O21", terms: Terms = NO_TERMS, version: str = "2.5.1") -> OrderMessage:
    return decode_orders.orders(hl7.parse(message(kind, *segments, version=version)), terms, ZONE)


def one(*segments: str, **more: Any) -> OrderRequest:
    [found] = read(*segments, **more).orders
    return found


OBR = "OBR|1|1||K"


@pytest.mark.parametrize(
    ("segments", "field", "value"),
    [
        (["ORC|NW|1^HIS^1.2.3^ISO", OBR], "placer", ("1", "HIS")),
        (["ORC|NW|1^^1.2.3^ISO", OBR], "placer", ("1", "1.2.3")),
        (["ORC|NW", "OBR|1|7^HIS||K"], "placer", ("7", "HIS")),
        (["ORC|nw|1", OBR], "control", "NW"),
        (["ORC|NW|1|F-1", OBR], "filler", "F-1"),
        (["ORC|NW|1||G^HIS", OBR], "group", ("G", "HIS")),
        (["ORC|NW|1", "TQ1|1||||||||S^^HL70485", OBR], "priority", Priority.STAT),
        (["ORC|NW|1", OBR + "|||||||||||||||||||||||^^^^^A"], "priority", Priority.ASAP),
        (["ORC|NW|1|||||^^^^^P", OBR], "priority", Priority.PREOP),
        (["ORC|NW|1", OBR + "|C"], "priority", Priority.CALLBACK),
        (["ORC|NW|1", "TQ1|1||||||||T", OBR + "|R"], "priority", Priority.ASAP),
        (["ORC|NW|1", OBR], "priority", None),
        (["ORC|NW|1|||||||20260105080000", OBR], "ordered_at", datetime(2026, 1, 5, 1, 0, tzinfo=UTC)),
        (["ORC|NW|1|||||||20260105080000+0000", OBR], "ordered_at", datetime(2026, 1, 5, 8, 0, tzinfo=UTC)),
        (["ORC|CA|1||||||||||||||C1^by mistake", OBR], "reason", "by mistake"),
        (["PV1|1|I|3B^12^1", "ORC|NW|1", OBR], "ward", "3B"),
        (["PV1|1|I|" + "|" * 11 + "|B5~B6", "ORC|NW|1", OBR], "pregnant", True),
        (["ORC|NW|1", OBR, "OBX|1|CWE|11449-6||LA26683-5"], "pregnant", False),
        (["ORC|NW|1", OBR, "OBX|1|NM|11884-4||12|weeks"], "gestation_weeks", 12),
        (["ORC|NW|1", OBR, "NTE|1||one~two", "NTE|2||one"], "history", "one\ntwo"),
        (["ORC|NW|1", OBR + "|" * 27 + "R1^Fever~^Cough"], "history", "Fever\nCough"),
    ],
)
def test_a_field_of_an_order(segments: list[str], field: str, value: object) -> None:
    found = one(*[PID, *segments])
    said = getattr(found, field)
    assert (said.number, said.authority) == value if field in ("placer", "group") else said == value
    assert found.faults == ()


@pytest.mark.parametrize(
    ("segments", "field", "value"),
    [
        (["ORC|NW|1", OBR, "SPM|1|B-1^F-1||SER"], "barcode", "B-1"),
        (["ORC|NW|1", OBR, "SPM|1|B-1&HIS||SER", "SAC|||C-1&HIS"], "barcode", "C-1"),
        (["ORC|NW|1", OBR, "SPM|1|^F-1||SER"], "barcode", "F-1"),
        (["ORC|NW|1", OBR, "SPM|1|||SER^Serum^HL70487"], "type", "SER"),
        (["ORC|NW|1", OBR + "|" * 11 + "BLDV&Venous"], "type", "BLDV"),
        (["ORC|NW|1", OBR, "SPM|1|||SER|||||||||||||20260105080000^20260105081000"], "collected_at",
         datetime(2026, 1, 5, 1, 0, tzinfo=UTC)),
        (["ORC|NW|1", OBR + "|||20260105080000", "SPM|1|||SER"], "collected_at", datetime(2026, 1, 5, 1, tzinfo=UTC)),
        (["ORC|NW|1", OBR, "SPM|1|||SER||||||||||||||20260105080000"], "received_at",
         datetime(2026, 1, 5, 1, 0, tzinfo=UTC)),
        (["ORC|NW|1", OBR, "SPM|1|||SER" + "|" * 17 + "QS"], "reject", RejectReason.QUANTITY_NOT_SUFFICIENT),
        (["ORC|NW|1", OBR, "SPM|1|||SER" + "|" * 17 + "ZZ"], "reject_text", "ZZ"),
        (["ORC|NW|1", OBR, "SPM|1|||SER" + "|" * 23 + "EDTA^Tube"], "container", "EDTA"),
        (["ORC|NW|1", OBR + "|||20260105080000|||N1^Nora"], "collected_by", "Nora"),
    ],
)  # fmt: skip
def test_a_field_of_a_specimen(segments: list[str], field: str, value: object) -> None:
    [tube] = one(PID, *segments).specimens
    assert getattr(tube, field) == value


def test_an_orders_specimens_are_its_own_or_those_it_stands_below() -> None:
    def barcodes(found: OrderMessage) -> list[list[str]]:
        return [[tube.barcode for tube in each.specimens] for each in found.orders]

    two = read(PID, "ORC|NW|1", OBR, "SPM|1|A", "SPM|2|B", "ORC|NW|2", OBR, "SPM|1|C")
    assert barcodes(two) == [["A", "B"], ["C"]]
    below = read(
        PID, "SPM|1|A||SER", "ORC|NW|1", OBR, "SAC|||A2", "ORC|NW|2", OBR, "SPM|2|B", "ORC|NW|3", OBR, kind="OML^O33"
    )
    assert barcodes(below) == [["A"], ["A2"], ["B"]]
    prior = read(PID, "ORC|NW|1", OBR, "PID|1||P-1", "ORC|PR|9", "OBR|1|9||NA", "OBX|1|NM|NA||140")
    assert [each.placer.number for each in prior.orders] == ["1"], "an order of before is told, not ordered"


@pytest.mark.parametrize(
    ("segments", "place", "code", "warning"),
    [
        (["ORC|NW|1", "TQ1|1||||||||QUICK", OBR], "TQ1^1^9", 103, False),
        (["ORC|NW|1", "OBR|1|2||K"], "ORC^1^2", 102, False),
        (["ORC|NW|1|||||||yesterday", OBR], "ORC^1^9", 102, True),
        (["ORC|NW|1", OBR, "SPM|1|||SER|||||||||||||20260105"], "SPM^1^17", 102, True),
        (["ORC|NW|1", OBR, "SPM|1|||SER|||||||||||||20260105080000|20260105070000"], "SPM^1^18", 102, False),
        (["ORC|NW|1", OBR, "OBX|1|CWE|82810-3||maybe"], "OBX^1^5", 103, True),
        (["ORC|NW|1", OBR, "OBX|1|NM|18185-9||31.5|wk"], "OBX^1^5", 102, True),
        ([OBR], "OBR^1", 100, False),
    ],
)
def test_what_cannot_be_read_stands_with_its_order(segments: list[str], place: str, code: int, warning: bool) -> None:
    found = read(PID, *segments, "ORC|NW|99", "OBR|1|99||K")
    assert found.faults == ()
    assert [(fault.location, fault.code, fault.warning) for fault in found.orders[0].faults] == [(place, code, warning)]
    assert found.orders[-1].faults == (), "and not with another"


@pytest.mark.parametrize(
    ("pid", "field", "value"),
    [
        ("PID|1||P^^^A&1.2&ISO^MR~Q^^^&9.9&ISO", "identifiers", [("A", "P", "MR"), ("9.9", "Q", "")]),
        ("PID|1|P^^^A", "identifiers", [("A", "P", "")]),
        ("PID|1||P^^^A~P^^^A", "identifiers", [("A", "P", "")]),
        ("PID|1||P^^^A||Nick^N^^^^^N~MUSTER^MARIA^ANNA^^^^L", "family", "MUSTER"),
        ("PID|1||P^^^A||Nick^N^^^^^N~MUSTER^MARIA^ANNA^^^^L", "given", "MARIA ANNA"),
        ("PID|1||P^^^A||M\\T\\B^X", "family", "M&B"),
        ("PID|1||P^^^A", "family", None),
        ("PID|1||P^^^A||||198005011230", "birth_date", date(1980, 5, 1)),
        ("PID|1||P^^^A||||198005011230", "birth_at", datetime(1980, 5, 1, 5, 30, tzinfo=UTC)),
        ("PID|1||P^^^A||||198005010000", "birth_at", None),
        ("PID|1||P^^^A||||1980", "birth_date", None),
        ("PID|1||P^^^A|||||f", "sex", Sex.FEMALE),
        ("PID|1||P^^^A|||||A", "sex", Sex.OTHER),
        ("PID|1||P^^^A|||||U", "sex", None),
        ('PID|1||P^^^A|||||""', "sex", Sex.UNKNOWN),
        ('PID|1||P^^^A||||""', "cleared", frozenset({"birth_date", "birth_at"})),
    ],
)
def test_a_field_of_a_patient(pid: str, field: str, value: object) -> None:
    person = read(pid, "ORC|NW|1", OBR).person
    assert person is not None
    said = getattr(person, field)
    assert ([(each.authority, each.value, each.type) for each in said] if field == "identifiers" else said) == value


def test_a_links_terms_name_authorities() -> None:
    terms = Terms("HOSP", {"MRN": "urn:oid:1.2"})
    found = read("PID|1||P~Q^^^MRN", "ORC|NW|1||||||||||D1^X^^^^^^^MRN", OBR, terms=terms)
    assert found.person is not None
    assert [each.authority for each in found.person.identifiers] == ["HOSP", "urn:oid:1.2"]
    assert (found.orders[0].placer.authority, found.orders[0].requester.authority) == ("HOSP", "urn:oid:1.2")


def test_the_content_is_what_is_ordered_and_not_how_or_when_it_was_said() -> None:
    base = one(PID, *order("1", "K", barcode="B"))
    same = [
        one(PID, *order("1", "K", barcode="B", control="XO", group="G")),
        one(PID, "PV1|1", *order("2", "K", barcode="B")),
        one("PID|1||OTHER^^^A", *order("1", "K", barcode="B")),
        read(PID, *order("9", "NA"), *order("1", "K", barcode="B")).orders[1],
    ]
    assert {each.content() for each in same} == {base.content()}
    other = [order("1", "NA", barcode="B"), order("1", "K", barcode="C"), order("1", "K", barcode="B", priority="R"),
             order("1", "K", "NTE|1||x", barcode="B"), order("1", "K^Potassium", barcode="B"),
             order("1", "K", spm="SPM|1|B||PLAS"), order("1", "K", barcode="B", obr="||20260105080000")]  # fmt: skip
    assert len({one(PID, *each).content() for each in other} | {base.content()}) == len(other) + 1
    assert base.content().hex()[:8] == "78c11389", "a digest that is stored must not change with the program"


def test_the_answer_is_in_the_senders_words_and_delimiters() -> None:
    block = message("OML^O21", "PID|1||P^^^A||X^Y", *order("1^HIS", "K^a\\S\\b^L", barcode="B-1")).replace(b"^", b"!")
    block = block.replace(b"|!~\\&|", b"|!~\\&|")
    asked = hl7.parse(block)
    answered = Answered("ORC^1", "UA", "2026-1", "SC", "no ! of this | kind", (Tube("B|1", "SER", 1),))
    text = reply(asked, Outcome(AckCode.AE, (answered,), (Fault("OBR^1^4", 204, "why"),)), control_id="C1", now=NOW)
    back = hl7.parse(text)
    orc, obr, spm, err = (next(back.all(name)) for name in ("ORC", "OBR", "SPM", "ERR"))
    assert (back.type, back.header.value(9, 3), back.delimiters.component) == ("ORL^O22", "ORL_O22", "!")
    assert (orc.value(1), orc.value(2), orc.value(2, 2), orc.value(3), orc.value(5)) == (
        "UA",
        "1",
        "HIS",
        "2026-1",
        "SC",
    )
    assert (orc.value(16, 2), obr.value(4, 2), spm.value(2)) == ("no ! of this | kind", "a!b", "B|1")
    assert (err.field(2), err.value(3), err.value(4), err.value(8)) == ("OBR!1!4", "204", "E", "why")


def test_a_second_opinion_finds_the_replies_of_the_standards_structure() -> None:
    for kind, name in (("OML^O21^OML_O21", "ORL_O22"), ("OML^O33^OML_O33", "ORL_O34"), ("ADT^A08^ADT_A01", "ACK")):
        spm = "" if "O33" in kind else "SPM|1|B||SER"
        first = ["SPM|1|B||SER", "SAC|||B"] if "O33" in kind else []
        lines = [*order("1^HIS", "K", spm=spm, priority="S"), *order("2", "NA", spm=spm)] if "ADT" not in kind else []
        asked = hl7.parse(message(kind, PID, *first, *lines))
        answers = tuple(
            Answered(asked.location(orc), "OK", "F-1", "SC", "why", (Tube("B", "SER", 1),)) for orc in asked.all("ORC")
        )
        text = reply(asked, Outcome(AckCode.AE, answers, (Fault("PID^1", 207, "x"),)), control_id="C", now=NOW)
        assert hl7.parse(text).header.value(9, 3) == name
        # A warning is hl7apy's: its table 0396 of coding systems lacks HL70357.
        assert [each for each in check(text).findings if not each.startswith("Warning")] == [], name


def test_a_reply_has_not_more_errors_than_anybody_reads() -> None:
    faults = tuple(Fault(f"ORC^{at}", 207, "no", warning=at < 100) for at in range(1, 200))
    text = reply(hl7.parse(message("ADT^A08", PID)), Outcome(AckCode.AE, (), faults), control_id="C", now=NOW)
    told = [each.field(2) for each in hl7.parse(text).all("ERR")]
    assert told == [f"ORC^{at}" for at in range(100, 100 + MOST_ERRORS)], "what was refused before what was left out"


WHOLE = message(
    "OML^O21", PID, "PV1|1|I|3B", *order("A^HIS", "K^x^LN", "NTE|1||n", "DG1|1||E87", barcode="B", priority="S"),
    *order("B", "NA"),
)  # fmt: skip
PIECES = st.sampled_from(
    ["|", "^", "~", "&", "\\", '""', "\r", "ORC|", "SPM|", "PID|", "OBR|", "MRG|", "x", "é", "\x00"]
)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    pieces=st.lists(PIECES, max_size=12),
    kind=st.sampled_from(["OML^O21", "OML^O33", "ORM^O01", "ADT^A40"]),
)
def test_on_any_bytes_nothing_is_raised_and_the_answer_can_be_read(seed: int, pieces: list[str], kind: str) -> None:
    draw = random.Random(seed)  # noqa: S311 - no secret
    text = WHOLE.decode().replace("OML^O21", kind)
    begin = text.index("PID")
    for piece in pieces:
        at = draw.randrange(begin, len(text))
        text = text[:at] + piece + text[at + draw.randrange(0, 9) :]
    try:
        asked = hl7.check_syntax(text.encode())
    except (SegmentError, UnsupportedMessage):
        return
    faults: tuple[Fault, ...]
    answers: tuple[Answered, ...]
    if asked.type.startswith("ADT"):
        faults, answers = decode_orders.patients(asked, Terms("H"), ZONE).faults, ()
    else:
        found = decode_orders.orders(asked, Terms("H"), ZONE)
        faults = (*found.faults, *(fault for each in found.orders for fault in each.faults))
        answers = tuple(Answered(each.location, "UA", "F", "CA", "why", (Tube("B", "SER"),)) for each in found.orders)
        assert len({each.location for each in found.orders}) == len(found.orders)
    back = hl7.check_syntax(reply(asked, Outcome(AckCode.AE, answers, faults), control_id="C", now=NOW))
    assert sum(1 for _ in back.all("ORC")) == len(answers)


@pytest.mark.parametrize(
    ("kind", "segment", "location"),
    [
        ("ADT^A08", "PID|1||{}||Muster^Eva||19800101|F", "PID^1^3"),
        ("ADT^A08", "PID|1||P-1^^^H||{}||19800101|F", "PID^1^5"),
        ("OML^O21", "PID|1||P-1^^^H||X\rPV1|1||||||||||||||{}\rORC|NW|A\rOBR|1|A||K", "PV1^1^15"),
        ("OML^O21", "PID|1||P-1^^^H||X\rORC|NW|A\rOBR|1|A||K" + "|" * 27 + "{}", "OBR^1^31"),
    ],
)
def test_a_field_that_is_repeated_without_end_is_refused_and_not_read(kind: str, segment: str, location: str) -> None:
    """Each repetition is read by itself: 400 kB of them held the daemon for half a minute (DESIGN §1.7)."""
    many = "~".join(f"{at}^^^H" for at in range(decode_orders.MOST_REPEATS + 1))
    text = f"MSH|^~\\&|H|H|L|L|20260101||{kind}|1|P|2.5.1\r{segment.format(many)}\r"
    asked = hl7.check_syntax(text.encode())
    if kind.startswith("ADT"):
        faults = decode_orders.patients(asked, Terms("H"), ZONE).faults
    else:
        found = decode_orders.orders(asked, Terms("H"), ZONE)
        faults = (*found.faults, *(fault for each in found.orders for fault in each.faults))
    assert location in {fault.location for fault in faults if "repeated more than" in fault.text}


@pytest.mark.parametrize(("hour", "minute"), [(0, 31), (1, 31)])
def test_of_an_hour_that_clocks_show_twice_the_one_is_meant_in_which_it_is_said(hour: int, minute: int) -> None:
    """EVN-2 of a transfer after clocks were set back was that of an hour before: the transfer in between stood."""
    came_at = datetime(2026, 10, 25, hour, minute, tzinfo=UTC)
    moved = hl7.parse(message("ADT^A02", "EVN||20261025023000", PID, "PV1|1|I|3A"))
    [said] = decode_orders.patients(moved, Terms("H"), ZoneInfo("Europe/Berlin"), came_at).patients
    assert said.noted_at == came_at.replace(minute=30)
    told = hl7.parse(message("OML^O21", PID, *order("1", obr="||20261025023000")))
    [asked] = decode_orders.orders(told, Terms("H"), ZoneInfo("Europe/Berlin"), came_at).orders
    assert [tube.collected_at for tube in asked.specimens] == [came_at.replace(minute=30)]

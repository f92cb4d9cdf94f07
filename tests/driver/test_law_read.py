"""What an analyzer says in IHE LAW: its query, and its answers to work. Public examples, no real person."""

from __future__ import annotations

import pytest

from interface.driver.law_read import (
    Asking,
    Judged,
    LawQuery,
    OrderAnswer,
    Place,
    Said,
    Verdict,
    judge,
    read_answer,
    read_query,
)
from interface.errors import SegmentError
from interface.wire import hl7
from tests.corpus import corpus

HEAD = "MSH|^~\\&|A|B|C|D|20260101||QBP^Q11^QBP_Q11|Q1|P|2.5.1|||NE|AL||UNICODE UTF-8|||LAB-27^IHE\r"
REPLY = "MSH|^~\\&|X800 DM||HOST||20210915103324+0200||ORL^O34^ORL_O42|R1|P|2.5.1||||||UNICODE UTF-8|||LAB-28^IHE\r"


def query(qpd: str) -> LawQuery:
    return read_query(hl7.parse((HEAD + qpd + "\r").encode()))


@pytest.mark.parametrize(
    ("qpd", "asking", "ids", "place"),
    [
        ("QPD|WOS^Work Order Step^IHELAW|T|S-1", Asking.SPECIMEN, ("S-1",), Place()),
        # Biosystems writes the older name of the coding system, Roche a name and fields of its own
        ("QPD|WOS^Work Order Step^IHE_LABTF|T|S-1", Asking.SPECIMEN, ("S-1",), Place()),
        ("QPD|WOS_ROCHE^^ROCHE|T|S\\T\\1&ROCHE|S54|14", Asking.SPECIMEN, ("S&1",), Place("S54", "14")),
        ("QPD|WOS|T|S-1~S-2~S-1", Asking.SPECIMEN, ("S-1", "S-2"), Place()),
        ("QPD|WOS||S-1", Asking.SPECIMEN, ("S-1",), Place()),
        ("QPD|WOS_ALL^Work Order Step All^IHELAW|T", Asking.ALL, (), Place()),
        ("QPD|WOS_BY_RACK|T||R1|2|||IN", Asking.RACK, (), Place("R1", "2", location="IN")),
        ("QPD|WOS_BY_TRAY|T||||T9|3", Asking.TRAY, (), Place(tray="T9", tray_position="3")),
    ],
)
def test_what_is_filled_says_what_is_asked_by(qpd: str, asking: Asking, ids: tuple[str, ...], place: Place) -> None:
    _, name, tag, *_ = qpd.split("|")
    assert query(qpd) == LawQuery(asking, name, tag, ids, place)


@pytest.mark.parametrize(
    ("qpd", "location", "code"),
    [
        ("RCP|I", "QPD^1", 100),
        ("QPD||T|S-1", "QPD^1^1", 101),
        ("QPD|INISEQ^^99ROC|T|S-1", "QPD^1^1", 103),
        ("QPD|WOS_BY_ISOLATE|T|S-1", "QPD^1^1", 103),
        ("QPD|WOS|T", "QPD^1^3", 101),
        ('QPD|WOS|T|""', "QPD^1^3", 101),
        ("QPD|WOS_BY_RACK|T||R1", "QPD^1^5", 101),
        ("QPD|WOS_BY_RACK|T|||2", "QPD^1^4", 101),
        ("QPD|WOS_BY_TRAY|T||||T9", "QPD^1^7", 101),
        ("QPD|WOS_BY_TRAY|T|||||3", "QPD^1^6", 101),
    ],
)
def test_a_query_that_says_too_little_is_a_fault_with_its_place(qpd: str, location: str, code: int) -> None:
    with pytest.raises(SegmentError) as caught:
        query(qpd)
    assert (caught.value.location, caught.value.code) == (location, code)


def test_the_captured_query_and_answers_of_the_corpus() -> None:
    folder = corpus() / "hl7"

    def block(name: str) -> bytes:
        return (folder / name).read_bytes().strip(b"\x0b\x1c\r\n")

    asked = read_query(hl7.parse(block("roche-cobas4800-query.hl7")))
    assert (asked.asking, asked.specimen_ids, asked.tag) == (Asking.SPECIMEN, ("VL260003",), "MSG-4800-Q-WOS")
    accepted = read_answer(block("roche-x800-orl-o34.hl7"))
    assert accepted == OrderAnswer("AA", "0b070615-e2ec-4463-92db-3fd53b21daa3", (Said("1", "OK", "SC"),))
    assert read_answer(block("biosystems-orl-o34-ack.hl7")) == OrderAnswer("AA", "939b894f-a10a-4b35-9f82-95de095cc0c4")


# Each: the answer below its MSH, what becomes of the steps 7 and 8.
@pytest.mark.parametrize(
    ("answer", "seven", "eight"),
    [
        ("MSA|AA|M1\rSPM|1\rSAC|||S-1\rORC|OK|7|||SC\rORC|UA|8|||CA\r", Verdict.ACCEPTED, Verdict.REFUSED),
        # in any order; the id in OBR-2 where ORC-2 is empty
        ("MSA|AA|M1\rORC|UC||||IP\rOBR||8\rORC|CR||||CA\rOBR||7\r", Verdict.CANCELLED, Verdict.NOT_CANCELLED),
        # cobas pro names none: they are meant in their order
        ("MSA|AA|M1\rORC|OK||||SC\rORC|UA||||CA\r", Verdict.ACCEPTED, Verdict.REFUSED),
        # unnamed, and not as many as there were: nothing is guessed
        ("MSA|AA|M1\rORC|OK||||SC\r", Verdict.UNSAID, Verdict.UNSAID),
        ("MSA|AA|M1\r", Verdict.UNSAID, Verdict.UNSAID),
        ("MSA|AA|M1\rORC|OK|7|||SC\rORC|OK|99|||SC\r", Verdict.ACCEPTED, Verdict.UNSAID),
        ("MSA|AA|M1\rORC|XX|7\rORC|OK|8\r", Verdict.UNSAID, Verdict.ACCEPTED),
        ("MSA|AE|M1\r", Verdict.REFUSED, Verdict.REFUSED),
        ("MSA|AR|M1\rORC|OK|7|||SC\r", Verdict.ACCEPTED, Verdict.REFUSED),
    ],
)
def test_an_answer_says_of_each_step_what_it_says_and_no_more(answer: str, seven: Verdict, eight: Verdict) -> None:
    judged = judge(("7", "8"), read_answer((REPLY + answer).encode()))
    assert [one.verdict for one in judged] == [seven, eight]


def test_a_refusal_keeps_the_analyzers_own_words() -> None:
    text = (
        "MSA|AE|M1|not now\rERR||OBR^1^4|103^Table value not found^HL70357|E|T21^unknown assay^99ACME|||no such test\r"
    )
    answer = read_answer((REPLY + text).encode())
    assert not answer.positive and not answer.busy
    (judged,) = judge(("7",), answer)
    assert judged == Judged(
        "7",
        Verdict.REFUSED,
        "MSA-1 AE; OBR^1^4, 103 Table value not found, unknown assay, no such test; not now",
    )


def test_an_error_that_passes_is_told_from_one_that_does_not() -> None:
    assert read_answer((REPLY + "MSA|AE|M1\rERR|||207^^HL70357|E\r").encode()).busy
    assert not read_answer((REPLY + "MSA|AE|M1\rERR|||207|E\rERR|||101|E\r").encode()).busy
    assert not read_answer((REPLY + "MSA|AE|M1\r").encode()).busy


@pytest.mark.parametrize("text", ["MSA\r", "ORC|OK|7\r", "MSA||M1\r"])
def test_an_answer_without_a_code_is_none(text: str) -> None:
    with pytest.raises(SegmentError):
        read_answer((REPLY + text).encode())

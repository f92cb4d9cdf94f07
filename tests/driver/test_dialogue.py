"""The host's answer to a query, by a driver's dialect and by the standard's. No real person."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime

import pytest

from interface.domain.model import ObservedPatient, Priority, Protocol, Sex
from interface.driver import registry
from interface.driver.defaults import DEFAULT_ANSWERS
from interface.driver.dialogue import (
    Answer,
    Ordered,
    Without,
    Work,
    answer,
    read_queries,
    read_query,
    write,
)
from interface.driver.download import download, download_of
from interface.driver.parse import parse_manifest
from interface.errors import DriverError
from interface.wire import hl7
from interface.wire.lis02 import parse
from tests.driver.test_grammar import HL7, LIS2

NOW = datetime(2026, 1, 5, 10, 30)  # noqa: DTZ001 - the analyzer's own clock has no zone
ANNA = ObservedPatient("TEST-1", "Testa^Anna", date(1980, 3, 15), Sex.FEMALE)
QUERY = b"H|\\^&|||ACME^1\rQ|1|^S-1^7^^A||ALL||||||||O\rL|1|N\r"


def work(specimen_id: str = "S-1", *codes: str, **facts: object) -> Work:
    return Work(specimen_id, tuple(Ordered(code, f"W-{code}") for code in codes), ANNA, **facts)  # type: ignore[arg-type]


def dialect(text: str, base: str = LIS2) -> Answer:
    found = parse_manifest(base + text, "driver.toml").answer
    assert found is not None
    return found


def said(chosen: Answer, *worklist: Work, query: bytes = QUERY, missing: tuple[str, ...] = ()) -> list[str]:
    asked = read_query(Protocol.HL7 if query.startswith(b"MSH") else Protocol.LIS2, query)
    messages = answer(chosen, asked, worklist, NOW, "C1", missing)
    return [message.decode("utf-8") for message in messages]


def lines(found: str, none: str = "'H|\\^&', 'L|1|I'", more: str = "") -> str:
    return f"[answer]\n{more}\n[[answer.found]]\nlines = [{found}]\n[[answer.none]]\nlines = [{none}]\n"


def test_lis2_by_the_standard_is_an_order_record_for_each_specimen_or_no_information() -> None:
    chosen = DEFAULT_ANSWERS[Protocol.LIS2]
    (found,) = said(chosen, work("S-1", "WBC", "PLT", priority=Priority.STAT), work("S-2"))
    records = parse(found.encode()).records
    assert [record.type for record in records] == ["H", "P", "O", "L"]
    assert [records[2].field(at) for at in (3, 5, 6, 12, 26)] == ["S-1", "^^^WBC\\^^^PLT", "S", "A", "Q"]
    assert said(chosen, missing=("S-9",))[0].endswith("\rL|1|I\r")


@pytest.mark.parametrize("protocol", [Protocol.LIS2, Protocol.HL7])
def test_a_sex_is_said_in_the_words_of_the_standard(protocol: Protocol) -> None:
    """P-9 of LIS02-A2 is M, F or U; HL7 table 0001 has O for another. What is neither may be refused with its order."""
    other = replace(ANNA, sex=Sex.OTHER)
    place, query = "{sex}", QUERY
    if protocol is Protocol.HL7:
        query = b"MSH|^~\\&|cobas||host||20260105||QBP^Q11^QBP_Q11|77|P|2.5.1\rQPD|WOS|T1|S-1\rRCP|I\r"
    head = "'H|\\^&'" if protocol is Protocol.LIS2 else "'MSH|^~\\&|A'"
    text = f"[answer]\n[[answer.found]]\nlines = [{head}, 'ZZZ|{place}']\n[[answer.none]]\nlines = [{head}]\n"
    own = dialect(text, LIS2 if protocol is Protocol.LIS2 else HL7)
    (found,) = said(own, replace(work("S-1", "K"), patient=other), query=query)
    assert found.split("ZZZ|")[1] == ("U\r" if protocol is Protocol.LIS2 else "O\r")


def test_so_it_is_without_a_dialect_of_its_own_and_in_what_is_told_unasked() -> None:
    theirs = replace(work("S-1", "K"), patient=replace(ANNA, sex=Sex.OTHER))
    (found,) = said(DEFAULT_ANSWERS[Protocol.LIS2], theirs)
    generic = registry.load("generic_lis2")
    lines_of = download_of(generic)
    assert lines_of is not None
    told = download(generic, lines_of.new, theirs, NOW, "C1")
    assert told is not None
    assert [parse(one).records[1].field(9) for one in (found.encode(), told)] == ["U", "U"]


def test_hl7_by_law_is_a_reply_and_the_orders_or_an_order_that_is_discontinued() -> None:
    query = (
        b"MSH|^~\\&|cobas||host||20260105||QBP^Q11^QBP_Q11|77|P|2.5.1\rQPD|WOS^Work Order Step^IHELAW|T1|S-1\rRCP|I\r"
    )
    reply, orders = said(DEFAULT_ANSWERS[Protocol.HL7], work("S-1", "GLU", "K"), query=query)
    assert [segment.id for segment in hl7.parse(reply.encode()).segments] == ["MSH", "MSA", "QAK", "QPD"]
    assert "\rQPD|WOS^Work Order Step^IHELAW|T1|S-1\r" in reply
    order = hl7.parse(orders.encode())
    assert (order.type, order.control_id) == ("OML^O33", "C1-2")
    assert [s.value(4) for s in order.segments if s.id == "OBR"] == ["GLU", "K"]
    assert [s.value(2) for s in order.segments if s.id == "OBR"] == ["W-GLU", "W-K"]
    assert "ORC|DC" in said(DEFAULT_ANSWERS[Protocol.HL7], query=query, missing=("S-1",))[1]


def test_fields_of_the_query_are_echoed_and_places_padded() -> None:
    chosen = dialect(lines(r"""'H|\^&|||host|||||{H.5.1}', 'O|1|{specimen_id:>8}|{Q.3.3}^{Q.3.4}^{Q.3.5:<3}|{Q.3}'"""))
    (found,) = said(chosen, work("S-1", "X"))
    assert found == "H|\\^&|||host|||||ACME\rO|1|     S-1|7^^A  |^S-1^7^^A\r"


def test_what_a_place_holds_is_escaped_by_the_messages_own_delimiters() -> None:
    odd = Work("S|1@", (Ordered("A^B"),), ObservedPatient("", "O^N"))
    chosen = dialect(lines(r"""'H|@^\', 'O|1|{specimen_id}||{tests}'""", r"""'H|@^\', 'L|1|I'""", "test = '^^^{code}'"))
    (found,) = said(chosen, odd, query=b"H|@^\\|||A\rQ|1|^x\rL|1\r")
    record = parse(found.encode()).records[1]
    assert (record.component(3), record.component(5, 4)) == ("S|1@", "A^B")


def test_tests_may_each_have_a_line_that_counts_on_from_a_number() -> None:
    chosen = dialect(
        lines(r"""'MSH|^~\&|LIS', '{QRD}', {each = "test", lines = ['DSP|{n+28}||{code}^^^|||']}""", r"'MSH|^~\&|LIS'"),
        HL7,
    )
    query = b"MSH|^~\\&|||||20260105||QRY^Q02|4|P|2.3.1\rQRD|20260105|R|D|1|||RD|S-1|OTH|||T|\r"
    (found,) = said(chosen, work("S-1", "2", "5"), query=query)
    assert found.split("\r")[1:4] == ["QRD|20260105|R|D|1|||RD|S-1|OTH|||T|", "DSP|29||2^^^|||", "DSP|30||5^^^|||"]


def test_specimens_without_work_may_be_named_beside_those_with() -> None:
    chosen = dialect(
        lines(
            r"""'H|\^&', {each = "specimen", lines = ['O|{n}|{specimen_id}||{tests}|||||||||||||||||||||Q']},
            {each = "missing", lines = ['O|{n}|{specimen_id}|||||||||||||||||||||||Y']}"""
        )
    )
    (found,) = said(chosen, work("S-1", "A"), work("S-2"), missing=("S-3",))
    assert [line.split("|")[2] for line in found.split("\r")[1:4]] == ["S-1", "S-3", "S-2"]


def test_results_of_one_assay_are_one_order() -> None:
    chosen = dialect(
        lines(r"""'H|\^&', 'O|1|{specimen_id}||{tests}|{count}'""", more="code_part = 1\ntest = '^^^{code}'")
    )
    (found,) = said(chosen, work("S-1", "0021/F", "0021/I", "0022/F"))
    assert found.split("\r")[1] == "O|1|S-1||^^^0021\\^^^0022|2"


GROUPS = "[answer.orders]\nCBC = ['WBC', 'HGB']\nDIFF = ['NEUT']\n[answer.needs]\nDIFF = 'CBC'\n"


@pytest.mark.parametrize(
    ("codes", "ordered"),
    [
        (("NEUT", "WBC", "HGB"), "CBC+DIFF"),  # each once, in the dialect's order
        (("NEUT",), "CBC+DIFF"),  # never without the other
        (("HGB", "RET"), "CBC+RET"),  # what is in no group is ordered as it is
        (("DIFF",), "CBC+DIFF"),
    ],
)
def test_what_is_measured_together_is_ordered_by_the_name_of_that(codes: tuple[str, ...], ordered: str) -> None:
    chosen = dialect(lines(r"""'H|\^&', 'O|1|{tests}|{count}'""", more="test = '{code}'\njoin = '+'") + GROUPS)
    (found,) = said(chosen, work("S-1", *codes))
    assert found.split("\r")[1] == f"O|1|{ordered}|2"


def test_a_code_is_ordered_by_one_name() -> None:
    with pytest.raises(DriverError, match="WBC is ordered as CBC already"):
        dialect(lines(r"""'H|\^&', 'O|1|{tests}'""") + "[answer.orders]\nCBC = 'WBC'\nDIFF = ['WBC']\n")


def test_a_specimen_type_without_a_word_of_the_analyzers_is_not_ordered() -> None:
    chosen = dialect(
        lines(r"""'H|\^&', 'O|1|{specimen_id}|{specimen_type}'""") + "[answer.specimen_types]\nSER = '5'\n"
    )
    assert said(chosen, work("S-1", "A", specimen_type="SER"))[0].split("\r")[1] == "O|1|S-1|5"
    assert said(chosen, work("S-1", "A", specimen_type="UR"))[0].endswith("L|1|I\r"), "never as another's fluid"


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("Nguyễn^Đức", "Nguyen^Duc"),  # without the marks; ICAO Doc 9303-3 has D for the Vietnamese letter
        ("Łukasz^Ødegård", "Lukasz^Ødegård"),  # what latin-1 has stays
        ("Ωmega^Anna", "^Anna"),  # never half a name, nor signs for letters
    ],
)
def test_a_name_in_other_letters_is_spelled_in_the_encodings_or_left_out(name: str, written: str) -> None:
    chosen = dialect(lines(r"""'H|\^&', 'P|1|{family}^{given}'"""))
    asked = read_query(Protocol.LIS2, QUERY)
    worklist = [Work("S-1", (Ordered("A"),), ObservedPatient("", name))]
    assert answer(chosen, asked, worklist, NOW, "")[0].decode("latin-1").split("\r")[1] == f"P|1|{written}"
    assert answer(chosen, asked, worklist, NOW, "", (), "utf-8")[0].decode("utf-8").split("\r")[1] == f"P|1|{name}"


def test_a_character_of_an_id_that_the_encoding_lacks_stops_the_answer() -> None:
    chosen = dialect(lines(r"""'H|\^&', 'O|1|{specimen_id}'"""))
    with pytest.raises(DriverError, match="cannot be written in latin-1"):
        said(chosen, work("Ω-1", "A"))


def test_a_specimen_that_cannot_be_written_does_not_keep_the_others_from_being_told() -> None:
    asked, chosen = read_query(Protocol.LIS2, QUERY), DEFAULT_ANSWERS[Protocol.LIS2]
    odd = replace(work("S-2", "A"), patient=ObservedPatient("رقم", "Testa^Anna"))
    worklist = [work("Ω-1", "A"), odd, work("S-3", "A")]
    [told] = write(chosen, asked, worklist, NOW, "", ("Ω-9",), leave_out=True)
    assert told.works == (2,) and b"|S-3|" in told.text
    [none] = write(chosen, asked, worklist[:2], NOW, "", (), leave_out=True)
    assert none.works == () and none.text.endswith(b"\rL|1|I\r")


# As cobas and Sysmex have it: one specimen in a message, with what the query says of its place.
RACKS = r"""'H|\^&', 'P|1', 'O|1|{Q.3.2}|{Q.3.3}^{Q.3.4}|{tests}'"""
NOTHING = r"""'H|\^&', 'P|1', 'O|1|{Q.3.2}|{Q.3.3}^{Q.3.4}|||||||||||||||||||||||Z{reason_code}'"""


def asked_of(text: str, dialect_: Answer, *worklist: Work, missing: tuple[str | Without, ...] = ()) -> list[str]:
    chosen = parse_manifest(LIS2 + lines(RACKS, NOTHING), "driver.toml")
    (query,) = registry.decode(chosen, text.encode()).queries
    (asked,) = read_queries(Protocol.LIS2, text.encode(), "", (query,), chosen.query.specimen_id)
    return [one.text.decode() for one in write(dialect_, asked, worklist, NOW, "C1", missing)]


def test_a_dialect_that_speaks_of_one_specimen_says_each_in_a_message_of_its_own() -> None:
    chosen = dialect(lines(RACKS, NOTHING))
    query = "H|\\^&\rQ|1|^S-1^R1^1\\^S-2^R1^2\\^S-3^R2^7||ALL\rL|1|N\r"
    found = asked_of(query, chosen, work("S-3", "A"), work("S-2", "B"), missing=("S-1",))
    assert [one.split("\r")[2] for one in found] == [
        "O|1|S-3|R2^7|^^^A".replace("^^^", ""), "O|1|S-2|R1^2|B", "O|1|S-1|R1^1|||||||||||||||||||||||Z",
    ]  # fmt: skip
    none = asked_of(query, chosen, missing=("S-1", "S-2", "S-3"))
    assert [one.split("\r")[2][:13] for one in none] == ["O|1|S-1|R1^1|", "O|1|S-2|R1^2|", "O|1|S-3|R2^7|"]


def test_what_a_query_did_not_name_is_not_given_the_place_of_another() -> None:
    chosen = dialect(lines(RACKS, NOTHING))
    found = asked_of("H|\\^&\rQ|1|^S-1^R1^1|^S-9|ALL\rL|1|N\r", chosen, work("S-4", "A"))
    assert [one.split("\r")[2] for one in found] == ["O|1|S-4|^|A"]


def test_that_there_is_nothing_for_some_is_not_said_of_the_whole_query() -> None:
    found = said(DEFAULT_ANSWERS[Protocol.LIS2], work("S-1", "A"), missing=("S-2",))
    assert len(found) == 1 and found[0].endswith("L|1|F\r")


def test_why_there_is_nothing_is_said_where_the_dialect_has_a_place() -> None:
    chosen = dialect(
        lines(
            r"""'H|\^&'""",
            r"""'H|\^&|||||||||{note}', {each = "missing", lines = ['O|{n}|{specimen_id}|{reason_code}|{reason}']},
            {each = "stale", lines = ['C|1|L|{stale}|G']}""",
            more='reason_codes = {unknown_specimen = "Z", done = "Y"}',
        )
    )
    missing = (Without("S-1", "unknown_specimen"), Without("S-2", "not_received"), Without("S-3", "not_received"))
    asked = read_query(Protocol.LIS2, QUERY)
    (fresh,) = write(chosen, asked, (), NOW, "", missing)
    assert fresh.text.decode().split("\r") == [
        "H|\\^&|||||||||specimen not known; specimen not received",
        "O|1|S-1|Z|specimen not known", "O|2|S-2||specimen not received", "O|3|S-3||specimen not received", "",
    ]  # fmt: skip
    (old,) = write(chosen, asked, (), NOW, "", missing[:1], stale="orders as of 09:00")
    assert old.text.decode().split("\r") == [
        "H|\\^&|||||||||specimen not known; orders as of 09:00", "O|1|S-1|Z|specimen not known",
        "C|1|L|orders as of 09:00|G", "",
    ]  # fmt: skip


def test_further_messages_say_that_more_follow_and_what_each_orders() -> None:
    chosen = dialect(
        "[answer]\n[[answer.found]]\nlines = ['MSH|^~\\&|L||||||QCK^Q02|{control_id}']\n"
        "[[answer.found]]\nlines = ['MSH|^~\\&|L||||||DSR^Q03|{control_id}', 'DSP|1||{specimen_id}', "
        "{each = 'test', lines = ['DSP|{n+28}||{code}']}, 'DSC|{more}|']\n"
        "[[answer.none]]\nlines = ['MSH|^~\\&|L||||||QCK^Q02|{control_id}']\n",
        HL7,
    )
    asked = read_query(Protocol.HL7, b"MSH|^~\\&|||||20260105||QRY^Q02|4|P|2.3.1\rQRD|1|R|D|1|||RD||OTH\r")
    found = write(chosen, asked, [work("S-1", "A"), work("S-2", "B")], NOW, "C1")
    assert [one.works for one in found] == [(), (0,), (1,)]
    assert [one.text.decode().split("\r")[-2] for one in found[1:]] == ["DSC|1|", "DSC||"]
    assert [one.text.decode().split("|")[9].split("\r")[0] for one in found] == ["C1", "C1-2", "C1-3"]


def test_a_query_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(DriverError, match="the query cannot be read"):
        read_query(Protocol.LIS2, b"no header")


@pytest.mark.parametrize(
    ("text", "said_"),
    [
        (lines("'X|1'"), "answer.found[0].lines: a message begins with H"),
        (lines(r"'H|\\^&'"), "'H|\\\\\\\\^' does not define four different delimiters"),
        (lines("{each = 'test', lines = ['H|1']}"), "answer.found[0].lines: a message begins with H"),
        (lines(r"'H|\^&', {each = 'test', lines = []}"), "answer.found[0].lines: nothing is repeated"),
        (lines(r"'H|\^&', 'O|{speciman_id}'"), "{speciman_id} is neither a field of the query nor one of"),
        (lines(r"'H|\^&', 'O|{specimen_id'"), "a brace is left over"),
        (lines(r"'H|\^&', {each = 'rack', lines = []}"), "answer.found[0].lines[1].each: 'rack' is not one of"),
        (lines(r"'H|\^&'", more="test = '{what}'"), "answer.test: {what} is neither"),
        ("[answer]\ntest = '{code}'\n", "answer: needs found and none"),
    ],
)
def test_a_mistake_in_a_dialect_is_told_with_its_place(text: str, said_: str) -> None:
    with pytest.raises(DriverError) as caught:
        dialect(text)
    assert said_ in str(caught.value)


ASKED = b"H|\\^&|||ACME^1\rQ|1|^^S-1^40^0^5^^S2^SC||ALL||||||||O\rL|1|N\r"


@pytest.mark.parametrize("driver_id", ["roche_cobas_e411", "roche_cobas_c311", "hitachi_7600", "horiba_pentra_c400"])
def test_urine_is_never_ordered_as_serum(driver_id: str) -> None:
    """O-16 said 1, serum, of whatever stood in the rack; the cobas e 411's manual (p. 40) has 2 for urine."""
    driver = registry.load(driver_id)
    assert driver.answer is not None
    asked = read_query(Protocol.LIS2, ASKED)
    said = {
        kind: parse(answer(driver.answer, asked, [work("S-1", "690", specimen_type=kind)], NOW, "C1")[0]).records[2]
        for kind in ("", "SER", "PLAS", "UR", "FLU")
    }
    ordered = {kind: record.field(16) for kind, record in said.items() if record.field(5)}
    urine = {} if driver_id == "horiba_pentra_c400" else {"UR": "2"}
    assert ordered == {"": "1", "SER": "1", "PLAS": "1"} | urine, "what has no word there is not ordered"

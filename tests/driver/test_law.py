"""What is said in IHE LAW, against public examples of other implementations. No real person."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from interface.domain.model import ObservedPatient, Priority, Sex
from interface.driver.law import (
    Control,
    LawDialect,
    Names,
    Order,
    Parties,
    Step,
    nothing,
    order,
    parties_of,
    refusal,
    response,
)
from interface.driver.law_read import Place, read_query
from interface.errors import SegmentError
from interface.wire import hl7
from interface.wire.hl7_groups import group
from interface.wire.hl7_structures import Part

NOW = datetime(2021, 9, 15, 12, 33, 30, tzinfo=timezone(timedelta(hours=2)))
# The header of a capture: corpus hl7/roche-cobas4800-query.hl7
ASKING = (
    "MSH|^~\\&|cobas 4800 software 2.3.0.1905|EXAMPLE LAB|LIS|LIS Facility|20260613120846+0100||QBP^Q11^QBP_Q11"
    "|MSG-4800-Q|P|2.5.1|||ER|AL||UNICODE UTF-8|||LAB-27^IHE\r{qpd}\rRCP|I||R^^HL70394\r"
)
WOS = "QPD|WOS^Work Order Step^IHELAW|MSG-4800-Q-WOS|VL260003"
ROCHE = LawDialect("HOST", "LAB-27R^ROCHE", names=Names.BOTH, namespace="ROCHE", code_system="LN", code_part=1)
PARTIES = Parties(peer_application="X800 DM")


def asked(qpd: str = WOS) -> hl7.Message:
    return hl7.parse(ASKING.format(qpd=qpd).encode())


def said(data: bytes) -> list[str]:
    assert data.endswith(b"\r")
    return data.decode("utf-8")[:-1].split("\r")


def test_a_query_is_answered_as_understood_with_its_tag_and_itself_echoed() -> None:
    message = asked("QPD|WOS_ROCHE^Work Order Step Roche Extension^ROCHE|75566b64|sample123|S54|14")
    # As corpus hl7/roche-x800-rsp-k11.hl7, the manual's example, but for the ids and the parties.
    assert said(response(message, read_query(message), NOW, "L1", ROCHE)) == [
        "MSH|^~\\&|LIS|LIS Facility|cobas 4800 software 2.3.0.1905|EXAMPLE LAB|20210915123330+0200||RSP^K11^RSP_K11|L1"
        "|P|2.5.1||||||UNICODE UTF-8|||LAB-27R^ROCHE",
        "MSA|AA|MSG-4800-Q",
        "QAK|75566b64|OK|WOS_ROCHE^Work Order Step Roche Extension^ROCHE",
        "QPD|WOS_ROCHE^Work Order Step Roche Extension^ROCHE|75566b64|sample123|S54|14",
    ]


def test_a_query_that_is_not_understood_is_answered_with_the_place_of_the_fault() -> None:
    message = asked("QPD|WOS^Work Order Step^IHELAW|T1")
    with pytest.raises(SegmentError) as caught:
        read_query(message)
    assert said(refusal(message, caught.value, NOW, "L1"))[1:] == [
        "MSA|AE|MSG-4800-Q",
        "ERR||QPD^1^3|101^the query names neither a specimen nor a place^HL70357|E||||"
        "the query names neither a specimen nor a place",
        "QAK|T1|AE|WOS^Work Order Step^IHELAW",
        "QPD|WOS^Work Order Step^IHELAW|T1",
    ]


def test_a_query_in_delimiters_of_its_own_is_answered_in_them() -> None:
    text = ASKING.format(qpd=WOS).replace("^", "$").replace("|", "!")
    message = hl7.parse(text.encode())
    (header, msa, qak, qpd) = said(response(message, read_query(message), NOW, "L1"))
    assert header.startswith("MSH!$~\\&!LIS!") and "!RSP$K11$RSP_K11!" in header and header.endswith("!LAB-27$IHE")
    assert (msa, qak) == ("MSA!AA!MSG-4800-Q", "QAK!MSG-4800-Q-WOS!OK!WOS$Work Order Step$IHELAW")
    assert qpd == WOS.replace("^", "$").replace("|", "!")
    assert parties_of(message) == Parties("LIS", "LIS Facility", "cobas 4800 software 2.3.0.1905", "EXAMPLE LAB")


def test_new_work_is_what_the_x800_manual_prints() -> None:
    work = Order(
        "sample123", (Step("3821", "72828-7/CT-NG"),), Place("S54", "14"), specimen_type="UR", priority=Priority.STAT
    )
    # Corpus hl7/roche-x800-oml-o33.hl7, without the names beside codes, and with the priority that it leaves out.
    assert said(order(work, PARTIES, NOW, "L2", ROCHE)) == [
        "MSH|^~\\&|HOST||X800 DM||20210915123330+0200||OML^O33^OML_O33|L2|P|2.5.1|||NE|AL||UNICODE UTF-8|||LAB-28^IHE",
        "SPM|1|sample123&ROCHE||UR^^HL70487|||||||P^^HL70369",
        "SAC|||sample123|||||||S54|14",
        "ORC|NW||||||||20210915123330",
        "TQ1|||||||||S^^HL70485",
        "OBR||3821||72828-7^^LN",
    ]


def test_what_is_cancelled_is_named_by_its_id() -> None:
    work = Order("sample123", (Step("3141", "72828-7/CT-NG", Control.CANCEL), Step("3142", "X")))
    assert said(order(work, PARTIES, NOW, "L2", ROCHE))[3:] == [
        "ORC|CA||||||||20210915123330",
        "OBR||3141||72828-7^^LN",
        "ORC|NW||||||||20210915123330",
        "TQ1|||||||||R^^HL70485",
        "OBR||3142||X^^LN",
    ]


@pytest.mark.parametrize(("factor", "said_there"), [("5", "^1^:^5"), ("100", "^1^:^100"), ("2.50", "^1^:^2.5")])
def test_a_dilution_is_said_as_one_part_in_so_many(factor: str, said_there: str) -> None:
    work = Order("S-1", (Step("7", "GLU", dilution=Decimal(factor)),))
    assert said(order(work, PARTIES, NOW, "L2"))[-1] == f"TCD|GLU^^L|{said_there}"


def test_who_the_specimen_is_of_goes_along_where_the_dialect_says_so() -> None:
    anna = ObservedPatient("TEST-1", "Testa^Anna^M", date(1980, 3, 15), Sex.FEMALE)
    work = Order("S&1", (Step("7", "A^B"),), patient=anna, collected=datetime(2021, 9, 15, 8, 0))  # noqa: DTZ001
    lines = said(order(work, Parties(), NOW, "L2"))
    assert lines[1:] == [
        "PID|1||TEST-1||Testa^Anna^^^^^L||19800315|F",
        "PV1||U",
        'SPM|1|||""|||||||P^^HL70369||||||20210915080000',
        "SAC|||S\\T\\1",
        "ORC|NW||||||||20210915123330",
        "TQ1|||||||||R^^HL70485",
        "OBR||7||A\\S\\B^^L",
    ]
    assert not any(line.startswith(("PID", "PV1")) for line in said(order(work, Parties(), NOW, "L2",
                                                                       LawDialect(patient=False))))  # fmt: skip


def test_no_work_is_four_segments_of_a_specimen_of_unknown_role() -> None:
    # As two independent implementations write it, one by the x800 manual and one for the Alinity.
    assert said(nothing("sample123", Place("S54", "14"), PARTIES, NOW, "L3"))[1:] == [
        'SPM|1|||""|||||||U^^HL70369',
        "SAC|||sample123|||||||S54|14",
        "ORC|DC||||||||20210915123330",
    ]
    in_a_tray = said(nothing("", Place(tray="T1", tray_position="3", location="IN"), PARTIES, NOW, "L3"))
    assert in_a_tray[2] == "SAC|||||||||||||T1|3|IN"


def test_each_order_stands_below_its_specimen() -> None:
    """Read again by the tolerant reader of structures, two steps are two orders of one specimen."""
    work = Order("S-1", (Step("1", "TT1"), Step("2", "TT2")))
    tree = group(hl7.parse(order(work, PARTIES, NOW, "L2")))
    (owner,) = tree.groups(Part.PATIENT_GROUP)
    (specimen,) = owner.groups(Part.SPECIMEN)
    read = [[one.value(2) for one in each.segments() if one.id == "OBR"] for each in specimen.groups(Part.ORDER)]
    assert read == [["1"], ["2"]]

"""HL7 acknowledgements: which is due, and what it says."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.errors import LocatedError, SegmentError, UnsupportedMessage
from interface.settings import AckPolicy
from interface.wire.hl7 import check_syntax, parse
from interface.wire.hl7_ack import AckCode, Due, Outcome, Template, acknowledge, due, store_failure

NOW = datetime(2026, 1, 5, 12, 0, 30, tzinfo=UTC)


def oru(accept: str = "", application: str = "", version: str = "2.5.1", charset: str = "") -> bytes:
    head = f"MSH|^~\\&|LabOne|WARD|Labora|HOSP|20260105||ORU^R01^ORU_R01|ID7|P|{version}|||{accept}|{application}"
    return f"{head}||{charset}\rPID|1\r".encode()


AA, AE, AR, CA, CE, CR = AckCode.AA, AckCode.AE, AckCode.AR, AckCode.CA, AckCode.CE, AckCode.CR


@pytest.mark.parametrize(
    ("accept", "application", "stored", "error", "rejected"),
    [
        ("", "", AA, AE, AR),
        ("AL", "NE", CA, CE, CR),
        ("AL", "AL", (CA, AA), CE, CR),
        ("AL", "SU", (CA, AA), CE, CR),
        ("AL", "ER", CA, CE, CR),
        ("AL", "", CA, CE, CR),
        ("NE", "AL", AA, AE, AR),
        ("", "AL", AA, AE, AR),
        ("NE", "NE", None, None, None),
        ("NE", "", None, None, None),
        ("", "NE", None, None, None),
        ("ER", "NE", None, CE, CR),
        ("ER", "AL", AA, CE, CR),  # seen from LAW analyzers, which wait for the AA
        ("ER", "ER", None, CE, CR),
        ("SU", "NE", CA, None, None),
        ("SU", "AL", (CA, AA), AE, AR),
        ("NE", "ER", None, AE, AR),
        ("NE", "SU", AA, None, None),
        ("", "0", AA, AE, AR),  # Mindray: kind of result, not a condition
        ("", "2", AA, AE, AR),
    ],
)
def test_msh_15_and_16_say_which_replies_are_due(
    accept: str, application: str, stored: object, error: object, rejected: object
) -> None:
    for outcome, expected in zip(Outcome, (stored, error, rejected), strict=True):
        found = due(oru(accept, application), outcome)
        codes = tuple(code for code in (found.first, found.then) if code)
        assert codes == (expected if isinstance(expected, tuple) else (expected,) if expected else ()), outcome


@pytest.mark.parametrize("accept", ["", "NE", "AL", "ER", "SU"])
@pytest.mark.parametrize("application", ["", "NE", "AL"])
def test_the_links_policy_stands_above_the_message(accept: str, application: str) -> None:
    block = oru(accept, application)
    for outcome, original, accepted in zip(Outcome, (AA, AE, AR), (CA, CE, CR), strict=True):
        assert due(block, outcome, AckPolicy.ORIGINAL) == Due(original)
        assert due(block, outcome, AckPolicy.ACCEPT) == Due(accepted)
        assert due(block, outcome, AckPolicy.NONE) == Due()
    assert store_failure(block, AckPolicy.ORIGINAL) is AR
    assert store_failure(block, AckPolicy.ACCEPT) is CE


@pytest.mark.parametrize("policy", AckPolicy)
@pytest.mark.parametrize("conditions", ["", "|||AL|AL", "|||NE|AL"])
def test_an_acknowledgement_is_never_acknowledged(policy: AckPolicy, conditions: str) -> None:
    for kind in ("ACK", "ACK^R01^ACK", "MCF"):
        block = f"MSH|^~\\&|A|B|C|D|1||{kind}|ID7|P|2.5{conditions}\rMSA|AA|X\r".encode()
        assert [due(block, outcome, policy) for outcome in Outcome] == [Due()] * 3
        assert store_failure(block, policy) is None


def test_a_response_gets_no_reply_but_the_accept_acknowledgement_it_asks_for() -> None:
    response = "MSH|^~\\&|A|B|C|D|1||ORL^O34^ORL_O34|ID7|P|2.5.1{}\rMSA|AA|X\r"
    assert [due(response.format("").encode(), outcome) for outcome in Outcome] == [Due()] * 3
    asks = response.format("|||AL|NE").encode()
    assert [due(asks, outcome) for outcome in Outcome] == [Due(CA), Due(CE), Due(CR)]
    assert store_failure(asks) is None
    results = oru() + b"MSA|AA|X\r"
    assert due(results, Outcome.STORED) == Due(AA), "whoever sends results waits for a reply"


def test_a_failed_store_is_never_answered_positively() -> None:
    assert store_failure(oru()) is AR
    assert store_failure(oru("AL", "NE")) is CE
    assert store_failure(b"garbage") is AR
    codes = [store_failure(oru(a, b)) for a in ("", "AL", "NE", "ER") for b in ("", "AL", "NE")]
    assert set(codes) == {AR, CE}


def test_the_reply_swaps_the_parties_and_keeps_version_and_id() -> None:
    reply = check_syntax(acknowledge(oru(), AckCode.AA, control_id="L1", now=NOW))
    header, msa = reply.segments
    assert [header.field(n) for n in (3, 4, 5, 6)] == ["Labora", "HOSP", "LabOne", "WARD"]
    assert (header.field(7), header.field(9)) == ("20260105120030+0000", "ACK^R01^ACK")
    assert (reply.control_id, reply.version, header.field(11)) == ("L1", "2.5.1", "P")
    assert (msa.field(1), msa.field(2)) == ("AA", "ID7")


def test_a_fault_is_located_in_the_shape_of_2_5() -> None:
    fault = SegmentError("no | here", "OBX^2^5", 102)
    reply = parse(acknowledge(oru(), AckCode.AE, control_id="L1", now=NOW, error=fault))
    err = reply.first("ERR")
    assert err is not None
    assert (err.field(2), err.value(3), err.value(3, 3), err.field(4)) == ("OBX^2^5", "102", "HL70357", "E")
    assert err.value(8) == "no | here"


def test_a_fault_is_located_in_the_shape_of_2_3_1() -> None:
    fault = UnsupportedMessage("not taken", "MSH^1^9", 200)
    reply = parse(acknowledge(oru(version="2.3.1"), AckCode.AR, control_id="L1", now=NOW, error=fault))
    msa, err = reply.first("MSA"), reply.first("ERR")
    assert msa is not None
    assert err is not None
    assert reply.header.field(9) == "ACK^R01"
    assert msa.field(3) == "not taken"
    assert err.field(1) == "MSH^1^9^200&not taken"


def test_a_store_failure_says_207() -> None:
    reply = parse(acknowledge(oru("AL", "NE"), AckCode.CE, control_id="L1", now=NOW, text="cannot be stored now"))
    err = reply.first("ERR")
    assert err is not None
    assert err.value(3) == "207"


def test_the_reply_comes_in_the_charset_of_the_request() -> None:
    block = oru(charset="8859/1").replace(b"LabOne", "L\u00e4b".encode("latin-1"))
    reply = acknowledge(block, AckCode.AA, control_id="L1", now=NOW)
    assert "L\u00e4b".encode("latin-1") in reply
    assert parse(reply).header.field(18) == "8859/1"


def test_the_delimiters_of_the_request_are_kept() -> None:
    block = b"MSH!:*%@!A!B!C!D!!!ORU:R01!9!P!2.5\r"
    reply = acknowledge(block, AckCode.AE, control_id="L:1", now=NOW, error=LocatedError("bad", "OBX^1^5"))
    message = parse(reply)
    assert reply.startswith(b"MSH!:*%@!C!D!A!B!")
    assert (message.type, message.control_id) == ("ACK^R01", "L:1")


@pytest.mark.parametrize(
    ("block", "echoed"),
    [
        (b"", ""),
        (b"garbage", ""),
        (b"MSH", ""),
        (b"MSH|^^&&|A|B|C|D||||X9|P|2.5\r", "X9"),
        (b"MSH|^~\\&|A", ""),
        (b"MSH|^~\\&|A|B|C|D||||7\x1c8\r", "78"),
    ],
)
def test_even_a_broken_header_is_answered(block: bytes, echoed: str) -> None:
    reply = acknowledge(block, AckCode.AR, control_id="L1", now=NOW, text="unreadable")
    message = check_syntax(reply)
    msa = message.first("MSA")
    assert msa is not None
    assert (msa.field(1), msa.field(2)) == ("AR", echoed)
    assert b"\x1c" not in reply


@given(st.binary(max_size=200), st.sampled_from(AckCode))
def test_any_bytes_can_be_acknowledged(data: bytes, code: AckCode) -> None:
    for block in (data, b"MSH|^~\\&|" + data):
        reply = acknowledge(block, code, control_id="L1", now=NOW, text="x")
        assert b"\x0b" not in reply
        assert b"\x1c" not in reply
        assert parse(reply).control_id == "L1"


@pytest.mark.parametrize("version", ["\N{SUPERSCRIPT TWO}.5", "2.\N{SUPERSCRIPT FIVE}", "2." + "5" * 5000])
def test_a_version_that_is_no_number_is_answered_all_the_same(version: str) -> None:
    """A reply that cannot be made would close the connection at each repetition."""
    assert b"MSA|AR|ID7" in acknowledge(oru(version=version), AckCode.AR, control_id="L1", now=NOW)


def test_a_charset_name_with_a_nul_is_an_unknown_charset() -> None:
    assert "not known" in parse(oru(charset="ISO-8859-\0")).charset_fault


@pytest.mark.parametrize(
    ("profile", "echoed"),
    [("LAB-29^IHE", True), ("LAB29^IHE", True), ("LAB-27R^ROCHE", True), ("PHLabReport-NoAck^^2.16^ISO", False)],
)
def test_an_acknowledgement_names_the_law_transaction_of_its_message_and_no_other_profile(
    profile: str, echoed: bool
) -> None:
    block = f"MSH|^~\\&|A|B|C|D|20260105||OUL^R22^OUL_R22|7|P|2.5.1|||NE|AL||UNICODE UTF-8|||{profile}\r".encode()
    header = parse(acknowledge(block, AA, control_id="L1", now=NOW)).header
    assert (header.field(18), header.field(21)) == ("UNICODE UTF-8", profile if echoed else "")
    template = Template(parse(block), AA)
    assert template.fill("L1", "7", NOW) == acknowledge(block, AA, control_id="L1", now=NOW)

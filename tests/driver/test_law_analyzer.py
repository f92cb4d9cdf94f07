"""What we say in IHE LAW is heard by an analyzer that was written apart from it, and the other way."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from interface.domain.model import Priority
from interface.driver import registry
from interface.driver.law import Control, Order, Parties, Step, nothing, order
from interface.driver.law_analyzer import Heard, HeardOrder, Result, Voice, hear
from interface.driver.law_read import Asking, Place, Verdict, judge, read_answer, read_query
from interface.wire import hl7
from interface.wire.hl7 import check_syntax

NOW = datetime(2026, 1, 5, 10, 30, tzinfo=UTC)


def test_work_is_heard_as_it_was_meant() -> None:
    steps = (Step("7", "GLU", dilution=Decimal(5)), Step("8", "A^B"), Step("5", "CREA", Control.CANCEL))
    said = order(Order("S|1", steps, Place("R1", "3"), priority=Priority.STAT), Parties(), NOW, "L1")
    assert hear(said) == (
        HeardOrder("L1", "S|1", "P", "R1", "3", (
            Heard("NW", "7", "GLU", "^1^:^5", "S"), Heard("NW", "8", "A^B", "", "S"), Heard("CA", "5", "CREA"),
        )),
    )  # fmt: skip
    assert hear(nothing("S-1", Place(), Parties(), NOW, "L2")) == (
        HeardOrder("L2", "S-1", "U", "", "", (Heard("DC"),)),
    )


def test_what_an_analyzer_says_is_understood() -> None:
    voice = Voice("A1")
    query = read_query(check_syntax(voice.asks(NOW, "T1", more="R1|3")))
    assert (query.asking, query.tag, query.place) == (Asking.RACK, "T1", Place("R1", "3"))
    (heard,) = hear(order(Order("S-1", (Step("7", "GLU"), Step("8", "CREA"))), Parties(), NOW, "L1"))
    for structure in ("ORL_O34", "ORL_O42"):
        answer = read_answer(voice.answers(NOW, heard, ("OK", "UA"), structure))
        assert answer.control_id == "L1"
        assert [one.verdict for one in judge(("7", "8"), answer)] == [Verdict.ACCEPTED, Verdict.REFUSED]
    assert not read_answer(voice.refuses(NOW, "L1", "AR", "ERR||SAC^1^3|204^^HL70357|E")).positive


def test_results_name_their_steps() -> None:
    results = (
        Result("7", "GLU", "5.1", "mmol/L"), Result("7", "GLU", "POS"), Result("", "CREA", "80", parent="7"),
        Result("9", "NA", "", status="X", order_status="CA"),
    )  # fmt: skip
    message = hl7.parse(Voice("A1").reports(NOW, "S-1", results))
    assert [one.value(2) for one in message.all("OBR")] == ["7", "", "9"]
    assert [one.value(29, 2) for one in message.all("OBR")] == ["", "7", ""]
    told = registry.decode(registry.load("ihe_law"), Voice("A1").reports(NOW, "S-1", results))
    assert [one.work_id for one in told.specimens] == ["7", "", "9"]
    decoded = registry.decode(registry.load("generic_hl7"), Voice("A1").reports(NOW, "S-1", results))
    assert not decoded.problems and [one.specimen_id for one in decoded.specimens] == ["S-1"] * len(decoded.specimens)
    assert {one.work_id for one in decoded.specimens} == {""}, "an order's number is not ours where nobody says so"

"""By which method a result was measured: from a map, or the analyzer, to its limits, its rules and whoever reads it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from interface.domain.mapping import MapKey, Target, Wanted
from interface.domain.model import HoldReason, Interval, ResultStatus, Sex
from interface.domain.views import ResultView
from interface.flow import maps as flow
from interface.flow import review
from interface.flow.catalogue import add_interval
from interface.flow.correction import NewValue
from interface.flow.replay import Replayed, replay
from interface.render.fhir import observation
from interface.store import maps
from tests.flow.laboratory import Laboratory, laboratory
from tests.flow.rulebook import LOINC, RULES, put_in_force, sent
from tests.flow.test_hl7_frames import oru, send

WOMEN = Interval("", "", "mg/dL", Decimal("0.3"), Decimal("0.9"), sex=Sex.FEMALE, age_low_d=6574, source="a book")
ENZYMATIC = replace(WOMEN, method="enzymatic")
KINETIC = replace(WOMEN, method="Jaffe, kinetic", high=Decimal("1.6"))


async def mapped(lab: Laboratory, method: str) -> None:
    key = MapKey("generic_lis2", "", LOINC["CREA"], "")
    async with lab.database.transaction(lab.organization_id) as connection:
        wanted = [Wanted(key, Target("CREA", method=method))]
        proposal = await flow.propose_put(connection, wanted, await maps.basis(connection), "set")
        await flow.commit(connection, lab.director, proposal, "as its sheet says")


async def intervals(lab: Laboratory) -> None:
    async with lab.database.transaction(lab.organization_id) as connection:
        for one in (ENZYMATIC, KINETIC):
            await add_interval(connection, lab.director, "CREA", one, "two methods are in use")


async def measured(lab: Laboratory) -> ResultView:
    await lab.order("S1", "CREA")
    await lab.send(sent("S1", {"CREA": "1.20"}))
    await lab.settle()
    [found] = await lab.results()
    return found


async def replayed(lab: Laboratory, result: ResultView, *, dry_run: bool = False) -> Replayed:
    assert result.message_id is not None
    return await replay(lab.database, lab.director, result.message_id, lab.contexts.get, dry_run=dry_run)


async def test_a_replay_shows_what_a_method_that_was_mapped_since_changes(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await intervals(lab)
        result = await measured(lab)
        assert (result.method, result.flags, result.high) == ("", ("H",), Decimal("1.1")), "the limits of any method"
        for method, high, flags in (("enzymatic", "0.9", ("H",)), ("Jaffe, kinetic", "1.6", ("N",))):
            await mapped(lab, method)
            [change] = (await replayed(lab, result, dry_run=True)).changes
            assert (change.before.method, change.after.method) == (result.method, method)
            assert await lab.results() == [result]
            await replayed(lab, result)
            [result] = await lab.results()
            assert (result.method, result.flags, result.high) == (method, flags, Decimal(high))
            assert observation(result)["method"] == {"text": method}
            assert not (await replayed(lab, result)).changes


async def test_a_method_without_limits_of_its_own_is_seen_by_a_replay_too(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        result = await measured(lab)
        await mapped(lab, "enzymatic")
        [change] = (await replayed(lab, result, dry_run=True)).changes
        assert (change.before.reference, change.after.method) == (change.after.reference, "enzymatic")


async def test_a_method_is_as_sent_where_the_map_says_none(database_url: str) -> None:
    async with laboratory(database_url, "generic_hl7_lis01") as lab:
        await lab.order("S1", "GLU")
        await send(lab, oru("C1", "S1").replace(b"|F\r", b"|F||||||GOD^glucose  oxidase^99X~HK\r"))
        await lab.settle()
        [result] = await lab.results()
        assert (result.method, result.held) == ("glucose oxidase", ())
        steps = await lab.owner.fetchval("select lab.explained(steps)::json from lab.decision")
        [line] = [step for step in steps if step["step"] == "method"]
        assert (line["text"], line["inputs"]) == ("glucose oxidase as sent", {"method": "glucose oxidase"})


async def test_a_corrected_value_has_the_limits_of_its_method(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await intervals(lab)
        await mapped(lab, "Jaffe, kinetic")
        result = await measured(lab)
        async with lab.database.transaction(lab.organization_id) as connection:
            corrected = await review.correct(connection, lab.director, result.id, NewValue("1.50"), "a typing error")
        assert (corrected.method, corrected.flags, corrected.high) == ("Jaffe, kinetic", ("N",), Decimal("1.6"))


async def test_a_rule_that_asks_for_a_method_holds_where_none_is_known(database_url: str) -> None:
    asks = RULES.replace("require = [{ critical = false }]", 'require = [{ method = ["enzymatic"] }]')
    async with laboratory(database_url) as lab:
        await put_in_force(lab, asks)
        unknown = await measured(lab)
        assert (unknown.status, unknown.held) == (ResultStatus.REGISTERED, (HoldReason.RULE,))
        await mapped(lab, "enzymatic")
        await replayed(lab, unknown)
        [known] = await lab.results()
        assert (known.status, known.method) == (ResultStatus.FINAL, "enzymatic")

"""What is changed about how a laboratory decides, in a history: maps, intervals, rules, switches, controls, reports."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from interface.domain.autoverify import Scope, Switch
from interface.domain.mapping import MapKey, Target, Wanted
from interface.domain.qc import Stream
from interface.domain.qc_lots import LotKind
from interface.domain.qc_state import Meanwhile
from interface.domain.views import Audience
from interface.flow import maps as map_flow
from interface.flow import qc_gate, qc_lookback, qc_lots, qc_people, report_watch, rules
from interface.flow.catalogue import change_interval
from interface.flow.qc_lots import NewUse
from interface.flow.qc_sweep import sweep
from interface.flow.recalculation import recalculate
from interface.flow.rules import RuleError
from interface.store import maps
from interface.store.catalogue_rows import read_intervals
from interface.store.review import Policy, set_policy
from tests.flow.laboratory import message
from tests.flow.rulebook import LOINC, put_text_in_force

if TYPE_CHECKING:
    from tests.flow.walk import Walk

CONTROLS = {"accept": "4.0", "warn": "4.25", "reject": "4.9"}  # of potassium: the mean is 4, the SD 0.1
_STREAMS = "select analyzer_id, test_id, module from lab.qc_stream where organization_id = $1 order by id"


async def mapped(walk: Walk) -> str:
    """Sodium's code stands for something else for a while, and then for what it always stood for."""
    target = walk.chance.choice((Target("K", "mmol/L"), Target("NA", "mg/dL"), Target("")))
    if walk.mapped:
        target = Target("NA", "mmol/L")
    async with walk.lab.database.transaction(walk.lab.organization_id) as connection:
        key = MapKey("generic_lis2", "", LOINC["NA"], "")
        proposal = await map_flow.propose_put(connection, [Wanted(key, target)], await maps.basis(connection), "set")
        await map_flow.commit(connection, walk.lab.director, proposal, "as its sheet says")
    walk.mapped = not walk.mapped
    walk.lab.worker._catalogues.clear()  # it keeps a catalogue for seconds, and no time passes here
    return f"map NA to {target}"


async def limits(walk: Walk) -> str:
    """Other limits of potassium, for what is taken from now on or from yesterday on."""
    lab, chance = walk.lab, walk.chance
    async with lab.database.transaction(lab.organization_id) as connection:
        known = [one for one in await read_intervals(connection, ["K"]) if one.interval.valid_to is None]
        one = chance.choice(known)
        new = replace(one.interval, high=Decimal(chance.choice(("5.0", "5.1", "7.5"))), source="as it was studied here")
        at = datetime.now(UTC) - timedelta(hours=chance.choice((0, 20)))
        await change_interval(connection, lab.director, UUID(one.interval.id), new, "a study", at)
    return f"interval of K up to {new.high}"


async def ruled(walk: Walk) -> str:
    """Another revision of the rules, or none for a while."""
    lab, chance = walk.lab, walk.chance
    tests = Switch(Scope.TEST, chance.choice(("NA", "CREA")), "alarm")
    name = "new" if walk.rested else chance.choice(("new", "off", "on", "none"))
    walk.rested = name in ("none", "off") and not walk.rested
    if name == "new":
        with suppress(RuleError):  # it is on
            await walk.do(lambda at: rules.switch_on(at, lab.director, tests))
        limit = chance.choice(("20", "30", "60"))
        text = walk.rules.replace('limit = "30"', f'limit = "{limit}"')
        await walk.do(lambda at: put_text_in_force(at, lab.director, text))
        return f"rules with a delta of {limit}"
    if name == "none":
        await walk.do(lambda at: rules.deactivate(at, lab.director, "default", "doubt"))
    elif name == "off":
        await walk.do(lambda at: rules.switch_off(at, lab.director, tests))
    else:
        await walk.do(lambda at: rules.switch_on(at, lab.director, tests))
    return f"rules {name} {tests.key}"


async def controlled(walk: Walk) -> str:
    """A control of potassium on either analyzer."""
    chance = walk.chance
    which, verdict = chance.randrange(len(walk.analyzers)), chance.choice((*["accept"] * 5, "warn", "reject"))
    return await control(walk, which, verdict, chance.choice((0, 0, 15, 45, 120)))


async def control(walk: Walk, which: int, verdict: str, minutes: int) -> str:
    at = f"{datetime.now(UTC) - timedelta(minutes=minutes):%Y%m%d%H%M%S}"
    records = message(
        "P|1", "O|1|QC1||^^^K|R||||||Q", f"R|1|^^^{LOINC['K']}|{CONTROLS[verdict]}|mmol/L||N||F||||{at}",
        control=f"Q{walk.number()}",
    )  # fmt: skip
    await walk.send(records, which, controls=True)
    return f"control {verdict} at {which} {at}"


async def acted(walk: Walk) -> str:
    """Somebody says what was done about a failure, or takes a control out."""
    lab, chance = walk.lab, walk.chance
    rows = await lab.owner.fetch(_STREAMS, lab.organization_id)
    if not rows:
        return "act nothing"
    if chance.random() < 0.3:
        points = await lab.owner.fetch("select qc_result_id from lab.qc_point order by qc_result_id desc limit 5")
        point = chance.choice(points)["qc_result_id"]
        what = chance.choice((qc_people.exclude, qc_people.restore))
        await walk.do(lambda at: what(at, lab.director, point, "a wrong tube"))
        return f"control {what.__name__}"
    stream = Stream(*chance.choice(rows))
    meanwhile = chance.choice((None, Meanwhile.STANDS, Meanwhile.AGAIN))
    await walk.do(lambda at: qc_gate.act(at, lab.director, stream, "corrective", "cleaned", meanwhile=meanwhile))
    return f"acted {meanwhile}"


async def lots(walk: Walk) -> str:
    """Another reagent lot on an analyzer."""
    analyzer, lot = walk.chance.choice(("bench", "bench-2")), f"L{walk.chance.randint(1, 3)}"
    at = datetime.now(UTC) - timedelta(minutes=walk.chance.choice((0, 20, 100)))
    new = NewUse(analyzer, LotKind.REAGENT, lot, test=walk.chance.choice(("K", "")), from_at=at)
    await walk.do(lambda it: qc_lots.enter_use(it, walk.lab.director, new))
    return f"lot {lot} of {new.test} on {analyzer}"


async def looked_back(walk: Walk) -> str:
    """Somebody decides about what was released before a control failed."""
    lab = walk.lab
    async with lab.database.organization(lab.organization_id) as connection:
        lists = await qc_lookback.lookbacks(connection)
    if not lists:
        return "look back nothing"
    one, what = walk.chance.choice(lists), walk.chance.choice(list(qc_lookback.Decision))
    await walk.do(lambda at: qc_lookback.decide(at, lab.director, one.id, what, "looked at"))
    return f"look back {what}"


async def policy(walk: Walk) -> str:
    """Whether two people verify."""
    two = walk.chance.random() < 0.2
    await walk.do(lambda at: set_policy(at, walk.lab.organization_id, Policy("", two, None)))
    return f"two steps {two}"


async def recalculated(walk: Walk) -> str:
    found = [one for one in await walk.lab.results() if one.test_code in ("AGAP", "EGFR_2021")]
    if not found:
        return "recalculate nothing"
    one = walk.chance.choice(found)
    await walk.do(lambda at: recalculate(at, walk.lab.director, one.id))
    return f"recalculate {one.test_code} {one.value} {one.status}"


async def swept(walk: Walk) -> str:
    """What follows from controls, and the reports, as the daemon looks for them in the background."""
    lab = walk.lab
    await sweep(lab.database, lab.organization_id)
    await report_watch.look(lab.database, lab.organization_id, Audience.EMR, deque())
    return "swept"


STEPS = (
    mapped, limits, ruled, ruled, controlled, controlled, controlled, acted, acted, swept, swept, lots, looked_back,
    looked_back, policy, recalculated,
)  # fmt: skip

"""What the laboratory's people and the hospital's messages do in a history beyond `walk`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from interface.domain.model import Sex
from interface.flow import criticals, people, review, specimens, worksheets
from interface.flow.correction import NewValue
from interface.flow.criticals import Told
from interface.flow.entry import Entry, enter
from interface.flow.people import PatientChange
from interface.flow.worksheets import PlaceEntry
from interface.store.worksheets import WorkFilter
from tests.flow.hospital_use import order as placing

if TYPE_CHECKING:
    from tests.flow.walk import Walk

_ITEMS = """
select i.id, t.code from lab.order_item i join lab.test t on t.id = i.test_id
where i.organization_id = $1 order by i.id desc limit 20
"""


async def typed(walk: Walk) -> str:
    """A value that a person measured, for whatever was ordered."""
    lab = walk.lab
    rows = await lab.owner.fetch(_ITEMS, lab.organization_id)
    one = walk.chance.choice(rows)
    value = walk.chance.choice(walk.choices(one["code"]))
    await walk.do(lambda at: enter(at, lab.director, [Entry(one["id"], value, comment="by hand")]))
    return f"typed {one['code']} {value}"


async def corrected(walk: Walk) -> str:
    results = await walk.lab.results()
    if not results:
        return "correct nothing"
    one = walk.chance.choice(results)
    value = walk.chance.choice(walk.choices(one.test_code))
    await walk.do(lambda at: review.correct(at, walk.lab.director, one.id, NewValue(value), "typed", accept_hold=True))
    return f"correct {one.test_code} {one.value} {one.status} to {value}"


async def called(walk: Walk) -> str:
    lab = walk.lab
    async with lab.database.organization(lab.organization_id) as connection:
        tasks = await criticals.waiting(connection)
    if not tasks:
        return "call nothing"
    one, read_back = walk.chance.choice(tasks), walk.chance.random() < 0.7
    steps = {
        "tell": lambda at: criticals.notify(
            at, lab.director, one.id, Told("ward 3", read_back=read_back), version=one.version
        ),
        "close": lambda at: criticals.close(at, lab.director, one.id),
        "withdraw": lambda at: criticals.withdraw(at, lab.director, one.id, comment="a mistake"),
    }
    name = walk.chance.choice(("tell", "tell", "close", "close", "withdraw"))
    await walk.do(steps[name])
    return f"call {name} {one.kind} {one.state} {one.value}"


async def sheet(walk: Walk) -> str:
    """A worksheet begun, filled in, or completed."""
    lab, chance = walk.lab, walk.chance
    opened = await lab.owner.fetch("select id from lab.worksheet where state = 'open'")
    if not opened or chance.random() < 0.3:
        filter = WorkFilter(test_codes=tuple(chance.sample(("NA", "K", "CL", "CREA", "MG"), 2)), limit=4)
        await walk.do(lambda at: worksheets.build(at, lab.director, filter, expected=True))
        return f"worksheet {filter.test_codes}"
    worksheet_id: UUID = chance.choice(opened)["id"]
    async with lab.database.organization(lab.organization_id) as connection:
        seen = await worksheets.view(connection, worksheet_id)
    if chance.random() < 0.6:
        one = chance.choice(seen.items)
        entry = PlaceEntry(one.place, chance.choice(walk.choices(one.test_code)))
        await walk.do(lambda at: worksheets.enter(at, lab.director, worksheet_id, [entry]))
        return f"worksheet entry {one.test_code} {entry.value}"
    await walk.do(lambda at: worksheets.complete(at, lab.director, worksheet_id, unmeasured="another day"))
    return "worksheet completed"


async def sexed(walk: Walk) -> str:
    """What was registered of a person was wrong."""
    row = walk.chance.choice(await walk.lab.owner.fetch("select id, version from lab.patient order by id"))
    change = PatientChange(sex=walk.chance.choice((Sex.FEMALE, Sex.MALE, Sex.UNKNOWN)))
    await walk.do(lambda at: people.update_patient(at, walk.lab.director, row["id"], change, row["version"]))
    return f"sex {change.sex}"


async def aliquoted(walk: Walk) -> str:
    """Some tests go on in a tube of their own, which has a barcode of its own."""
    barcode = walk.barcode()
    tests = walk.chance.choice(((), ("NA",), ("K",), ("CREA",)))
    async with walk.lab.database.transaction(walk.lab.organization_id) as connection:
        made = await specimens.aliquot(connection, walk.lab.director, walk.tubes[barcode], tests=tests)
    walk.tubes[made.barcode] = made.id
    return f"aliquot {barcode} {tests} {made.barcode}"


async def replaced(walk: Walk) -> str:
    """The hospital replaces a service by another one."""
    if not walk.placed:
        return "replace nothing"
    chance, one = walk.chance, walk.chance.choice(walk.placed)
    new = walk.new_placed(chance.choice(("NA", "K", "CL", "HCO3", "CREA")), one.barcode, one.pid)
    said = await walk.his.oml(
        *placing(one.number, one.code, control="RP", spm=""),
        *placing(new.number, new.code, control="RO", barcode=one.barcode),
        pid=one.pid,
    )
    return f"replace {one.number} {one.code} by {new.number} {new.code}: {said.code} {said.controls}"


async def collected(walk: Walk) -> str:
    """The hospital says when a tube was taken, in a change of its order."""
    if not walk.placed:
        return "collected nothing"
    one = walk.chance.choice(walk.placed)
    at = datetime.now(UTC) - timedelta(minutes=walk.chance.randint(5, 600))
    spm = f"SPM|1|{one.barcode}||SER|||||||||||||{at:%Y%m%d%H%M}+0000"
    said = await walk.his.oml(*placing(one.number, one.code, control="XO", spm=spm), pid=one.pid)
    return f"collected {one.barcode} {said.code} {said.controls}"


async def moved(walk: Walk) -> str:
    """Admission, transfer, discharge, and each of them cancelled."""
    event = walk.chance.choice(("A01", "A02", "A03", "A11", "A12", "A13"))
    pid = f"PID|1||{walk.chance.choice('123')}^^^TEST^MR||MUSTER^MARIA||19800501|{walk.chance.choice('FM')}"
    said = await walk.his.adt(event, pid, f"PV1|1|I|{walk.chance.choice('345')}A")
    return f"{event} {said.code}"


STEPS = (typed, typed, corrected, called, called, sheet, sheet, sexed, aliquoted, replaced, collected, moved)

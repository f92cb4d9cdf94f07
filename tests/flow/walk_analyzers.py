"""What analyzers do in a history: a second one, messages again, late and cut, queries; and a daemon that ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from interface.flow import dispatches, queries
from interface.flow.results import ResultWorker
from interface.link.intake import Receipt
from interface.settings import LimitSettings
from interface.store.ids import uuid7
from interface.store.journal import Journal
from interface.store.stored_messages import read_message
from tests.flow.laboratory import frames, message
from tests.flow.rulebook import LOINC, UNITS

if TYPE_CHECKING:
    from tests.flow.walk import Walk

STATUSES = "FFFFFFPPCX"


def _stamp(minutes: int) -> str:
    return f"{datetime.now(UTC) - timedelta(minutes=minutes):%Y%m%d%H%M%S}"


def _records(walk: Walk, barcode: str, values: dict[str, str], at: str, status: str, control: str) -> list[str]:
    person = walk.chance.choice(("",) * 7 + ("1", "9"))
    lines = [
        f"R|{place}|^^^{LOINC[code]}|{value}|{UNITS.get(code, 'mmol/L')}||N||{status}||||{at}"
        for place, (code, value) in enumerate(values.items(), 1)
    ]
    return message(f"P|1||{person}", f"O|1|{barcode}||^^^CHEM|R", *lines, control=control)


async def another(walk: Walk) -> str:
    """Another analyzer, or the first one, with any status and any time; perhaps it is decided later."""
    chance, barcode = walk.chance, walk.barcode()
    values = await walk.values(barcode)
    at = chance.choice(("", _stamp(1), _stamp(chance.randint(1, 90)), _stamp(30)))
    status = chance.choice(STATUSES)
    records = _records(walk, barcode, values, at, status, f"D{walk.number()}")
    which = chance.randrange(len(walk.analyzers))
    await walk.send(records, which)
    return f"analyzer {which} {barcode} {values} {status} {at}"


async def again(walk: Walk) -> str:
    """What was sent before, by the same analyzer or another, whole or with another control id."""
    if not walk.said:
        return "again nothing"
    records = walk.chance.choice(walk.said[-8:])
    which = walk.chance.randrange(len(walk.analyzers))
    if walk.chance.random() < 0.5:
        records = [records[0].replace("||", f"|E{walk.number()}|", 1), *records[1:]]
    await walk.send(records, which)
    return f"again at {which} {records[2:-1]}"


async def otherwise(walk: Walk) -> str:
    """Another value, or another status, of what was said before at that time."""
    if not walk.said:
        return "otherwise nothing"
    chance, records = walk.chance, list(walk.chance.choice(walk.said[-8:]))
    at = chance.choice([place for place, one in enumerate(records) if one.startswith("R|")])
    fields = records[at].split("|")
    code = next((code for code, of in LOINC.items() if of == fields[2][3:]), "NA")
    fields[3] = chance.choice((fields[3], *walk.choices(code)))
    fields[8] = chance.choice("FCC")
    records[0] = records[0].replace("||", f"|G{walk.number()}|", 1)
    records[at] = "|".join(fields)
    await walk.send(records, 0)
    return f"otherwise {records[2:-1]}"


async def cut(walk: Walk) -> str:
    """A message whose end never came, and perhaps the whole of it after that."""
    barcode = walk.barcode()
    values = await walk.values(barcode)
    records = _records(walk, barcode, values, _stamp(walk.chance.randint(1, 60)), "F", f"F{walk.number()}")
    await walk.send(records[:-1], 0)
    if whole := walk.chance.random() < 0.6:
        await walk.send(records, 0)
    return f"cut {barcode} {values} {whole=}"


async def unknown(walk: Walk) -> str:
    """A tube that nobody knows (yet), or a code that nobody mapped."""
    barcode = walk.chance.choice((f"W{walk.count + 1}", f"H{walk.count + 2}", walk.barcode()))
    values = {"NA": walk.chance.choice(("140", "128"))}
    records = _records(walk, barcode, values, _stamp(2), "F", f"U{walk.number()}")
    if walk.chance.random() < 0.4:
        records[3] = records[3].replace(LOINC["NA"], "NOBODY")
    await walk.send(records, 0)
    return f"unknown {records[2:-1]}"


async def later(walk: Walk) -> str:
    """What comes waits for a few steps, in which people go on."""
    walk.waits = 0 if walk.waits else walk.chance.randint(1, 6)
    if not walk.waits:
        await walk.lab.settle()
    return f"waits {walk.waits}"


async def killed(walk: Walk) -> str:
    """The daemon ends in the middle of a message and is started again."""
    lab = walk.lab
    barcode = walk.barcode()
    records = _records(walk, barcode, {"NA": "140"}, _stamp(1), "F", f"K{walk.number()}")
    transmission = walk.analyzers[0].frames("127.0.0.1:1")
    for frame in frames(records)[: walk.chance.randint(0, len(records) - 1)]:
        await transmission.frame(frame)
    await lab.journal.stop()
    limits = LimitSettings()
    lab.worker = ResultWorker(lab.database, lab.contexts.get, limits)
    lab.journal = Journal(
        lab.database, lab.organization_id, resend_window_s=limits.resend_window_s, commit_wait_s=limits.commit_wait_s,
        wake=lab.worker.wake,
    )  # fmt: skip
    await lab.journal.recover(tuple(lab.contexts))
    walk.listen()
    if walk.chance.random() < 0.5:
        await walk.send(records, 0)
    return f"killed {barcode}"


async def query(walk: Walk) -> str:
    """An analyzer asks what is to be done for a tube, or for all."""
    which = walk.chance.randrange(len(walk.analyzers))
    link, intake, asked = walk.links[which], walk.analyzers[which], walk.chance.choice((f"^{walk.barcode()}", "ALL"))
    transmission, receipt = intake.frames("127.0.0.1:1"), Receipt()
    for frame in frames(["H|\\^&|||Testmaker^Bench^1||||||||LIS2-A2|20260102", f"Q|1|{asked}||ALL||||||||O", "L|1|N"]):
        receipt = await transmission.frame(frame)
    await transmission.end("eot")
    assert receipt.message_id is not None
    async with walk.lab.database.transaction(walk.lab.organization_id) as connection:
        stored = await read_message(connection, receipt.message_id)
        assert stored is not None
        told = await queries.answer(connection, link, stored, uuid7(), datetime.now(UTC))
    return f"query {which} {asked} {[len(one) for one in told.dispatches]}"


async def dispatched(walk: Walk) -> str:
    rows = await walk.lab.owner.fetch("select id, state from lab.dispatch order by id desc limit 10")
    if not rows:
        return "dispatch nothing"
    one, what = walk.chance.choice(rows), walk.chance.choice((dispatches.resend, dispatches.cancel))
    await walk.do(lambda at: what(at, walk.lab.director, one["id"], "a mistake"))
    return f"dispatch {what.__name__} {one['state']}"


STEPS = (
    another,
    another,
    another,
    again,
    again,
    otherwise,
    otherwise,
    cut,
    unknown,
    later,
    later,
    killed,
    query,
    query,
    dispatched,
)

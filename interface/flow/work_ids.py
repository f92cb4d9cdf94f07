"""Results that name the work they come from: whether they are of the specimen that it was for.

An analyzer that speaks IHE LAW returns the work id beside the container's. Where the two name different specimens one
of them is wrong, and nobody knows which: what it reports is held for a person.
"""

from __future__ import annotations

from dataclasses import replace

from interface.domain.model import HoldReason, ObservedSpecimen, Problem
from interface.flow.work import Work
from interface.store.db import Connection
from interface.store.dispatch import by_id, by_work_ids


def names_work(work: Work) -> bool:
    """Whether any of its results do."""
    return work.link.driver.law is not None and any(one.work_id for one in work.decoded.specimens)


async def compared(connection: Connection, work: Work) -> Work:
    """The message with what is reported under another specimen's work id held. An id that is none of ours, such as the
    null value of what was entered at the analyzer, says nothing."""
    named = {one.work_id for one in work.decoded.specimens if one.work_id}
    rows = await by_work_ids(connection, work.link.analyzer_id, sorted(named))
    # By the barcode as we printed it: who asked for all was told that, which no rule of the link is for.
    carried = {one.id: one.barcode for one in await by_id(connection, {row.specimen_id for row in rows})}
    told = {str(row.work_id): carried[row.specimen_id] for row in rows if row.specimen_id in carried}
    wrong = [
        at
        for at, one in enumerate(work.decoded.specimens)
        if one.specimen_id and told.get(one.work_id, here := work.barcode(one)) != here
    ]
    if not wrong:
        return work
    specimens = list(work.decoded.specimens)
    for at in wrong:
        specimens[at] = _held(specimens[at])
    problem = Problem("OBR-2", "the work id was given for another specimen than the one that is named")
    decoded = replace(
        work.decoded, specimens=tuple(specimens), problems=(*work.decoded.problems, *[problem] * len(wrong))
    )
    return Work(work.message, work.link, decoded, work.holds)


def _held(specimen: ObservedSpecimen) -> ObservedSpecimen:
    results = tuple(replace(one, holds=(*one.holds, HoldReason.AMBIGUOUS_SPECIMEN)) for one in specimen.results)
    return replace(specimen, results=results)

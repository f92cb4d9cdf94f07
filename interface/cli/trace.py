"""`labora trace SPECIMEN`: why each result of a specimen is as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from interface.cli import EXIT_FAILED, Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, desk, laboratory_options
from interface.domain.permissions import Permission
from interface.domain.values import signed

if TYPE_CHECKING:
    from interface.domain.model import Step
    from interface.domain.qc_views import ControlView
    from interface.flow.trace import Trace, TracedMessage, TracedResult, TracedVersion
    from interface.settings import Settings
    from interface.store.dispatch_views import DispatchView


@click.command(epilog=ENVIRONMENT)
@click.argument("specimen")
@laboratory_options
@pass_context
def trace(context: Context, specimen: str, organization: str | None, username: str | None, as_json: bool) -> int:
    """Explain every result of a specimen, from the bytes on the wire to what an EMR is owed. It is audited."""
    found = asyncio.run(_trace(context.settings, organization, username, specimen))
    emit(found if as_json else "\n".join(map(_plain, _lines(found))), as_json)
    if not (found.specimens or found.results or found.controls or found.queries):
        click.echo("nothing is known of this specimen", err=True)
        return EXIT_FAILED
    return 0


async def _trace(settings: Settings, organization: str | None, username: str | None, barcode: str) -> Trace:
    from interface.flow import trace as flow

    async with desk(settings, organization, username, named=False) as at:
        at.require(Permission.RESULT_READ)
        at.require(Permission.MESSAGE_READ)
        async with at.transaction() as connection:
            found = await flow.trace(connection, barcode)
            specimen_id = found.specimens[0].id if len(found.specimens) == 1 else None
            patients = [one.patient_id for one in found.specimens]
            patients += [one.current.patient_id for one in found.results]
            detail = {"messages": " ".join(str(one.id) for one in found.messages)}
            await at.note_read(connection, "trace", "specimen", specimen_id, patients, detail)
    return found


def _lines(found: Trace) -> Iterator[str]:
    for specimen in found.specimens:
        order = f"order {specimen.order_id}" if specimen.order_id else "no order"
        yield f"specimen {specimen.barcode} {specimen.type} {specimen.status}, {order}".replace("  ", " ")
    for work in found.works:
        yield _work(work)
    for query in found.queries:
        at = query.asked_at.isoformat(timespec="seconds")
        yield f"query {query.message_id} on {query.link}, {at}: no work, {query.reason}"
    for message in found.messages:
        yield from _message(message)
    for result in found.results:
        yield from _result(result)
    for control in found.controls:
        yield control_line(control)


def control_line(one: ControlView) -> str:
    """What became of a control, in a line."""
    point = one.point
    said = (
        f"lot {point.lot}/{point.level}, {point.verdict} {' '.join(point.rules)}".rstrip()
        if point
        else f"no point: {one.problem.kind}"
        if one.problem
        else "no point"
    )
    return f"{one.role} {one.id}  {one.specimen_as_sent} {one.test or one.code}: {one.value} {one.sent_unit}, {said}"


def _work(work: DispatchView) -> str:
    told = f", told {work.sent_at.isoformat(timespec='seconds')}" if work.sent_at else ""
    words = "; ".join(filter(None, (work.answer, work.reason)))
    return f"work {work.work_id} of {work.analyzer}, {work.kind} {work.code}: {work.state}{told}" + (
        f" ({words})" if words else ""
    )


def _message(message: TracedMessage) -> Iterator[str]:
    came_to = message.settled or "not decided yet"
    on = f"message {message.id} on {message.link}, {message.protocol}"
    yield f"{on}, {message.state}: {came_to}; reply {message.reply}"
    size = sum(frame.size_bytes for frame in message.frames)
    first = message.received_at.isoformat(timespec="milliseconds")
    yield f"  {len(message.frames)} frames of {size} bytes from {first}"


def _result(result: TracedResult) -> Iterator[str]:
    now = result.current
    held = f", held: {' '.join(now.held)}" if now.held else ""
    name = f"{now.test_code} {now.test_name}" if now.test_code else f"{now.code} (no test)"
    yield ""
    value = f"{signed(now.comparator, now.value)} {now.unit} {' '.join(now.flags)}".strip()
    yield f"result {now.id}  {name}: {value}"
    run = "" if now.reportable else ", not reported: another run of its order item is"
    yield f"  {now.status}, version {now.version}{held}{run}" + (", a change waits" if now.pending else "")
    for version in result.versions:
        yield from _version(version)
    for asked in result.asked:
        reason = f": {asked.reason}" if asked.reason else ""
        yield f"  {asked.kind} by {asked.rule}, {asked.state}{reason}"
    for owed in result.owed:
        when = owed.sealed_at.isoformat(timespec="seconds") if owed.sealed_at else "not yet"
        yield f"  told to EMRs: version {owed.version}, {when}" + (f", change {owed.position}" if owed.position else "")


def _version(version: TracedVersion) -> Iterator[str]:
    at = version.made_at.isoformat(timespec="milliseconds")
    held = f", held: {' '.join(version.held)}" if version.held else ""
    value = f"{signed(version.comparator, version.value)} {version.unit}".strip()
    yield f"  version {version.version}  {at}  {version.made_by}: {version.status} {value}{held}"
    if version.record is not None:
        frames = ", ".join(map(str, version.record.frames))
        place = f"bytes {version.record.start}-{version.record.stop}, frame {frames}"
        yield f"    {version.record.location} of message {version.message_id}, {place}"
        yield f"    {version.record.text}"
    elif version.message_id is not None:
        yield f"    message {version.message_id}"
    for step in version.steps:
        yield from _step(step)


def _step(step: Step) -> Iterator[str]:
    by = f" [{step.version}]" if step.version else ""
    yield f"    {step.step:<9} {step.verdict:<5} {step.text}{by}"
    inputs = " ".join(f"{name}={value}" for name, value in step.inputs.items() if value)
    if inputs:
        yield f"    {'':<15} {inputs}"


def _plain(text: str) -> str:
    """Text from an analyzer never moves the cursor of a terminal."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)

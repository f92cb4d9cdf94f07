"""What a hospital says, done and answered in the transaction that stores it (`flow.requests`).

An order is taken whole or refused whole, each of a message by itself: that another order of the message has a code that
nobody knows is no reason to leave a patient's potassium undone. What is refused is undone to its savepoint, named in
ERR with its place and in ORC-16, and the message's acknowledgement is then AE; that an order can no longer be changed
or cancelled is an answer and no error: AA, and the field's word in ORC-1. A fault of the patient's or of the message's
form refuses all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from hashlib import blake2b
from zoneinfo import ZoneInfo

from interface.domain.model import ItemStatus
from interface.domain.states import CLOSED_ITEM
from interface.domain.times import zone_of_sender
from interface.domain.views import Actor, OrderItemView
from interface.driver import decode_orders
from interface.driver.encode_orders import Answered, Outcome, reply
from interface.driver.encode_orders import Tube as ToldTube
from interface.driver.orders import (
    DONE,
    REFUSED,
    UNABLE,
    Control,
    EntityId,
    Event,
    Fault,
    OrderMessage,
    OrderRequest,
    SpecimenRequest,
    Terms,
)
from interface.errors import ApiError, IllegalStep, LaboraError, StoreError, UnsupportedMessage
from interface.flow import hospital_patients, placing
from interface.flow.context import LinkContext
from interface.flow.orders import NewOrder, NewPractitioner, NewSpecimen
from interface.flow.placing import Batch, OtherContent, Placed, PlacedTube, PlacerNumber, Placing
from interface.flow.problems import OrderError, is_ahead
from interface.flow.requests import Refused, Reply, Request
from interface.settings import OrderReply
from interface.store import lab_changes, people, specimens
from interface.store import placing as rows
from interface.store.db import Connection
from interface.wire.hl7 import REQUIRED_MISSING, UNSUPPORTED_PROCESSING_ID
from interface.wire.hl7_ack import AckCode

UNKNOWN_KEY, DUPLICATE_KEY, IN_USE, APPLICATION = 204, 205, 206, 207  # HL7 table 0357
_LOINC = frozenset({"LN", "LOINC", "2.16.840.1.113883.6.1"})  # HL7 table 0396, and its object identifier
# Of whom something else is wanted than what is ordered: who may not be another than the order's.
_OF_A_PATIENT = frozenset({Control.NEW, Control.CHANGE, Control.REPLACE, Control.REPLACEMENT})
_EXERCISES = frozenset({"T", "D"})  # HL7 table 0103
_ENDING = frozenset({"CR", "DR", "RQ"})
_KNOWN = frozenset({Control.CANCEL, Control.DISCONTINUE, Control.NUMBER, Control.STATUS, Control.REPLACE})


def terms(link: LinkContext) -> Terms:
    """What the configuration says of the hospital's words."""
    return Terms(link.settings.authority, dict(link.settings.authorities))


def _zone(request: Request) -> tzinfo:
    """Of times without an offset. HL7 v2.5.1 2.14.9.7: that of MSH-7."""
    zone = ZoneInfo(request.link.settings.timezone)
    if request.link.settings.offset_by_rote:
        return zone
    return zone_of_sender(request.message.header.value(7), zone, request.received_at)


def _in_earnest(request: Request) -> None:
    """Raises UnsupportedMessage for what is sent for training or debugging (HL7 table 0103): a copy of the hospital's
    system has the numbers of the living, and exercises would be drawn, measured and merged."""
    if request.message.header.value(11).strip() in _EXERCISES:
        text = "what is sent for training or debugging orders nothing here, and is said of nobody"
        raise UnsupportedMessage(text, "MSH^1^11", UNSUPPORTED_PROCESSING_ID)


async def orders(request: Request) -> Reply:
    """OML^O21, OML^O33, ORM^O01."""
    _in_earnest(request)
    link = request.link
    said = decode_orders.orders(request.message, terms(link), _zone(request), request.received_at)
    if said.person is None and any(asked.control in _OF_A_PATIENT for asked in said.orders):
        missing = Fault("PID^1", REQUIRED_MISSING, "an order names its patient: PID is missing")
        said = replace(said, faults=(*said.faults, missing))
    if any(not fault.warning for fault in said.faults):
        raise Refused(_reply(request, _all_refused(said)))
    desk = _Desk(request, said)
    await desk.begin()
    for together in _together(said.orders):
        await desk.do(together)
    answers = await desk.answers()
    faults = list(dict.fromkeys((*said.faults, *desk.faults)))  # a patient is looked for again after an order is undone
    code = AckCode.AE if any(not fault.warning for fault in faults) else AckCode.AA
    return _reply(request, Outcome(code, answers, tuple(faults)))


async def patients(request: Request) -> Reply:
    """ADT."""
    _in_earnest(request)
    link = request.link
    said = decode_orders.patients(request.message, terms(link), _zone(request), request.received_at)
    faults = list(said.faults)
    if not any(not fault.warning for fault in faults) and said.event is not Event.NOTHING:
        try:
            async with request.connection.transaction():
                faults += await hospital_patients.take(request.connection, link.actor, said, request.message_id)
        except (OrderError, ApiError) as error:
            faults.append(Fault(said.patients[0].person.location, _code_of(error), str(error)))
    code = AckCode.AE if any(not fault.warning for fault in faults) else AckCode.AA
    return _reply(request, Outcome(code, (), tuple(faults)))


def _reply(request: Request, outcome: Outcome) -> Reply:
    plain = request.link.settings.order_reply is OrderReply.ACK
    text = reply(request.message, outcome, control_id=request.control_id, now=request.received_at, plain=plain)
    return Reply(text, reason=outcome.reason)


def _all_refused(said: OrderMessage) -> Outcome:
    answers = [Answered(asked.location, _unable(asked.control)) for asked in said.orders]
    return Outcome(AckCode.AE, tuple(answers), said.faults)


def _unable(control: str) -> str:
    if control in REFUSED:
        return REFUSED[control][0]
    return UNABLE[Control(control)] if control in list(Control) else "UA"


def _together(asked: Sequence[OrderRequest]) -> list[tuple[OrderRequest, ...]]:
    """Each order by itself, but a replacement: every RP with the RO that follow it."""
    found: list[list[OrderRequest]] = []
    for one in asked:
        before = found[-1][-1].control if found else ""
        joins = (one.control == Control.REPLACEMENT and before in (Control.REPLACE, Control.REPLACEMENT)) or (
            one.control == before == Control.REPLACE
        )
        if joins:
            found[-1].append(one)
        else:
            found.append([one])
    return [tuple(each) for each in found]


class _Unknown(OrderError):
    """Nobody knows the code, or the number."""


@dataclass(slots=True)
class _Desk:
    """One message of orders."""

    request: Request
    said: OrderMessage
    faults: list[Fault] = field(default_factory=list)
    batch: Batch | None = None
    done: list[tuple[OrderRequest, str, Placed]] = field(default_factory=list)  # with ORC-1 of the answer
    refused: list[Answered] = field(default_factory=list)

    @property
    def connection(self) -> Connection:
        return self.request.connection

    @property
    def actor(self) -> Actor:
        return self.request.link.actor

    @property
    def digest(self) -> bytes:
        return blake2b(self.request.block, digest_size=32).digest()

    async def begin(self) -> None:
        """Lock what is spoken of, in the order in which everybody locks: whoever decides results of these specimens at
        the same moment comes before or after all of it."""
        organization_id = self.actor.organization_id
        await lab_changes.lock_orders(self.connection, organization_id)
        await people.lock_merging(self.connection, organization_id, share=True)
        barcodes = [tube.barcode for asked in self.said.orders for tube in asked.specimens if tube.barcode]
        placers = [_number(asked.placer) for asked in self.said.orders if asked.placer]
        groups = [_number(asked.group) for asked in self.said.orders if asked.group]
        concerned = await rows.concerned(self.connection, placers, groups, barcodes)
        await specimens.lock_specimens(self.connection, concerned)

    # ---- one order, or a replacement ---------------------------------------------------------------------------------

    async def do(self, asked: tuple[OrderRequest, ...]) -> None:
        for one in asked:
            self.faults += one.faults
        wrong = [fault for one in asked for fault in one.faults if not fault.warning]
        if wrong:
            self.refused += [Answered(one.location, _unable(one.control), reason=_words(wrong)) for one in asked]
            return
        before = replace(self.batch, tubes=dict(self.batch.tubes)) if self.batch is not None else None
        try:
            async with self.connection.transaction():
                done = await self._done(asked)
        except StoreError:
            raise
        except (OrderError, ApiError, IllegalStep) as error:
            self.batch = before  # what was found or made within is undone
            self.refused += self._not_done(asked, error)
        else:
            self.done += done
        if self.batch is not None:
            warnings = [Fault(asked[0].location, APPLICATION, text, warning=True) for text in self.batch.left_out]
            self.faults += warnings
            self.batch.left_out.clear()

    async def answers(self) -> tuple[Answered, ...]:
        """Of each order, as it stands when all are done."""
        items = await placing.ordered(self.connection, [known for _, _, known in self.done])
        on = dict.fromkeys(item.specimen_id for each in items.values() for item in each if item.specimen_id)
        tubes = {tube.id: tube for tube in await rows.tubes(self.connection, on)}
        answers = []
        for asked, control, known in self.done:
            place = next((tube.place for tube in asked.specimens), 0)
            mine = dict.fromkeys(item.specimen_id for item in items[known.id] if item.specimen_id)
            told = tuple(ToldTube(tubes[id].barcode, tubes[id].type, place) for id in mine)
            status = "CA" if known.ended or control in _ENDING else status_of(items[known.id])
            answers.append(Answered(asked.location, control, known.filler, status, tubes=told))
        return (*answers, *self.refused)

    async def _done(self, asked: tuple[OrderRequest, ...]) -> list[tuple[OrderRequest, str, Placed]]:
        first = asked[0]
        if first.control in (Control.REPLACE, Control.REPLACEMENT):
            return await self._replace(asked)
        if first.control not in list(Control):
            word = REFUSED[first.control][1] if first.control in REFUSED else "no order control that is taken here"
            raise OrderError([word], conflict=True)
        control = Control(first.control)
        if control is Control.NEW:
            known = await placing.place(self.connection, await self._batch(), await self._placing(first))
        elif control is Control.CHANGE:
            await self._known(first)
            known = await placing.change(self.connection, await self._batch(), await self._placing(first))
        else:
            known = await self._known(first)
            if control in (Control.CANCEL, Control.DISCONTINUE):
                reason = first.reason or "cancelled by who ordered it"
                await placing.cancel(self.connection, self.actor, known, reason, message=self.digest)
        return [(first, DONE[control], known)]

    async def _replace(self, asked: tuple[OrderRequest, ...]) -> list[tuple[OrderRequest, str, Placed]]:
        olds = [one for one in asked if one.control == Control.REPLACE]
        news = [one for one in asked if one.control == Control.REPLACEMENT]
        if not olds:
            raise OrderError(["RO follows the RP of the order that it replaces"])
        known = [await self._known(one) for one in olds]
        reason = next((one.reason for one in olds if one.reason), "replaced by who ordered it")
        placed = await placing.replace_placed(
            self.connection, await self._batch(), known, [await self._placing(one) for one in news], reason,
            message=self.digest,
        )  # fmt: skip
        answers = [(one, DONE[Control.REPLACE], of) for one, of in zip(olds, known, strict=True)]
        return answers + [(one, DONE[Control.REPLACEMENT], of) for one, of in zip(news, placed, strict=True)]

    async def _known(self, asked: OrderRequest) -> Placed:
        """The order of this number, which must be this patient's where one is named."""
        known = await placing.find(self.connection, _number(asked.placer), asked.filler)
        if known is None:
            raise _Unknown(["there is no order of this number"], conflict=True)
        if self.said.person is not None and not await hospital_patients.is_of(
            self.connection, self.said.person, known.order_id
        ):
            raise OtherContent(["the order of this number is another patient's"], conflict=True)
        other = await placing.find(self.connection, PlacerNumber(), asked.filler) if asked.placer else None
        # The laboratory's number of an order's first service is that of the order, and may be said with each of it.
        if other is not None and other.id != known.id and not known.filler.startswith(f"{asked.filler}-"):
            raise OtherContent(["ORC-2 and ORC-3 are the numbers of two orders"], conflict=True)
        if self.said.person is None and _is_anybodys(known, asked) and known.link_id != self.request.link.link_id:
            text = "the number is of no authority, and another system's here as far as is known: name the patient (PID)"
            raise OrderError([text], conflict=True)
        return known

    async def _batch(self) -> Batch:
        """What is placed by this message, once its patient is known as the hospital says."""
        if self.batch is None:
            if self.said.person is None:
                raise OrderError(["the message names no patient"])
            patient_id, warnings = await hospital_patients.ordered_for(self.connection, self.actor, self.said.person)
            self.faults += warnings
            link, message_id = self.request.link, self.request.message_id
            days = link.settings.specimen_window_days
            self.batch = Batch(self.actor, patient_id, link.link_id, message_id, days)
        return self.batch

    def _not_done(self, asked: tuple[OrderRequest, ...], error: LaboraError) -> list[Answered]:
        """UA and the like with the reason. Of what cannot be done any more the reply as a whole is still positive."""
        first = asked[0]
        control = Control(first.control) if first.control in list(Control) else None
        state = isinstance(error, IllegalStep) or (isinstance(error, OrderError) and error.conflict)
        asks_for_change = control in _KNOWN | {Control.CHANGE} or first.control in REFUSED
        warning = state and asks_for_change and not isinstance(error, OtherContent)
        place = first.service_location if isinstance(error, _Unknown) and control is Control.NEW else first.location
        self.faults.append(Fault(place, _code_of(error), str(error), warning))
        return [Answered(one.location, _unable(one.control), reason=str(error)) for one in asked]

    # ---- into our words ----------------------------------------------------------------------------------------------

    async def _placing(self, asked: OrderRequest) -> Placing:
        if not asked.placer:
            raise OrderError(["the order has no placer number"])
        kind = next((tube.type for tube in asked.specimens if tube.type), "")
        code = await ordered_code(self.connection, self.request.link, asked, kind)
        who = asked.requester
        requester = NewPractitioner(who.identifier, who.family, who.given, who.authority)
        order = NewOrder(
            (),
            clinical_history=asked.history,
            ordered_at=asked.ordered_at,
            requester=requester if who.identifier or who.family else None,
            ward=asked.ward,
            pregnant=asked.pregnant,
            gestation_weeks=asked.gestation_weeks,
        )
        each = enumerate(asked.specimens)
        tubes = tuple(_tube(tube, at, tube.place if self.said.by_specimen else 0) for at, tube in each)
        return Placing(
            _number(asked.placer), (code,), tubes, _number(asked.group), asked.content(), asked.priority, order
        )


def status_of(items: Sequence[OrderItemView]) -> str:
    """HL7 table 0038, from what an EMR may see."""
    seen = {item.status for item in items}
    if seen <= CLOSED_ITEM:
        return "CA"
    left = seen - CLOSED_ITEM
    if left <= {ItemStatus.VERIFIED}:
        return "CM"
    if ItemStatus.VERIFIED in left:
        return "A"  # some, but not all, results available
    return "IP" if left & {ItemStatus.IN_PROGRESS, ItemStatus.COMPLETED} else "SC"


async def ordered_code(connection: Connection, link: LinkContext, asked: OrderRequest, specimen_type: str) -> str:
    """The laboratory's code of what is ordered: by the link's map; else the test or panel of this very code; else, of a
    LOINC code, the one panel that has it. The alternate code where the first says nothing. Raises OrderError."""
    service = asked.service
    if not service.code and not service.alternate:
        raise _Unknown(["no code says what is ordered"])
    pairs = [(service.code, service.system), (service.alternate, service.alternate_system)]
    for code, system in pairs:
        if not code:
            continue
        found = await rows.ordered_codes(
            connection, link.driver.id, link.link_id, code, specimen_type, loinc=system.upper() in _LOINC
        )
        if len(found) == 1:
            return found[0]
        if found:
            raise _Unknown([f'the code "{code}" stands for {" and ".join(found)}'])
    shown = " or ".join(f'"{code}"' for code, _ in pairs if code)
    raise _Unknown([f"there is no test or panel for the code {shown}"])


def _tube(said: SpecimenRequest, at: int, place: int) -> PlacedTube:
    collected_at, planned = said.collected_at, None
    if collected_at is not None and collected_at.tzinfo is not None and is_ahead(collected_at):
        collected_at, planned = None, collected_at  # when it is to be taken: it has not been
    specimen = NewSpecimen(
        (), said.barcode, said.type, collected_at, said.received_at, said.container,
        collected_by=said.collected_by if collected_at else "",
    )  # fmt: skip
    return PlacedTube(specimen, said.reject, said.reject_text, (at, place, planned))


def _is_anybodys(known: Placed, asked: OrderRequest) -> bool:
    """Whether it was found by a number that two hospitals may have given: one without an authority."""
    return bool(asked.placer) and not known.placer.authority


def _number(of: EntityId) -> PlacerNumber:
    return PlacerNumber(of.number, of.authority)


def _words(faults: Sequence[Fault]) -> str:
    return "; ".join(fault.text for fault in faults)


def _code_of(error: LaboraError) -> int:
    """ERR-3 of table 0357."""
    if isinstance(error, OtherContent):
        return DUPLICATE_KEY
    if isinstance(error, _Unknown):
        return UNKNOWN_KEY
    return APPLICATION

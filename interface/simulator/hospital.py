"""A hospital that orders: patients admitted and changed, tests ordered, some orders changed, cancelled or replaced.

What it says follows from a seed, as an invented analyzer's results do; no real person is in it. It is played as any
source is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from interface.simulator.invent import Dice
from interface.simulator.source import PlayProtocol, Source
from interface.wire import hl7
from interface.wire.hl7_write import NewSegment, Value, components, write

CODES = ("K", "NA", "CREA", "GLU", "CBC")  # of the shipped catalogue
_FAMILIES = ("TEST-ALDER", "TEST-BIRCH", "TEST-CEDAR", "TEST-ELM", "TEST-FIR", "TEST-HAZEL", "TEST-LARCH", "TEST-OAK")
_GIVEN = (("ADA", "F"), ("BEN", "M"), ("CLEO", "F"), ("DAN", "M"), ("EVE", "F"), ("FINN", "M"))
_AUTHORITY, _PLACER = "SIMHOSP", "SIMHIS"


@dataclass(frozen=True, slots=True)
class Ordering:
    """What is to be said. `at`: the hospital's clock as it begins. `specimens`: their barcodes, instead of `orders`."""

    at: datetime
    orders: int = 1
    specimens: tuple[str, ...] = ()
    codes: tuple[str, ...] = CODES
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """What the laboratory answered to one service: ORC-1, the placer's and the filler's number, ORC-5."""

    control: str
    placer: str
    filler: str
    status: str


@dataclass(frozen=True, slots=True)
class _Order:
    number: int
    barcode: str
    codes: tuple[str, ...]
    patient: int
    at: datetime

    def placer(self, service: int) -> str:
        return f"{self.number:06d}{service:02d}"


def source(ordering: Ordering) -> Source:
    """The hospital's messages in their order."""
    return Source(PlayProtocol.MLLP, tuple((block,) for block in _messages(ordering)))


def told(replies: Sequence[bytes]) -> list[Told]:
    """What became of each service, of each reply in its order."""
    return [
        Told(orc.value(1), orc.value(2), orc.value(3), orc.value(5))
        for reply in replies
        for orc in hl7.parse(reply).all("ORC")
    ]


def _messages(ordering: Ordering) -> Iterator[bytes]:
    dice, admitted = Dice(ordering.seed), set[int]()
    barcodes = ordering.specimens or tuple(
        f"H{dice.roll(9000, 'stem') + 1000}{number:05d}" for number in range(1, ordering.orders + 1)
    )
    first = dice.roll(9_000, "placer") * 100
    for place, barcode in enumerate(barcodes):
        number = first + place + 1
        count = 1 + dice.roll(min(3, len(ordering.codes)), number, "services")
        begin = dice.roll(len(ordering.codes), number, "codes")
        codes = tuple(dict.fromkeys(ordering.codes[(begin + at) % len(ordering.codes)] for at in range(count)))
        at = ordering.at + timedelta(seconds=30 * place)
        one = _Order(number, barcode, codes, dice.roll(max(len(barcodes), 2) * 2 // 3, number, "patient"), at)
        if one.patient not in admitted:
            admitted.add(one.patient)
            yield _patient(dice, one, "A01" if dice.roll(2, one.patient, "admitted") else "A28")
        yield _order(dice, one, "NW")
        yield from _afterwards(dice, one, ordering.codes)


def _afterwards(dice: Dice, one: _Order, codes: Sequence[str]) -> Iterator[bytes]:
    """What now and then follows an order."""
    match dice.roll(20, one.number, "afterwards"):
        case 0:
            yield _order(dice, one, "CA")
        case 1 | 2:
            yield _order(dice, one, "XO", note="please add to the file")
        case 3:
            yield _replacement(dice, one, codes)
        case 4:
            yield _order(dice, one, "NW")  # its reply was lost
        case 5:
            yield _patient(dice, one, "A08")


def _header(one: _Order, kind: tuple[str, str, str], control_id: str) -> NewSegment:
    fields: list[Value] = ["SIMHIS", "HOSPITAL", "LABORA", "LAB", f"{one.at:%Y%m%d%H%M%S}", "", components(*kind)]
    return NewSegment("MSH", (*fields, control_id, "P", "2.5.1", "", "", "", "", "", "UNICODE UTF-8"))


def _pid(dice: Dice, patient: int) -> NewSegment:
    given, sex = _GIVEN[dice.roll(len(_GIVEN), patient, "given")]
    family = _FAMILIES[dice.roll(len(_FAMILIES), patient, "family")]
    year, month, day = (dice.roll(sides, patient, what) for sides, what in ((90, "year"), (12, "month"), (28, "day")))
    born = f"{1930 + year}{1 + month:02d}{1 + day:02d}"
    number = components(f"TEST-{dice.seed}-{patient:05d}", "", "", _AUTHORITY, "MR")
    return NewSegment("PID", ("1", "", number, "", components(family, given), "", born, sex))


def _patient(dice: Dice, one: _Order, event: str) -> bytes:
    header = _header(one, ("ADT", event, "ADT_A05" if event == "A28" else "ADT_A01"), f"{event}{one.number}")
    return write([header, NewSegment("EVN", ("", f"{one.at:%Y%m%d%H%M%S}")), _pid(dice, one.patient)])


def _order(dice: Dice, one: _Order, control: str, note: str = "") -> bytes:
    segments = [_header(one, ("OML", "O21", "OML_O21"), f"{control}{one.number}"), _pid(dice, one.patient)]
    for service in range(len(one.codes)):
        segments += _service(dice, one, service, control, note)
    return write(segments)


def _replacement(dice: Dice, one: _Order, codes: Sequence[str]) -> bytes:
    """The last service by another one on the same tube."""
    new = replace(one, codes=(*one.codes, codes[dice.roll(len(codes), one.number, "other")]))
    segments = [_header(one, ("OML", "O21", "OML_O21"), f"RP{one.number}"), _pid(dice, one.patient)]
    segments += _service(dice, one, len(one.codes) - 1, "RP") + _service(dice, new, len(one.codes), "RO")
    return write(segments)


def _service(dice: Dice, one: _Order, service: int, control: str, note: str = "") -> list[NewSegment]:
    placer, urgent = components(one.placer(service), _PLACER), not dice.roll(8, one.number, "urgent")
    group = components(f"{one.number:06d}", _PLACER)
    taken = f"{one.at - timedelta(minutes=5):%Y%m%d%H%M%S}"
    notes = [NewSegment("NTE", ("1", "", note))] if note else []
    return [
        NewSegment("ORC", (control, placer, "", group, "", "", "", "", f"{one.at:%Y%m%d%H%M%S}")),
        NewSegment("TQ1", ("1", "", "", "", "", "", "", "", "S" if urgent else "R")),
        NewSegment("OBR", (str(service + 1), placer, "", components(one.codes[service]))),
        *notes,
        NewSegment("SPM", ("1", one.barcode, "", "", *[""] * 12, taken)),
    ]

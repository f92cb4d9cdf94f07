"""What a laboratory's controls came to in a month, and what other laboratories measured with the same lots. Pure.

A peer programme takes, month by month, n, mean and SD of each level of a lot, and returns those of the group.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Final
from uuid import UUID

from interface.domain.exact import in_unit, measurable
from interface.domain.map_files import Fault
from interface.domain.qc_lots import MOST_DIGITS, unit_problem
from interface.domain.qc_statistics import Peers, Statistics, compared, presented
from interface.domain.units import Substance

MOST_ROWS: Final = 5_000  # of a file
LONGEST: Final = 80  # characters of a group
COLUMNS: Final = (
    "material", "lot", "level", "test", "peer_group", "period", "unit", "laboratories", "points", "mean", "sd",
)  # fmt: skip
REQUIRED: Final = ("lot", "test", "peer_group", "period", "mean", "sd")
_LARGEST: Final = 2_000_000_000  # laboratories or points that the store can count


@dataclass(frozen=True, slots=True)
class PeerRow:
    """A row of a file, in the laboratory's words."""

    file: str
    line: int
    lot: str
    test: str
    peer_group: str
    period: str
    mean: Decimal
    sd: Decimal
    material: str = ""
    level: str = ""
    unit: str = ""
    laboratories: int = 0
    points: int = 0

    @property
    def name(self) -> str:
        """The lot as `flow.qc_lots.lot_named` takes it."""
        if self.material:
            return f"{self.material}/{self.lot}/{self.level}"
        return f"{self.lot}/{self.level}" if self.level else self.lot


@dataclass(frozen=True, slots=True)
class PeerRows:
    """A file that could be read: its rows, and what is wrong with single ones."""

    rows: tuple[PeerRow, ...]
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class PeerView:
    """What a group measures with one level of a lot in a month, as it was imported."""

    id: UUID
    lot_id: UUID
    material: str
    lot: str
    level: str
    test_id: UUID
    test: str
    peer_group: str
    period: str
    unit: str
    laboratories: int
    points: int
    mean: Decimal
    sd: Decimal
    source: str
    by: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class OwnPeriod:
    """What the laboratory measured with one level of a lot in a month, and with the lot up to the month's end.

    In the unit of the test's results. `decimals`: of mean and SD. `complete`: the month is over.
    """

    analyzer_id: UUID
    analyzer: str
    driver: str
    module: str
    test_id: UUID
    test: str
    test_name: str
    loinc: str
    unit: str
    lot_id: UUID
    material: str
    manufacturer: str
    catalogue_number: str
    lot: str
    level: str
    level_number: int
    expires_on: date | None
    period: str
    complete: bool
    decimals: int
    own: Statistics
    to_date: Statistics


@dataclass(frozen=True, slots=True)
class ComparedView:
    """The laboratory beside a peer group; means and SDs in the unit of the test's results, all as people read them."""

    analyzer: str
    module: str
    test: str
    unit: str
    material: str
    lot: str
    level: str
    period: str
    n: int
    mean: Decimal
    sd: Decimal | None
    cv: Decimal | None
    peer_group: str
    laboratories: int
    peer_points: int
    peer_mean: Decimal
    peer_sd: Decimal
    peer_cv: Decimal | None
    bias: Decimal | None  # per cent
    sdi: Decimal | None
    cvr: Decimal | None


# ---- months ---------------------------------------------------------------------------------------------------------


def month(period: str) -> tuple[datetime, datetime]:
    """Its first instant and the next month's, in UTC. Raises ValueError for what is no `2026-11`."""
    if len(period) != 7 or period[4] != "-" or not (period[:4] + period[5:]).isdecimal() or not period.isascii():
        raise ValueError("not a month, such as 2026-11")
    begin = datetime(int(period[:4]), int(period[5:]), 1, tzinfo=UTC)
    return begin, begin.replace(year=begin.year + begin.month // 12, month=begin.month % 12 + 1)


# ---- files ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Row:
    """One row being read."""

    file: str
    line: int
    said: Mapping[str, str]
    faults: list[Fault]

    def fault(self, name: str, text: str) -> None:
        self.faults.append(Fault(self.file, self.line, name, text))

    def text(self, name: str) -> str:
        value = self.said.get(name, "").strip()
        if not value and name in REQUIRED:
            self.fault(name, "is missing")
        elif len(value) > LONGEST or not value.isprintable():
            self.fault(name, f"is longer than {LONGEST} characters, or cannot be printed")
        return value

    def number(self, name: str) -> Decimal:
        value = self.text(name)
        try:
            number = Decimal(value) if value.isascii() and "_" not in value else Decimal("NaN")
        except InvalidOperation:
            number = Decimal("NaN")
        if value and (not measurable(number) or len(number.as_tuple().digits) > MOST_DIGITS):
            self.fault(name, f"{value!r} is no number with a point, such as 5.25")
        return number

    def whole(self, name: str) -> int:
        value = self.text(name) or "0"
        if value.isascii() and value.isdigit() and int(value[:20]) <= _LARGEST:
            return int(value)
        self.fault(name, f"{value!r} is no whole number")
        return 0


def read_row(file: str, line: int, said: Mapping[str, str]) -> tuple[PeerRow | None, list[Fault]]:
    """A row by its columns' names; None where something is wrong with it."""
    row = _Row(file, line, said, [])
    read = PeerRow(
        file, line, row.text("lot"), row.text("test"), row.text("peer_group"), row.text("period"), row.number("mean"),
        row.number("sd"), row.text("material"), row.text("level"), row.text("unit"), row.whole("laboratories"),
        row.whole("points"),
    )  # fmt: skip
    if not row.faults and read.sd <= 0:
        row.fault("sd", "is not above 0")
    try:
        month(read.period)
    except ValueError:
        if read.period:
            row.fault("period", f"{read.period!r} is no month, such as 2026-11")
    return (None if row.faults else read), row.faults


def peer_unit_problem(unit: str, test: str, test_unit: str, substance: Substance) -> str:
    """Why what peers measured cannot be compared; "" when it can."""
    return unit_problem(unit, test, test_unit, substance).replace("a target of", "what is measured of")


# ---- comparison -----------------------------------------------------------------------------------------------------


def beside(period: OwnPeriod, peer: PeerView, substance: Substance) -> ComparedView:
    """Raises UnknownUnit where the peers' unit cannot be converted any more: the test has another now."""
    mean = in_unit(peer.mean, peer.unit, period.unit, substance)
    sd = in_unit(peer.sd, peer.unit, period.unit, substance)
    found = compared(period.own, Peers(peer.peer_group, peer.period, mean, sd, peer.laboratories, peer.points))
    return ComparedView(
        period.analyzer, period.module, period.test, period.unit, period.material, period.lot, period.level,
        period.period, period.own.n, rounded_mean(period.own.mean, period), rounded_sd(period.own.sd, period),
        presented(period.own.cv), peer.peer_group, peer.laboratories, peer.points, rounded_mean(mean, period),
        rounded_mean(sd, period), presented(found.peer_cv), presented(found.bias), presented(found.sdi),
        presented(found.cvr),
    )  # fmt: skip


def rounded_mean(number: Decimal, period: OwnPeriod) -> Decimal:
    return presented(number, period.decimals) or Decimal(0)


def rounded_sd(number: Decimal | None, period: OwnPeriod) -> Decimal | None:
    return presented(number, period.decimals)


def written(period: OwnPeriod) -> Mapping[str, object]:
    """A row of an export."""
    own, to_date = period.own, period.to_date
    return {
        "analyzer": period.analyzer, "driver": period.driver, "module": period.module, "test": period.test,
        "loinc": period.loinc, "unit": period.unit, "material": period.material, "manufacturer": period.manufacturer,
        "catalogue_number": period.catalogue_number, "lot": period.lot, "level": period.level,
        "expires_on": period.expires_on, "period": period.period, "complete": "yes" if period.complete else "no",
        "n": own.n, "mean": rounded_mean(own.mean, period), "sd": rounded_sd(own.sd, period), "cv": presented(own.cv),
        "minimum": own.minimum, "maximum": own.maximum,
        "n_to_date": to_date.n, "mean_to_date": rounded_mean(to_date.mean, period),
        "sd_to_date": rounded_sd(to_date.sd, period), "cv_to_date": presented(to_date.cv),
    }  # fmt: skip


def by_place(peers: Iterable[PeerView]) -> Mapping[tuple[UUID, UUID], list[PeerView]]:
    """By lot and test."""
    found: dict[tuple[UUID, UUID], list[PeerView]] = {}
    for peer in peers:
        found.setdefault((peer.lot_id, peer.test_id), []).append(peer)
    return found

"""Control materials, their lots, what they should measure, and which reagents and calibrators are in use. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from typing import Final
from uuid import UUID

from interface.domain.exact import measurable
from interface.domain.model import MeasuredWith
from interface.domain.qc import Target
from interface.domain.times import end_of
from interface.domain.units import Substance, commensurable
from interface.errors import UnknownUnit

MOST_DIGITS: Final = 30  # of a mean or SD: conversions keep 34


class TargetSource(StrEnum):
    MANUFACTURER = "manufacturer"  # the material's insert
    LABORATORY = "laboratory"  # its own measurements


class TargetKind(StrEnum):
    FIXED = "fixed"
    CUMULATIVE = "cumulative"  # of all counted points of the lot so far; computed anew when a person says so


class LotKind(StrEnum):
    """What a lot in use on an analyzer is of."""

    REAGENT = "reagent"
    CALIBRATOR = "calibrator"
    DILUENT = "diluent"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class MaterialView:
    id: UUID
    version: int
    created_at: datetime
    name: str
    manufacturer: str = ""
    catalogue_number: str = ""
    note: str = ""
    closed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class LotView:
    """One level of one lot of a material."""

    id: UUID
    version: int
    created_at: datetime
    material_id: UUID
    material: str
    lot: str
    level: str = ""
    level_number: int = 1  # the order of levels within a run
    expires_on: date | None = None
    identifiers: tuple[str, ...] = ()  # what analyzers call it; `*` at the end is any end
    analyzers: tuple[str, ...] = ()  # that measure it; none: any may
    note: str = ""
    closed_at: datetime | None = None

    @property
    def name(self) -> str:
        """As a person calls it, once the material is known."""
        return f"{self.lot}/{self.level}" if self.level else self.lot


@dataclass(frozen=True, slots=True)
class TargetView:
    """What a lot should measure on an analyzer, in `unit` as it was typed. `ended_at`: a person ended it.

    `lot_until`: its lot is expired or closed from then on, and it is in force no longer than that.
    """

    id: UUID
    lot_id: UUID
    lot: str
    level: str
    level_number: int
    material: str
    analyzer_id: UUID
    analyzer: str
    module: str  # "": of all
    test_id: UUID
    test: str
    mean: Decimal
    sd: Decimal
    unit: str
    source: TargetSource
    kind: TargetKind
    points: int  # that it was computed from
    reagent_lot: str  # "": of any
    note: str
    valid_from: datetime
    valid_to: datetime | None
    created_at: datetime
    by: str
    ended_at: datetime | None = None
    ended_by: str = ""
    end_reason: str = ""
    lot_until: datetime | None = None

    @property
    def end(self) -> datetime | None:
        """Up to when it is in force, exclusively."""
        ends = [at for at in (self.valid_to, self.ended_at, self.lot_until) if at is not None]
        return min(ends) if ends else None

    def holds(self, at: datetime) -> bool:
        """Whether it is in force at an instant."""
        return self.valid_from <= at and (self.end is None or at < self.end)

    def as_target(self) -> Target:
        """As charts and statistics want it."""
        return Target(str(self.id), str(self.lot_id), self.mean, self.sd, self.unit, self.valid_from, self.end)


@dataclass(frozen=True, slots=True)
class AnalyzerLotView:
    """A lot of a reagent, calibrator or diluent that an analyzer uses, from `from_at` to `ended_at`."""

    id: UUID
    analyzer_id: UUID
    analyzer: str
    module: str  # "": of all, or not known
    test_id: UUID | None  # None: of every test
    test: str
    kind: LotKind
    lot: str
    expires_on: date | None
    from_at: datetime
    by: str  # who said so: the link's name where the analyzer did
    ended_at: datetime | None = None
    ended_by: str = ""
    end_reason: str = ""

    def holds(self, at: datetime) -> bool:
        return self.from_at <= at and (self.ended_at is None or at < self.ended_at)


@dataclass(frozen=True)
class InUse:
    """What an analyzer uses, and what it used since an instant."""

    lots: Sequence[AnalyzerLotView] = ()

    @cached_property
    def _by_test(self) -> Mapping[tuple[LotKind, UUID | None], Sequence[AnalyzerLotView]]:
        found: dict[tuple[LotKind, UUID | None], list[AnalyzerLotView]] = defaultdict(list)
        for one in self.lots:
            found[one.kind, one.test_id].append(one)
        return found

    def find(self, kind: LotKind, module: str, test_id: UUID | None, at: datetime) -> AnalyzerLotView | None:
        """The one for a test on a module at an instant: the most special that holds, of equals the newest."""
        held = [
            one
            for of in dict.fromkeys((test_id, None))
            for one in self._by_test.get((kind, of), ())
            if one.module in ("", module) and one.holds(at)
        ]
        return max(held, key=lambda one: (one.test_id is not None, bool(one.module), one.from_at, one.id), default=None)

    def lot(self, kind: LotKind, module: str, test_id: UUID | None, at: datetime) -> str:
        """Its name; "": not known."""
        found = self.find(kind, module, test_id, at)
        return found.lot if found else ""


@dataclass(frozen=True, slots=True)
class Used:
    """What an analyzer measures with: the lots it uses; where rules ask, when tests were calibrated, newest first."""

    in_use: InUse
    calibrations: Mapping[UUID, Sequence[datetime]] = field(default_factory=dict)

    def filled(self, said: MeasuredWith, test_id: UUID, at: datetime) -> MeasuredWith:
        """What a test was measured with at an instant: as the analyzer says it, else the lots that were in use."""
        if said.reagent_lot and said.calibrator_lot:
            return said
        reagent = said.reagent_lot or self.in_use.lot(LotKind.REAGENT, said.module, test_id, at)
        calibrator = said.calibrator_lot or self.in_use.lot(LotKind.CALIBRATOR, said.module, test_id, at)
        if (reagent, calibrator) == (said.reagent_lot, said.calibrator_lot):
            return said
        return replace(said, reagent_lot=reagent, calibrator_lot=calibrator)

    def calibrated_at(self, test_id: UUID, at: datetime) -> datetime | None:
        """The last time before an instant, as far as its calibrators' results came."""
        return next((one for one in self.calibrations.get(test_id, ()) if one <= at), None)


# ---- what is what ---------------------------------------------------------------------------------------------------


def names(identifier: str, sent: str) -> bool:
    """Whether an identifier of a lot is what was sent."""
    if identifier.endswith("*"):
        return bool(sent) and sent.startswith(identifier[:-1])
    return identifier == sent


def named_alike(one: LotView, other: LotView) -> list[str]:
    """The identifiers of `one` that could be sent for `other` too, by an analyzer that may measure both."""
    if one.analyzers and other.analyzers and not set(one.analyzers) & set(other.analyzers):
        return []
    return [mine for mine in one.identifiers if any(_meet(mine, theirs) for theirs in other.identifiers)]


def _meet(one: str, other: str) -> bool:
    return names(one, other.removesuffix("*")) or names(other, one.removesuffix("*"))


def expired(expires_on: date | None, at: datetime) -> bool:
    """A lot is good to the end of the day that it says, in UTC."""
    return expires_on is not None and at.astimezone(UTC).date() > expires_on


def until(lot: LotView) -> datetime | None:
    """From when on a lot cannot be used; None: that is not known."""
    expiry = None if lot.expires_on is None else end_of(lot.expires_on)
    return min((at for at in (expiry, lot.closed_at) if at is not None), default=None)


def unusable(lot: LotView, at: datetime) -> str:
    """Why a control of this lot measured at `at` makes no acceptable point; "" when it may."""
    if lot.closed_at is not None and at >= lot.closed_at:
        return f"lot {lot.name} was closed on {lot.closed_at:%Y-%m-%d}"
    if expired(lot.expires_on, at):
        return f"lot {lot.name} expired on {lot.expires_on}"
    return ""


def in_force(
    targets: Iterable[TargetView], lot_id: UUID, module: str, test_id: UUID, reagent_lot: str, at: datetime
) -> TargetView | None:
    """The target that judges a point: one of its module before one of all, one of its reagent lot before one of any.

    Those of one module and reagent lot never overlap in time (`overlapping`).
    """
    held = [
        one
        for one in targets
        if one.lot_id == lot_id
        and one.test_id == test_id
        and one.module in ("", module)
        and one.reagent_lot in ("", reagent_lot)
        and one.holds(at)
    ]
    return max(held, key=lambda one: (bool(one.module), bool(one.reagent_lot), one.valid_from), default=None)


def same_place(one: TargetView, other: TargetView) -> bool:
    """Whether two targets say what the same points should measure, be it at different times."""
    return (one.lot_id, one.analyzer_id, one.module, one.test_id, one.reagent_lot) == (
        other.lot_id, other.analyzer_id, other.module, other.test_id, other.reagent_lot,
    )  # fmt: skip


def overlapping(new: TargetView, known: Iterable[TargetView]) -> TargetView | None:
    """The first of `known` that would be in force at the same time as `new`, for the same points."""
    return next((one for one in known if same_place(one, new) and _at_once(one, new)), None)


def of_its_number(new: TargetView, known: Iterable[TargetView]) -> TargetView | None:
    """The first of `known` that would be in force beside `new` under its level's number, and is not that level of that
    material: of the two a run would have to have but one."""
    return next((one for one in known if _taken_for(one, new) and _at_once(one, new)), None)


def _taken_for(one: TargetView, other: TargetView) -> bool:
    stream = (one.analyzer_id, one.test_id, one.level_number) == (other.analyzer_id, other.test_id, other.level_number)
    modules, reagents = {one.module, other.module} - {""}, {one.reagent_lot, other.reagent_lot} - {""}
    level = (one.material, one.level.casefold()) == (other.material, other.level.casefold())
    return stream and len(modules) < 2 and len(reagents) < 2 and not level


def _at_once(one: TargetView, other: TargetView) -> bool:
    """Whether both are in force at some time."""
    begin = max(one.valid_from, other.valid_from)
    return all(each.end is None or begin < each.end for each in (one, other))


# ---- what may be said -----------------------------------------------------------------------------------------------


def target_problems(
    mean: Decimal,
    sd: Decimal,
    unit: str,
    test: str,
    test_unit: str,
    substance: Substance,
    valid_from: datetime,
    valid_to: datetime | None,
) -> Iterable[str]:
    """What is wrong with a target, a clause each. Units are UCUM codes."""
    for name, number in (("mean", mean), ("SD", sd)):
        if not measurable(number):
            yield f"the {name} is no number that can be measured"
        elif len(number.as_tuple().digits) > MOST_DIGITS:
            yield f"the {name} has more than {MOST_DIGITS} digits"
    if sd.is_finite() and sd <= 0:
        yield "the SD is not above 0"
    if problem := unit_problem(unit, test, test_unit, substance):
        yield problem
    if valid_to is not None and valid_to <= valid_from:
        yield "it would end before it begins"


def unit_problem(unit: str, test: str, test_unit: str, substance: Substance) -> str:
    """Why a target's unit cannot be converted to that of the test's results; "" when it can."""
    if unit == test_unit:
        return ""
    if not unit:
        return f"a target of {test} needs a unit, such as {test_unit}"
    try:
        if test_unit and commensurable(unit, test_unit, substance):
            return ""
    except UnknownUnit as error:
        return str(error)
    return f"{unit} cannot be converted to {test_unit or 'no unit'}, in which {test} is reported"

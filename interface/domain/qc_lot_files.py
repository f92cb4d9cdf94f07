"""Lots with their targets as rows of a file, as a laboratory types a material's insert: every fault by its line. Pure.

One row is one level of one lot and, with a test, what it should measure on one analyzer. SD is given as `sd`, or as the
limits of the insert's range and how many SD that is on either side: `low`, `high`, `range_sd`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Final, TypeVar

from interface.domain.exact import EXACT
from interface.domain.map_files import Fault
from interface.domain.qc_lots import LotView, TargetKind, TargetSource, TargetView

MOST_ROWS: Final = 2000
# Those of a target have a meaning only beside a test.
LOT_COLUMNS: Final = (
    "material", "manufacturer", "catalogue_number", "lot", "level", "level_number", "expires_on", "identifiers",
    "analyzers",
)  # fmt: skip
TARGET_COLUMNS: Final = (
    "test", "analyzer", "module", "reagent_lot", "unit", "mean", "sd", "low", "high", "range_sd", "source", "kind",
    "note", "valid_from", "valid_to",
)  # fmt: skip
COLUMNS: Final = (*LOT_COLUMNS, *TARGET_COLUMNS)
WRITTEN: Final = tuple(name for name in COLUMNS if name not in ("low", "high", "range_sd"))
REQUIRED: Final = ("material", "lot")
BETWEEN: Final = ";"  # of identifiers and analyzers, which may have spaces

E = TypeVar("E", bound=StrEnum)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FileTarget:
    analyzer: str
    test: str
    mean: Decimal
    sd: Decimal
    unit: str = ""
    module: str = ""
    reagent_lot: str = ""
    source: TargetSource = TargetSource.MANUFACTURER
    kind: TargetKind = TargetKind.FIXED
    note: str = ""
    valid_from: datetime | None = None
    valid_to: datetime | None = None


@dataclass(frozen=True, slots=True)
class LotRow:
    """A row in the laboratory's words. None and (): the file does not say."""

    file: str
    line: int
    material: str
    lot: str
    level: str = ""
    manufacturer: str = ""
    catalogue_number: str = ""
    level_number: int | None = None
    expires_on: date | None = None
    identifiers: tuple[str, ...] = ()
    analyzers: tuple[str, ...] = ()
    target: FileTarget | None = None

    def fault(self, text: str) -> Fault:
        return Fault(self.file, self.line, "", text)


@dataclass(frozen=True, slots=True)
class LotRows:
    """A file that could be read: its rows, and what is wrong with single ones."""

    rows: tuple[LotRow, ...]
    faults: tuple[Fault, ...] = ()


@dataclass(slots=True)
class _Row:
    """One row being read."""

    file: str
    line: int
    said: Mapping[str, str]
    faults: list[Fault]

    def fault(self, name: str, text: str) -> None:
        self.faults.append(Fault(self.file, self.line, name, text))

    def text(self, name: str, required: bool = False) -> str:
        value = self.said.get(name, "").strip()
        if required and not value:
            self.fault(name, "is missing")
        return value

    def made(self, name: str, make: Callable[[str], T], text: str) -> T | None:
        value = self.text(name)
        if not value:
            return None
        try:
            return make(value)
        except (ValueError, InvalidOperation):
            self.fault(name, f"{value!r} is not {text}")
            return None

    def number(self, name: str) -> Decimal | None:
        return self.made(name, _number, "a number with a point, such as 5.25")

    def word(self, name: str, words: type[E], default: E) -> E:
        found = self.made(name, words, f"one of {', '.join(words)}")
        return default if found is None else found

    def list(self, name: str) -> tuple[str, ...]:
        return tuple(part.strip() for part in self.text(name).split(BETWEEN) if part.strip())


def read_row(file: str, line: int, said: Mapping[str, str]) -> tuple[LotRow | None, list[Fault]]:
    """A row by its columns' names; None where something is wrong with it."""
    row = _Row(file, line, said, [])
    read = LotRow(
        file, line, row.text("material", True), row.text("lot", True), row.text("level"), row.text("manufacturer"),
        row.text("catalogue_number"), row.made("level_number", _whole, "a whole number"),
        row.made("expires_on", date.fromisoformat, "a date (2026-01-31)"), row.list("identifiers"),
        row.list("analyzers"), _target(row),
    )  # fmt: skip
    return (None if row.faults else read), row.faults


def _target(row: _Row) -> FileTarget | None:
    if not row.text("test"):
        for name in TARGET_COLUMNS:
            if row.text(name):
                row.fault(name, "is of a target, and no test is named")
        return None
    mean, sd = row.number("mean"), row.number("sd")
    limits = [row.number(name) for name in ("low", "high", "range_sd")]
    ranged = [name for name in ("low", "high", "range_sd") if row.text(name)]
    if ranged and row.text("sd"):
        row.fault("sd", "is given, and a range too: which one counts?")
    elif ranged and len(ranged) < 3:
        row.fault(ranged[0], "needs low, high and range_sd: how many SD the range is on either side")
    elif not ranged and not row.text("sd"):
        row.fault("sd", "is missing")
    if not row.text("mean"):
        row.fault("mean", "is missing")
    low, high, times = limits
    if low is not None and high is not None and times is not None:
        sd = _sd(row, mean, low, high, times)
    row.text("analyzer", True)
    words = {name: row.text(name) for name in ("analyzer", "test", "unit", "module", "reagent_lot", "note")}
    source = row.word("source", TargetSource, TargetSource.MANUFACTURER)
    kind = row.word("kind", TargetKind, TargetKind.FIXED)
    begin, end = (row.made(name, _instant, _WHEN) for name in ("valid_from", "valid_to"))
    if mean is None or sd is None or row.faults:
        return None
    return FileTarget(mean=mean, sd=sd, source=source, kind=kind, valid_from=begin, valid_to=end, **words)


_WHEN: Final = "a date or time (2026-01-31, 2026-01-31T08:00+02:00)"


def _sd(row: _Row, mean: Decimal | None, low: Decimal, high: Decimal, times: Decimal) -> Decimal | None:
    """From the insert's range; exact where the quotient is, else to 34 digits as it is stored."""
    if high <= low or times <= 0:
        row.fault("low", "low is not below high, or range_sd is not above 0")
        return None
    if mean is not None and abs(2 * mean - low - high) * 5 > high - low:  # a tenth of the range from its middle
        row.fault("mean", "is not in the middle of the range")
        return None
    return EXACT.divide(high - low, 2 * times)


def _number(text: str) -> Decimal:
    if not set(text) <= set("0123456789.+-eE"):  # no comma, no words such as NaN, no digits of other scripts
        raise ValueError
    number = Decimal(text)
    if not number.is_finite():
        raise ValueError
    return number


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise ValueError
    return int(text)


def _instant(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


# ---- and back -------------------------------------------------------------------------------------------------------


def written(lot: LotView, target: TargetView | None, manufacturer: str, catalogue_number: str) -> dict[str, object]:
    """A lot, or a target of it, as a row that `read_row` takes back."""
    row: dict[str, object] = {
        "material": lot.material, "manufacturer": manufacturer, "catalogue_number": catalogue_number, "lot": lot.lot,
        "level": lot.level, "level_number": lot.level_number, "expires_on": lot.expires_on,
        "identifiers": lot.identifiers, "analyzers": lot.analyzers,
    }  # fmt: skip
    if target is not None:
        row |= {name: getattr(target, name) for name in WRITTEN if name in TARGET_COLUMNS}
    return {name: row.get(name) for name in WRITTEN}

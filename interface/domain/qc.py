"""The words of quality control. Pure; PROTOCOLS §4.4.

A *stream* is a test on an analyzer, or on one of its modules. A *point* is one control measured in it: of one lot,
which is of one level. Points measured together are a *run*: across-level rules look within it. A *plan* says which
rules judge a stream and how often it must be controlled.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from interface.domain.record import record


class QcVerdict(StrEnum):
    """What the rules say of a point."""

    ACCEPT = "accept"
    WARN = "warn"  # acceptable, and somebody should look
    REJECT = "reject"
    UNKNOWN = "unknown"  # not judged: no target, no usable SD, no number, another unit


class QcMode(StrEnum):
    CLASSIC = "classic"  # the other rules are looked at only after 1-2s
    MODERN = "modern"  # every rejection rule by itself


class QcRule(StrEnum):
    """Control rules as Westgard writes them; definitions at `westgard`."""

    R1_2S = "1-2s"
    R1_3S = "1-3s"
    R2_2S = "2-2s"
    R_4S = "R-4s"
    R2OF3_2S = "2of3-2s"
    R3_1S = "3-1s"
    R4_1S = "4-1s"
    R6X = "6x"
    R8X = "8x"
    R9X = "9x"
    R10X = "10x"
    R12X = "12x"
    R7T = "7T"


@record
class Stream:
    """What one state of quality control is of."""

    analyzer_id: UUID
    test_id: UUID
    module: str = ""


@record
class Multirule:
    """The rules that judge a stream. `rules` empty: those for the number of levels (`westgard.by_levels`)."""

    rules: tuple[QcRule, ...] = ()
    mode: QcMode = QcMode.MODERN
    loose_r4s: bool = False  # R-4s by the range of the run, not by one beyond +2 and one beyond -2
    warn_only: tuple[QcRule, ...] = ()  # broken, these warn and do not reject; 1-2s always only warns


@record
class Point:
    """A control's result as the rules see it. `z` is None where it cannot be judged: see QcVerdict.UNKNOWN."""

    id: str
    at: datetime  # measured: the instrument's time where it is plausible, else the receipt
    run: str
    level: int  # the order of levels within a run
    lot: str  # id of the lot
    target: str  # id of the target it was judged by; "" for none
    z: Decimal | None
    number: Decimal | None = None
    excluded: bool = False  # stays on the chart and counts nowhere


@record
class Violation:
    """A broken rule and the points that break it, oldest first. `across`: of several levels."""

    rule: QcRule
    points: tuple[str, ...]
    across: bool = False


@record
class Evaluation:
    """What the rules say of the newest point. `insufficient`: rules there are not enough points for yet."""

    verdict: QcVerdict
    violations: tuple[Violation, ...] = ()
    insufficient: tuple[QcRule, ...] = ()
    text: str = ""


@record
class Target:
    """What a control should measure: mean and SD in `unit`, from `valid_from` (inclusive) to `valid_to`."""

    id: str
    lot_id: str
    mean: Decimal
    sd: Decimal
    unit: str
    valid_from: datetime
    valid_to: datetime | None = None


class PointKind(StrEnum):
    """What happened in a stream, on a chart."""

    TARGET = "target"  # another mean or SD
    LOT = "lot"
    REAGENT = "reagent"
    ACTION = "action"
    COMMENT = "comment"


@record
class ChartPoint:
    """One point of a chart."""

    id: str
    at: datetime
    level: str
    lot: str  # as the laboratory calls it
    number: Decimal | None
    z: Decimal | None
    verdict: QcVerdict
    rules: tuple[str, ...] = ()
    excluded: bool = False
    note: str = ""  # comment or reason, without patient data


@record
class ChartMark:
    """Something that is marked at a time on the chart."""

    at: datetime
    kind: PointKind
    text: str
    level: str = ""  # "": of all


@record
class ChartLevel:
    """One level of a chart: its target periods, oldest first."""

    level: str
    number: int
    lot: str
    targets: tuple[Target, ...] = ()


@record
class Chart:
    """Everything a Levey-Jennings chart shows, in the order of time."""

    analyzer: str
    module: str
    test: str
    test_name: str
    unit: str
    begin: datetime
    end: datetime
    levels: tuple[ChartLevel, ...]
    points: Sequence[ChartPoint]
    marks: Sequence[ChartMark] = ()
    state: str = ""  # of the stream now

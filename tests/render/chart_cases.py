"""Invented charts: what laboratories see, and what would make labels fall on each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

from interface.domain.qc import (
    Chart,
    ChartLevel,
    ChartMark,
    ChartPoint,
    PointKind,
    QcVerdict,
    Target,
)
from interface.render.charts import Look, svg

BEGIN = datetime(2026, 10, 31, 17, tzinfo=UTC)  # 1 November in Jakarta
END = BEGIN + timedelta(days=30)
ZONE = "Asia/Jakarta"
PICTURE = Path(__file__).parents[2] / "docs" / "levey-jennings.svg"
SIGMA = "\N{GREEK SMALL LETTER SIGMA}"
LONG = f"Pemeriksaan kadar glukosa darah puasa, Glukosa heksokinase (µmol/L, {SIGMA} ± ½) für Müller & <Söhne> " * 2


def target(mean: str, sd: str, begin: datetime = BEGIN - timedelta(days=90), end: datetime | None = None) -> Target:
    return Target(f"{mean}-{begin}", "lot", Decimal(mean), Decimal(sd), "mmol/L", begin, end)


def judged(z: Decimal) -> tuple[QcVerdict, tuple[str, ...]]:
    if abs(z) > 3:
        return QcVerdict.REJECT, ("1-3s",)
    return (QcVerdict.WARN, ("1-2s",)) if abs(z) > 2 else (QcVerdict.ACCEPT, ())


def series(
    level: str, aim: Target, lot: str, zs: Iterable[Decimal], begin: datetime, step: timedelta
) -> list[ChartPoint]:
    """Points at equal steps, judged by 1-2s and 1-3s."""
    made = []
    for number, z in enumerate(zs):
        verdict, rules = judged(z)
        value = round(aim.mean + z * aim.sd, 2)
        made.append(ChartPoint(f"{level}-{lot}-{number}", begin + number * step, level, lot, value, z, verdict, rules))
    return made


def noise(seed: int, count: int, spread: float = 1.0, shift: float = 0.0) -> list[Decimal]:
    numbers = Random(seed)  # noqa: S311 - invented measurements
    return [Decimal(numbers.gauss(shift, spread)).quantize(Decimal("0.01")) for _ in range(count)]


def changed(points: list[ChartPoint], at: int, **more: object) -> None:
    """Another point in the place of one."""
    points[at] = replace(points[at], **more)  # type: ignore[arg-type]


def chart(levels: Sequence[ChartLevel], points: Iterable[ChartPoint], **more: object) -> Chart:
    said: dict[str, object] = {
        "analyzer": "cobas-1", "module": "c503-1", "test": "GLU", "test_name": "Glucose", "unit": "mmol/L",
        "begin": BEGIN, "end": END, "state": "ok", **more,
    }  # fmt: skip
    ordered = tuple(sorted(points, key=lambda point: point.at))
    return Chart(levels=tuple(levels), points=ordered, **said)  # type: ignore[arg-type]


TWICE = timedelta(hours=12)
LEVELS = (("Low", "3.20", "0.08"), ("Normal", "5.30", "0.11"), ("High", "15.40", "0.35"))


def leveled(count: int, per_level: int = 58, spread: float = 0.9) -> tuple[list[ChartLevel], list[ChartPoint]]:
    """So many levels with points twice a day."""
    levels, points = [], []
    for number in range(count):
        name, mean, sd = LEVELS[number] if number < 3 else (f"{number + 1}", f"{20 + 5 * number}.00", "0.50")
        aim = target(mean, sd)
        levels.append(ChartLevel(name, number + 1, f"4582{number}", (aim,)))
        zs = noise(number + 1, per_level, spread)
        points += series(name, aim, f"4582{number}", zs, BEGIN + timedelta(minutes=70 + number), TWICE)
    return levels, points


def ordinary() -> Chart:
    """Two levels over a month: a failure, what was done, an excluded point, a weekend without."""
    levels, points = leveled(2)
    points = [point for point in points if not BEGIN + timedelta(days=13) < point.at < BEGIN + timedelta(days=16)]
    low = [at for at, point in enumerate(points) if point.level == "Low"]
    high = [at for at, point in enumerate(points) if point.level == "Normal"]
    changed(points, low[20], z=Decimal("4.90"), number=Decimal("3.59"), verdict=QcVerdict.REJECT, rules=("1-3s",))
    changed(points, low[34], z=Decimal("2.31"), number=Decimal("3.38"), verdict=QcVerdict.WARN, rules=("1-2s",))
    changed(points, low[35], z=Decimal("2.42"), verdict=QcVerdict.REJECT, rules=("2-2s",))
    changed(
        points, high[12], z=Decimal("-3.40"), verdict=QcVerdict.REJECT, rules=("1-3s",), excluded=True,
        note="excluded: wrong vial, level Low was in its place (S. Wijaya)",
    )  # fmt: skip
    marks = [
        ChartMark(BEGIN + timedelta(days=8), PointKind.REAGENT, "reagent lot 771204 in place of 770931"),
        ChartMark(points[low[20]].at + timedelta(minutes=25), PointKind.ACTION, "probe rinsed, control repeated"),
        ChartMark(points[low[35]].at + timedelta(minutes=40), PointKind.ACTION, "calibrated, both in range", "Low"),
        ChartMark(END - timedelta(days=4), PointKind.COMMENT, "Suhu ruang 27 °C, AC diperbaiki"),
    ]  # fmt: skip
    return chart(levels, points, marks=tuple(marks), state="ok")


def new_lot() -> Chart:
    """A lot beside its successor, then a target that is changed."""
    old = target("5.30", "0.11", end=BEGIN + timedelta(days=14))
    new = target("5.46", "0.12", BEGIN + timedelta(days=9), BEGIN + timedelta(days=22))
    newer = target("5.43", "0.10", BEGIN + timedelta(days=22))
    levels = [
        ChartLevel("Normal", 1, "MultiQual 45821", (old,)),
        ChartLevel("Normal", 1, "MultiQual 46107", (new, newer)),
    ]
    points = series("Normal", old, "MultiQual 45821", noise(5, 27), BEGIN + timedelta(hours=1), TWICE)
    begin = BEGIN + timedelta(days=9, hours=2)
    points += series("Normal", new, "MultiQual 46107", noise(6, 26), begin, TWICE)
    points += series(
        "Normal", newer, "MultiQual 46107", noise(7, 15, 1.1, 0.4), begin + timedelta(days=13, hours=1), TWICE
    )
    points = [
        ChartPoint(f"{at}", one.at, one.level, one.lot, one.number, one.z, one.verdict, one.rules)
        for at, one in enumerate(points)
    ]
    marks = (
        ChartMark(BEGIN + timedelta(days=9), PointKind.LOT, "lot 46107 beside 45821", "Normal"),
        ChartMark(BEGIN + timedelta(days=14), PointKind.LOT, "lot 45821 ended", "Normal"),
        ChartMark(BEGIN + timedelta(days=22), PointKind.TARGET, "5.46 ± 0.12 → 5.43 ± 0.10, of 26 points", "Normal"),
    )
    return chart(levels, points, marks=marks, state="warn", module="")


def drifting() -> Chart:
    """A shift that several rules see, all over the second half."""
    levels, points = leveled(3, 58, 0.7)
    for at, point in enumerate(points):
        if point.at > BEGIN + timedelta(days=17):
            z = point.z + Decimal("1.6") if point.z is not None else None
            assert z is not None
            rules = tuple(rule for rule, broken in (("1-3s", abs(z) > 3), ("4-1s", z > 1), ("10x", z > 0)) if broken)
            verdict = QcVerdict.REJECT if rules else QcVerdict.ACCEPT
            changed(points, at, z=z, rules=rules, verdict=verdict)
    return chart(levels, points, state="fail")


def six() -> Chart:
    levels, points = leveled(6)
    return chart(levels, points, state="expired")


def crowded() -> Chart:
    """Many marks, many violations, long names, and little room for any."""
    levels, points = leveled(2, 118, 2.6)
    half = timedelta(hours=6)
    points = [
        ChartPoint(f"{at}", BEGIN + (at % 118) * half, one.level, one.lot, one.number, one.z, one.verdict, one.rules)
        for at, one in enumerate(points)
    ]
    kinds = list(PointKind)
    marks = [
        ChartMark(BEGIN + timedelta(hours=9 * at), kinds[at % 5], f"{at} {LONG}", ("", "Low")[at % 2])
        for at in range(70)
    ]
    levels = [ChartLevel(one.level, one.number, one.lot, one.targets) for one in levels]
    return chart(levels, points, marks=tuple(marks), state="unknown", analyzer=LONG, test_name=LONG, unit="10⁹/L µσ")


def long_names() -> Chart:
    """Everything that a person names is long."""
    name = "Kontrol patologis tingkat tinggi untuk pemeriksaan kimia klinik rutin harian laboratorium pusat"
    aim = target("123456.789", "1234.567")
    levels = [ChartLevel(name, 1, "LOT-2026-11-A/B & <C> " * 4, (aim,))]
    points = series(name, aim, levels[0].lot, noise(9, 30), BEGIN, timedelta(days=1))
    return chart(levels, points, analyzer=LONG, module=LONG, test=LONG, test_name=LONG, unit=LONG, state="unknown")


def nothing() -> Chart:
    levels, _ = leveled(2)
    return chart(levels, [], state="unknown")


def no_levels() -> Chart:
    return chart([], [], state="")


def one_point() -> Chart:
    levels, points = leveled(1)
    return chart(levels, points[:1])


def untargeted() -> Chart:
    """A lot that has no target yet."""
    levels = [ChartLevel("Normal", 1, "46107")]
    _, points = leveled(1, 20)
    made = [ChartPoint(one.id, one.at, "Normal", "46107", one.number, None, QcVerdict.UNKNOWN) for one in points]
    return chart(levels, made, state="unknown")


def two_years() -> Chart:
    """5,000 points of two levels, a few of them out."""
    begin, end = BEGIN - timedelta(days=730), BEGIN
    points = []
    levels = []
    for number, (name, mean, sd) in enumerate(LEVELS[:2]):
        aim = target(mean, sd, begin)
        levels.append(ChartLevel(name, number + 1, f"4582{number}", (aim,)))
        points += series(name, aim, f"4582{number}", noise(20 + number, 2500, 0.95), begin, timedelta(hours=7))
    return chart(levels, points, begin=begin, end=end)


def all_out() -> Chart:
    """5,000 points, each of which is out."""
    levels, _ = leveled(1)
    aim = levels[0].targets[0]
    zs = [Decimal(3 + at % 7) * (-1) ** at + Decimal("0.5") for at in range(5000)]
    return chart(levels, series("Low", aim, "45820", zs, BEGIN, timedelta(minutes=8)), state="fail")


def one_day() -> Chart:
    """Ten controls within an hour of one day."""
    levels, _ = leveled(1)
    aim = levels[0].targets[0]
    begin = BEGIN + timedelta(days=4)
    points = series("Low", aim, "45820", noise(31, 10, 2), begin + timedelta(hours=7), timedelta(minutes=6))
    return chart(levels, points, begin=begin, end=begin + timedelta(days=1))


CASES: dict[str, Callable[[], Chart]] = {
    case.__name__: case
    for case in (
        ordinary, new_lot, drifting, six, crowded, long_names, nothing, no_levels, one_point, untargeted, two_years,
        all_out, one_day,
    )
}  # fmt: skip

if __name__ == "__main__":
    PICTURE.write_text(svg(ordinary(), Look(zone=ZoneInfo(ZONE))))

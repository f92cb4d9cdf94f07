"""What the classes of hazards are made with: people, tubes, values of a zone, messages. Seeded, so a plan can be made
again; nothing here asks the code under test."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

from tests.hazards.book import BY_CODE, Analyte, Limits, zone
from tests.hazards.plan import Expected, Fate, Order, Part, Person, Row, Said, Send, Setup, Tube

STAGES = 5
LINKS = ("lis-1", "lis-2", "hl7-1", "hl7-2")  # those with a 2 hold what comes under another name
DAY = datetime(2025, 3, 10, 8, tzinfo=UTC)  # when the specimens of these plans are collected
FAMILIES = ("Abbot", "Brandt", "Castro", "Dubois", "Eriksen", "Fischer", "Gruber", "Hansen", "Ivanov", "Jansen")
GIVEN = ("Anna", "Boris", "Clara", "Dieter", "Elena", "Franz", "Greta", "Hugo", "Irene", "Jonas")
_SEX = {"female": "F", "male": "M", "unknown": ""}


@dataclass(slots=True)
class Story:
    """One happening: what it sets up and sends, stage by stage, and what must come of it."""

    kind: str
    setup: list[tuple[int, Setup]] = field(default_factory=list)
    sends: list[tuple[int, Send]] = field(default_factory=list)
    expected: list[Expected] = field(default_factory=list)
    controls: int = 0
    duplicates: int = 0
    apart: bool = False  # its messages of a stage need not keep their order, or be sent one after the other

    @property
    def results(self) -> int:
        return sum(send.results for _, send in self.sends)


@dataclass(frozen=True, slots=True)
class Reading:
    """A planted value and what the laboratory must report of it. `sent` and `sent_unit`: as the analyzer writes it."""

    test: Analyte
    value: str
    flags: tuple[str, ...]
    sent: str | None = None
    sent_unit: str | None = None
    type: str = "NM"
    mark: str = "N"  # the instrument's own flag
    status: str = "F"
    critical: bool = False
    comment: str = ""
    reference: str = ""
    dilution: str = ""

    def row(self, time: str = "") -> Row:
        value = self.value if self.sent is None else self.sent
        unit = self.test.unit if self.sent_unit is None else self.sent_unit
        return Row(
            self.test.sent, value, unit, self.mark, self.status, self.type, time, self.comment, self.reference,
            self.dilution,
        )  # fmt: skip


class Maker:
    """Hands out what plans are made of; no two people, tubes or messages of a plan are alike."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)  # noqa: S311 - a plan, which a seed makes again
        self._seed, self._number = seed, 0

    def number(self) -> int:
        self._number += 1
        return self._number

    def person(self, sex: str = "", born: date | None = None) -> Person:
        """A grown-up with a known birth date, unless said otherwise."""
        n = self.number()
        born = born or date(1935, 1, 1) + timedelta(days=self.random.randrange(365 * 65))
        family = f"{self.random.choice(FAMILIES)}{_letters(n)}"
        return Person(f"P{n}", family, self.random.choice(GIVEN), born, sex or self.random.choice(("female", "male")))

    def barcode(self) -> str:
        return f"B{self.number():06d}"

    def tube(
        self, person: Person, tests: Iterable[str], days: int = 0, barcode: str = ""
    ) -> Tube:  # fmt: skip
        """`days`: how long before `DAY` it was collected."""
        priority = self.random.choices(("routine", "stat", "asap"), (8, 1, 1))[0]
        collected = DAY - timedelta(days=days)
        return Tube(barcode or self.barcode(), person, tuple(dict.fromkeys(tests)), collected, priority)

    def time(self) -> str:
        """An instrument's time that no other message of the plan has."""
        return (DAY + timedelta(seconds=self.number())).strftime("%Y%m%d%H%M%S")

    def send(self, link: str, *parts: Part, time: str = "", cut: bool = False) -> Send:
        return Send(link, f"C{self.number()}", time or self.time(), parts, cut)

    def link(self, *, strict: bool | None = None, protocol: str = "") -> str:
        """One of the links. `strict`: one that holds, or does not hold, other names."""
        fitting = [
            one for one in LINKS if one.startswith(protocol) and (strict is None or one.endswith("2") is strict)
        ]  # fmt: skip
        return self.random.choice(fitting)

    def reading(self, code: str, person: Person, where: str = "", age_d: int | None = 15_000) -> Reading:
        """A value in a zone, by default any that is not critical; of words, a ratio or a text one of its own."""
        test = BY_CODE[code]
        if test.kind != "numeric":
            return self._words(test)
        limits = test.limits_of(person.sex, age_d)
        if limits is None:
            row = test.limits[0] if test.limits else Limits("5", "60")
            return replace(self._number_in(test, row, "N"), flags=())
        where = where or self.random.choices(("N", "H", "L"), (8, 1, 1))[0]
        if zone(test, limits, where) is None:
            where = "N"
        return self._number_in(test, limits, where)

    def _number_in(self, test: Analyte, limits: Limits, where: str) -> Reading:
        bounds = zone(test, limits, where)
        assert bounds is not None, (test.code, where)
        low, high = bounds
        value = low + test.step * self.random.randrange(int((high - low) / test.step) + 1)
        mark = where if where in ("L", "H") else "N"
        return Reading(test, f"{value:f}", (where,), mark=mark, critical=where in ("LL", "HH"))

    def _words(self, test: Analyte) -> Reading:
        if test.kind == "ratio":
            titre = self.random.choice((40, 80, 160, 320, 1280))
            return Reading(test, f"1:{titre}", (), type="ST")
        if test.kind == "text":
            return Reading(test, self.random.choice(("No growth after 48 h", "Mixed flora", "E. coli")), (), type="ST")
        return Reading(test, test.limits[0].normal[0], ("N",), type="ST")

    def readings(self, codes: Sequence[str], person: Person, where: str = "") -> list[Reading]:
        """Healthy values that agree with each other where the rules ask for it."""
        made = {code: self.reading(code, person, where) for code in codes}
        if "HGB" in made and "HCT" in made:
            made["HCT"] = self.haematocrit(Decimal(made["HGB"].value))
        if "TBIL" in made and "DBIL" in made:
            made["DBIL"] = self.reading("DBIL", person, "N")
        return [self._as_printed(one) for one in made.values()]

    def _as_printed(self, one: Reading) -> Reading:
        """What the analyzer thinks of a value itself changes nothing: its own limits, its flag by them, a comment."""
        if self.random.random() < 0.9 or one.test.kind != "numeric":
            return one
        mark = self.random.choice(("N", "L", "H"))
        return replace(one, mark=mark, reference="1 - 2", comment="measured twice")

    def haematocrit(self, haemoglobin: Decimal) -> Reading:
        """One that agrees with the haemoglobin."""
        value = 3 * haemoglobin + Decimal(self.random.randrange(-20, 21)) / 10
        flag = "L" if value < 36 else "H" if value > 52 else "N"
        return Reading(BY_CODE["HCT"], f"{value:.1f}", (flag,), mark=flag)


def _letters(number: int) -> str:
    """A number as letters, so that no two names are alike and none begins like another."""
    text = ""
    for _ in range(4):
        number, at = divmod(number, 26)
        text = chr(97 + at) + text
    return text


def said(person: Person) -> Said:
    """The patient as the order has him."""
    birth = person.birth.strftime("%Y%m%d") if person.birth else ""
    return Said(person.id, f"{person.family}^{person.given}", birth, _SEX[person.sex])


def another(link: str) -> tuple[str, ...]:
    """Why what comes under a wholly other patient is held on a link."""
    return ("patient_mismatch", "patient_name") if link.endswith("2") else ("patient_mismatch",)


def expect(
    story: Story, send: Send, part: Part, reading: Reading, person: Person | None, fate: Fate = Fate.RELEASED,
    *reasons: str, planted: str, hazard: bool = True, time: str = "",
) -> Expected:  # fmt: skip
    """What must become of one row of a message; it is added to the story, and may be replaced there."""
    released = fate is Fate.RELEASED
    one = Expected(
        (part.barcode, reading.test.sent, time or send.time), story.kind, planted, fate, hazard,
        value=reading.value, unit=reading.test.unit, flags=reading.flags if released else None,
        patients=(person.id,) if person else (), test=reading.test.code, reasons=frozenset(reasons),
        critical=reading.critical,
    )  # fmt: skip
    story.expected.append(one)
    return one


def reading_of(code: str, value: str, flag: str = "N", **facts: Any) -> Reading:
    """A reading of this very value."""
    test = BY_CODE[code]
    mark = flag if flag in ("L", "H") else "N"
    return replace(Reading(test, value, (flag,) if flag else (), mark=mark), **facts)


@dataclass(slots=True)
class Beginning:
    """A story with one person and tube, and an ordinary message about it, that a class changes to its purpose."""

    story: Story
    person: Person
    tube: Tube
    link: str
    stage: int
    readings: list[Reading]


def begin(make: Maker, kind: str, codes: Sequence[str], *, stage: int | None = None, link: str = "",
          person: Person | None = None, where: str = "") -> Beginning:  # fmt: skip
    """An order for these tests, and healthy readings for them."""
    story, person = Story(kind), person or make.person()
    tube = make.tube(person, codes)
    stage = make.random.randrange(STAGES - 1) if stage is None else stage
    story.setup.append((stage, Order(tube)))
    return Beginning(story, person, tube, link or make.link(), stage, make.readings(codes, person, where))


def healthy(story: Story, make: Maker, link: str, stage: int, tube: Tube, readings: Sequence[Reading],
            planted: str = "a healthy twin") -> Send:  # fmt: skip
    """A message of which all must be released."""
    part = Part(said(tube.person), tube.barcode, tuple(one.row() for one in readings))
    send = make.send(link, part)
    story.sends.append((stage, send))
    for one in readings:
        expect(story, send, part, one, tube.person, planted=planted, hazard=False)
    return send


def tell(make: Maker, b: Beginning, planted: str, *reasons: str, who: Said | None = None, barcode: str | None = None,
         fate: Fate | None = None, later: int = 0, hazard: bool = True, nobody: bool = False) -> Send:  # fmt: skip
    """Send a beginning's readings, all with one fate: held where there are reasons."""
    part = Part(
        said(b.person) if who is None else who, b.tube.barcode if barcode is None else barcode,
        tuple(one.row() for one in b.readings),
    )  # fmt: skip
    send = make.send(b.link, part)
    b.story.sends.append((b.stage + later, send))
    person = None if nobody else b.person
    fate = fate or (Fate.HELD if reasons else Fate.RELEASED)
    for one in b.readings:
        expect(b.story, send, part, one, person, fate, *reasons, planted=planted, hazard=hazard)
    return send


def twin(make: Maker, b: Beginning, planted: str = "a healthy twin") -> None:
    """The same tests of another person by the same link, of which all must be released."""
    person = make.person()
    tube = make.tube(person, [one.test.code for one in b.readings])
    b.story.setup.append((b.stage, Order(tube)))
    healthy(b.story, make, b.link, b.stage, tube, make.readings(tube.tests, person), planted)

"""From the rows of a map's file to what is wanted of the maps: every fault with its file, line and field. Pure.

Two kinds of files. The laboratory's own (CSV, TOML) name its tests: whatever is not right in them is a fault. A
vendor's (LIVD, ConceptMap) names LOINC codes of all that an analyzer can measure: a code for which the laboratory has
no test, or more than one, is *left out* and said so, because choosing would be guessing; a LOINC code that cannot be
one is a fault.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from interface.domain.loinc import is_loinc
from interface.domain.mapping import MapKey, Target, Wanted
from interface.domain.model import LabTest
from interface.domain.units import UnitAliases, canonical, commensurable, parse
from interface.errors import LaboraError, UnknownUnit

LONGEST = 200  # characters of a code or a name: what is longer is no code, and bounds what a diff shows
HELD = "-"  # a file's word for a code that is to be held
_PARTS = re.compile(r"\s*(?:[/,;|\n]|\bor\b|\band\b)\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a row. `line` 0: the file as a whole; `field` in the file's own words."""

    file: str
    line: int
    field: str
    text: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.field}: {self.text}" if self.field else f"{place}: {self.text}"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row of a vendor's file that is no fault and cannot be taken without guessing."""

    file: str
    line: int
    code: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.code}: {self.text}" if self.line else f"{self.file}: {self.text}"


class FileFaults(LaboraError):
    """A file that cannot be taken, with every fault found."""

    slug = "map_file"

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(map(str, self.faults)))


@dataclass(frozen=True, slots=True)
class FileRow:
    """One row in the file's words. `names`: what the file calls its fields, for faults about them."""

    file: str
    line: int
    code: str
    test: str = ""
    loinc: str = ""
    driver: str = ""
    link: str = ""
    specimen: str = ""  # a type's code in the laboratory's own file, words in a vendor's
    unit: str = ""
    method: str = ""
    result: str = ""  # LIVD's Vendor Result Description: often the unit that tells two LOINC codes apart
    name: str = ""
    model: str = ""
    start: datetime | None = None
    end: datetime | None = None
    note: str = ""
    vendor: bool = False
    refused: str = ""  # why a vendor's row can only be left out
    names: Mapping[str, str] = field(default_factory=dict)

    def fault(self, name: str, text: str) -> Fault:
        return Fault(self.file, self.line, self.names.get(name, name), text)

    def left_out(self, text: str) -> LeftOut:
        return LeftOut(self.file, self.line, self.code, text)


@dataclass(frozen=True, slots=True)
class FileRows:
    """A file that could be read: its rows, and what is wrong with single ones.

    `scopes`: the drivers and links ("" for none) that the file is about as a whole, be it with no row.
    """

    rows: tuple[FileRow, ...]
    faults: tuple[Fault, ...] = ()
    scopes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Laboratory:
    """What rows are checked against."""

    tests: Mapping[str, LabTest]  # active ones, by the laboratory's code
    specimen_types: frozenset[str]
    specimen_words: Mapping[str, str]  # case-folded word → type
    aliases: UnitAliases
    drivers: frozenset[str]
    links: Mapping[str, str]  # link → its driver

    def of_loinc(self, loinc: str) -> list[LabTest]:
        return [test for test in self.tests.values() if test.loinc == loinc]


@dataclass(frozen=True, slots=True)
class Choices:
    """What a person says about a file beside it."""

    driver: str = ""  # of rows that name neither driver nor link
    link: str = ""
    model: str = ""
    specimens: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # the file's words → types, () is any
    any_specimen: bool = False
    units: tuple[str, ...] = ()  # which of several LOINC codes of one code: the one with such a result


@dataclass(frozen=True, slots=True)
class Resolved:
    wanted: tuple[Wanted, ...]
    left_out: tuple[LeftOut, ...] = ()


def resolve(rows: Iterable[FileRow], laboratory: Laboratory, choices: Choices) -> Resolved:
    """What the rows want. Raises FileFaults with everything that is wrong with them."""
    reader = _Reader(laboratory, choices)
    chosen = reader.of_model(list(rows))
    for row in chosen:
        reader.take(row)
    if reader.faults:
        raise FileFaults(reader.faults)
    wanted = [*reader.own(), *reader.vendors()]
    if reader.faults:
        raise FileFaults(reader.faults)
    return Resolved(tuple(wanted), tuple(reader.left_out))


def understood(read: FileRows, known: Laboratory, choices: Choices) -> Resolved:
    """What a file's rows want. Raises FileFaults with all that is wrong: in reading, and in what was read."""
    try:
        resolved = resolve(read.rows, known, choices)
    except FileFaults as error:
        faults = [*read.faults, *error.faults]
        raise FileFaults(sorted(faults, key=lambda one: (one.file, one.line))) from error
    if read.faults:
        raise FileFaults(read.faults)
    return resolved


class _Reader:
    def __init__(self, laboratory: Laboratory, choices: Choices) -> None:
        self._laboratory, self._choices = laboratory, choices
        self._by_loinc: defaultdict[str, list[LabTest]] = defaultdict(list)
        for test in laboratory.tests.values():
            self._by_loinc[test.loinc].append(test)
        self.faults: list[Fault] = []
        self.left_out: list[LeftOut] = []
        self._own: list[tuple[FileRow, Wanted]] = []
        self._vendors: defaultdict[MapKey, list[tuple[FileRow, LabTest]]] = defaultdict(list)

    def of_model(self, rows: list[FileRow]) -> list[FileRow]:
        """The rows of the model asked for. A file of several models is a fault without one."""
        models = sorted({row.model for row in rows if row.model})
        wanted = self._choices.model.casefold()
        if wanted:
            chosen = [row for row in rows if row.model.casefold() == wanted]
            if not chosen:
                known = ", ".join(models) or "none"
                raise FileFaults(
                    [rows[0].fault("model", f"no row is of this model; the file has {known}")] if rows else []
                )
            return chosen
        if len(models) > 1:
            text = f"the file is of several models, say which with --model: {', '.join(models)}"
            raise FileFaults([Fault(rows[0].file, 0, "", text)])
        return rows

    def take(self, row: FileRow) -> None:
        before = len(self.faults)
        where = self._where(row)
        self._check_text(row)
        if row.loinc and not is_loinc(row.loinc):
            self.faults.append(row.fault("loinc", f"{row.loinc!r} is no LOINC code: form or check digit"))
        if row.start is not None and row.end is not None and row.end <= row.start:
            self.faults.append(row.fault("valid_to", "is not after valid_from"))
        if len(self.faults) > before or where is None:
            return
        if row.vendor:
            self._vendor_row(row, *where)
        else:
            self._own_row(row, *where)

    def _where(self, row: FileRow) -> tuple[str, str] | None:
        """Driver and link of a row."""
        driver, link = row.driver, row.link
        if not driver and not link:
            driver, link = self._choices.driver, self._choices.link
        if link:
            if link not in self._laboratory.links:
                self.faults.append(row.fault("link", f"there is no link {link!r}"))
                return None
            known = self._laboratory.links[link]
            if driver and driver != known:
                self.faults.append(row.fault("driver", f"link {link} has the driver {known}"))
                return None
            return known, link
        if driver not in self._laboratory.drivers:
            text = f"there is no driver {driver!r}" if driver else "say which driver or link, here or with an option"
            self.faults.append(row.fault("driver", text))
            return None
        return driver, ""

    def _check_text(self, row: FileRow) -> None:
        if not row.code and not row.vendor:
            self.faults.append(row.fault("code", "is empty"))
        for name in ("code", "test", "specimen", "unit", "method", "note"):
            text: str = getattr(row, name)
            if len(text) > LONGEST:
                self.faults.append(row.fault(name, f"is longer than {LONGEST} characters"))
            elif not (text.replace("\n", " ") if row.vendor and name == "specimen" else text).isprintable():
                self.faults.append(row.fault(name, "has a character that cannot be printed"))

    def _own_row(self, row: FileRow, driver: str, link: str) -> None:
        test = self._own_test(row)
        if test is None and row.test != HELD:
            return
        if problem := unit_problem(row.unit, test):
            self.faults.append(row.fault("unit", problem))
            return
        target = Target(test.code if test else "", row.unit, row.note, " ".join(row.method.split()))
        key = MapKey(driver, link, row.code, row.specimen)
        self._own.append((row, Wanted(key, target, row.start, row.end)))

    def _own_test(self, row: FileRow) -> LabTest | None:
        if row.test == HELD:
            return None
        if row.test:
            test = self._laboratory.tests.get(row.test)
            if test is None:
                self.faults.append(row.fault("test", f"there is no test {row.test!r}"))
            elif row.loinc and row.loinc != test.loinc:
                self.faults.append(row.fault("loinc", f"{row.test} is {test.loinc or 'without LOINC code'}"))
                return None
            return test
        if not row.loinc:
            self.faults.append(row.fault("test", f"is empty; {HELD} says that the code is to be held"))
            return None
        found = self._by_loinc.get(row.loinc, [])
        if len(found) != 1:
            names = " ".join(test.code for test in found) or "no test"
            self.faults.append(row.fault("loinc", f"{row.loinc} is of {names}; name the test"))
            return None
        return found[0]

    def _vendor_row(self, row: FileRow, driver: str, link: str) -> None:
        if row.refused:
            self.left_out.append(row.left_out(row.refused))
            return
        if not row.code or not row.loinc:
            missing = "LOINC code" if row.code else "code of the analyzer's"
            self.left_out.append(row.left_out(f"the row has no {missing}"))
            return
        found = self._by_loinc.get(row.loinc, [])
        if len(found) != 1:
            several = f"several tests have {row.loinc}: {' '.join(test.code for test in found)}"
            self.left_out.append(row.left_out(several if found else f"no test has {row.loinc}"))
            return
        types = self._types(row)
        if types is None:
            text = f"the specimen {row.specimen!r} is not known; say --specimen {row.specimen!r}=TYPE"
            self.left_out.append(row.left_out(text))
            return
        # A LOINC code says itself whether it is a mass or an amount: a row of another kind is not to be relied on.
        if (unit := self._result_unit(row)) and found[0].unit and not commensurable(unit, found[0].unit):
            self.left_out.append(row.left_out(f"{unit} cannot be converted to the {found[0].unit} of {found[0].code}"))
            return
        for specimen_type in types:
            self._vendors[MapKey(driver, link, row.code, specimen_type)].append((row, found[0]))

    def _types(self, row: FileRow) -> tuple[str, ...] | None:
        """The specimen types that the file's words mean; None when one of them is not known."""
        if self._choices.any_specimen or not row.specimen:
            return ("",)
        said = self._choices.specimens.get(row.specimen.casefold())
        if said is not None:
            return said or ("",)
        found: list[str] = []
        for part in _PARTS.split(row.specimen.strip()):
            if part in self._laboratory.specimen_types:
                found.append(part)
                continue
            code = self._laboratory.specimen_words.get(part.casefold())
            if code is None:
                return None
            found.append(code)
        return tuple(dict.fromkeys(found))

    def _result_unit(self, row: FileRow) -> str:
        """The unit that the result description is; "" when it is words."""
        try:
            unit = canonical(row.result, self._laboratory.aliases)
            parse(unit)
        except UnknownUnit:
            return ""
        return unit

    def own(self) -> list[Wanted]:
        """What the laboratory's own rows want; two that are for the same time are faults."""
        taken: defaultdict[MapKey, list[tuple[FileRow, Wanted]]] = defaultdict(list)
        for row, wanted in self._own:
            for other, there in taken[wanted.key]:
                if _overlap(wanted, there):
                    self.faults.append(
                        row.fault("code", f"is there twice for the same time: also in line {other.line}")
                    )
                    break
            taken[wanted.key].append((row, wanted))
        return [wanted for _, wanted in self._own]

    def vendors(self) -> list[Wanted]:
        """What a vendor's rows want, where all that is said of a key is one test."""
        preferred = set()
        for unit in self._choices.units:
            preferred.add(canonical(unit, self._laboratory.aliases))
        wanted = []
        for key, found in self._vendors.items():
            if len({test.code for _, test in found}) > 1:
                found = [(row, test) for row, test in found if self._result_unit(row) in preferred] or found
            tests = {test.code: test for _, test in found}
            row = found[0][0]
            if len(tests) > 1:
                ways = ", ".join(f"{t.code} (line {r.line}, {r.result or 'no result described'})" for r, t in found)
                on = f" on {key.specimen_type}" if key.specimen_type else ""
                self.left_out.append(
                    row.left_out(f"{len(tests)} tests are possible{on}: {ways}; --unit or map set chooses")
                )
                continue
            wanted.append(Wanted(key, Target(next(iter(tests)), "", row.name[:LONGEST]), row.start, row.end))
        return wanted


def _overlap(first: Wanted, second: Wanted) -> bool:
    """A start that is not given is now, which no file knows: it overlaps whatever has no end before it begins."""
    return (first.end is None or second.start is None or second.start < first.end) and (
        second.end is None or first.start is None or first.start < second.end
    )


def unit_problem(unit: str, test: LabTest | None) -> str:
    """Why `unit` cannot stand in a map's row for the test; "" when it can."""
    if not unit:
        return ""
    if test is None or not test.unit:
        return "a unit for a code that is held" if test is None else f"{test.code} has no unit"
    try:
        if commensurable(unit, test.unit, test.substance):
            return ""
    except UnknownUnit as error:
        return error.text
    return f"{unit} cannot be converted to the {test.unit} of {test.code}"

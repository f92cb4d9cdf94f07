"""Replaces what tells a person in the lines and records of one analyzer, each text by one of its own length. Pure.

Values, units, codes, flags and controls are kept. What was replaced anywhere is replaced wherever else it stands, but
in a result's own fields: those are compared afterwards (`deidentify`), and a name in a value is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from interface.domain.check_digits import check_character
from interface.domain.model import Protocol
from interface.driver.identity import Telling, telling
from interface.driver.layout import Meaning
from interface.driver.leaves import Marks, line_id
from interface.driver.manifest import Driver
from interface.driver.pseudonyms import Pseudonyms
from interface.driver.rules import Classification, Condition, FieldPath, HoldRule, RoleRule
from interface.wire import hl7

_ESCAPES = re.compile(r"([&\\])[A-Z.][A-Za-z0-9.+-]*\1")
_CODE_CHARACTERS = 4  # components of an id that are no longer are its kind or its authority's short name
_HEADER_CODES = (9, 11, 12, 15, 16, 17, 18, 19, 20, 21)  # MSH: what kind of message it is, in fixed words
# Said of anybody: kinds of ids and authorities (HL7 tables 0203, 0301), countries, what is not known.
_HARMLESS = frozenset(
    "ISO DNS GUID UUID NPI MR PI SS AN VN PN USA UNK Unknown Patient Control Blood Serum Plasma Urine LIS HOST host "
    "TEST Test Labora".split()
)
_LONG_ID = 6  # characters of an id that is looked for within values
_LEAST_TELLING = 3  # shorter text is found everywhere
Do = Callable[[str, str], str]  # text and its encoding, to text of the same length


@dataclass(slots=True)
class Scrubber:
    """Replaces in texts of one analyzer. `told`: what was replaced by what, for checking afterwards."""

    driver: Driver
    pseudonyms: Pseudonyms
    controls: frozenset[str] = frozenset()  # ids that are no patient's
    keep: frozenset[str] = frozenset()  # words that somebody has said tell nobody
    told: dict[str, str] = field(default_factory=dict)
    _protected: frozenset[str] = field(init=False)
    _dictionary: tuple[int, re.Pattern[str]] | None = field(default=None, init=False)
    _of_results: dict[str, set[int]] = field(init=False)
    _paths: dict[FieldPath, Do] = field(init=False)

    def __post_init__(self) -> None:
        driver, paths = self.driver, self.driver.paths
        words = {word for one in _conditions(driver) for word in one.equals}
        words |= {*driver.codes, *driver.query.all_words, *driver.flags, *driver.flag_holds, *driver.statuses}
        if driver.alarm is not None:
            alarms = driver.alarm.known | set(driver.alarm.holds)
            words |= alarms | {part for alarm in alarms for part in alarm.split("^")}  # whole, or a component each
        maker = {driver.vendor, driver.model, driver.title}
        words |= {word for one in maker for word in (one, one.upper(), one.lower())}
        self._protected = frozenset(words | self.keep | _HARMLESS)
        kept = (paths.code, paths.name, paths.value, paths.unit, paths.flags, paths.status, paths.reference,
                paths.order_code, paths.specimen_type, *driver.code_parts,
                *((driver.control.value, driver.control.unit) if driver.control is not None else ()))  # fmt: skip
        self._of_results = {}
        for path in (one for group in kept for one in group):
            self._of_results.setdefault(path.record, set()).add(path.field)
        for rule in driver.match:
            self._of_results.setdefault(rule.path.record, set()).add(rule.path.field)
        specimen = (*paths.specimen_id, *driver.query.specimen_id)
        patient = (*paths.patient_id, *driver.query.patient_id)
        self._paths = {
            **{path: self._name for path in (*paths.patient_name, *paths.operator)},
            **{path: self._identifier for path in patient},
            **{path: self.specimen for path in specimen},
        }

    # ---- single texts ------------------------------------------------------------------------------------------------

    def specimen(self, leaf: str, encoding: str) -> str:
        """A specimen id within a leaf, with the check digit that its rule wants; a control's stays."""
        rule = self.driver.specimen_ids
        known = rule.read(leaf)
        bare = leaf.strip()
        if known in self.controls or bare in self.controls or bare in self._protected:
            return leaf
        if not known or known not in leaf:
            return self._identifier(leaf, encoding)
        body = known[:-1] if rule.check_digit is not None and not rule.drop_check_digit else known
        made = self.pseudonyms.identifier(body, encoding)
        at, sent, other = leaf.index(known), known, made
        if rule.check_digit is not None:
            sent = leaf[at : at + len(body) + 1]
            other = made + check_character(rule.check_digit, made)
        self._note(body, made)
        return leaf[:at] + other + leaf[at + len(sent) :]

    def _identifier(self, leaf: str, encoding: str) -> str:
        bare = leaf.strip()
        if bare in self.controls or bare in self._protected:
            return leaf
        made = self.pseudonyms.identifier(bare, encoding)
        self._note(bare, made)
        return leaf.replace(bare, made, 1) if bare else leaf

    def _name(self, leaf: str, encoding: str) -> str:
        made = self.pseudonyms.name(leaf, encoding)
        for one, other in zip(re.findall(r"\w+", leaf), re.findall(r"\w+", made), strict=False):
            self._note(one, other)
        return made

    def _words(self, leaf: str, encoding: str) -> str:
        if leaf.strip() in self._protected:
            return leaf
        made = self.pseudonyms.words(leaf, encoding)
        if made != self.pseudonyms.dates(leaf):
            for one, other in zip(re.findall(r"\w+", leaf), re.findall(r"\w+", made), strict=False):
                self._note(one, other)
        return made

    def _free(self, leaf: str, encoding: str) -> str:
        if leaf.strip() in self._protected:
            return leaf
        made = self.pseudonyms.free(leaf, encoding)
        if len(leaf.strip()) >= _LEAST_TELLING:
            self._note(leaf.strip(), made.strip())
        return made

    def _note(self, was: str, becomes: str) -> None:
        if len(was) >= _LEAST_TELLING and was != becomes and was not in self._protected:
            self.told[was] = becomes

    # ---- lines -------------------------------------------------------------------------------------------------------

    def line(self, line: str, protocol: Protocol, marks: Marks, encoding: str) -> str:
        """One record or segment."""
        kind = line_id(line, protocol)
        fields = line.split(marks.field)
        header = kind in ("MSH", "FHS", "BHS")
        for at, text in enumerate(fields):
            number = at + 1 if protocol is Protocol.LIS2 or header else at
            if at == 0 or (number == 2 and kind in ("H", "MSH", "FHS", "BHS")) or not text.strip():
                continue
            if kind == "MSH" and number in _HEADER_CODES:
                continue
            fields[at] = marks.repeat.join(
                self._repeat(kind, number, one, protocol, marks, encoding) for one in text.split(marks.repeat)
            )
        return marks.field.join(fields)

    def _repeat(self, kind: str, number: int, text: str, protocol: Protocol, marks: Marks, encoding: str) -> str:
        if self._alarms(kind, number, None, text):
            return text
        what = telling(protocol, kind, number)
        of_result = number in self._of_results.get(kind, ())
        parts = text.split(marks.component)
        for at, part in enumerate(parts, start=1):
            own = next((do for path, do in self._paths.items() if _points(path, kind, number, at)), None)
            if own is not None and part.strip():
                parts[at - 1] = self._leaf(own, part, marks, encoding)
            elif what is Telling.VALUE:
                parts[at - 1] = self._within(part)
            elif of_result or self._ruled(kind, number, at, part):
                continue
            else:
                parts[at - 1] = self._told(what, at, part, marks, encoding)
        return marks.component.join(parts)

    def _told(self, what: Telling, at: int, part: str, marks: Marks, encoding: str) -> str:
        """A component by what its field tells."""
        if what is Telling.ID:
            short = at > 1 and len(part.strip()) <= _CODE_CHARACTERS
            do = self._moved if short else self._identifier if at == 1 else self._words
        else:
            do = {Telling.NAME: self._name, Telling.WORDS: self._words, Telling.FREE: self._free}.get(what, self._moved)
        return self._leaf(do, part, marks, encoding) if part.strip() else part

    def _alarms(self, kind: str, number: int, component: int | None, part: str) -> bool:
        """Whether it is a data alarm that the driver knows."""
        alarm, said = self.driver.alarm, part.strip()
        if alarm is None or (alarm.path.record, alarm.path.field, alarm.path.component) != (kind, number, component):
            return False
        return alarm.is_known(said) or alarm.is_remark(said) or said in alarm.holds

    def _within(self, value: str) -> str:
        """A value in which an id stands, such as the place of a picture."""
        if value.strip(" 0123456789.,<>=+-"):
            for was, becomes in self.told.items():
                if len(was) >= _LONG_ID and any(map(str.isdigit, was)) and was in value:
                    value = value.replace(was, becomes)
        return value

    def _ruled(self, kind: str, number: int, component: int, part: str) -> bool:
        """Whether a rule of the driver's knows what it says: that decides on the results, and tells nobody."""
        if self._alarms(kind, number, component, part):
            return True
        return any(
            one.pattern is not None and _points(one.path, kind, number, component) and one.pattern.search(part.strip())
            for one in _conditions(self.driver)
        )

    def _moved(self, leaf: str, encoding: str) -> str:
        """A text that tells nobody by itself, unless it repeats what does."""
        if self._dictionary is None or self._dictionary[0] != len(self.told):
            words = sorted(self.told, key=len, reverse=True)
            pattern = "|".join(rf"(?<!\w){re.escape(one)}(?!\w)" for one in words)
            self._dictionary = len(self.told), re.compile(pattern or r"(?!)")
        return self.pseudonyms.dates(self._dictionary[1].sub(lambda match: self.told[match[0]], leaf))

    # ---- places of a declared layout ---------------------------------------------------------------------------------

    def meaning(self, meaning: Meaning | None) -> Do | None:
        """What is done to a place that says this; None: it is kept."""
        named: dict[Meaning | None, Do] = {
            None: self._words,
            Meaning.SPECIMEN_ID: self.specimen,
            Meaning.PATIENT_ID: self._identifier,
            Meaning.PATIENT_NAME: self._name,
            Meaning.OPERATOR: self._name,
            Meaning.COMMENTS: self._free,
            Meaning.INSTRUMENT_TIME: self._moved,
            Meaning.COLLECTED: self._moved,
            Meaning.BIRTH_DATE: self._moved,
            Meaning.CONTROL_ID: self._moved,
        }
        return named.get(meaning)

    def between(self, text: str, encoding: str) -> str:
        """What stands where the layout says nothing."""
        return self._moved(text, encoding)

    def _leaf(self, do: Do, part: str, marks: Marks, encoding: str) -> str:
        """What stands between the escapes and subcomponents of a component, each for itself."""
        sub = marks.subcomponent if isinstance(marks, hl7.Delimiters) else ""
        mark = marks.escape
        made = []
        for piece in part.split(sub) if sub else [part]:
            if mark in piece and _ESCAPES.search(piece):
                piece = self._between_escapes(do, piece, mark, encoding)
            else:
                piece = do(piece, encoding)
            made.append(piece)
        return sub.join(made)

    def _between_escapes(self, do: Do, piece: str, mark: str, encoding: str) -> str:
        pattern = re.compile(rf"({re.escape(mark)}[A-Z.][A-Za-z0-9.+-]*{re.escape(mark)})")
        parts = pattern.split(piece)
        for at, one in enumerate(parts):
            if at % 2 and one[1:2] in ("X", "Z"):  # characters by their numbers
                parts[at] = one[:2] + ("2E" * len(one))[: len(one) - 3] + one[-1]
            elif not at % 2 and one:
                parts[at] = do(one, encoding)
        return "".join(parts)


def _conditions(driver: Driver) -> tuple[Condition, ...]:
    rules: tuple[RoleRule | Classification | HoldRule, ...] = (*driver.roles, *driver.classifications, *driver.holds)
    return tuple(one for rule in rules for one in rule.when)


def _points(path: FieldPath, kind: str, number: int, component: int) -> bool:
    return (path.record, path.field) == (kind, number) and path.component in (None, component)

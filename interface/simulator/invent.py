"""Invents what a simulated analyzer measured: ids, values, what goes wrong. The same seed invents the same.

Values are those of the driver's vectors, moved by a few in a hundred and rounded to the digits that the analyzer
prints; now and then one is high and says so with the analyzer's own flag.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256

from interface.domain.check_digits import check_character
from interface.domain.model import SpecimenRole
from interface.domain.values import parse_number
from interface.driver.compose_rows import said_with
from interface.driver.manifest import Driver
from interface.driver.planned import Measured, Run, flagged, revalued
from interface.driver.repertoire import Repertoire, RowShape, Saying
from interface.errors import DriverError

_DIGITS = re.compile(r"[0-9]+")
_RANGE = re.compile(r"\s*([0-9.,]+)\s*(?:-|to)\s*([0-9.,]+)\s*")
_ONE_HIGH_IN = 12
_PLAIN = frozenset({"", "N", "L", "H"})  # flags that follow from the number alone


@dataclass(frozen=True, slots=True)
class Dice:
    """Numbers that follow from a seed and from what they are for, in no order."""

    seed: int

    def roll(self, sides: int, *what: object) -> int:
        """0 to `sides` - 1."""
        words = "\x1f".join(map(str, (self.seed, *what)))
        return int.from_bytes(sha256(words.encode()).digest()[:8], "big") % sides


def specimen_ids(known: Repertoire, count: int, dice: Dice) -> tuple[str, ...]:
    """New ids in the form of the vectors' own: their last digits are others."""
    shape = known.shapes.get(SpecimenRole.PATIENT)
    like = (shape.specimen.specimen_id if shape else "") or "S-100000"
    rule = known.driver.specimen_ids
    checked = rule.check_digit is not None and not rule.drop_check_digit  # it is the id's own last character
    like = like[:-1] if checked else like
    runs = list(_DIGITS.finditer(like))
    head, digits, tail = (
        (like[: runs[-1].start()], runs[-1][0], like[runs[-1].end() :]) if runs else (like, "000000", "")
    )
    room = 10 ** len(digits)
    if count > room:
        raise DriverError(f"ids like {like!r} have no room for {count} specimens; name them")
    first = dice.roll(room, "specimen ids")
    made = tuple(f"{head}{(first + n) % room:0{len(digits)}d}{tail}" for n in range(count))
    return tuple(one + check_character(rule.check_digit, one) for one in made) if rule.check_digit and checked else made


def control_id(known: Repertoire) -> str:
    """The control material of the driver's vectors. Raises DriverError where they show none."""
    shape = known.shapes.get(SpecimenRole.QC)
    if shape is None or not shape.specimen.specimen_id:
        raise DriverError(f"driver {known.driver.id} has no vector with a control")
    return shape.specimen.specimen_id


def measure(
    known: Repertoire, specimen_id: str, dice: Dice, *, role: SpecimenRole = SpecimenRole.PATIENT,
    codes: Iterable[str] = (), run: int = 0,
) -> Run:  # fmt: skip
    """What was measured of a specimen, all that its kind is usually reported with unless `codes` are named.

    `run`: which measurement of it this is, from 0. Raises DriverError for a code that no vector shows.
    """
    asked = tuple(dict.fromkeys(codes)) or known.panel(role)
    shape = known.shapes.get(role)
    if isinstance(shape, RowShape):  # what stands in one record is said together
        asked += tuple(code for code in known.panel(role) if code not in asked and said_with(shape, code, asked))
    results = []
    for code in asked:
        said = known.said(role, code)
        if not said:
            raise DriverError(f"no vector of driver {known.driver.id} shows a result {code!r} that could be said")
        like = said[dice.roll(len(said), specimen_id, run, code, "like")]
        if isinstance(shape, RowShape) or role is SpecimenRole.QC:
            like = said[0]
        results.append(
            _value(known.driver, like, dice, (specimen_id, run, code), quiet=role is not SpecimenRole.PATIENT)
        )
    return Run(specimen_id, role, tuple(results))


def _value(driver: Driver, like: Saying, dice: Dice, what: tuple[object, ...], quiet: bool) -> Measured:
    seen = like.seen
    if seen.value.number is None:
        return revalued(seen, Decimal(0))  # words stay
    high = not quiet and dice.roll(_ONE_HIGH_IN, *what, "high") == 0
    parts = 1300 + dice.roll(400, *what) if high else 960 + dice.roll(81, *what)
    made = revalued(seen, abs(seen.value.number) * parts / 1000)
    meanings = {driver.flag(flag) for flag in seen.flags}
    if made.value == seen.value or not meanings <= _PLAIN or (not seen.flags and quiet):
        return made
    says = _meaning(made, seen.reference, high, meanings)
    flag = next((flag for flag, meaning in driver.flags.items() if meaning == says and flag), "")
    if says in meanings or (not seen.flags and says == "N"):
        return made
    return flagged(made, flag) if flag else revalued(seen, abs(seen.value.number))


def _meaning(made: Measured, reference: str, high: bool, meanings: set[str | None]) -> str:
    """What flag the value deserves: by the reference text that the analyzer sends, else by whether it was made high."""
    match, number = _RANGE.fullmatch(reference), made.value.number
    low_end, high_end = (parse_number(part.rstrip(".,")) for part in match.groups()) if match else (None, None)
    if low_end is None or high_end is None or number is None:
        return "H" if high else next((one for one in sorted(map(str, meanings)) if one), "N")
    return "L" if number < low_end else "H" if number > high_end else "N"


def drawn(choices: Sequence[str], count: int, dice: Dice) -> tuple[str, ...]:
    """For each of `count` transmissions one of the choices."""
    return tuple(choices[dice.roll(len(choices), "fault", number)] for number in range(count)) if choices else ()

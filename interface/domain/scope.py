"""Of which results a check speaks: what its entry in a rule set may name beside the test. Pure.

Unknown is not outside: a check that asks for a fact which is absent says so, and the result is held.
"""

from __future__ import annotations

from dataclasses import dataclass

from interface.domain.facts import Facts
from interface.domain.model import Sex
from interface.domain.table import Table


@dataclass(frozen=True, slots=True)
class Scope:
    """Everything left out is any. Ages are days at collection, [low, high)."""

    analyzers: frozenset[str] = frozenset()
    methods: frozenset[str] = frozenset()
    specimen_types: frozenset[str] = frozenset()
    wards: frozenset[str] = frozenset()
    except_wards: frozenset[str] = frozenset()
    except_groups: frozenset[str] = frozenset()  # of patients, such as dialysis
    sex: Sex | None = None
    age_low_d: int = 0
    age_high_d: int | None = None

    def applies(self, facts: Facts) -> bool | None:
        """None when a fact it asks for is unknown and none of the others says no."""
        subject = facts.subject
        said = [
            _among(self.analyzers, facts.analyzer),
            _among(self.methods, facts.method),
            _among(self.specimen_types, subject.specimen_type),
            _among(self.wards, subject.ward),
            subject.ward not in self.except_wards,
            subject.patient_group not in self.except_groups,
            self._of_sex(subject.sex),
            self._of_age(subject.age_d),
        ]
        return False if False in said else None if None in said else True

    def _of_sex(self, sex: Sex) -> bool | None:
        if self.sex is None or sex is self.sex:
            return True
        return None if sex in (Sex.UNKNOWN, Sex.OTHER) else False

    def _of_age(self, age_d: int | None) -> bool | None:
        if self.age_low_d == 0 and self.age_high_d is None:
            return True
        if age_d is None:
            return None
        return self.age_low_d <= age_d and (self.age_high_d is None or age_d < self.age_high_d)


def _among(wanted: frozenset[str], found: str) -> bool | None:
    if not wanted:
        return True
    return found in wanted if found else None


EVERYTHING = Scope()


def parse(entry: Table) -> Scope:
    """The keys of an entry that say of which results it speaks; `EVERYTHING` when there are none."""
    sets = {
        field: frozenset(entry.texts(field))
        for field in ("analyzers", "methods", "specimen_types", "wards", "except_wards", "except_groups")
    }
    low, high = entry.whole("age_low_d"), entry.whole("age_high_d") if "age_high_d" in entry.raw else None
    if high is not None and high <= low:
        entry.say(entry.at("age_high_d"), "is not above age_low_d")
    sex = entry.word("sex", (Sex.FEMALE, Sex.MALE))
    scope = Scope(**sets, sex=Sex(sex) if sex else None, age_low_d=low, age_high_d=high)
    return EVERYTHING if scope == EVERYTHING else scope

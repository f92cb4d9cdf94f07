"""How far a revision in the shadow and people agree: counts, percentages, Cohen's kappa. Pure.

Of each result the revision says release or not, and a person released it as it was or did not. Cohen J. A coefficient
of agreement for nominal scales. Educ Psychol Meas 1960;20:37-46: kappa = (po - pe) / (1 - pe).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

_DIGITS = Decimal("0.001")


@dataclass(frozen=True, slots=True)
class Agreement:
    """Counts of results that people have decided; `open` are those they have not.

    `both_release`, `both_keep`: they agree. `only_rules`: the rules would have released what a person rejected or
    changed, the dangerous kind. `only_people`: a person released what the rules would have left to them.
    """

    test: str = ""
    both_release: int = 0
    both_keep: int = 0
    only_rules: int = 0
    only_people: int = 0
    open: int = 0

    @property
    def decided(self) -> int:
        return self.both_release + self.both_keep + self.only_rules + self.only_people

    @property
    def agree(self) -> Decimal | None:
        """The part that agrees, 0 to 1; None without any."""
        n = self.decided
        return (Decimal(self.both_release + self.both_keep) / n).quantize(_DIGITS) if n else None

    @property
    def released(self) -> Decimal | None:
        """The part of what people decided that the rules would have released."""
        n = self.decided
        return (Decimal(self.both_release + self.only_rules) / n).quantize(_DIGITS) if n else None

    @property
    def kappa(self) -> Decimal | None:
        """None without any result, and where chance alone explains everything (both always say the same)."""
        n = self.decided
        if not n:
            return None
        rules, people = self.both_release + self.only_rules, self.both_release + self.only_people
        observed = n * (self.both_release + self.both_keep)  # both are n² times the fraction: nothing is rounded
        expected = rules * people + (n - rules) * (n - people)
        if expected == n * n:
            return None
        return (Decimal(observed - expected) / (n * n - expected)).quantize(_DIGITS)

    def __add__(self, other: Agreement) -> Agreement:
        """Of both together, under the name of the first."""
        return Agreement(
            self.test, self.both_release + other.both_release, self.both_keep + other.both_keep,
            self.only_rules + other.only_rules, self.only_people + other.only_people, self.open + other.open,
        )  # fmt: skip

    @staticmethod
    def of(test: str, releases: bool, human: str, results: int) -> Agreement:
        """`human`: released, changed, rejected or open."""
        if human == "open":
            return Agreement(test, open=results)
        if releases:
            return Agreement(test, both_release=results) if human == "released" else Agreement(test, only_rules=results)
        return Agreement(test, only_people=results) if human == "released" else Agreement(test, both_keep=results)

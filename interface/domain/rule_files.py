"""From a rule set's TOML text to the `RuleSet`: every fault at once, each with its place. Pure.

Each array of tables is a section, read by the module whose checks it describes; `SECTIONS` says by which. Numbers are
exact: strings, whole numbers, or decimals, which are read as such and never become floats.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from interface.domain import calculated, consistency, delta, exemptions, indices, ranges, reflex, rules
from interface.domain.rule_set import CHECKS, Entry, RuleSet
from interface.domain.table import Table
from interface.errors import LaboraError

MAX_BYTES = 4 << 20  # of a document: far above any laboratory's, far below what would hold up a server
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True)
class Section:
    """`field` is the one of `RuleSet`; `parse` makes one of its entries and says what is wrong to the table."""

    field: str
    parse: Callable[[Table], Entry]


# By the word that stands in the document between [[ and ]].
SECTIONS: Mapping[str, Section] = {
    "rule": Section("rules", rules.parse),
    "linked": Section("linked", rules.parse_linked),
    "delta": Section("deltas", delta.parse),
    "index": Section("indices", indices.parse),
    "range": Section("ranges", ranges.parse),
    "consistency": Section("consistency", consistency.parse),
    "calculation": Section("calculations", calculated.parse),
    "reflex": Section("reflexes", reflex.parse),
    "exempt": Section("exemptions", exemptions.parse),
}


class RuleFileError(LaboraError):
    """A document that is no rule set. `problems`: everything that is wrong, each as `rule[3].when[0]: text`."""

    slug = "rule_file"

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


def parse_rule_set(text: str, revision: int = 0) -> RuleSet:
    """Read a document. Raises RuleFileError with every problem found."""
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise RuleFileError([f"the document is longer than {MAX_BYTES >> 20} MiB"])
    try:
        raw = tomllib.loads(text, parse_float=Decimal)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RuleFileError([str(error) or "the document is nested too deep"]) from error
    root = Table(raw, "", [])
    rule_set = _read(root, revision)
    root.finish()
    if root.problems:
        raise RuleFileError(root.problems)
    return rule_set


def _read(root: Table, revision: int) -> RuleSet:
    name = root.text("name", None)
    if name and not _NAME.fullmatch(name):
        root.say("name", f"{name!r} is not lower-case letters, digits, - and _, beginning with a letter")
    root.text("description")
    sections: dict[str, Any] = {}
    for word, section in SECTIONS.items():
        entries = tuple(section.parse(table) for table in root.tables(word))
        for twice, count in Counter(entry.name for entry in entries).items():
            if count > 1:
                root.say(word, f"{count} entries have the name {twice!r}")
        sections[section.field] = entries
    on = root.word("autoverification", ("on", "off")) == "on"
    made = RuleSet(name=name, revision=revision, autoverification=on, **sections)
    _answerable(made, root)
    return made


def _answerable(rule_set: RuleSet, root: Table) -> None:
    """A rule that asks what a check says of a test has an answer only where the document has that check for it."""
    for place, rule in enumerate(rule_set.rules):
        asked = {leaf.predicate.key for leaf in rule.leaves}
        for field, check in CHECKS.items():
            for test in rule.tests if check in asked else ():
                if not getattr(rule_set.of(test), field):
                    root.say(f"rule[{place}]", f"asks what the {check} checks say of {test}, of which there are none")

"""Revisions of rules in the shadow: what they would have done beside the one in force. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from interface.domain.autoverify import shadowed
from interface.domain.judging import check
from interface.domain.predicates import Case as Rated
from interface.flow.cases import Decided, Rules
from interface.store.rules import ShadowRow


def shadows_of(decided: Sequence[Decided], rules: Rules) -> Iterator[ShadowRow]:
    """What the revisions in the shadow would have done, each with its own checks."""
    for shadow in rules.now.shadows:
        for one in decided:
            looked_at = [(case, case.judged.facts) for case in one.cases if case.judged is not None]
            rated = [Rated(facts, check(shadow.rule_set, facts, asks=False).verdicts) for _, facts in looked_at]
            for (case, facts), said in zip(looked_at, shadowed(shadow.rule_set, rated), strict=True):
                yield ShadowRow(shadow.id, case.result_id, case.id, facts.test.code, said.action.value, said.against)

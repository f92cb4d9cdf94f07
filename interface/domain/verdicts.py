"""Verdicts that a rule gives in the same words each time, made once: most results pass, and in the same way. Pure."""

from __future__ import annotations

from interface.domain.facts import Finding, Verdict
from interface.domain.model import HoldReason

Memo = dict[tuple[str, str], Verdict]  # by the rule set's version and the words; a rule has few of both


def said(
    memo: Memo, check: str, finding: Finding, text: str, rule: str, version: str, holds: tuple[HoldReason, ...] = ()
) -> Verdict:
    """The verdict without inputs. `memo` is the rule's own."""
    known = memo.get((version, text))
    if known is None:
        known = memo[version, text] = Verdict(check, finding, text, rule, version, holds=holds)
    return known

"""What is in force: without a valid active revision, and within a switch's scope, nothing is released."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from interface.domain.autoverify import (
    Autoverification,
    Scope,
    Shadow,
    Stamp,
    Switch,
    catalogue_digest,
    decide,
    digest_of,
    shadowed,
    void,
)
from interface.domain.model import LabTest, ValueKind
from interface.domain.predicates import Case
from interface.domain.rule_files import parse_rule_set
from interface.domain.rules import ENGINE, Action
from interface.domain.units import Substance
from tests.domain.cases import POTASSIUM, RULE, facts

ON = parse_rule_set(RULE, revision=3)


@pytest.mark.parametrize(
    ("now", "changes", "expected"),
    [
        (Autoverification(ON), {}, Action.RELEASE),
        (Autoverification(), {}, Action.WAIT),
        (Autoverification(void="this version cannot read it"), {}, Action.WAIT),
        (Autoverification(ON, void="a test has another unit"), {}, Action.WAIT),
        (Autoverification(ON, (Switch(Scope.ORGANIZATION),)), {}, Action.WAIT),
        (Autoverification(ON, (Switch(Scope.TEST, "K"),)), {}, Action.WAIT),
        (Autoverification(ON, (Switch(Scope.TEST, "NA"),)), {}, Action.RELEASE),
        (Autoverification(ON, (Switch(Scope.ANALYZER, "chem-1"),)), {}, Action.WAIT),
        (Autoverification(ON, (Switch(Scope.ANALYZER, "chem-2"),)), {}, Action.RELEASE),
        (Autoverification(ON, (Switch(Scope.ANALYZER, "chem-2"),)), {"analyzer": ""}, Action.WAIT),
        (Autoverification(ON, (Switch(Scope.TEST, "NA"), Switch(Scope.ORGANIZATION))), {}, Action.WAIT),
        (Autoverification(replace(ON, autoverification=False)), {}, Action.WAIT),
        (Autoverification(shadows=(Shadow(uuid4(), ON),)), {}, Action.WAIT),
    ],
)
def test_what_is_in_force_decides(now: Autoverification, changes: dict[str, Any], expected: Action) -> None:
    (said,) = decide(now, [Case(facts(**changes))])
    assert said.action is expected
    assert said.holds == ()
    assert (said.against == ()) is (expected is Action.RELEASE)


def test_a_shadow_says_what_it_would_do_whatever_is_off() -> None:
    (said,) = shadowed(replace(ON, autoverification=False), [Case(facts())])
    assert said.action is Action.RELEASE


def test_a_validation_is_void_once_anything_it_relied_on_is_another() -> None:
    catalogue = catalogue_digest(ON, [POTASSIUM])
    stamp = Stamp(digest_of(RULE), ENGINE, catalogue)
    assert void(stamp, digest_of(RULE), catalogue) == ""
    assert void(None, digest_of(RULE), catalogue) == "it has not been validated"
    assert void(stamp, digest_of(RULE + " "), catalogue) == "its text is another one"
    assert "rules/0" in void(replace(stamp, engine="rules/0"), digest_of(RULE), catalogue)
    for other in (
        replace(POTASSIUM, unit="mg/dL"), replace(POTASSIUM, decimals=2), replace(POTASSIUM, kind=ValueKind.TEXT),
        replace(POTASSIUM, code="K2"), replace(POTASSIUM, substance=Substance(Decimal("39.1"))),
        replace(POTASSIUM, substance=Substance(None, 2)),
    ):  # fmt: skip
        assert "another unit" in void(stamp, digest_of(RULE), catalogue_digest(ON, [other]))
    unnamed = LabTest("9", "NA", "Sodium", unit="mg/dL")
    assert catalogue_digest(ON, [unnamed, POTASSIUM]) == catalogue

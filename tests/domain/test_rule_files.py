"""A rule set's document: everything that is wrong is said at once, with its place."""

from __future__ import annotations

from decimal import Decimal

import pytest

from interface.domain.rule_files import SECTIONS, RuleFileError, parse_rule_set
from interface.domain.rule_set import SECTIONS as FIELDS
from interface.domain.table import exact


def test_a_document_is_read_and_asked_by_test() -> None:
    text = """
        name = "default"
        [[exempt]]
        test = "ESR"
        qc = true
        reason = "a tube with a scale"
        [[exempt]]
        test = "COLOUR"
        critical = "none"
        reason = "words of colour"
    """
    rule_set = parse_rule_set(text, revision=3)
    assert rule_set.version == "default 3"
    assert rule_set.tests() == {"ESR", "COLOUR"}
    assert [(one.test, one.qc, one.no_critical) for one in rule_set.exemptions] == [
        ("ESR", True, False),
        ("COLOUR", False, True),
    ]
    assert rule_set.of("ESR").exemptions == rule_set.exemptions[:1]
    assert rule_set.of("ESR") is rule_set.of("ESR")
    assert rule_set.of("K").exemptions == ()


def test_every_section_is_a_field_of_the_rule_set() -> None:
    assert {section.field for section in SECTIONS.values()} <= set(FIELDS)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "name: is missing"),
        ('name = "Default"', "name: 'Default' is not lower-case letters"),
        ('name = "a"\nfoo = 1', "foo: is not a known key"),
        ('name = "a"\n[[exempt]]\ntest = "K"\nqc = true', "exempt[0].reason: is missing"),
        ('name = "a"\n[[exempt]]\ntest = "K"\nqc = true\nreason = " "', "exempt[0].reason: is empty"),
        ('name = "a"\n[[exempt]]\ntest = "K"\nreason = "r"', "exempt[0]: exempts from nothing"),
        ('name = "a"\n[[exempt]]\ntest = "K"\ncritical = "no"\nreason = "r"', "exempt[0].critical: 'no' is not one of"),
        ("name = ", "Invalid value"),
        ("a = " + "[" * 5000, ""),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, problem: str) -> None:
    with pytest.raises(RuleFileError) as raised:
        parse_rule_set(text)
    assert any(problem in said for said in raised.value.problems), raised.value.problems


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(RuleFileError) as raised:
        parse_rule_set('name = "A"\nx = 1\n[[exempt]]\ntest = 4\n[[exempt]]\ntest = "K"\nqc = 1\nreason = "r"')
    assert len(raised.value.problems) == 7, raised.value.problems


@pytest.mark.parametrize(
    ("value", "number"),
    [("5.10", Decimal("5.10")), (5, Decimal(5)), (Decimal("0.1"), Decimal("0.1")), ("-0.5", Decimal("-0.5"))],
)
def test_a_number_is_exact(value: object, number: Decimal) -> None:
    assert str(exact(value)) == str(number)


@pytest.mark.parametrize("value", [0.1, True, None, "", "1e3", Decimal("Infinity"), Decimal("NaN"), "1,5", " 1", "٣"])
def test_what_is_no_exact_number_is_none(value: object) -> None:
    assert exact(value) is None

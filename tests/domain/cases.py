"""Cases of results for tests of the rules: one that passes, and ways to spoil it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from interface.domain.facts import Facts, Finding, PreviousResult, QcState, Sibling, Subject, Verdict
from interface.domain.model import HoldReason, LabTest, Sex
from interface.domain.rule_files import parse_rule_set
from interface.domain.rule_set import RuleSet
from interface.domain.values import numeric

AT = datetime(2026, 11, 26, 8, tzinfo=UTC)
POTASSIUM = LabTest("1", "K", "Potassium", unit="mmol/L", decimals=1)
RULE = """
name = "default"
autoverification = "on"
[[rule]]
name = "potassium"
tests = ["K"]
unit = "mmol/L"
require = [{ value = { min = "3.5", max = "5.1" } }, { sex = ["female", "male"] }]
"""


def rules(text: str) -> RuleSet:
    """A rule set with the rules of `text`, switched on."""
    return parse_rule_set(f'name = "default"\nautoverification = "on"\n{text}', revision=3)


def facts(**changes: Any) -> Facts:
    """Of a potassium of 4.1 in order in every way; a change is of the facts, or of the subject."""
    subject = Subject(
        sex=Sex.FEMALE, birth_date=date(1986, 11, 26), pregnant=False, ward="A1", patient_group="general",
        specimen_type="SER", collected_at=AT - timedelta(hours=2), received_at=AT - timedelta(hours=1), age_d=14610,
    )  # fmt: skip
    of_subject = {key: value for key, value in changes.items() if key in Subject.__dataclass_fields__}
    rest = {key: value for key, value in changes.items() if key not in of_subject}
    made = Facts(
        test=POTASSIUM, value=numeric(Decimal("4.1")), unit="mmol/L", subject=replace(subject, **of_subject),
        flags=("N",), low=Decimal("3.5"), high=Decimal("5.1"), critical_low=Decimal("2.8"),
        critical_high=Decimal("6.2"), analyzer="chem-1", driver="roche_cobas_pro", method="ISE",
        previous=PreviousResult(numeric(Decimal("4.0")), "mmol/L", AT - timedelta(days=2), "v"),
        siblings={"NA": Sibling("NA", numeric(Decimal(140)), "mmol/L", ("N",))}, qc=QcState.OK, reagent_lot="L7",
        calibrated_at=AT - timedelta(hours=12), measured_at=AT, dilution=Decimal(1),
    )  # fmt: skip
    return replace(made, **rest)


def verdict(check: str, finding: Finding) -> Verdict:
    holds = (HoldReason.DELTA,) if finding in (Finding.HOLD, Finding.UNKNOWN) else ()
    return Verdict(check, finding, check, holds=holds)

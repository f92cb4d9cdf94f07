"""A rule set in force in a laboratory of `tests.flow.laboratory`, and messages of the chemistry it is about."""

from __future__ import annotations

from collections.abc import Mapping

from interface.domain.autoverify import Stamp, catalogue_digest
from interface.domain.rule_files import parse_rule_set
from interface.domain.rules import ENGINE
from interface.domain.views import Actor
from interface.flow import rules as flow
from interface.store import rules as store
from interface.store.catalogue import read_tests
from interface.store.db import Connection
from tests.flow.laboratory import Laboratory, message

LOINC = {
    "NA": "2951-2", "K": "2823-3", "CL": "2075-0", "HCO3": "1963-8", "CREA": "2160-0", "MG": "19123-9",
    "AGAP": "33037-3",
}  # fmt: skip
UNITS = {"CREA": "mg/dL", "MG": "mg/dL"}
TESTS = ("NA", "K", "CL", "HCO3", "CREA", "MG", "AGAP")

# Whatever is tested: quality control is not asked for (there is none yet), critical limits are those of the catalogue.
RULES = """
name = "default"
autoverification = "on"

[[delta]]
name = "creatinine"
test = "CREA"
kind = "percent"
limit = "30"
window_d = 90

[[range]]
name = "sodium that nobody has"
test = "NA"
kind = "absurd"
low = "80"
high = "220"
unit = "mmol/L"

[[calculation]]
test = "AGAP"
formula = "anion_gap"
inputs = { sodium = ["NA"], chloride = ["CL"], bicarbonate = ["HCO3"] }

[[reflex]]
name = "magnesium when potassium is low"
test = "K"
kind = "reflex"
add = ["MG"]
below = "3.0"
unit = "mmol/L"
reason = "low potassium does not rise without magnesium"

[[reflex]]
name = "creatinine again"
test = "CREA"
kind = "rerun"
above = "8"
unit = "mg/dL"
reason = "far above what is usual"

[[rule]]
name = "all of chemistry"
tests = ["NA", "K", "CL", "HCO3", "CREA", "MG", "AGAP"]
require = [{ critical = false }]
""" + "".join(
    f'\n[[exempt]]\ntest = "{code}"\nqc = true\ncritical = "none"\nreason = "a test of deciding"\n' for code in TESTS
)


async def put_in_force(lab: Laboratory, text: str = RULES) -> store.Revision:
    """Import the document, say that it was validated, and activate it."""
    async with lab.database.transaction(lab.organization_id) as connection:
        return await put_text_in_force(connection, lab.director, text)


async def put_text_in_force(connection: Connection, director: Actor, text: str) -> store.Revision:
    """The same for whoever has another laboratory."""
    made = await flow.import_rules(connection, director, text, "here", "for the test")
    await proved(connection, director, made, text)
    return await flow.activate(connection, director, made.name, made.revision, "ready")


async def proved(connection: Connection, director: Actor, made: store.Revision, text: str) -> None:
    """Say that a revision of this text was validated with the tests of now."""
    stamp = Stamp(made.digest, ENGINE, catalogue_digest(parse_rule_set(text), await read_tests(connection)))
    await store.add_validation(connection, director, made.id, stamp, 1, 0, 0)


def sent(
    barcode: str, values: Mapping[str, str], *, control: str = "C1", at: str = "20260102030000", patient: str = "P-1"
) -> list[str]:
    """A message with these results of one specimen."""
    results = [
        f"R|{place}|^^^{LOINC[code]}|{value}|{UNITS.get(code, 'mmol/L')}||N||F||||{at}"
        for place, (code, value) in enumerate(values.items(), 1)
    ]
    return message(f"P|1||{patient}||Muster^Maria||19800501|F", f"O|1|{barcode}||^^^CHEM|R", *results, control=control)

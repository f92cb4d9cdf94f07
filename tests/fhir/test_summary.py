"""`_summary=true` shows what R4 marks as summary (StructureDefinition, isSummary), of each type that is served."""

from __future__ import annotations

from importlib import import_module

import pytest

from interface.api.fhir.types import PARTS

_ALWAYS = {"id", "meta", "implicitRules"}  # `meta` says that it is a summary
_PRIMITIVE = {"_birthDate"}  # the extensions of an element go with it


@pytest.mark.parametrize("kind", PARTS)
def test_a_summary_has_what_r4_says(kind: str) -> None:
    """As a library of others' knows it. Of an element's choices (`value[x]`) not all are named."""
    known = getattr(import_module(f"fhir.resources.R4B.{kind.lower()}"), kind)
    marked = set(known.summary_elements_sequence()) - _ALWAYS
    ours = set(PARTS[kind].summary) - _PRIMITIVE
    assert ours <= marked
    choices = {name for name, field in known.model_fields.items() if "one_of_many" in (field.json_schema_extra or ())}
    assert marked - ours <= choices

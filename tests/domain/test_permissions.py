"""SMART scopes: what they say, how they are written, what of them is granted, and what they allow."""

from __future__ import annotations

import pytest

from interface.domain.permissions import (
    MOST_SCOPES,
    RESOURCES,
    Restriction,
    Scope,
    allows,
    granted,
    parse_scopes,
    restrictions,
)

LABORATORY = "http://terminology.hl7.org/CodeSystem/observation-category|laboratory"
# SMART App Launch 2.0.0, "Scopes for requesting FHIR Resources": its example of a finer-grained scope, for a system.
NARROWED = f"system/Observation.rs?category={LABORATORY}"


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("system/Observation.rs", "system/Observation.rs"), ("system/Observation.read", "system/Observation.rs"),
        ("system/Patient.write", "system/Patient.cud"), ("system/*.*", "system/*.cruds"),
        ("system/ServiceRequest.c", "system/ServiceRequest.c"),
        (NARROWED, NARROWED),
        ("system/Observation.rs?category=http%3A%2F%2Fterminology.hl7.org%2FCodeSystem%2Fobservation-category%7Claboratory",
         NARROWED),
        ("system/Observation.r?status=final&code=http://loinc.org|718-7,http://loinc.org|4544-3",
         "system/Observation.r?code=http://loinc.org|718-7,http://loinc.org|4544-3&status=final"),
        ("system/Specimen.s?type=a+b%26c", "system/Specimen.s?type=a%20b%26c"),
        ("system/Patient.r?_id=1&_id=1", "system/Patient.r?_id=1"),
        ("system/Patient.r?_id=1&_id=2", "system/Patient.r?_id=1&_id=2"),
    ],
)  # fmt: skip
def test_a_scope_is_read_and_written_in_one_way(text: str, canonical: str) -> None:
    assert [str(scope) for scope in parse_scopes([text])] == [canonical]
    assert parse_scopes([canonical]) == parse_scopes([text]), "what is written is read as the same"


@pytest.mark.parametrize(
    "text",
    [
        "user/Observation.rs", "system/Observation.sr", "system/Observation.", "system/Observation",
        "system/Medication.rs", "openid", "system/Observation.rs\nx", "system/\u00d6bservation.rs",
        "system/Observation.rs?", "system/Observation.rs?category", "system/Observation.rs?category=",
        "system/Observation.rs?category=a%0a", "system/Observation.rs?category=a%00",
        "system/Observation.rs?_count=1", "system/Observation.rs?patient.name=x", "system/Observation.rs?_include=*",
        "system/Observation.rs?category:not=laboratory", "system/Observation.rs?_has:Patient:x=1",
        "system/Observation.c?category=laboratory", "system/Observation.cruds?category=laboratory",
        "system/Observation.read?category=laboratory", "system/*.rs?category=laboratory",
        "system/Observation.rs?category=" + "a" * 2000, f"{NARROWED}#x&y",
    ],
)  # fmt: skip
def test_what_cannot_be_granted_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"scope|resource|narrowed|value"):
        parse_scopes([text])


def test_a_list_without_end_is_refused() -> None:
    many = " ".join(["system/Patient.r"] * (MOST_SCOPES + 1))
    with pytest.raises(ValueError, match="more than"):
        parse_scopes([many])


@pytest.mark.parametrize(
    ("requested", "allowed", "found"),
    [
        ("system/*.cruds", "system/Patient.r system/Observation.rs", "system/Observation.rs system/Patient.r"),
        ("system/Patient.rs", "system/*.r", "system/Patient.r"),
        ("system/Patient.c", "system/*.rs", ""),
        # the audit trail must be named: it is in no `*`
        ("system/AuditEvent.rs", "system/*.cruds", ""), ("system/*.cruds", "system/AuditEvent.rs", ""),
        ("system/*.rs system/AuditEvent.r", "system/*.rs system/AuditEvent.rs", "system/*.rs system/AuditEvent.r"),
        # narrower than allowed; wider than allowed; beside what is allowed: both queries must hold
        ("system/Observation.rs?status=final", "system/*.rs", "system/Observation.rs?status=final"),
        ("system/Observation.rs", "system/Observation.r?status=final", "system/Observation.r?status=final"),
        ("system/*.rs", "system/Observation.r?status=final", "system/Observation.r?status=final"),
        ("system/Observation.rs?status=final", "system/Observation.rs?code=1",
         "system/Observation.rs?code=1&status=final"),
        ("system/Observation.r?status=final", "system/Observation.rs?status=preliminary",
         "system/Observation.r?status=final&status=preliminary"),
        ("system/Observation.rs?status=final", "system/Patient.rs", ""),
        # what another one says already is not said again
        ("system/*.rs system/Patient.r", "system/*.cruds", "system/*.rs"),
        ("system/Observation.r?status=final system/Observation.rs", "system/*.rs", "system/Observation.rs"),
        ("system/Observation.rs?status=final system/Observation.r", "system/*.rs",
         "system/Observation.r system/Observation.rs?status=final"),
    ],
)  # fmt: skip
def test_what_is_granted_lies_within_both(requested: str, allowed: str, found: str) -> None:
    assert " ".join(map(str, granted(parse_scopes([requested]), parse_scopes([allowed])))) == found


@pytest.mark.parametrize(
    ("scopes", "resource", "action", "found"),
    [
        ("system/Patient.r", "Patient", "r", [()]),
        ("system/Patient.r", "Patient", "s", []),
        ("system/Patient.rs", "Specimen", "r", []),
        ("system/*.r", "Specimen", "r", [()]),
        ("system/Observation.r?status=final", "Observation", "r", [(("status", "final"),)]),
        ("system/Observation.r?status=final", "Observation", "s", []),
        ("system/Observation.r?status=final&code=1 system/Observation.r?code=2", "Observation", "r",
         [(("code", "1"), ("status", "final")), (("code", "2"),)]),
        ("system/Observation.r?status=final system/*.r", "Observation", "r", [()]),
        ("", "Patient", "r", []), ("system/*.cruds", "AuditEvent", "r", []),
    ],
)  # fmt: skip
def test_what_scopes_allow_is_nothing_everything_or_what_meets_a_query(
    scopes: str, resource: str, action: str, found: list[tuple[tuple[str, str], ...]]
) -> None:
    assert restrictions(scopes.split(), resource, action) == tuple(map(Restriction, found))
    assert allows(scopes.split(), resource, action) == (found == [()]), "narrowed is not allowed"


def test_every_type_of_the_facade_can_be_a_scope() -> None:
    assert len(RESOURCES) == 12
    for resource in RESOURCES:
        assert restrictions([f"system/{resource}.rs"], resource, "r") == (Restriction(),)


def test_a_hundred_scopes_are_granted_without_looking_at_all_pairs_of_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """With each token, and with each turn of a client's subscriptions, in the process of the links."""
    looked, covers = 0, Scope.covers

    def counting(self: Scope, other: Scope) -> bool:
        nonlocal looked
        looked += 1
        return covers(self, other)

    monkeypatch.setattr(Scope, "covers", counting)
    own = parse_scopes(f"system/Observation.rs?code=c{number}" for number in range(MOST_SCOPES))
    assert granted(own, own) == tuple(sorted(own, key=str))
    assert looked <= 3 * MOST_SCOPES**2
    others = parse_scopes(f"system/Observation.rs?status=s{number}" for number in range(MOST_SCOPES))
    with pytest.raises(ValueError, match="more than 100 scopes"):
        granted(others, own)
    assert looked <= 30 * MOST_SCOPES**2


@pytest.mark.parametrize("text", ['"' * 1900, "x" * 1900])
def test_what_could_not_be_read_again_is_not_granted(text: str) -> None:
    """Written out, or with what it is allowed with, it is longer than a scope may be."""
    allowed = f"system/Observation.rs?status={'final,' * 30}final"
    with pytest.raises(ValueError, match="longer than 2000 characters"):
        granted(parse_scopes([f"system/Observation.rs?code={text}"]), parse_scopes([allowed]))

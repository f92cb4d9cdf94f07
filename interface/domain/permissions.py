"""Who may do what: roles and permissions of users, SMART scopes of clients. Data and pure functions.

A user's permissions come from roles; a client's from scopes (SMART App Launch 2.0 "Scopes for requesting FHIR
Resources", and the `.read`, `.write`, `.*` of version 1). One table each; what is not in it is not allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from urllib.parse import quote, unquote_plus


class Permission(StrEnum):
    PATIENT_READ = "patient:read"
    PATIENT_WRITE = "patient:write"
    PATIENT_MERGE = "patient:merge"  # and take it back
    PROVIDER_WRITE = "provider:write"
    ORDER_READ = "order:read"
    ORDER_WRITE = "order:write"
    RESULT_READ = "result:read"
    RESULT_RELEASE = "result:release"
    SPECIMEN_WRITE = "specimen:write"
    WORKSHEET_WRITE = "worksheet:write"
    CATALOGUE_WRITE = "catalogue:write"
    RULE_READ = "rule:read"
    RULE_WRITE = "rule:write"
    QC_READ = "qc:read"
    QC_WRITE = "qc:write"  # results and comments, exclusions, the action that makes a stream acceptable again
    QC_MANAGE = "qc:manage"  # lots, targets, plans
    CRITICAL_WRITE = "critical:write"  # who was called, and that it was read back
    DISPATCH_WRITE = "dispatch:write"  # sends work to an analyzer again or takes it back, says that one is down
    MESSAGE_READ = "message:read"
    MESSAGE_REPLAY = "message:replay"
    LINK_READ = "link:read"
    ALERT_READ = "alert:read"
    ALERT_WRITE = "alert:write"  # sees to one, has some not told for a while
    MAP_WRITE = "map:write"
    USER_READ = "user:read"
    USER_WRITE = "user:write"
    CLIENT_WRITE = "client:write"
    AUDIT_READ = "audit:read"
    HOLD_WRITE = "hold:write"  # what is kept beyond its time, and no longer


class Role(StrEnum):
    ADMINISTRATOR = "administrator"
    LABORATORY_DIRECTOR = "laboratory_director"
    TECHNOLOGIST = "technologist"
    PHLEBOTOMIST = "phlebotomist"
    VIEWER = "viewer"
    AUDITOR = "auditor"


_P = Permission
_CLINICAL_READ = frozenset({_P.PATIENT_READ, _P.ORDER_READ, _P.RESULT_READ, _P.QC_READ})
_BENCH_WORK = frozenset(
    {_P.SPECIMEN_WRITE, _P.WORKSHEET_WRITE, _P.CRITICAL_WRITE, _P.RULE_READ, _P.PROVIDER_WRITE, _P.QC_WRITE}
    | {_P.DISPATCH_WRITE, _P.ALERT_READ, _P.ALERT_WRITE}
)

# An administrator runs the system and may not sign a result, nor say which are released without a person, nor that an
# analyzer that failed its control measures rightly again: all are medical acts (CLIA 493.1291, 493.1282).
ROLE_PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.ADMINISTRATOR: frozenset(_P) - {_P.RESULT_RELEASE, _P.RULE_WRITE, _P.QC_WRITE},
    Role.LABORATORY_DIRECTOR: _CLINICAL_READ
    | {_P.PATIENT_WRITE, _P.ORDER_WRITE, _P.RESULT_RELEASE, _P.MESSAGE_READ, _P.MESSAGE_REPLAY, _P.LINK_READ}
    | {_P.MAP_WRITE, _P.USER_READ, _P.AUDIT_READ, _P.CATALOGUE_WRITE, _P.RULE_WRITE, _P.QC_MANAGE, _P.HOLD_WRITE}
    | _BENCH_WORK
    | {_P.PATIENT_MERGE},
    Role.TECHNOLOGIST: _CLINICAL_READ
    | {_P.PATIENT_WRITE, _P.ORDER_WRITE, _P.RESULT_RELEASE, _P.MESSAGE_READ, _P.MESSAGE_REPLAY, _P.LINK_READ}
    | _BENCH_WORK
    | {_P.PATIENT_MERGE},
    Role.PHLEBOTOMIST: frozenset({_P.PATIENT_READ, _P.PATIENT_WRITE, _P.ORDER_READ, _P.ORDER_WRITE, _P.SPECIMEN_WRITE}),
    Role.VIEWER: _CLINICAL_READ,
    Role.AUDITOR: frozenset({_P.AUDIT_READ, _P.USER_READ, _P.LINK_READ, _P.ALERT_READ}),
}


def permissions(roles: Iterable[str]) -> frozenset[str]:
    """What a user with these roles may do. A role that is not known (any more) gives nothing."""
    known = {role.value: granted for role, granted in ROLE_PERMISSIONS.items()}
    return frozenset(permission.value for role in roles for permission in known.get(role, frozenset()))


# ---- SMART scopes ---------------------------------------------------------------------------------------------------

# What a query may narrow a scope to (SMART 2.0 "Finer-grained resource constraints using search parameters"), of each
# resource that the façade serves: the search must be able to apply it, so the list is closed.
NARROWING: dict[str, frozenset[str]] = {
    "AuditEvent": frozenset({"patient"}),
    "Binary": frozenset(),
    "Device": frozenset({"_id", "identifier"}),
    "DiagnosticReport": frozenset({"_id", "category", "code", "patient", "status"}),
    "Observation": frozenset({"_id", "category", "code", "patient", "specimen", "status"}),
    "Organization": frozenset({"_id", "identifier"}),
    "Patient": frozenset({"_id", "identifier"}),
    "Practitioner": frozenset({"_id", "identifier"}),
    "Provenance": frozenset({"_id", "target"}),
    "ServiceRequest": frozenset({"_id", "category", "code", "patient", "status"}),
    "Specimen": frozenset({"_id", "patient", "status", "type"}),
    "Subscription": frozenset({"_id", "status"}),
}
RESOURCES = tuple(NARROWING)
# Who may read everything may not therefore read who read it: `*` is without these, a scope must name them.
NAMED_ONLY = frozenset({"AuditEvent"})
EVERYTHING = ("system/*.cruds", *(f"system/{name}.cruds" for name in sorted(NAMED_ONLY)))  # that can be granted
MOST_SCOPE_CHARACTERS, MOST_SCOPES = 2000, 100  # of one scope; of a list

_ORDER = "cruds"  # SMART 2.0: the letters stand in this order
_V1 = {"read": "rs", "write": "cud", "*": "cruds"}
_SCOPE = re.compile(
    r"system/(?P<resource>[A-Za-z]+|\*)\.(?P<actions>read|write|\*|c?r?u?d?s?)(?:\?(?P<query>[!-~]+))?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Scope:
    """`system/<resource>.<actions>?<query>`; resource `*` is every one, actions are letters of `cruds`.

    `query`: search parameters, sorted, that what is read or found must all meet; empty: no restriction.
    """

    resource: str
    actions: frozenset[str]
    query: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        plain = f"system/{self.resource}.{''.join(letter for letter in _ORDER if letter in self.actions)}"
        query = "&".join(f"{name}={quote(value, safe='/:|,.')}" for name, value in self.query)
        return f"{plain}?{query}" if query else plain

    def covers(self, other: Scope) -> bool:
        """Whether all that `other` allows is allowed by this one alone."""
        return (
            _reaches(self.resource, other.resource)
            and self.actions >= other.actions
            and set(self.query) <= set(other.query)
        )


def _reaches(resource: str, other: str) -> bool:
    return resource == other or (resource == "*" and other not in NAMED_ONLY)


@dataclass(frozen=True, slots=True)
class Restriction:
    """Search parameters (name, value) that must all hold of a resource; none: every resource of the type."""

    parameters: tuple[tuple[str, str], ...] = ()


@lru_cache(maxsize=1024)
def parse_scope(text: str) -> Scope:
    """One SMART scope, version 1 or 2. ValueError, with a text for the reader, when it cannot be granted."""
    match = _SCOPE.fullmatch(text) if len(text) <= MOST_SCOPE_CHARACTERS else None
    if match is None or not match["actions"]:
        raise ValueError(
            f"{text[:100]!r} is not a scope; it reads system/<resource>.<actions>, for example system/Observation.rs"
        )
    if match["resource"] != "*" and match["resource"] not in RESOURCES:
        raise ValueError(f"{text!r}: the resource is none of {', '.join(RESOURCES)}, *")
    actions = frozenset(_V1.get(match["actions"], match["actions"]))
    if match["query"] is None:
        return Scope(match["resource"], actions)
    if match["actions"] in _V1 or not actions <= {"r", "s"}:
        raise ValueError(f"{text!r}: only what is read (.r, .s, .rs) can be narrowed by a query")
    return Scope(match["resource"], actions, _query(text, match["resource"], match["query"]))


def _query(text: str, resource: str, query: str) -> tuple[tuple[str, str], ...]:
    possible = NARROWING.get(resource, frozenset())
    pairs = []
    for pair in query.split("&"):
        name, _, value = (unquote_plus(part, errors="replace") for part in pair.partition("="))
        if name not in possible:
            known = ", ".join(sorted(possible)) or "nothing"
            raise ValueError(f"{text!r}: {resource} can be narrowed by {known}, not by {name!r}")
        if not value or not value.isprintable():
            raise ValueError(f"{text!r}: {name} has no value")
        pairs.append((name, value))
    return tuple(sorted(set(pairs)))


def parse_scopes(texts: Iterable[str]) -> tuple[Scope, ...]:
    """Every scope of a space-separated list, or of several. ValueError at the first that is none, or for too many."""
    words = [word for text in texts for word in text.split()]
    if len(words) > MOST_SCOPES:
        raise ValueError(f"these are more than {MOST_SCOPES} scopes")
    return tuple(map(parse_scope, words))


def granted(requested: Iterable[Scope], allowed: Iterable[Scope]) -> tuple[Scope, ...]:
    """The part of `requested` that lies within `allowed`, each as short as it can be said.

    What is asked for without the query that it is allowed with is given with it; of two queries both must hold.
    ValueError, with a text for the reader, for what is too much to be said again in scopes.
    """
    possible = tuple(allowed)
    found: dict[tuple[str, tuple[tuple[str, str], ...]], frozenset[str]] = {}
    for wanted in requested:
        # Most often it is allowed as it is; with each of the others it would only be less.
        whole = next((have for have in possible if have.covers(wanted)), None)
        for have in possible if whole is None else (whole,):
            within = _reaches(have.resource, wanted.resource)
            if within or _reaches(wanted.resource, have.resource):
                resource = wanted.resource if within else have.resource
                key = (resource, tuple(sorted({*wanted.query, *have.query})))
                found[key] = found.get(key, frozenset()) | (wanted.actions & have.actions)
        if len(found) > 2 * MOST_SCOPES:
            break
    scopes = [Scope(resource, actions, query) for (resource, query), actions in sorted(found.items()) if actions]
    given = tuple(one for one in scopes if not any(other != one and other.covers(one) for other in scopes))
    if len(found) > 2 * MOST_SCOPES or len(given) > MOST_SCOPES:
        raise ValueError(f"these are more than {MOST_SCOPES} scopes, each with what it is allowed with")
    if any(len(str(one)) > MOST_SCOPE_CHARACTERS for one in given):
        raise ValueError(f"with what it is allowed with, a scope is longer than {MOST_SCOPE_CHARACTERS} characters")
    return given


def restrictions(scopes: Iterable[str], resource: str, action: str) -> tuple[Restriction, ...]:
    """What a client holding these scopes (as granted, canonical) may do `action` (a letter of `cruds`) to.

    (): to nothing. Otherwise to what meets any one of them; one without parameters means all, and then stands alone.
    """
    return _restrictions(frozenset(scopes), resource, action)


@lru_cache(maxsize=4096)
def _restrictions(scopes: frozenset[str], resource: str, action: str) -> tuple[Restriction, ...]:
    found = {
        Restriction(scope.query)
        for scope in parse_scopes(scopes)
        if _reaches(scope.resource, resource) and action in scope.actions
    }
    if Restriction() in found:
        return (Restriction(),)
    return tuple(sorted(found, key=lambda one: one.parameters))


def allows(scopes: Iterable[str], resource: str, action: str) -> bool:
    """Whether a client holding these scopes (as granted, canonical) may do `action` (a letter of `cruds`) to every one.

    A scope that a query narrows does not: who takes it must apply `restrictions`.
    """
    return restrictions(scopes, resource, action) == (Restriction(),)

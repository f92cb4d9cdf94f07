"""The rest of the table of `kinds`: who and what stands behind results, and who saw them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from interface.domain.search import Value
from interface.domain.systems import ANALYZER_SYSTEM, ORGANIZATION_SYSTEM, SERIAL_SYSTEM, TERMINOLOGY
from interface.domain.views import Audience
from interface.store.evidence import AUDITED
from interface.store.lab import version_visible
from interface.store.search.engine import Kind
from interface.store.search.fields import (
    Bind,
    Coded,
    Identified,
    Instant,
    Link,
    Pairs,
    Parameter,
    Sometimes,
    Text,
    either,
)


@dataclass(frozen=True, slots=True)
class _Words:
    """Given names, each of which is a string of its own."""

    expression: str
    type: ClassVar[str] = "string"
    selective: ClassVar[bool] = False
    modifiers: ClassVar[tuple[str, ...]] = Text.modifiers

    def condition(self, value: Sequence[Value], bind: Bind) -> str:
        words = f"unnest(regexp_split_to_array(btrim({self.expression}, E' \\t\\n'), '\\s+'))"
        found = Text("w.w").condition(value, bind)
        return f"exists (select from {words} as w (w) where {found})"

    def missing(self) -> str:
        return Text(self.expression).missing()


@dataclass(frozen=True, slots=True, init=False)
class _Either:
    """A string that stands in several places."""

    texts: tuple[Text | _Words, ...]
    type: ClassVar[str] = "string"
    selective: ClassVar[bool] = False
    modifiers: ClassVar[tuple[str, ...]] = Text.modifiers

    def __init__(self, *texts: Text | _Words) -> None:
        object.__setattr__(self, "texts", texts)

    def condition(self, value: Sequence[Value], bind: Bind) -> str:
        return either(text.condition(value, bind) for text in self.texts)

    def missing(self) -> str:
        return f"({' and '.join(text.missing() for text in self.texts)})"


_HL7 = "http://hl7.org/fhir/"


def _practitioner(audience: Audience) -> Kind:
    identifiers = (
        "p.id in (select i.practitioner_id from lab.practitioner_identifier i where i.ended_at is null and {})"
    )
    return Kind(
        name="Practitioner",
        table="lab.practitioner p",
        id="p.id",
        updated="p.updated_at",
        parameters=(
            Parameter("identifier", Identified("i.authority", "i.value", "i.type", identifiers),
                      "an identifier of who orders", "identifier"),
            Parameter("family", Text("p.family"), "how the family name begins", "name.family"),
            Parameter("given", _Words("p.given"), "how a given name begins", "name.given"),
            Parameter("name", _Either(Text("p.family"), _Words("p.given")), "how the family or a given name begins",
                      "name"),
            Parameter("active", Coded(("", "p.active::text")), "whether the record is in use: true or false", "active"),
        ),
        sorts={"family": ("p.family", "text"), "given": ("p.given", "text")},
    )  # fmt: skip


def _organization(audience: Audience) -> Kind:
    return Kind(
        name="Organization",
        table="lab.organization o",
        id="o.id",
        updated="o.updated_at",
        parameters=(
            Parameter("identifier", Coded((ORGANIZATION_SYSTEM, "o.name")), "what it is called here", "identifier"),
            Parameter("name", Text("coalesce(nullif(o.title, ''), o.name)"), "how the name begins", "name"),
            Parameter("type", Coded((TERMINOLOGY + "organization-type", "'prov'"), label="'Laboratory'"),
                      "prov, a laboratory", "type"),
            Parameter("active", Coded(("", "'true'")), "true", "active"),
        ),
    )  # fmt: skip


def _device(audience: Audience) -> Kind:
    return Kind(
        name="Device",
        table="lab.analyzer a",
        id="a.id",
        updated="a.updated_at",
        parameters=(
            Parameter("identifier", Coded((ANALYZER_SYSTEM, "a.name"), (SERIAL_SYSTEM, "a.serial")),
                      "what the analyzer is called, or its serial number", "identifier"),
            Parameter("device-name", Text("a.name"), "how its name begins", "deviceName.name"),
            Parameter("status", Coded((_HL7 + "device-status", "'active'")), "active", "status"),
        ),
    )  # fmt: skip


# Each by the index that has it (`store.versions`).
_VERSIONS = """select id as f, id as t from lab.result_version where id = result_id
    union all select id, result_id from lab.result_version where id <> result_id"""


def _provenance(audience: Audience) -> Kind:
    """Of every version of a result that may be seen."""
    return Kind(
        name="Provenance",
        table="lab.result_version v join lab.result r on r.id = v.result_id",
        id="v.id",
        updated="v.created_at",
        visible=version_visible(audience, evidence=True),
        parameters=(
            Parameter("target", Link({"Observation": Pairs(_VERSIONS)}), "the result", "target"),
            Parameter("recorded", Instant("v.created_at"), "when the version was made", "recorded"),
            Parameter("agent", Link({"Device": "case when r.origin = 'analyzer' then r.analyzer_id end"}, few=False),
                      "the analyzer", "agent.who"),
        ),
        sorts={"recorded": ("v.created_at", "timestamptz")},
    )  # fmt: skip


_OF_PATIENT = Sometimes("a.entity_id", "lower(a.entity_kind) = 'patient'")
_OUTCOME = "case a.outcome when 'ok' then '0' else '4' end"


def _audit_event(audience: Audience) -> Kind:
    return Kind(
        name="AuditEvent",
        table="lab.audit_event a",
        id="a.id",
        updated="a.at",
        visible=AUDITED,
        parameters=(
            Parameter("date", Instant("a.at"), "when it was done", "recorded"),
            Parameter("patient", Link({"Patient": _OF_PATIENT}), "whose data were reached", "entity.what"),
            Parameter("entity", Link({
                "Patient": _OF_PATIENT,
                "Observation": Sometimes("a.entity_id", "a.entity_kind in ('Observation', 'result')"),
            }), "what was reached", "entity.what"),
            Parameter("agent-name", Text("coalesce(nullif(a.actor_name, ''), a.actor_kind)"),
                      "how the name of who did it begins", "agent.name"),
            Parameter("address", Text("a.address"), "how the address begins that it was done from",
                      "agent.network.address"),
            Parameter("outcome", Coded((_HL7 + "audit-event-outcome", _OUTCOME)), "0 done, 4 refused", "outcome"),
            Parameter("type", Coded((TERMINOLOGY + "audit-event-type", "'rest'")), "rest", "type"),
        ),
        sorts={"date": ("a.at", "timestamptz")},
        walks={"_lastUpdated": None, "date": None},
    )  # fmt: skip


EVIDENCE: tuple[Callable[[Audience], Kind], ...] = (_practitioner, _organization, _device, _provenance, _audit_event)

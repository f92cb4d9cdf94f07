"""Provenance: where one version of a result comes from, which is its explanation as far as an EMR may see it.

FHIR has a place for who (agent), from what (entity), and by which rules (policy); the steps in between are told in
words, in the narrative. What a step says of other results than this one, or of what was held, is left out: they may
not be released. The whole explanation is `labora trace`'s.
"""

from __future__ import annotations

from html import escape
from urllib.parse import quote

from interface import __version__
from interface.domain.evidence import ProvenanceView
from interface.domain.model import Origin, ResultStatus
from interface.domain.views import ActorKind
from interface.render.fhir.parts import LOCAL, TERMINOLOGY, Json, clean, instant, without_empty

MESSAGE_SYSTEM, RULE_SET_SYSTEM, USER_SYSTEM = LOCAL + "message", LOCAL + "rule-set", LOCAL + "user"
_PARTICIPANT, _OPERATION = TERMINOLOGY + "provenance-participant-type", TERMINOLOGY + "v3-DataOperation"
_TOLD = ("receive", "decode", "map", "method", "match", "unit", "value", "interval", "flag")  # of this result alone
_ACTOR = {  # as what an actor of ours is named: the type of resource it would be, and whose name it is
    ActorKind.USER: ("Practitioner", USER_SYSTEM),
    ActorKind.CLIENT: ("Organization", LOCAL + "client"),
    ActorKind.LINK: ("Device", LOCAL + "link"),
    ActorKind.RULE_SET: ("Device", RULE_SET_SYSTEM),
}
_ROLE = {ActorKind.USER: "verifier", ActorKind.RULE_SET: "verifier", ActorKind.CLIENT: "enterer"}


def provenance(view: ProvenanceView) -> Json:
    """Of one version that the audience may see. It never changes itself: its one version is the result's."""
    return without_empty(
        {
            "resourceType": "Provenance",
            "id": str(view.id),
            "meta": {"versionId": "1", "lastUpdated": instant(view.recorded_at)},
            "text": _narrative(view),
            "target": [{"reference": _version(view.result_id, view.id), "type": "Observation"}],
            "recorded": instant(view.recorded_at),
            "policy": _policies(view),
            "activity": {"coding": [{"system": _OPERATION, "code": _operation(view)}]},
            "agent": _agents(view),
            "entity": _entities(view),
        }
    )


def _version(result_id: object, version_id: object) -> str:
    return f"Observation/{result_id}/_history/{version_id}"


def _operation(view: ProvenanceView) -> str:
    if view.status is ResultStatus.ENTERED_IN_ERROR:
        return "NULLIFY"
    return "UPDATE" if view.prior is not None else "CREATE"


def _agents(view: ProvenanceView) -> list[Json]:
    """Who measured or entered it, who or what released it, and what put it together. The author of a value is who typed
    it: of what is corrected the analyzer told no more than the value before (R4 provenance-participant-type)."""
    agents: list[Json] = []
    typed_by = _typed_by(view)
    if view.analyzer_id is not None and view.origin is Origin.ANALYZER:
        device = without_empty({"reference": f"Device/{view.analyzer_id}", "display": clean(view.analyzer)})
        agents.append(_agent("informant" if typed_by else "author", device))
    if typed_by:
        agents.append(_agent("author", _named(ActorKind.USER, typed_by, "")))
    if view.verifier and view.verifier != view.actor:
        agents.append(_agent("verifier", _named(ActorKind.USER, view.verifier, view.verifier_title)))
    if view.actor and view.actor_kind in _ACTOR:
        role = _ROLE.get(view.actor_kind, "enterer")
        if view.actor_kind is not ActorKind.LINK or not agents:
            agents.append(_agent(role, _named(view.actor_kind, view.actor, view.actor_title)))
    agents.append(_agent("assembler", {"type": "Device", "display": f"Labora {__version__}"}))
    return agents


def _typed_by(view: ProvenanceView) -> str:
    """The login of who typed the value (`flow.correction`, `flow.entry`); "" where an analyzer or a formula said it."""
    said = next((step.text for step in reversed(view.steps) if step.step == "enter"), "")
    return said.removeprefix("entered by ")


def _agent(role: str, who: Json) -> Json:
    return {"type": {"coding": [{"system": _PARTICIPANT, "code": role}]}, "who": who}


def _named(kind: ActorKind, name: str, title: str) -> Json:
    type_, system = _ACTOR[kind]
    return {"type": type_, "identifier": {"system": system, "value": clean(name)}, "display": clean(title or name)}


def _entities(view: ProvenanceView) -> list[Json]:
    entities: list[Json] = []
    if view.message_id is not None and not _typed_by(view):
        source = {"type": "DocumentReference", "identifier": {"system": MESSAGE_SYSTEM, "value": str(view.message_id)}}
        entities.append({"role": "source", "what": {**source, "display": "the analyzer's message as it was received"}})
    if view.prior is not None:
        entities.append({"role": "revision", "what": {"reference": _version(view.result_id, view.prior)}})
    return entities


def _policies(view: ProvenanceView) -> list[str]:
    """Each rule that decided, in its version: the driver, the map, the rule set, and those of the steps."""
    named = [("driver", view.driver_revision), ("map", str(view.map_revision) if view.map_revision else "")]
    named += [("rules", step.version) for step in view.steps if step.step in _TOLD]
    if view.actor_kind is ActorKind.RULE_SET:
        named.append(("rule-set", view.actor))
    return list(dict.fromkeys(f"{LOCAL}{kind}:{quote(text, safe='@.')}" for kind, text in named if text))


def _narrative(view: ProvenanceView) -> Json | None:
    lines = [
        f"<li>{escape(step.step)}: {escape(clean(step.text))}</li>"
        for step in view.steps
        if step.step in _TOLD and step.verdict != "hold" and clean(step.text)
    ]
    if not lines:
        return None
    # R4 narrative.html: XHTML, a div of its namespace
    return {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><ol>{"".join(lines)}</ol></div>'}

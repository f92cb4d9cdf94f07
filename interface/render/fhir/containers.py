"""Bundles and OperationOutcomes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias
from uuid import UUID

from interface.errors import Issue
from interface.render.fhir.parts import Json
from interface.render.json import dumps

_MATCH, _INCLUDE = b',"search":{"mode":"match"}}', b',"search":{"mode":"include"}}'


Entry: TypeAlias = tuple[str, UUID | str, bytes]  # a resource: its type, its id, and itself as JSON


def searchset(
    base_url: str,
    matches: Iterable[Entry],
    self_url: str,
    next_url: str = "",
    total: int | None = None,
    *,
    included: Iterable[Entry] = (),
    outcome: Json | None = None,
) -> bytes:
    """A Bundle of matches, and of what comes along, as JSON. `base_url` is that of the FHIR service, without a slash at
    its end."""
    bundle: Json = {"resourceType": "Bundle", "type": "searchset"}
    if total is not None:
        bundle["total"] = total
    bundle["link"] = [{"relation": "self", "url": self_url}]
    if next_url:
        bundle["link"].append({"relation": "next", "url": next_url})
    base = dumps(base_url)[:-1].decode()
    entries = [
        f'{{"fullUrl":{base}/{kind}/{id}","resource":'.encode() + resource + mode
        for each, mode in ((matches, _MATCH), (included, _INCLUDE))
        for kind, id, resource in each
    ]
    if outcome is not None:
        entries.append(dumps({"resource": outcome, "search": {"mode": "outcome"}}))
    if not entries:
        return dumps(bundle)
    return b"".join((dumps(bundle)[:-1], b',"entry":[', b",".join(entries), b"]}"))


def operation_outcome(code: str, text: str, severity: str = "error", issues: Sequence[Issue] = ()) -> Json:
    """`code` is an issue type (issue-type value set). `issues`: each fault with its place, instead of the text."""
    each = [
        {"severity": severity, "code": one.code, "diagnostics": one.text, "expression": [one.expression]}
        for one in issues
    ]
    return {
        "resourceType": "OperationOutcome",
        "issue": each or [{"severity": severity, "code": code, "diagnostics": text}],
    }

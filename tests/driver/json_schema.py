"""As much of JSON Schema as the schema of `driver.toml` uses: what of a value it does not allow, with its place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "array": (list,),
    "object": (dict,),
}


def faults(value: Any, rule: Any, path: str = "") -> Iterator[str]:
    where = path or "the whole"
    if rule is False or rule is True:
        if rule is False:
            yield f"{where} is not allowed"
        return
    if "anyOf" in rule:
        tried = [list(faults(value, option, path)) for option in rule["anyOf"]]
        if all(tried):
            yield min(tried, key=len)[0]
        return
    if "enum" in rule and value not in rule["enum"]:
        yield f"{where} is not one of {', '.join(map(repr, rule['enum']))}"
    kind = rule.get("type")
    if kind is not None and (not isinstance(value, _KINDS[kind]) or (isinstance(value, bool) and kind != "boolean")):
        yield f"{where} is not of type {kind}"
        return
    if "pattern" in rule and not re.search(rule["pattern"], value):
        yield f"{where} does not match {rule['pattern']}"
    if "minimum" in rule and value < rule["minimum"]:
        yield f"{where} is less than {rule['minimum']}"
    if kind == "array":
        for index, item in enumerate(value):
            yield from faults(item, rule.get("items", True), f"{path}[{index}]")
    elif kind == "object":
        properties = rule.get("properties", {})
        yield from (f"{path}.{key} is missing".lstrip(".") for key in rule.get("required", ()) if key not in value)
        for key, item in value.items():
            inner = properties.get(key, rule.get("additionalProperties", True))
            yield from faults(item, inner, f"{path}.{key}".lstrip("."))

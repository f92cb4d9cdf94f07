"""Every route about rule sets, used as a laboratory would: for tests that ask all routes there are."""

from __future__ import annotations

from typing import Any

from interface.api.context import Route
from tests.api.bench import Bench, Laboratory

RULES = """
name = "default"
autoverification = "on"
[[rule]]
name = "hemoglobin"
tests = ["HGB"]
unit = "g/dL"
require = [{ value = { min = 12, max = 16 } }]
"""
BODIES: dict[str, Any] = {
    "/api/rules": {"body": RULES, "reason": "first", "source": "here"},
    "/api/rules/off": {"reason": "alarm"},
    "/api/rules/on": {"reason": "explained"},
    "/api/rules/{id}/test": {"stamp": True},
    "/api/rules/{id}/activate": {"reason": "ready"},
    "/api/rules/{id}/deactivate": {"reason": "no more"},
    "/api/rules/{id}/shadow": {"reason": "beside us"},
}
ONE = "/api/rules/{id}"
# What must have been done before, on a revision of its own.
BEFORE = {
    "/api/rules/on": ("/api/rules/off",),
    f"{ONE}/activate": (f"{ONE}/test",),
    f"{ONE}/deactivate": (f"{ONE}/test", f"{ONE}/activate"),
}


async def use_rules(bench: Bench, laboratory: Laboratory, token: str, route: Route) -> int:
    """Ask for something that can be done; the answer's status."""
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        stored = await connection.fetchval("select count(*) from lab.rule_set")
    text = f"{RULES}# {stored + 1}"  # never twice the same
    if "{id}" in route.path:
        made = await bench.ask("POST", "/api/rules", token, json={"body": text, "reason": "r"})
        assert made.status == 201, made.body
    version = f"default@{stored + 1}"
    for path in BEFORE.get(route.path, ()):
        done = await bench.ask("POST", path.replace("{id}", version), token, json=BODIES[path])
        assert done.status < 300, done.body
    options = {"json": BODIES.get(route.path, {}) | ({"body": text} if route.path == "/api/rules" else {})}
    path = route.path.replace("{id}", version)
    answer = await bench.ask(route.method, path, token, **(options if route.method == "POST" else {}))
    assert answer.status < 300, answer.body
    return answer.status

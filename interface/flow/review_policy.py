"""How an organization or a test is reviewed: by one person or two, and how long a critical result may wait."""

from __future__ import annotations

from interface.domain.permissions import Permission
from interface.domain.review import Refusal, ReviewError
from interface.domain.views import Actor
from interface.flow.actors import may
from interface.store import audit
from interface.store import review as rows
from interface.store.db import Connection
from interface.telemetry import CRITICAL_LEVELS

LONGEST_MINUTES, MOST_LEVELS = 7 * 24 * 60, CRITICAL_LEVELS


async def change_policy(connection: Connection, actor: Actor, change: rows.Policy) -> list[rows.Policy]:
    """Say one thing of how the organization, or one test, is reviewed: what is None stays as it was. Whoever changes
    minutes does not say that one person is enough. Raises ReviewError."""
    known = await rows.lock_policy(connection, change.test)
    two_steps = known.two_steps if change.two_steps is None else change.two_steps
    return await set_policy(
        connection, actor, rows.Policy(change.test, two_steps, change.critical_minutes or known.critical_minutes)
    )


async def set_policy(connection: Connection, actor: Actor, policy: rows.Policy) -> list[rows.Policy]:
    """Say, whole, for the organization, or one test, whether two people verify and how long a critical result may wait.

    A medical decision: it needs `rule:write`. Tasks that are open keep their times. Raises ReviewError.
    """
    if not may(actor, Permission.RULE_WRITE):
        text = f"only a user with the permission {Permission.RULE_WRITE} may say how results are reviewed"
        raise ReviewError(Refusal.FORBIDDEN, text)
    minutes = policy.critical_minutes
    if minutes is not None and not (
        0 < len(minutes) <= MOST_LEVELS
        and all(0 < each <= LONGEST_MINUTES for each in minutes)
        and list(minutes) == sorted(set(minutes))
    ):
        raise ReviewError(Refusal.INVALID, "the minutes are whole numbers above 0, each larger than the one before")
    if not await rows.set_policy(connection, actor.organization_id, policy):
        raise ReviewError(Refusal.INVALID, f"there is no test {policy.test}")
    told = {
        "test": policy.test,
        "two_steps": "" if policy.two_steps is None else str(policy.two_steps).lower(),
        "critical_minutes": " ".join(map(str, minutes or ())),
    }
    await audit.record(connection, actor, "review.policy", "review_policy", None, told)
    return await rows.policies(connection)

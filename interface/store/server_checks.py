"""Whether the database server can keep the promises: checked before anything is promised."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import structlog

from interface.errors import ConfigError, ConfigProblem
from interface.store.db import MINIMUM_SERVER, Connection, database_problem
from interface.store.driver_errors import store_errors

log = structlog.get_logger(__name__)

_FACTS: Final = """
select current_setting('server_version_num')::int as version, current_setting('fsync') as fsync,
       current_setting('synchronous_commit') as synchronous_commit,
       current_setting('full_page_writes') as full_page_writes,
       current_user::text as role, r.rolsuper or r.rolbypassrls as above_policies, s.rolsuper as login_superuser
  from pg_roles r, pg_roles s where r.rolname = current_user and s.rolname = session_user
"""


async def check_server(connection: Connection, *, embedded: bool = False, administering: bool = False) -> None:
    """Refuse a server on which the promises cannot be kept: raises ConfigError with one sentence per reason.

    `embedded`: the server is our own child, where no other login exists to warn about. `administering`: the connection
    is the administrator's, whose rights are nobody's concern; the server is.
    """
    with store_errors():
        facts = await connection.fetchrow(_FACTS)
    if facts is None:
        raise database_problem("the database server does not say who is logged in")
    texts = [*_server_problems(facts), *(() if administering else _role_problems(facts))]
    if texts:
        raise ConfigError([ConfigProblem("database.url", text) for text in texts])
    if facts["login_superuser"] and not embedded and not administering:
        log.warning(
            "the database login is a superuser; give Labora a login of its own that is a member of labora_app",
            action="db.check",
        )


def _server_problems(facts: Any) -> Iterator[str]:
    if facts["version"] < MINIMUM_SERVER:
        yield f"PostgreSQL 14 or newer is needed, this server is {facts['version'] // 10000}"
    if facts["fsync"] != "on":
        yield "the server runs with fsync off: what it commits can be lost, so nothing may be acknowledged; set it on"
    if facts["full_page_writes"] != "on":
        yield "the server runs with full_page_writes off: a power cut can damage it; set full_page_writes = on"
    if facts["synchronous_commit"] not in ("on", "remote_apply"):
        yield (
            f"synchronous_commit is {facts['synchronous_commit']}: a commit would be reported before it is on disk; "
            "set synchronous_commit = on"
        )


def _role_problems(facts: Any) -> Iterator[str]:
    if facts["above_policies"]:
        yield f"the role {facts['role']} is above row-level security (superuser or bypassrls); it must be neither"

"""The first schema: tables, default partitions, row-level security, grants."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

WITHOUT_ROW_SECURITY = ("queue",)
APPEND_ONLY = ("frame", "rejected_frame", "result_version", "decision", "audit_event", "qc_result", "qc_action")
DELETABLE = ("queue",)
PARTITIONED = ("frame", "audit_event", "result_version")

# The subselect makes it run once per statement. No setting, or an empty one: null, which no row equals.
ORGANIZATION = "(select nullif(current_setting('labora.org', true), '')::uuid)"
ORGANIZATION_NAME = "(select current_setting('labora.org_name', true))"


def upgrade() -> None:
    ddl = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    for statement in ddl.split(";\n"):
        if statement.strip():
            op.execute(statement)
    names = [
        row[0]
        for row in op.get_bind().exec_driver_sql(
            "select c.relname from pg_class c where c.relnamespace = 'lab'::regnamespace and c.relkind in ('r', 'p')"
            " and c.relname <> 'alembic_version' order by c.relname"
        )
    ]
    op.execute("grant usage on schema lab to labora_app")
    op.execute("grant select on lab.alembic_version to labora_app")
    for name in names:
        grant(name)
        if name not in WITHOUT_ROW_SECURITY:
            protect(name)
    for name in PARTITIONED:
        # No grant on a partition: the application reaches its rows through the parent, whose policies then apply.
        op.execute(f"create table lab.{name}_default partition of lab.{name} default")
        op.execute(f"alter table lab.{name}_default enable row level security")


def grant(name: str) -> None:
    rights = ["select", "insert"]
    if name not in APPEND_ONLY:
        rights.append("update")
    if name in DELETABLE:
        rights.append("delete")
    op.execute(f"grant {', '.join(rights)} on lab.{name} to labora_app")


def protect(name: str) -> None:
    op.execute(f"alter table lab.{name} enable row level security")
    op.execute(f"alter table lab.{name} force row level security")  # the owner too is held to the policies
    if name != "organization":
        own = f"organization_id = {ORGANIZATION}"
        op.execute(f"create policy organization on lab.{name} using ({own}) with check ({own})")
        return
    # An organization is also found by who names it; that lets nobody list them. The list is the owner's.
    own = f"id = {ORGANIZATION}"
    op.execute(f"create policy organization on lab.organization using ({own}) with check ({own})")
    op.execute(f"create policy by_name on lab.organization for select using (name = {ORGANIZATION_NAME})")
    op.execute("create policy administration on lab.organization to labora_owner using (true) with check (true)")

"""Who looked at a result, and who was called about a critical one."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

OWN = "organization_id = (select nullif(current_setting('labora.org', true), '')::uuid)"


def upgrade() -> None:
    ddl = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    for statement in ddl.split(";\n"):
        if statement.strip():
            op.execute(statement)
    op.execute("grant select, insert, update on lab.review_policy to labora_app")
    op.execute("grant select, insert on lab.critical_event to labora_app")  # append-only
    for name in ("review_policy", "critical_event"):
        op.execute(f"alter table lab.{name} enable row level security")
        op.execute(f"alter table lab.{name} force row level security")
        op.execute(f"create policy organization on lab.{name} using ({OWN}) with check ({OWN})")

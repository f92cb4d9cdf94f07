"""Specimens with their way through the laboratory, what an order tells of its patient, and worksheets with places."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

OWN = "organization_id = (select nullif(current_setting('labora.org', true), '')::uuid)"
GRANTS = {"specimen_event": "select, insert", "worksheet_item": "select, insert, update"}


def upgrade() -> None:
    # The specimens of every organization get their state: the owner too is held to the policies else.
    op.execute("alter table lab.specimen no force row level security")
    ddl = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    for statement in ddl.split(";\n"):
        if statement.strip():
            op.execute(statement)
    op.execute("alter table lab.specimen force row level security")
    for name, rights in GRANTS.items():
        op.execute(f"grant {rights} on lab.{name} to labora_app")
        op.execute(f"alter table lab.{name} enable row level security")
        op.execute(f"alter table lab.{name} force row level security")
        op.execute(f"create policy organization on lab.{name} using ({OWN}) with check ({OWN})")

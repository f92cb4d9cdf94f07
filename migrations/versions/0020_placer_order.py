"""What placers call what they order: a number of an authority's for each service, and the items that it stands for.

An order that came by REST with a placer's number has it without an authority, and it stands for all of its items.
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

OWN = "organization_id = (select nullif(current_setting('labora.org', true), '')::uuid)"
TABLES = ("placer_order", "placer_item")
READ = ("lab_order", "order_item")


def upgrade() -> None:
    ddl = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    for name in READ:  # of every organization: the owner too is held to the policies else
        op.execute(f"alter table lab.{name} no force row level security")
    for statement in ddl.split(";\n"):
        if statement.strip():
            op.execute(statement)
    for name in READ:
        op.execute(f"alter table lab.{name} force row level security")
    for name in TABLES:
        op.execute(f"grant select, insert, update on lab.{name} to labora_app")
        op.execute(f"alter table lab.{name} enable row level security")
        op.execute(f"alter table lab.{name} force row level security")
        op.execute(f"create policy organization on lab.{name} using ({OWN}) with check ({OWN})")

"""By which method a result was measured: where a code is mapped, and with the version of a result.

Adding columns with a default changes no row. What a method is called is the laboratory's; "" is not known.
"""

from __future__ import annotations

from alembic import op

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("code_map", "result_version"):
        op.execute(f"alter table lab.{table} add column method text default '' not null")
    op.execute("alter type lab.version_row add attribute method text")

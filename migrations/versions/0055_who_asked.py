"""From where and by whom each number was ordered: of one tube several wards may wait for results."""

from __future__ import annotations

from alembic import op

revision = "0055"
down_revision = "0054"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "alter table lab.placer_order add column ward text default '' not null, add column requester_id uuid,"
        " add constraint placer_order_requester_id_fkey foreign key (organization_id, requester_id)"
        " references lab.practitioner (organization_id, id)"
    )

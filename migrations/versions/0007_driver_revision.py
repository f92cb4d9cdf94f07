"""What each revision of a driver said when it was first used: a link stays at its own, whatever the folder says."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

OWN = "organization_id = (select nullif(current_setting('labora.org', true), '')::uuid)"


def upgrade() -> None:
    op.execute(
        """
        create table lab.driver_revision (
            organization_id uuid not null,
            driver text not null,
            revision text not null,
            digest text not null,
            manifest text not null,
            first_used_at timestamptz default now() not null,
            constraint driver_revision_pkey primary key (organization_id, driver, revision),
            constraint driver_revision_organization_id_fkey foreign key (organization_id)
                references lab.organization (id)
        )
        """
    )
    op.execute("grant select, insert on lab.driver_revision to labora_app")  # append-only: a revision never changes
    op.execute("alter table lab.driver_revision enable row level security")
    op.execute("alter table lab.driver_revision force row level security")
    op.execute(f"create policy organization on lab.driver_revision using ({OWN}) with check ({OWN})")

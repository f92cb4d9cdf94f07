"""What a test's substance is converted by between mass, amount and equivalents: molar mass and valence."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Null: not known, and then nothing is converted. Existing tests keep that: a laboratory decides on its own tests.
    op.execute("alter table lab.test add column molar_mass numeric check (molar_mass > 0)")
    op.execute("alter table lab.test add column valence smallint check (valence > 0)")

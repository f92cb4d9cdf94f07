"""Two indexes less for every result.

What an analyzer called its specimen begins the result's natural key. Of ids longer than what the key has of them, which
many specimens may begin with, there is still one.

A person's results were in two indexes: all of them by their last change, which nothing asked for in that order, and the
released ones by test and time. Now all are in the second; the few that are not released say so when they are looked at.
"""

from __future__ import annotations

from alembic import op

revision = "0046"
down_revision = "0045"
branch_labels = None
depends_on = None

SENT = "result_version_organization_id_specimen_as_sent_idx"


def upgrade() -> None:
    op.execute(f"drop index lab.{SENT}")
    op.execute(
        f"create index {SENT} on lab.result_version (organization_id, specimen_as_sent text_pattern_ops)"
        " where octet_length(specimen_as_sent) > 12"
    )
    op.execute("drop index lab.result_previous_idx")
    op.execute("drop index lab.result_patient_id_updated_at_idx")
    op.execute(
        "create index result_patient_id_test_id_effective_at_idx on lab.result (patient_id, test_id, effective_at)"
    )

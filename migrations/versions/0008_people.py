"""Patients that are merged and split again, newborns with their hour, practitioners."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from alembic import op
from sqlalchemy import text

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# The subselect makes it run once per statement. No setting, or an empty one: null, which no row equals.
OWN = "organization_id = (select nullif(current_setting('labora.org', true), '')::uuid)"


def upgrade() -> None:
    ddl = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    for statement in ddl.split(";\n"):
        if statement.strip():
            op.execute(statement)
    _move_rows()
    for name, rights in (
        ("patient_word", "select, insert, update, delete"),  # made from the names, and made again when they change
        ("patient_merge", "select, insert"),
        ("practitioner_identifier", "select, insert, update"),
    ):
        op.execute(f"grant {rights} on lab.{name} to labora_app")
        op.execute(f"alter table lab.{name} enable row level security")
        op.execute(f"alter table lab.{name} force row level security")  # the owner too is held to the policies
        op.execute(f"create policy organization on lab.{name} using ({OWN}) with check ({OWN})")


def _move_rows() -> None:
    """Names to their words, practitioners' identifiers to their table; of every organization, hence unforced."""
    connection = op.get_bind()
    for name in ("patient", "practitioner"):
        op.execute(f"alter table lab.{name} no force row level security")
    words = text(
        "insert into lab.patient_word (organization_id, word, patient_id, part) values (:of, :word, :who, :part)"
    )
    for of, who, *names in connection.execute(text("select organization_id, id, family, given from lab.patient")):
        for part, name in zip(("family", "given"), names, strict=True):
            for word in sorted(_words(name)):
                connection.execute(words, {"of": of, "word": word, "who": who, "part": part})
    connection.execute(
        text(
            "insert into lab.practitioner_identifier (id, organization_id, practitioner_id, value)"
            " select gen_random_uuid(), organization_id, id, identifier from lab.practitioner where identifier <> ''"
        )
    )
    op.execute("alter table lab.practitioner drop column identifier")
    for name in ("patient", "practitioner"):
        op.execute(f"alter table lab.{name} force row level security")


def _words(name: str) -> set[str]:
    """As the program made them when this was written; it makes them again when a name changes."""
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", name) if not unicodedata.combining(letter))
    kept = "".join(letter if unicodedata.category(letter)[0] in "LNM" else " " for letter in plain.casefold())
    return set(kept.split())

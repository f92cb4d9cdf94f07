"""Less for every result that is written, 25 to a message.

Rows travel in PostgreSQL's own format, in which arrays and instants are what they are.

An order item and a result had two keys over their id, one of them with the organization for what refers to them. That
one is the primary key: row-level security asks for the organization anyway, so that every look-up by id has both.

What explains a result is mostly what explains the analyzer's other results of the same test: it is kept once. Of an
explanation, a part that is a text and no object is the id of such words; `lab.explained` puts them in. Ids are made of
the words, so that whoever needs them finds them or adds them; they are never changed or deleted.

An EMR is owed what a message came to as one thing, for its order: `outbox.versions` says which versions of results.
Only of a result without an order is it owed each by itself. What is owed of an order is found by an index.

The keys of a specimen's results began with a digest and lay anywhere in their index, a page for each message: they
begin with the specimen's id, as `domain.identity` makes them now. The digest of all that they are made of stays.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

OWN = "organization_id = (select nullif(current_setting('labora.org', true), '')::uuid)"
TYPES = {
    "result_row": {"held": "text[]", "effective_at": "timestamptz"},
    "version_row": {"held": "text[]", "instrument_at": "timestamptz", "comments": "text[]", "flags": "text[]"},
}
EXPLAINED = """
create function lab.explained(steps text) returns text language sql stable parallel safe as $$
    select '[' || coalesce(string_agg(case json_typeof(s.step) when 'string' then coalesce(
        (select e.steps from lab.explanation e where e.id = (s.step #>> '{}')::uuid),
        '{"step":"lost","verdict":"hold","text":"this part of the explanation is not there"}'
    ) else s.step::text end, ',' order by s.place), '') || ']'
    from json_array_elements(steps::json) with ordinality as s (step, place)
$$
"""


def upgrade() -> None:
    for name, attributes in TYPES.items():
        for attribute, kind in attributes.items():
            op.execute(f"alter type lab.{name} alter attribute {attribute} type {kind}")
    for name in ("order_item", "result"):
        one_key(name)
    explanations()
    for name in ("result", "result_version"):
        op.execute(f"alter table lab.{name} no force row level security")
    op.execute(
        """update lab.result r set natural_key =
               substr(convert_to(v.specimen_as_sent, 'UTF8') || decode(repeat('00', 12), 'hex'), 1, 12)
               || substr(r.natural_key, 9)
           from lab.result_version v where v.id = r.version_id and r.origin = 'analyzer' and length(natural_key) = 24"""
    )
    for name in ("result", "result_version"):
        op.execute(f"alter table lab.{name} force row level security")
    op.execute("alter table lab.outbox add column versions uuid[] not null default '{}'")
    op.execute("create index outbox_entity_id_idx on lab.outbox (entity_id)")


def one_key(table: str) -> None:
    """The key over organization and id becomes the primary key; what refers to it is made again."""
    referring = op.get_bind().execute(
        text(
            """select conname, conrelid::regclass::text, pg_get_constraintdef(oid) from pg_constraint
                where contype = 'f' and confrelid = cast(:referred as regclass)"""
        ),
        {"referred": f"lab.{table}"},
    )
    constraints = list(referring)
    for name, referrer, _ in constraints:
        op.execute(f"alter table {referrer} drop constraint {name}")
    op.execute(
        f"alter table lab.{table} drop constraint {table}_pkey, drop constraint {table}_organization_id_id_key,"
        f" add constraint {table}_pkey primary key (organization_id, id)"
    )
    for name, referrer, made in constraints:
        op.execute(f"alter table {referrer} add constraint {name} {made}")


def explanations() -> None:
    op.execute(
        """create table lab.explanation (
            organization_id uuid not null,
            id uuid not null,
            steps text not null,
            created_at timestamptz default now() not null,
            constraint explanation_pkey primary key (organization_id, id),
            constraint explanation_organization_id_fkey foreign key (organization_id) references lab.organization (id)
        )"""
    )
    op.execute("create type lab.explanation_row as (id uuid, steps text)")
    op.execute("grant select, insert on lab.explanation to labora_app")
    op.execute("alter table lab.explanation enable row level security")
    op.execute("alter table lab.explanation force row level security")
    op.execute(f"create policy organization on lab.explanation using ({OWN}) with check ({OWN})")
    op.execute(EXPLAINED)
    op.execute("revoke execute on function lab.explained(text) from public")
    op.execute("grant execute on function lab.explained(text) to labora_app")

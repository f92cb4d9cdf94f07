"""The schema `lab`, once: SQLAlchemy metadata that the Alembic migrations must agree with (a test compares them).

Every row carries `organization_id` and every table but `queue` is under row-level security (DESIGN §5). Ids are UUIDv7.
The application role may only INSERT and SELECT on `schema.APPEND_ONLY`. `frame` and `audit_event` (by month) and
`result_version` (by year) are partitioned by range of their id; idempotency keys therefore live in tables of their own.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB

from interface.store.schema import SCHEMA

metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
    },
)


def _id() -> Column[Any]:
    return Column("id", Uuid, primary_key=True)


def _organization() -> Column[Any]:
    return Column("organization_id", Uuid, ForeignKey("lab.organization.id"), nullable=False)


def _organization_seen_to() -> Column[Any]:
    """Where rows are many or an analyzer waits: another reference or the policy's check says already that it exists."""
    return Column("organization_id", Uuid, nullable=False)


def _read_before(name: str) -> Column[Any]:
    """A reference that is not checked again: it was read, under the organization's row-level security and with its row
    locked, in the transaction that writes it, and no row of its target is ever deleted."""
    return Column(name, Uuid, nullable=True)


def _at(name: str, required: bool = False) -> Column[Any]:
    """An instant; `required` ones default to the transaction's time."""
    return Column(
        name, DateTime(timezone=True), nullable=not required, server_default=text("now()") if required else None
    )


def _ref(name: str, target: str, required: bool = False, key: bool = False) -> Column[Any]:
    """A reference to a row of the same organization (see the end of this file); `key`: also the primary key's."""
    return Column(name, Uuid, primary_key=key, nullable=not (required or key), info={"target": target})


def _text(name: str, required: bool = True) -> Column[Any]:
    """Text; required text is never null and defaults to ''."""
    return Column(name, Text, nullable=not required, server_default=text("''") if required else None)


def _texts(name: str) -> Column[Any]:
    return Column(name, ARRAY(Text), nullable=False, server_default=text("'{}'"))


def _int(name: str, default: int = 0) -> Column[Any]:
    return Column(name, Integer, nullable=False, server_default=text(str(default)))


def _flag(name: str, default: bool) -> Column[Any]:
    return Column(name, Boolean, nullable=False, server_default=text("true" if default else "false"))


def _json(name: str) -> Column[Any]:
    return Column(name, JSONB, nullable=False, server_default=text("'{}'"))


def _did() -> tuple[Column[Any], ...]:
    """Who did it and when."""
    return (
        Column("actor_kind", Text, nullable=False), Column("actor_id", Uuid, nullable=True), _text("actor_name"),
        _at("created_at", True),
    )  # fmt: skip


def _ended() -> tuple[Column[Any], ...]:
    """By whom a row was ended, and why: all that is ever written to a row that exists."""
    return _at("ended_at"), Column("ended_by", Uuid, nullable=True), _text("ended_by_name"), _text("end_reason")


# ---- organization and actors ----------------------------------------------------------------------------------------

organization = Table(
    "organization", metadata, _id(), Column("name", Text, nullable=False, unique=True), _text("title"),
    _at("created_at", True)
)  # fmt: skip
counter = Table(  # numbers an organization hands out, such as order numbers: gaps are allowed, repeats are not
    "counter", metadata, Column("organization_id", Uuid, ForeignKey("lab.organization.id"), primary_key=True),
    Column("name", Text, primary_key=True), Column("value", BigInteger, nullable=False, server_default=text("0")),
)  # fmt: skip
app_user = Table(
    "app_user", metadata, _id(), _organization(),
    Column("username", Text, nullable=False), _text("full_name"), Column("password_hash", Text, nullable=False),
    _texts("roles"), _at("created_at", True), _at("disabled_at"), _int("failed_logins"), _at("locked_until"),
    UniqueConstraint("organization_id", "username"),
)  # fmt: skip
client = Table(
    "client", metadata, _id(), _organization(),
    Column("name", Text, nullable=False), Column("secret_hash", LargeBinary, nullable=False), _texts("scopes"),
    _at("created_at", True), _at("disabled_at"),
    UniqueConstraint("organization_id", "name"),
)  # fmt: skip
access_token = Table(
    "access_token", metadata, Column("token_hash", LargeBinary, primary_key=True), _organization(),
    _ref("client_id", "client"), _ref("user_id", "app_user"), _texts("scopes"),
    _at("issued_at", True), Column("expires_at", DateTime(timezone=True), nullable=False), _at("revoked_at"),
)  # fmt: skip
audit_event = Table(
    "audit_event", metadata, _id(), _organization(), _at("at", True),
    Column("actor_kind", Text, nullable=False),  # user, client, link, rule_set, setup
    Column("actor_id", Uuid, nullable=True), _text("actor_name"),
    Column("action", Text, nullable=False),  # read, search, create, release, …
    Column("entity_kind", Text, nullable=False), Column("entity_id", Uuid, nullable=True),
    _text("address"), _text("outcome"), _json("detail"),
    Index(None, "organization_id", "entity_id"), Index(None, "organization_id", "at"),
    postgresql_partition_by="RANGE (id)",
)  # fmt: skip

# ---- links and the journal ------------------------------------------------------------------------------------------

analyzer = Table(
    "analyzer", metadata, _id(), _organization(), Column("name", Text, nullable=False), _text("driver"),
    _text("serial"),
    _at("created_at", True), UniqueConstraint("organization_id", "name"),
)  # fmt: skip
link = Table(
    "link", metadata, _id(), _organization(), Column("name", Text, nullable=False),
    _ref("analyzer_id", "analyzer", True),
    Column("driver", Text, nullable=False), _text("driver_revision"), Column("role", Text, nullable=False),
    _at("created_at", True), UniqueConstraint("organization_id", "name"),
)  # fmt: skip
driver_revision = Table(  # what a revision of a driver said when it was first used; never changed
    "driver_revision", metadata, _organization(),
    Column("driver", Text, nullable=False), Column("revision", Text, nullable=False),
    Column("digest", Text, nullable=False), Column("manifest", Text, nullable=False), _at("first_used_at", True),
    PrimaryKeyConstraint("organization_id", "driver", "revision"),
)  # fmt: skip
lease = Table(
    "lease", metadata, _ref("link_id", "link", key=True), _organization(),
    _text("holder"), Column("epoch", BigInteger, nullable=False, server_default=text("0")), _at("expires_at"),
)  # fmt: skip
message = Table(
    "message", metadata, _id(), _organization_seen_to(), _ref("link_id", "link", True),
    Column("protocol", Text, nullable=False),
    Column("state", Text, nullable=False),  # receiving, complete, incomplete
    _text("settled", required=False),  # released, held, duplicate, rejected, parked
    Column("reply", Text, nullable=False),  # owed, sent, unsent
    _text("control_id"), _text("message_type"), _text("reason"),  # why it is incomplete, rejected or parked
    Column("digest", LargeBinary, nullable=True), _ref("duplicate_of", "message"),
    _int("bytes"), _int("attempts"), _texts("problems"),
    Column("received_at", DateTime(timezone=True), nullable=False), _at("sealed_at"), _at("settled_at"),
    _text("peer"),  # address and port of the sender
    Index(None, "organization_id", "received_at"), Index(None, "organization_id", "control_id"),
    Index(None, "link_id", postgresql_where=text("state = 'receiving'")),
)  # fmt: skip
message_key = Table(  # a resent message is found by what it says, not by what it is called
    "message_key", metadata,
    Column("organization_id", Uuid, primary_key=True),  # so that nobody can take the keys of another's link
    Column("link_id", Uuid, primary_key=True),  # as its message refers to it, which is written by the same statement
    Column("digest", LargeBinary, primary_key=True), Column("message_id", Uuid, nullable=False),
    Column("sealed_at", DateTime(timezone=True), nullable=False),
)  # fmt: skip
# id = message id + ordinal and attempt in its low 24 bits: the primary key makes a repeated commit harmless
frame = Table(
    "frame", metadata, _id(), _organization_seen_to(), Column("message_id", Uuid, nullable=False),
    Column("ordinal", Integer, nullable=False), Column("attempt", SmallInteger, nullable=False),
    Column("fn", SmallInteger, nullable=True),  # frame number; null for MLLP blocks
    Column("bytes", LargeBinary, nullable=False),  # as they were on the wire, envelope included
    # part of the text that is this message's
    Column("start", Integer, nullable=True), Column("stop", Integer, nullable=True),
    Column("digest", LargeBinary, nullable=False), Column("received_at", DateTime(timezone=True), nullable=False),
    postgresql_partition_by="RANGE (id)",
)  # fmt: skip
wire_log = Table(  # what went over a connection and is in no frame, and which frames were when; see `store.wire_log`
    "wire_log", metadata, _id(), _organization(), _ref("link_id", "link", True),
    Column("connection_id", Uuid, nullable=False), _text("peer"),
    Column("began_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True), nullable=False),
    Column("bytes", Integer, nullable=False),  # of the events
    Column("events", LargeBinary, nullable=False),  # `wire.wirelog.encode`
    Index(None, "link_id", "ended_at"),
)  # fmt: skip
queue = Table(  # work to do; no patient data, the only table outside row-level security
    "queue", metadata, Column("message_id", Uuid, primary_key=True), Column("organization_id", Uuid, nullable=False),
    Column("lane", Uuid, nullable=False), Column("priority", SmallInteger, nullable=False, server_default=text("5")),
    _int("attempts"), _at("not_before", True),
    Index(None, "priority", "message_id"),
)  # fmt: skip
delivery = Table(  # what was said to a peer about a message
    "delivery", metadata, _id(), _organization(), _ref("message_id", "message", True), _text("destination"),
    Column("state", Text, nullable=False), Column("bytes", LargeBinary, nullable=True), _int("attempts"),
    _text("error"), _at("created_at", True), _at("delivered_at"), Index(None, "message_id"),
)  # fmt: skip

# ---- people ---------------------------------------------------------------------------------------------------------

patient = Table(
    "patient", metadata, _id(), _organization(), _text("family"), _text("given"),
    Column("birth_date", Date, nullable=True),
    Column("sex", Text, nullable=False, server_default=text("'unknown'")), _flag("active", True), _int("version", 1),
    _at("created_at", True), _at("updated_at", True), _at("birth_at"),  # where the hour is known
    _ref("merged_into_id", "patient"),  # the survivor, never one that is merged itself
    CheckConstraint("merged_into_id <> id", name="patient_merged_into_id_check"),
    Index(None, "merged_into_id", postgresql_where=text("merged_into_id IS NOT NULL")),
    Index(None, "organization_id", "birth_date"),
)  # fmt: skip
patient_identifier = Table(
    "patient_identifier", metadata, _id(), _organization(), _ref("patient_id", "patient", True), _text("authority"),
    Column("value", Text, nullable=False), _text("type"), _at("ended_at"), Index(None, "patient_id"),
    Index("patient_identifier_current_idx", "organization_id", "authority", "value", unique=True,
          postgresql_where=text("ended_at IS NULL")),
    Index(None, "organization_id", "value"),
)  # fmt: skip
patient_word = Table(  # the words of a name (`domain.names`), which plain comparisons find; see `store.people`
    "patient_word", metadata, _organization(), Column("word", Text(collation="C"), nullable=False),
    _ref("patient_id", "patient", True), Column("part", Text, nullable=False),  # family, given
    PrimaryKeyConstraint("organization_id", "word", "patient_id", "part"), Index(None, "patient_id"),
)  # fmt: skip
patient_merge = Table(  # who was found to be whom, and that it was taken back; `patient.merged_into_id` follows from it
    "patient_merge", metadata, _id(), _organization(), _ref("prior_id", "patient", True),
    _ref("survivor_id", "patient", True), _ref("undoes_id", "patient_merge"), Column("reason", Text, nullable=False),
    Column("actor_kind", Text, nullable=False), Column("actor_id", Uuid, nullable=True), _text("actor_name"),
    _at("created_at", True), UniqueConstraint("undoes_id"), Index(None, "prior_id"), Index(None, "survivor_id"),
)  # fmt: skip
practitioner = Table(
    "practitioner", metadata, _id(), _organization(), _text("family"), _text("given"), _at("created_at", True),
    _text("role"), _flag("active", True), _int("version", 1), _at("updated_at", True),
)  # fmt: skip
practitioner_identifier = Table(
    "practitioner_identifier", metadata, _id(), _organization(), _ref("practitioner_id", "practitioner", True),
    _text("authority"), Column("value", Text, nullable=False), _text("type"), _at("ended_at"),
    Index(None, "practitioner_id"),
    Index("practitioner_identifier_current_idx", "organization_id", "authority", "value", unique=True,
          postgresql_where=text("ended_at IS NULL")),
)  # fmt: skip

# ---- catalogue and maps ---------------------------------------------------------------------------------------------

test = Table(
    "test", metadata, _id(), _organization(), Column("code", Text, nullable=False),
    Column("name", Text, nullable=False),
    _text("loinc"), _text("unit"), Column("decimals", SmallInteger, nullable=True),
    Column("kind", Text, nullable=False, server_default=text("'numeric'")), _text("department"),
    _texts("specimen_types"),
    _text("source"), _flag("active", True), Column("molar_mass", Numeric, nullable=True),  # g/mol
    Column("valence", SmallInteger, nullable=True), _int("version", 1), UniqueConstraint("organization_id", "code"),
)  # fmt: skip
panel = Table(
    "panel", metadata, _id(), _organization(), Column("code", Text, nullable=False),
    Column("name", Text, nullable=False),
    _text("loinc"), Column("test_ids", ARRAY(Uuid), nullable=False), _int("version", 1), _text("source"),
    _flag("active", True), UniqueConstraint("organization_id", "code"),
)  # fmt: skip
specimen_type = Table(
    "specimen_type", metadata, _id(), _organization(), Column("code", Text, nullable=False),
    Column("name", Text, nullable=False), _text("source"), _flag("active", True),
    UniqueConstraint("organization_id", "code"),
)  # fmt: skip
reference_interval = Table(
    "reference_interval", metadata, _id(), _organization(), _ref("test_id", "test", True), _text("unit"),
    Column("low", Numeric, nullable=True), Column("high", Numeric, nullable=True),
    Column("critical_low", Numeric, nullable=True), Column("critical_high", Numeric, nullable=True),
    _text("sex", required=False), _int("age_low_d"), Column("age_high_d", Integer, nullable=True),
    _text("specimen_type"),
    _text("text"), _text("source"), _int("priority"), _at("valid_from"), _at("valid_to"),
    Column("age_low_h", Integer, nullable=True), Column("age_high_h", Integer, nullable=True),
    Column("pregnant", Boolean, nullable=True),
    Column("gestation_low_w", Integer, nullable=True), Column("gestation_high_w", Integer, nullable=True),
    _text("method"), _text("analyzer"), Column("use", Text, nullable=False, server_default=text("'both'")),
    _texts("normal_values"), _texts("abnormal_values"), _texts("critical_values"), Index(None, "test_id"),
)  # fmt: skip
map_change = Table(  # one change of code maps, of one row or of thousands; `number` counts an organization's, from 1
    "map_change", metadata, _id(), _organization(), Column("number", Integer, nullable=False),
    Column("kind", Text, nullable=False),  # set, unset, import, apply, upgrade, copy, undo
    _text("reason"), _text("source"), _ref("undoes_id", "map_change"),
    Column("actor_kind", Text, nullable=False), Column("actor_id", Uuid, nullable=True), _text("actor_name"),
    _at("created_at", True), UniqueConstraint("organization_id", "number"),
)  # fmt: skip
# Analyzer code → test; a site's row (origin 'site') wins over the shipped revision. A change ends rows and adds others;
# `ended_at` and `ended_by` are all that is ever written to a row that exists. No test: to be held, whatever is below.
code_map = Table(
    "code_map", metadata, _id(), _organization(), Column("driver", Text, nullable=False), _ref("link_id", "link"),
    Column("code", Text, nullable=False), _text("specimen_type"), _ref("test_id", "test"), _text("unit"),
    Column("origin", Text, nullable=False), _int("revision", 1), _at("valid_from", True), _at("valid_to"),
    _text("note"), _ref("change_id", "map_change"), _at("ended_at"), _ref("ended_by", "map_change"),
    Index(None, "organization_id", "driver"), Index(None, "change_id"), Index(None, "ended_by"),
)  # fmt: skip
value_map = Table(  # words of an analyzer → ours
    "value_map", metadata, _id(), _organization(), Column("driver", Text, nullable=False), _text("code"),
    Column("raw", Text, nullable=False), Column("value", Text, nullable=False), Column("origin", Text, nullable=False),
    _int("revision", 1), _at("valid_from", True), _at("valid_to"), Index(None, "organization_id", "driver"),
)  # fmt: skip
rule_set = Table(  # a revision never changes; `digest` is of its text
    "rule_set", metadata, _id(), _organization(), Column("name", Text, nullable=False), _int("revision", 1),
    Column("body", Text, nullable=False), _text("digest"), _text("source"), _text("reason"), _text("actor_kind"),
    Column("actor_id", Uuid, nullable=True), _text("actor_name"), _at("created_at", True),
    UniqueConstraint("organization_id", "name", "revision"),
)  # fmt: skip
rule_validation = Table(  # that the rule bench found nothing wrong with a revision, and what that relied on
    "rule_validation", metadata, _id(), _organization(), _ref("rule_set_id", "rule_set", True),
    Column("digest", Text, nullable=False), Column("engine", Text, nullable=False),
    Column("catalogue", Text, nullable=False), _int("vectors"), _int("cases"), _int("uncovered"), *_did(),
    Index(None, "rule_set_id"),
)  # fmt: skip
rule_use = Table(  # that a revision is active, or runs in the shadow, until it is ended
    "rule_use", metadata, _id(), _organization(), _ref("rule_set_id", "rule_set", True),
    Column("name", Text, nullable=False), Column("mode", Text, nullable=False, server_default=text("'shadow'")),
    _text("reason"), *_did(), *_ended(),
    Index("rule_use_active_idx", "organization_id", "name", unique=True,
          postgresql_where=text("ended_at is null and mode = 'active'")),
    Index("rule_use_shadow_idx", "rule_set_id", unique=True,
          postgresql_where=text("ended_at is null and mode = 'shadow'")),
    Index(None, "rule_set_id"),
)  # fmt: skip
rule_switch = Table(  # that autoverification is off, until it is ended
    "rule_switch", metadata, _id(), _organization(), _text("key"), _text("reason"),
    Column("scope", Text, nullable=False, server_default=text("'organization'")), *_did(), *_ended(),
    Index("rule_switch_off_idx", "organization_id", "scope", "key", unique=True,
          postgresql_where=text("ended_at is null")),
)  # fmt: skip
shadow_verdict = Table(  # what a revision that decides nothing would have done with a version of a result
    "shadow_verdict", metadata, _id(), _organization(), _ref("rule_set_id", "rule_set", True),
    Column("result_id", Uuid, nullable=False), Column("result_version_id", Uuid, nullable=False), _text("test_code"),
    Column("action", Text, nullable=False), _texts("against"), _at("created_at", True),
    Index(None, "rule_set_id", "id"), Index(None, "result_id"),
)  # fmt: skip

# ---- orders and specimens -------------------------------------------------------------------------------------------

lab_order = Table(
    "lab_order", metadata, _id(), _organization(), Column("number", Text, nullable=False), _text("placer_number"),
    _ref("patient_id", "patient"), Column("priority", Text, nullable=False, server_default=text("'routine'")),
    _ref("requester_id", "practitioner"), _text("clinical_history"), _int("version", 1), _at("ordered_at", True),
    _at("updated_at", True), _at("cancelled_at"), _text("cancel_reason"), _text("ward"), _text("patient_group"),
    Column("pregnant", Boolean, nullable=True), Column("gestation_weeks", Integer, nullable=True),
    UniqueConstraint("organization_id", "number"), Index(None, "patient_id"),
    Index(None, "organization_id", "placer_number"),
)  # fmt: skip
specimen = Table(
    "specimen", metadata, _id(), _organization(), Column("barcode", Text, nullable=False), _text("type"),
    _ref("order_id", "lab_order"), _ref("patient_id", "patient"), _ref("parent_id", "specimen"),
    # Where it is (`domain.states`), and what follows from that: whether it may be measured. A check ties the two.
    Column("state", Text, nullable=False, server_default=text("'expected'")),
    Column("status", Text, nullable=False, server_default=text("'available'")),
    _text("reject_code"), _text("reject_reason"), _int("version", 1),
    _text("container"), Column("time_point_min", Integer, nullable=True),
    _text("collected_by"), _text("received_by"), _text("rack"), _text("position"),
    _at("collected_at"), _at("received_at"), _at("created_at", True), _at("updated_at", True),
    Index(None, "organization_id", "barcode"), Index(None, "patient_id"), Index(None, "order_id"),
    Index(None, "parent_id"), Index(None, "organization_id", "rack", postgresql_where=text("rack <> ''")),
)  # fmt: skip
specimen_event = Table(  # every step of a specimen and every place it had; append-only
    "specimen_event", metadata, _id(), _organization(), _ref("specimen_id", "specimen", True),
    Column("action", Text, nullable=False), Column("state", Text, nullable=False), _text("rack"), _text("position"),
    _text("reason"), _at("happened_at", True),
    Column("actor_kind", Text, nullable=False), Column("actor_id", Uuid, nullable=True), _text("actor_name"),
    _at("created_at", True), Index(None, "specimen_id"),
)  # fmt: skip
order_item = Table(
    "order_item", metadata, _id(), _organization(), _ref("order_id", "lab_order", True), _ref("test_id", "test", True),
    _ref("specimen_id", "specimen"), Column("status", Text, nullable=False, server_default=text("'requested'")),
    _text("reason"),  # why it was cancelled, rejected or goes back
    _at("updated_at", True), Index(None, "order_id"), Index(None, "specimen_id"),
    Index("order_item_open_idx", "organization_id", "test_id",
          postgresql_where=text("status in ('requested', 'collected', 'received', 'in_progress')")),
)  # fmt: skip
dispatch = Table(  # what each analyzer was told
    "dispatch", metadata, _id(), _organization(), _ref("order_item_id", "order_item", True),
    _ref("link_id", "link", True),
    Column("state", Text, nullable=False), _text("answer"), _at("created_at", True), _at("updated_at", True),
    Index(None, "order_item_id"),
)  # fmt: skip
worksheet = Table(
    "worksheet", metadata, _id(), _organization(), Column("number", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("state", Text, nullable=False),  # open, completed
    _ref("analyzer_id", "analyzer"), _ref("test_id", "test"), _text("qc"), _text("note"), _int("version", 1),
    _text("created_by"), _text("completed_by"),
    _at("created_at", True), _at("updated_at", True), _at("completed_at"),
    UniqueConstraint("organization_id", "number"),
)  # fmt: skip
worksheet_item = Table(  # `open`: it is worked on here and nowhere else
    "worksheet_item", metadata, _id(), _organization(), _ref("worksheet_id", "worksheet", True),
    Column("place", Integer, nullable=False), _ref("order_item_id", "order_item", True), _flag("open", True),
    _ref("result_id", "result"),
    UniqueConstraint("worksheet_id", "place"),
    Index("worksheet_item_open_idx", "order_item_id", unique=True, postgresql_where=text("open")),
)  # fmt: skip

# ---- results --------------------------------------------------------------------------------------------------------

result = Table(  # the pointer to the current version
    "result", metadata, _id(), _organization_seen_to(),
    # DESIGN §1.2: analyzer, specimen, code path, occurrence, its time
    Column("natural_key", LargeBinary, nullable=False),
    _read_before("analyzer_id"),  # null: a person's or a calculated one
    _read_before("specimen_id"), _read_before("patient_id"), _read_before("order_id"),
    _ref("order_item_id", "order_item"), _read_before("test_id"),
    Column("version_id", Uuid, nullable=False), _int("version", 1), Column("status", Text, nullable=False),
    _texts("held"),
    # a change to a released result that a person has not decided yet
    Column("pending_version_id", Uuid, nullable=True),
    _at("created_at", True), _at("updated_at", True), _at("released_at"),
    _flag("reportable", True),  # exactly one of an order item's runs
    Column("origin", Text, nullable=False, server_default=text("'analyzer'")),  # analyzer, manual, calculation
    _at("effective_at", True),  # collected, else measured, else received
    UniqueConstraint("organization_id", "natural_key"), Index(None, "patient_id", "updated_at"),
    Index(
        "result_previous_idx", "patient_id", "test_id", "effective_at",
        postgresql_where=text("reportable and status in ('final', 'corrected', 'amended')"),
    ),
    Index(None, "specimen_id"),
    Index(None, "order_id"), Index(None, "organization_id", "updated_at"),
    Index("result_held_idx", "organization_id", "created_at", postgresql_where=text("held <> '{}'")),
    Index(
        "result_waiting_idx", "organization_id", "created_at",
        postgresql_where=text("status in ('registered', 'preliminary') or pending_version_id is not null"),
    ),
)  # fmt: skip
# append-only; one covering row: what FHIR and REST show needs no other table but patient and specimen
result_version = Table(
    "result_version", metadata, _id(), _organization_seen_to(), Column("result_id", Uuid, nullable=False),
    _int("version", 1), Column("status", Text, nullable=False), _texts("held"),
    Column("message_id", Uuid, nullable=True),
    _text("location"),
    # as the analyzer said it
    _text("specimen_as_sent"), _text("code"), _text("code_path"), _text("raw_value"), _text("raw_unit"),
    _text("raw_flags"),
    _text("raw_status"), _text("raw_reference"), _text("instrument_time"), _at("instrument_at"), _texts("comments"),
    # as the laboratory says it
    _text("test_code"), _text("test_name"), _text("loinc"), Column("kind", Text, nullable=False), _text("comparator"),
    Column("number", Numeric, nullable=True), _text("value"), _text("unit"), Column("low", Numeric, nullable=True),
    Column("high", Numeric, nullable=True), _text("reference"), _texts("flags"), _text("note"),
    Column("verified_by", Uuid, nullable=True),  # the first of two people who verify
    Column("actor_kind", Text, nullable=False), Column("actor_id", Uuid, nullable=True), _at("created_at", True),
    Index(None, "result_id"), Index(None, "message_id"), Index(None, "organization_id", "specimen_as_sent"),
    postgresql_partition_by="RANGE (id)",
)  # fmt: skip
decision = Table(  # the explanation of one result version: its steps in order
    "decision", metadata, Column("result_version_id", Uuid, primary_key=True), _organization_seen_to(),
    Column("steps", JSON, nullable=False),  # not JSONB: written for every result, read by few
    _text("driver_revision"), _int("map_revision"), _at("created_at", True),
)  # fmt: skip
follow_up = Table(  # what follows from a result: another run of it, at a dilution perhaps, or another test
    "follow_up", metadata, _id(), _organization(), Column("kind", Text, nullable=False),  # reflex, rerun, dilution
    _ref("result_id", "result", True), _text("rule"), _int("depth", 1),
    _ref("order_item_id", "order_item"),  # that the follow-up's result answers
    Column("state", Text, nullable=False, server_default=text("'requested'")),  # requested, sent, done, cancelled
    Column("dilution", Numeric, nullable=True), _text("reason"), Column("actor_kind", Text, nullable=False),
    Column("actor_id", Uuid, nullable=True), _at("created_at", True), _at("updated_at", True),
    UniqueConstraint("organization_id", "result_id", "rule"), Index(None, "order_item_id"),
)  # fmt: skip
review_policy = Table(  # how an organization (no test), or one of its tests, is reviewed
    "review_policy", metadata, _id(), _organization(), _ref("test_id", "test"),
    Column("two_steps", Boolean, nullable=True), Column("critical_minutes", ARRAY(Integer), nullable=True),
    _at("updated_at", True), UniqueConstraint("organization_id", "test_id"),
    Index("review_policy_organization_idx", "organization_id", unique=True, postgresql_where=text("test_id is null")),
)  # fmt: skip
critical_notification = Table(  # the task to tell somebody of a critical result; what was done is in `critical_event`
    "critical_notification", metadata, _id(), _organization(), _ref("result_id", "result", True),
    Column("subject_id", Uuid, nullable=False),  # the order item, whose runs are one matter; the result without one
    Column("result_version_id", Uuid, nullable=False),  # what it is about now
    Column("kind", Text, nullable=False, server_default=text("'critical'")),  # critical, no_longer_critical
    Column("state", Text, nullable=False),  # open, attempted, notified, closed, withdrawn
    _ref("follows_id", "critical_notification"),
    Column("escalate_at", ARRAY(DateTime(timezone=True)), nullable=False, server_default=text("'{}'")),
    _at("aimed_at", True), _text("notified"), _ref("practitioner_id", "practitioner"), _at("notified_at"),
    _text("means"), _flag("read_back", False), _int("version", 1), _at("created_at", True), _at("updated_at", True),
    _at("closed_at"),
    Index(None, "result_id"), Index(None, "subject_id"),
    Index(
        "critical_notification_live_idx", "organization_id", "subject_id", unique=True,
        postgresql_where=text("state in ('open', 'attempted') or (state = 'notified' and not read_back)"),
    ),
    Index(
        "critical_notification_waiting_idx", "organization_id", "created_at",
        postgresql_where=text("state not in ('closed', 'withdrawn')"),
    ),
)  # fmt: skip
critical_event = Table(  # append-only: who did what about a critical result
    "critical_event", metadata, _id(), _organization(), _ref("notification_id", "critical_notification", True),
    Column("what", Text, nullable=False),  # opened, aimed, attempted, notified, closed, withdrawn
    Column("kind", Text, nullable=False), Column("result_version_id", Uuid, nullable=False),
    _at("happened_at", True), _text("person"), _ref("practitioner_id", "practitioner"), _text("means"),
    _text("outcome"), Column("read_back", Boolean, nullable=True), _text("comment"),
    Column("actor_kind", Text, nullable=False), Column("actor_id", Uuid, nullable=True), _text("actor_name"),
    _at("created_at", True), Index(None, "notification_id"),
)  # fmt: skip
outbox = Table(  # what an EMR is owed, in order per destination
    "outbox", metadata, _id(), _organization_seen_to(), _text("destination"), Column("kind", Text, nullable=False),
    Column("entity_id", Uuid, nullable=False), _int("entity_version"), _int("attempts"), _at("created_at", True),
    _at("not_before"), _at("delivered_at"), _text("error"),
    Index("outbox_due_idx", "organization_id", "destination", "id", postgresql_where=text("delivered_at IS NULL")),
)  # fmt: skip
report = Table(
    "report", metadata, _id(), _organization(), _ref("order_id", "lab_order", True), _int("version", 1),
    Column("status", Text, nullable=False), Column("body", LargeBinary, nullable=True), _at("created_at", True),
    UniqueConstraint("order_id", "version"),
)  # fmt: skip

# ---- quality control ------------------------------------------------------------------------------------------------

qc_material = Table(
    "qc_material", metadata, _id(), _organization(), Column("name", Text, nullable=False), _text("manufacturer"),
    UniqueConstraint("organization_id", "name"),
)  # fmt: skip
qc_lot = Table(
    "qc_lot", metadata, _id(), _organization(), _ref("material_id", "qc_material", True),
    Column("lot", Text, nullable=False),
    _text("level"), Column("expires_on", Date, nullable=True), UniqueConstraint("material_id", "lot", "level"),
)  # fmt: skip
qc_target = Table(
    "qc_target", metadata, _id(), _organization(), _ref("lot_id", "qc_lot", True),
    _ref("analyzer_id", "analyzer", True),
    _ref("test_id", "test", True), Column("mean", Numeric, nullable=False), Column("sd", Numeric, nullable=False),
    _text("unit"), _at("valid_from", True), _at("valid_to"),
)  # fmt: skip
qc_result = Table(  # controls and calibrators as the analyzers send them; never patient data
    "qc_result", metadata, _id(), _organization(), Column("natural_key", LargeBinary, nullable=False),
    _ref("analyzer_id", "analyzer", True), Column("message_id", Uuid, nullable=True),
    Column("role", Text, nullable=False),
    _text("specimen_as_sent"), _text("code"), _ref("test_id", "test"), Column("kind", Text, nullable=False),
    Column("number", Numeric, nullable=True), _text("value"), _text("raw_value"), _text("unit"), _text("raw_flags"),
    _text("instrument_time"), _at("instrument_at"), _text("location"), _at("created_at", True),
    UniqueConstraint("organization_id", "natural_key"), Index(None, "analyzer_id", "created_at"),
)  # fmt: skip
qc_action = Table(
    "qc_action", metadata, _id(), _organization(), _ref("qc_result_id", "qc_result", True), _text("text"),
    Column("user_id", Uuid, nullable=False), _at("created_at", True),
)  # fmt: skip


# ---- references -----------------------------------------------------------------------------------------------------


def _refer(table: Table, column: Column[Any]) -> None:
    """A foreign key over the organization too: PostgreSQL checks foreign keys past row-level security, so that without
    it a row could refer to another organization's, and would tell by being taken that there is one of that id."""
    target = metadata.tables[f"{SCHEMA}.{column.info['target']}"]
    name = f"{target.name}_organization_id_id_key"
    if name not in {constraint.name for constraint in target.constraints}:
        target.append_constraint(UniqueConstraint("organization_id", "id", name=name))
    table.append_constraint(
        ForeignKeyConstraint(
            ["organization_id", column.name],
            [f"{target.fullname}.organization_id", f"{target.fullname}.id"],
            name=f"{table.name}_{column.name}_fkey",
        )
    )


for _table in list(metadata.tables.values()):
    for _column in [each for each in _table.columns if "target" in each.info]:
        _refer(_table, _column)

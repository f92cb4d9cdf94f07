"""The schema `lab`, once: SQLAlchemy metadata that the Alembic migrations must agree with (a test compares them).

Every row carries `organization_id` (but those of `daemon`), and every table but `queue` and `daemon` is under row-level
security (DESIGN §5). Ids are UUIDv7. The application role may only INSERT and SELECT on `schema.APPEND_ONLY`. `frame`
and `audit_event` (by month) and `result_version` (by year) are partitioned by range of their id; idempotency keys
therefore live in tables of their own.
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
    Numeric,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from interface.store import alert_tables as alert_tables  # their tables are of the same metadata
from interface.store import change_tables as change_tables
from interface.store import dispatch_tables as dispatch_tables
from interface.store import history_tables as history_tables
from interface.store import law_tables as law_tables
from interface.store import lease_tables as lease_tables
from interface.store import pbrtqc_tables as pbrtqc_tables
from interface.store import qc_tables as qc_tables
from interface.store import report_tables as report_tables
from interface.store import retention_tables as retention_tables
from interface.store.columns import (
    at,
    did,
    document,
    ended,
    flag,
    integer,
    key,
    read_before,
    ref,
    string,
    strings,
    tenant,
    tenant_key,
    tenant_seen_to,
)
from interface.store.columns import metadata as metadata
from interface.store.schema import SCHEMA

# ---- organization and actors ----------------------------------------------------------------------------------------

organization = Table(
    "organization", metadata, key(), Column("name", Text, nullable=False, unique=True), string("title"),
    at("created_at", True), integer("version", 1), at("updated_at", True),
)  # fmt: skip
counter = Table(  # numbers an organization hands out, such as order numbers: gaps are allowed, repeats are not
    "counter", metadata, Column("organization_id", Uuid, ForeignKey("lab.organization.id"), primary_key=True),
    Column("name", Text, primary_key=True), Column("value", BigInteger, nullable=False, server_default=text("0")),
)  # fmt: skip
page_key = Table(  # that an organization's page links are sealed with; never shown
    "page_key", metadata, Column("organization_id", Uuid, ForeignKey("lab.organization.id"), primary_key=True),
    Column("key", LargeBinary, nullable=False), at("created_at", True),
)  # fmt: skip
app_user = Table(
    "app_user", metadata, key(), tenant(),
    Column("username", Text, nullable=False), string("full_name"), Column("password_hash", Text, nullable=False),
    strings("roles"), at("created_at", True), at("disabled_at"), integer("failed_logins"), at("locked_until"),
    UniqueConstraint("organization_id", "username"),
)  # fmt: skip
client = Table(
    "client", metadata, key(), tenant(),
    Column("name", Text, nullable=False), Column("secret_hash", LargeBinary, nullable=True), strings("scopes"),
    at("created_at", True), at("disabled_at"),
    document("jwks"), string("jwks_url"),  # of a client that signs: its public keys, or where they are
    UniqueConstraint("organization_id", "name"),
    CheckConstraint("(secret_hash is not null)::int + (jwks <> '{}')::int + (jwks_url <> '')::int <= 1",
                    name="client_one_method_check"),
)  # fmt: skip
client_assertion = Table(  # what a client signed and was given a token for: none is taken twice
    "client_assertion", metadata,
    Column("organization_id", Uuid, ForeignKey("lab.organization.id"), primary_key=True),
    ref("client_id", "client", key=True), Column("jti_digest", LargeBinary, primary_key=True),
    Column("expires_at", DateTime(timezone=True), nullable=False),
)  # fmt: skip
idempotency_key = Table(  # what was answered under a client's own key, so that the same request is answered so again
    "idempotency_key", metadata, Column("organization_id", Uuid, ForeignKey("lab.organization.id"), primary_key=True),
    Column("actor_id", Uuid, primary_key=True), Column("key", Text, primary_key=True),
    Column("request", LargeBinary, nullable=False, server_default=text("''")),
    Column("status", SmallInteger, nullable=False, server_default=text("0")), string("media"), string("location"),
    string("etag"), Column("body", LargeBinary, nullable=False, server_default=text("''")), at("created_at", True),
)  # fmt: skip
access_token = Table(
    "access_token", metadata, Column("token_hash", LargeBinary, primary_key=True), tenant(),
    ref("client_id", "client"), ref("user_id", "app_user"), strings("scopes"),
    at("issued_at", True), Column("expires_at", DateTime(timezone=True), nullable=False), at("revoked_at"),
)  # fmt: skip
audit_event = Table(
    "audit_event", metadata, key(), tenant_seen_to(), at("at", True),
    Column("actor_kind", Text, nullable=False),  # user, client, link, rule_set, setup
    Column("actor_id", Uuid, nullable=True), string("actor_name"),
    Column("action", Text, nullable=False),  # read, search, create, release, …
    Column("entity_kind", Text, nullable=False), Column("entity_id", Uuid, nullable=True),
    string("address"), string("outcome"), document("detail"),
    Column("position", BigInteger, nullable=False,
           server_default=text("pg_current_xact_id()::text::bigint + lab.audit_offset()")),
    Index(None, "organization_id", "entity_id"), Index(None, "organization_id", "at"),
    Index(None, "organization_id", "position", "id"),
    postgresql_partition_by="RANGE (id)",
)  # fmt: skip
audit_segment = Table(  # seals the audit rows between two places: `store.audit_chain`
    "audit_segment", metadata,
    Column("organization_id", Uuid, ForeignKey("lab.organization.id"), primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("began_position", BigInteger, nullable=False), Column("began_id", Uuid, nullable=False),
    Column("ended_position", BigInteger, nullable=False), Column("ended_id", Uuid, nullable=False),
    Column("sealed_at", DateTime(timezone=True), nullable=False), Column("rows", Integer, nullable=False),
    Column("entries", LargeBinary, nullable=False),  # id and digest of each row
    Column("previous", LargeBinary, nullable=False), Column("digest", LargeBinary, nullable=False),
)  # fmt: skip

# ---- links and the journal ------------------------------------------------------------------------------------------

analyzer = Table(
    "analyzer", metadata, key(), tenant(), Column("name", Text, nullable=False), string("driver"),
    string("serial"),
    at("created_at", True), flag("worklist", False),  # it is told of its work without asking
    integer("version", 1), at("updated_at", True), string("manufacturer"), string("model"),  # as its driver says
    UniqueConstraint("organization_id", "name"),
)  # fmt: skip
link = Table(
    "link", metadata, key(), tenant(), Column("name", Text, nullable=False),
    ref("analyzer_id", "analyzer", True),
    Column("driver", Text, nullable=False), string("driver_revision"), Column("role", Text, nullable=False),
    at("created_at", True), UniqueConstraint("organization_id", "name"),
)  # fmt: skip
driver_revision = Table(  # what a revision of a driver said when it was first used; never changed
    "driver_revision", metadata, tenant(),
    Column("driver", Text, nullable=False), Column("revision", Text, nullable=False),
    Column("digest", Text, nullable=False), Column("manifest", Text, nullable=False), at("first_used_at", True),
    PrimaryKeyConstraint("organization_id", "driver", "revision"),
)  # fmt: skip
message = Table(
    "message", metadata, key(), tenant_seen_to(), ref("link_id", "link", True),
    Column("protocol", Text, nullable=False),
    Column("state", Text, nullable=False),  # receiving, complete, incomplete
    string("settled", required=False),  # released, held, duplicate, rejected, parked
    Column("reply", Text, nullable=False),  # owed, sent, unsent
    string("control_id"), string("message_type"), string("reason"),  # why it is incomplete, rejected or parked
    Column("digest", LargeBinary, nullable=True), ref("duplicate_of", "message"),
    integer("bytes"), integer("attempts"), strings("problems"),
    Column("received_at", DateTime(timezone=True), nullable=False), at("sealed_at"), at("settled_at"),
    string("peer"),  # address and port of the sender
    Index(None, "organization_id", "received_at"), Index(None, "organization_id", "control_id"),
    Index(None, "link_id", postgresql_where=text("state = 'receiving'")),
)  # fmt: skip
message_key = Table(  # a resent message is found by what it says, not by what it is called
    "message_key", metadata,
    Column("organization_id", Uuid, primary_key=True),  # so that nobody can take the keys of another's link
    Column("link_id", Uuid, primary_key=True),  # as its message refers to it, which is written by the same statement
    Column("digest", LargeBinary, primary_key=True), Column("message_id", Uuid, nullable=False),
    Column("sealed_at", DateTime(timezone=True), nullable=False),
    flag("taken", False),  # its sender went on after our reply: the same bytes once more are said once more
    Column("before_id", Uuid, nullable=True),  # the message that said so before
)  # fmt: skip
# id = message id + ordinal and attempt in its low 24 bits: the primary key makes a repeated commit harmless
frame = Table(
    "frame", metadata, key(), tenant_seen_to(), Column("message_id", Uuid, nullable=False),
    Column("ordinal", Integer, nullable=False), Column("attempt", SmallInteger, nullable=False),
    Column("fn", SmallInteger, nullable=True),  # frame number; null for MLLP blocks
    Column("bytes", LargeBinary, nullable=False),  # as they were on the wire, envelope included
    # part of the text that is this message's
    Column("start", Integer, nullable=True), Column("stop", Integer, nullable=True),
    Column("digest", LargeBinary, nullable=False), Column("received_at", DateTime(timezone=True), nullable=False),
    postgresql_partition_by="RANGE (id)",
)  # fmt: skip
wire_log = Table(  # what went over a connection and is in no frame, and which frames were when; see `store.wire_log`
    "wire_log", metadata, key(), tenant(), ref("link_id", "link", True),
    Column("connection_id", Uuid, nullable=False), string("peer"),
    Column("began_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True), nullable=False),
    Column("bytes", Integer, nullable=False),  # of the events
    Column("events", LargeBinary, nullable=False),  # `wire.wirelog.encode`
    Index(None, "link_id", "ended_at"),
)  # fmt: skip
queue = Table(  # work to do; no patient data; it is outside row-level security
    "queue", metadata, Column("message_id", Uuid, primary_key=True), Column("organization_id", Uuid, nullable=False),
    Column("lane", Uuid, nullable=False), Column("priority", SmallInteger, nullable=False, server_default=text("5")),
    integer("attempts"), at("not_before", True),
    Index(None, "priority", "message_id"),
)  # fmt: skip
delivery = Table(  # what was said to a peer about a message
    "delivery", metadata, key(), tenant(), ref("message_id", "message", True), string("destination"),
    Column("state", Text, nullable=False), Column("bytes", LargeBinary, nullable=True), integer("attempts"),
    string("error"), at("created_at", True), at("delivered_at"), Index(None, "message_id"),
)  # fmt: skip

# ---- people ---------------------------------------------------------------------------------------------------------

patient = Table(
    "patient", metadata, key(), tenant(), string("family"), string("given"),
    Column("birth_date", Date, nullable=True),
    Column("sex", Text, nullable=False, server_default=text("'unknown'")), flag("active", True), integer("version", 1),
    at("created_at", True), at("updated_at", True), at("birth_at"),  # where the hour is known
    ref("merged_into_id", "patient"),  # the survivor, never one that is merged itself
    CheckConstraint("merged_into_id <> id", name="patient_merged_into_id_check"),
    Index(None, "merged_into_id", postgresql_where=text("merged_into_id IS NOT NULL")),
    Index(None, "organization_id", "birth_date"), Index(None, "organization_id", "updated_at"),
)  # fmt: skip
patient_identifier = Table(
    "patient_identifier", metadata, key(), tenant(), ref("patient_id", "patient", True), string("authority"),
    Column("value", Text, nullable=False), string("type"), at("ended_at"), Index(None, "patient_id"),
    Index("patient_identifier_current_idx", "organization_id", "authority", "value", unique=True,
          postgresql_where=text("ended_at IS NULL")),
    Index(None, "organization_id", "value"),
)  # fmt: skip
patient_word = Table(  # the words of a name (`domain.names`), which plain comparisons find; see `store.people`
    "patient_word", metadata, tenant(), Column("word", Text(collation="C"), nullable=False),
    ref("patient_id", "patient", True), Column("part", Text, nullable=False),  # family, given
    PrimaryKeyConstraint("organization_id", "word", "patient_id", "part"), Index(None, "patient_id"),
)  # fmt: skip
patient_merge = Table(  # who was found to be whom, and that it was taken back; `patient.merged_into_id` follows from it
    "patient_merge", metadata, key(), tenant(), ref("prior_id", "patient", True),
    ref("survivor_id", "patient", True), ref("undoes_id", "patient_merge"), Column("reason", Text, nullable=False),
    Column("actor_kind", Text, nullable=False), Column("actor_id", Uuid, nullable=True), string("actor_name"),
    at("created_at", True), UniqueConstraint("undoes_id"), Index(None, "prior_id"), Index(None, "survivor_id"),
)  # fmt: skip
practitioner = Table(
    "practitioner", metadata, key(), tenant(), string("family"), string("given"), at("created_at", True),
    string("role"), flag("active", True), integer("version", 1), at("updated_at", True),
)  # fmt: skip
practitioner_identifier = Table(
    "practitioner_identifier", metadata, key(), tenant(), ref("practitioner_id", "practitioner", True),
    string("authority"), Column("value", Text, nullable=False), string("type"), at("ended_at"),
    Index(None, "practitioner_id"),
    Index("practitioner_identifier_current_idx", "organization_id", "authority", "value", unique=True,
          postgresql_where=text("ended_at IS NULL")),
)  # fmt: skip

# ---- catalogue and maps ---------------------------------------------------------------------------------------------

test = Table(
    "test", metadata, key(), tenant(), Column("code", Text, nullable=False),
    Column("name", Text, nullable=False),
    string("loinc"), string("unit"), Column("decimals", SmallInteger, nullable=True),
    Column("kind", Text, nullable=False, server_default=text("'numeric'")), string("department"),
    strings("specimen_types"),
    string("source"), flag("active", True), Column("molar_mass", Numeric, nullable=True),  # g/mol
    Column("valence", SmallInteger, nullable=True), integer("version", 1), UniqueConstraint("organization_id", "code"),
)  # fmt: skip
panel = Table(
    "panel", metadata, key(), tenant(), Column("code", Text, nullable=False),
    Column("name", Text, nullable=False),
    string("loinc"), Column("test_ids", ARRAY(Uuid), nullable=False), integer("version", 1), string("source"),
    flag("active", True), UniqueConstraint("organization_id", "code"),
)  # fmt: skip
specimen_type = Table(
    "specimen_type", metadata, key(), tenant(), Column("code", Text, nullable=False),
    Column("name", Text, nullable=False), string("source"), flag("active", True),
    UniqueConstraint("organization_id", "code"),
)  # fmt: skip
reference_interval = Table(
    "reference_interval", metadata, key(), tenant(), ref("test_id", "test", True), string("unit"),
    Column("low", Numeric, nullable=True), Column("high", Numeric, nullable=True),
    Column("critical_low", Numeric, nullable=True), Column("critical_high", Numeric, nullable=True),
    string("sex", required=False), integer("age_low_d"), Column("age_high_d", Integer, nullable=True),
    string("specimen_type"),
    string("text"), string("source"), integer("priority"), at("valid_from"), at("valid_to"),
    Column("age_low_h", Integer, nullable=True), Column("age_high_h", Integer, nullable=True),
    Column("pregnant", Boolean, nullable=True),
    Column("gestation_low_w", Integer, nullable=True), Column("gestation_high_w", Integer, nullable=True),
    string("method"), string("analyzer"), Column("use", Text, nullable=False, server_default=text("'both'")),
    strings("normal_values"), strings("abnormal_values"), strings("critical_values"), Index(None, "test_id"),
)  # fmt: skip
map_change = Table(  # one change of code maps, of one row or of thousands; `number` counts an organization's, from 1
    "map_change", metadata, key(), tenant(), Column("number", Integer, nullable=False),
    Column("kind", Text, nullable=False),  # set, unset, import, apply, upgrade, copy, undo
    string("reason"), string("source"), ref("undoes_id", "map_change"),
    Column("actor_kind", Text, nullable=False), Column("actor_id", Uuid, nullable=True), string("actor_name"),
    at("created_at", True), UniqueConstraint("organization_id", "number"),
)  # fmt: skip
# Analyzer code → test; a site's row (origin 'site') wins over the shipped revision. A change ends rows and adds others;
# `ended_at` and `ended_by` are all that is ever written to a row that exists. No test: to be held, whatever is below.
code_map = Table(
    "code_map", metadata, key(), tenant(), Column("driver", Text, nullable=False), ref("link_id", "link"),
    Column("code", Text, nullable=False), string("specimen_type"), ref("test_id", "test"), string("unit"),
    Column("origin", Text, nullable=False), integer("revision", 1), at("valid_from", True), at("valid_to"),
    string("note"), ref("change_id", "map_change"), at("ended_at"), ref("ended_by", "map_change"), string("method"),
    Index(None, "organization_id", "driver"), Index(None, "change_id"), Index(None, "ended_by"),
)  # fmt: skip
value_map = Table(  # words of an analyzer → ours
    "value_map", metadata, key(), tenant(), Column("driver", Text, nullable=False), string("code"),
    Column("raw", Text, nullable=False), Column("value", Text, nullable=False), Column("origin", Text, nullable=False),
    integer("revision", 1), at("valid_from", True), at("valid_to"), Index(None, "organization_id", "driver"),
)  # fmt: skip
rule_set = Table(  # a revision never changes; `digest` is of its text
    "rule_set", metadata, key(), tenant(), Column("name", Text, nullable=False), integer("revision", 1),
    Column("body", Text, nullable=False), string("digest"), string("source"), string("reason"), string("actor_kind"),
    Column("actor_id", Uuid, nullable=True), string("actor_name"), at("created_at", True),
    UniqueConstraint("organization_id", "name", "revision"),
)  # fmt: skip
rule_validation = Table(  # that the rule bench found nothing wrong with a revision, and what that relied on
    "rule_validation", metadata, key(), tenant(), ref("rule_set_id", "rule_set", True),
    Column("digest", Text, nullable=False), Column("engine", Text, nullable=False),
    Column("catalogue", Text, nullable=False), integer("vectors"), integer("cases"), integer("uncovered"), *did(),
    Index(None, "rule_set_id"),
)  # fmt: skip
rule_use = Table(  # that a revision is active, or runs in the shadow, until it is ended
    "rule_use", metadata, key(), tenant(), ref("rule_set_id", "rule_set", True),
    Column("name", Text, nullable=False), Column("mode", Text, nullable=False, server_default=text("'shadow'")),
    string("reason"), *did(), *ended(),
    Index("rule_use_active_idx", "organization_id", "name", unique=True,
          postgresql_where=text("ended_at is null and mode = 'active'")),
    Index("rule_use_shadow_idx", "rule_set_id", unique=True,
          postgresql_where=text("ended_at is null and mode = 'shadow'")),
    Index(None, "rule_set_id"),
)  # fmt: skip
rule_switch = Table(  # that autoverification is off, until it is ended
    "rule_switch", metadata, key(), tenant(), string("key"), string("reason"),
    Column("scope", Text, nullable=False, server_default=text("'organization'")), *did(), *ended(),
    Index("rule_switch_off_idx", "organization_id", "scope", "key", unique=True,
          postgresql_where=text("ended_at is null")),
)  # fmt: skip
shadow_verdict = Table(  # what a revision that decides nothing would have done with a version of a result
    "shadow_verdict", metadata, key(), tenant(), ref("rule_set_id", "rule_set", True),
    Column("result_id", Uuid, nullable=False), Column("result_version_id", Uuid, nullable=False), string("test_code"),
    Column("action", Text, nullable=False), strings("against"), at("created_at", True),
    Index(None, "rule_set_id", "id"), Index(None, "result_id"),
)  # fmt: skip

# ---- orders and specimens -------------------------------------------------------------------------------------------

lab_order = Table(
    "lab_order", metadata, key(), tenant(), Column("number", Text, nullable=False), string("placer_number"),
    string("placer_authority"),
    ref("patient_id", "patient"), Column("priority", Text, nullable=False, server_default=text("'routine'")),
    ref("requester_id", "practitioner"), string("clinical_history"), integer("version", 1), at("ordered_at", True),
    at("updated_at", True), at("cancelled_at"), string("cancel_reason"), string("ward"), string("patient_group"),
    Column("pregnant", Boolean, nullable=True), Column("gestation_weeks", Integer, nullable=True),
    flag("waiting", True),  # an item of it may wait to be measured; false: certainly none (migration 0017)
    at("ward_at"),  # when the hospital said the ward, by its clock, where that is known
    UniqueConstraint("organization_id", "number"), Index(None, "patient_id"),
    Index("lab_order_waiting_idx", "organization_id", postgresql_where=text("waiting")),
    Index(None, "organization_id", "placer_number"), Index(None, "organization_id", "updated_at"),
    Index(None, "organization_id", "ordered_at"),
    Index(None, "requester_id", postgresql_where=text("requester_id IS NOT NULL")),
)  # fmt: skip
specimen = Table(
    "specimen", metadata, key(), tenant(), Column("barcode", Text, nullable=False), string("type"),
    ref("order_id", "lab_order"), ref("patient_id", "patient"), ref("parent_id", "specimen"),
    # Where it is (`domain.states`), and what follows from that: whether it may be measured. A check ties the two.
    Column("state", Text, nullable=False, server_default=text("'expected'")),
    Column("status", Text, nullable=False, server_default=text("'available'")),
    string("reject_code"), string("reject_reason"), integer("version", 1),
    string("container"), Column("time_point_min", Integer, nullable=True),
    string("collected_by"), string("received_by"), string("rack"), string("position"),
    at("collected_at"), at("received_at"), at("created_at", True), at("updated_at", True),
    Index(None, "organization_id", "barcode"), Index(None, "patient_id"), Index(None, "order_id"),
    Index(None, "parent_id"), Index(None, "organization_id", "rack", postgresql_where=text("rack <> ''")),
    Index(None, "organization_id", "updated_at"),
)  # fmt: skip
specimen_event = Table(  # every step of a specimen and every place it had; append-only
    "specimen_event", metadata, key(), tenant(), ref("specimen_id", "specimen", True),
    Column("action", Text, nullable=False), Column("state", Text, nullable=False), string("rack"), string("position"),
    string("reason"), at("happened_at", True),
    Column("actor_kind", Text, nullable=False), Column("actor_id", Uuid, nullable=True), string("actor_name"),
    at("created_at", True), Index(None, "specimen_id"),
)  # fmt: skip
order_item = Table(
    "order_item", metadata, *tenant_key(), ref("order_id", "lab_order", True), ref("test_id", "test", True),
    ref("specimen_id", "specimen"), Column("status", Text, nullable=False, server_default=text("'requested'")),
    string("reason"),  # why it was cancelled, rejected or goes back
    # no index over the status: its change stays on its page; what waits is found by `lab_order.waiting`
    at("updated_at", True), Index(None, "order_id"), Index(None, "specimen_id"),
)  # fmt: skip
placer_order = Table(  # what a placer calls one service of an order; the same number of the same authority is one
    "placer_order", metadata, key(), tenant(), string("authority"), Column("number", Text, nullable=False),
    string("group_authority"), string("group_number"), ref("order_id", "lab_order", True), ref("link_id", "link"),
    Column("filler_number", Text, nullable=False), Column("content", LargeBinary, nullable=True),  # a digest, as it is
    # as it was first placed; of the message that ended it
    Column("first_content", LargeBinary, nullable=True), Column("ended_by", LargeBinary, nullable=True),
    at("created_at", True), at("updated_at", True), at("ended_at"), string("ward"), ref("requester_id", "practitioner"),
    UniqueConstraint("organization_id", "authority", "number"), Index(None, "order_id"),
    Index("placer_order_group_idx", "organization_id", "group_authority", "group_number",
          postgresql_where=text("group_number <> ''")),
    Index(None, "organization_id", "number"),
)  # fmt: skip
placer_item = Table(  # the items that a placer's number stands for; two may ask for the same test of one specimen
    "placer_item", metadata, tenant(), ref("placer_order_id", "placer_order", key=True),
    ref("order_item_id", "order_item", key=True), at("dropped_at"), Index(None, "order_item_id"),
    flag("ordered_before", False),  # by somebody without a number
)  # fmt: skip
worksheet = Table(
    "worksheet", metadata, key(), tenant(), Column("number", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("state", Text, nullable=False),  # open, completed
    ref("analyzer_id", "analyzer"), ref("test_id", "test"), string("qc"), string("note"), integer("version", 1),
    string("created_by"), string("completed_by"),
    at("created_at", True), at("updated_at", True), at("completed_at"),
    UniqueConstraint("organization_id", "number"),
)  # fmt: skip
worksheet_item = Table(  # `open`: it is worked on here and nowhere else
    "worksheet_item", metadata, key(), tenant(), ref("worksheet_id", "worksheet", True),
    Column("place", Integer, nullable=False), ref("order_item_id", "order_item", True), flag("open", True),
    ref("result_id", "result"),
    UniqueConstraint("worksheet_id", "place"),
    Index(None, "result_id"),
    Index("worksheet_item_open_idx", "order_item_id", unique=True, postgresql_where=text("open")),
)  # fmt: skip

# ---- results --------------------------------------------------------------------------------------------------------

result = Table(  # the pointer to the current version
    "result", metadata, *tenant_key(seen_to=True),
    # DESIGN §1.2: analyzer, specimen, code path, occurrence, its time
    Column("natural_key", LargeBinary, nullable=False),
    read_before("analyzer_id"),  # null: a person's or a calculated one
    read_before("specimen_id"), read_before("patient_id"), read_before("order_id"),
    read_before("order_item_id"), read_before("test_id"),
    Column("version_id", Uuid, nullable=False), integer("version", 1), Column("status", Text, nullable=False),
    strings("held"),
    # a change to a released result that a person has not decided yet
    Column("pending_version_id", Uuid, nullable=True),
    at("created_at", True), at("updated_at", True), at("released_at"),
    flag("reportable", True),  # exactly one of an order item's runs
    Column("origin", Text, nullable=False, server_default=text("'analyzer'")),  # analyzer, manual, calculation
    at("effective_at", True),  # collected, else measured, else received
    # the version in which it stood when the time of collection was told of it; the id of what is shown since, and when
    Column("told_of", Uuid, nullable=True), Column("told_id", Uuid, nullable=True), at("told_at"),
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
    "result_version", metadata, key(), tenant_seen_to(), Column("result_id", Uuid, nullable=False),
    integer("version", 1), Column("status", Text, nullable=False), strings("held"),
    Column("message_id", Uuid, nullable=True),
    string("location"),
    # as the analyzer said it
    string("specimen_as_sent"), string("code"), string("code_path"), string("raw_value"), string("raw_unit"),
    string("raw_flags"),
    string("raw_status"), string("raw_reference"), string("instrument_time"), at("instrument_at"), strings("comments"),
    # as the laboratory says it
    string("test_code"), string("test_name"), string("loinc"), Column("kind", Text, nullable=False),
    string("comparator"),
    Column("number", Numeric, nullable=True), string("value"), string("unit"), Column("low", Numeric, nullable=True),
    Column("high", Numeric, nullable=True), string("reference"), strings("flags"), string("note"),
    Column("verified_by", Uuid, nullable=True),  # the first of two people who verify
    string("module"), string("reagent_lot"), string("calibrator_lot"),  # that the analyzer measured it with
    Column("actor_kind", Text, nullable=False), Column("actor_id", Uuid, nullable=True), at("created_at", True),
    # Its explanation, the steps in order: JSON, but checked by who writes it: for every result, read by few, by
    # `lab.explained`: see `store.explanations`. Empty: it is in `decision_before`; the view `decision` knows.
    string("steps"), string("driver_revision"), integer("map_revision"),
    string("method"),  # by which it was measured: as the map says, else as the analyzer or a person said
    Index(None, "result_id", postgresql_where=text("id <> result_id")),  # see `store.versions`
    Index(None, "message_id"),
    Index(  # of those that a natural key has only the beginning of: see `store.as_sent`
        None, "organization_id", "specimen_as_sent", postgresql_ops={"specimen_as_sent": "text_pattern_ops"},
        postgresql_where=text("octet_length(specimen_as_sent) > 12 or code = ''"),
    ),
    postgresql_partition_by="RANGE (id)",
)  # fmt: skip
decision_before = Table(  # explanations of versions from before migration 0038; nothing is added
    "decision_before", metadata, Column("result_version_id", Uuid, primary_key=True), tenant_seen_to(),
    Column("steps", Text, nullable=False), string("driver_revision"), integer("map_revision"), at("created_at", True),
)  # fmt: skip
explanation = Table(  # steps that explain many results, which refer to it; may have holes; the id is made of them
    "explanation", metadata, *tenant_key(), Column("steps", Text, nullable=False), at("created_at", True)
)
follow_up = Table(  # what follows from a result: another run of it, at a dilution perhaps, or another test
    "follow_up", metadata, key(), tenant(), Column("kind", Text, nullable=False),  # reflex, rerun, dilution
    ref("result_id", "result", True), string("rule"), integer("depth", 1),
    ref("order_item_id", "order_item"),  # that the follow-up's result answers
    Column("state", Text, nullable=False, server_default=text("'requested'")),  # requested, sent, done, cancelled
    Column("dilution", Numeric, nullable=True), string("reason"), Column("actor_kind", Text, nullable=False),
    Column("actor_id", Uuid, nullable=True), at("created_at", True), at("updated_at", True),
    UniqueConstraint("organization_id", "result_id", "rule"), Index(None, "order_item_id"),
)  # fmt: skip
review_policy = Table(  # how an organization (no test), or one of its tests, is reviewed
    "review_policy", metadata, key(), tenant(), ref("test_id", "test"),
    Column("two_steps", Boolean, nullable=True), Column("critical_minutes", ARRAY(Integer), nullable=True),
    at("updated_at", True), UniqueConstraint("organization_id", "test_id"),
    Index("review_policy_organization_idx", "organization_id", unique=True, postgresql_where=text("test_id is null")),
)  # fmt: skip
critical_notification = Table(  # the task to tell somebody of a critical result; what was done is in `critical_event`
    "critical_notification", metadata, key(), tenant(), ref("result_id", "result", True),
    Column("subject_id", Uuid, nullable=False),  # the order item, whose runs are one matter; the result without one
    Column("result_version_id", Uuid, nullable=False),  # what it is about now
    Column("kind", Text, nullable=False, server_default=text("'critical'")),  # critical, no_longer_critical
    Column("state", Text, nullable=False),  # open, attempted, notified, closed, withdrawn
    ref("follows_id", "critical_notification"),
    Column("escalate_at", ARRAY(DateTime(timezone=True)), nullable=False, server_default=text("'{}'")),
    at("aimed_at", True), string("notified"), ref("practitioner_id", "practitioner"), at("notified_at"),
    string("means"), flag("read_back", False), integer("version", 1), at("created_at", True), at("updated_at", True),
    at("closed_at"),
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
    "critical_event", metadata, key(), tenant(), ref("notification_id", "critical_notification", True),
    Column("what", Text, nullable=False),  # opened, aimed, attempted, notified, closed, withdrawn
    Column("kind", Text, nullable=False), Column("result_version_id", Uuid, nullable=False),
    at("happened_at", True), string("person"), ref("practitioner_id", "practitioner"), string("means"),
    string("outcome"), Column("read_back", Boolean, nullable=True), string("comment"),
    Column("actor_kind", Text, nullable=False), Column("actor_id", Uuid, nullable=True), string("actor_name"),
    at("created_at", True), Index(None, "notification_id"),
)  # fmt: skip

# ---- references -----------------------------------------------------------------------------------------------------


def _refer(table: Table, column: Column[Any]) -> None:
    """A foreign key over the organization too: PostgreSQL checks foreign keys past row-level security, so that without
    it a row could refer to another organization's, and would tell by being taken that there is one of that id."""
    target = metadata.tables[f"{SCHEMA}.{column.info['target']}"]
    name = f"{target.name}_organization_id_id_key"
    if "organization_id" not in target.primary_key and name not in {each.name for each in target.constraints}:
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

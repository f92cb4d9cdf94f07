"""The tables of quality control: what is measured against what, each point, the state of each stream, what was done.

A *stream* is an analyzer's (a module's, where it has several) test. Its *points* are the results of controls that it
measured: a point is of one lot, which is of one level of a material. Points are never changed or deleted; that a point
is excluded is said in columns of its own, and by whom.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Date, Index, Integer, LargeBinary, Numeric, Table, Text, UniqueConstraint, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY, JSON

from interface.store.columns import at, did, document, ended, flag, integer, key, metadata, ref, string, strings, tenant


def _stream() -> tuple[Column[Any], ...]:
    return ref("analyzer_id", "analyzer", True), string("module"), ref("test_id", "test", True)


qc_material = Table(
    "qc_material", metadata, key(), tenant(), Column("name", Text, nullable=False), string("manufacturer"),
    string("catalogue_number"), string("note"), at("created_at", True), integer("version", 1), at("closed_at"),
    UniqueConstraint("organization_id", "name"),
)  # fmt: skip
qc_lot = Table(  # one level of one lot of a material
    "qc_lot", metadata, key(), tenant(), ref("material_id", "qc_material", True), Column("lot", Text, nullable=False),
    string("level"), integer("level_number", 1),  # the order of levels within a run
    Column("expires_on", Date, nullable=True),
    strings("identifiers"),  # what analyzers call it: a specimen id or a lot as sent; `*` at the end is any end
    # That measure it; none: any may. Two analyzers may both call controls of their own QC1.
    Column("analyzer_ids", ARRAY(Uuid), nullable=False, server_default=text("'{}'")),
    string("note"), at("created_at", True), integer("version", 1), at("closed_at"),
    UniqueConstraint("material_id", "lot", "level"),
)  # fmt: skip
qc_target = Table(  # never changed but ended: what a point was judged by is found again
    "qc_target", metadata, key(), tenant(), ref("lot_id", "qc_lot", True), *_stream(),
    Column("mean", Numeric, nullable=False), Column("sd", Numeric, nullable=False), string("unit"),
    Column("source", Text, nullable=False, server_default=text("'laboratory'")),  # manufacturer, laboratory
    Column("kind", Text, nullable=False, server_default=text("'fixed'")),  # fixed, cumulative
    integer("points"),  # that it was computed from
    string("reagent_lot"),  # '': of any
    string("note"), at("valid_from", True), at("valid_to"),
    *did(), *ended(),  # ended from `ended_at` on: at or before `valid_from`, it never was in force
    Index(None, "analyzer_id", "test_id", "lot_id"),
)  # fmt: skip
qc_result = Table(  # append-only: controls and calibrators as the analyzers send them; never patient data
    "qc_result", metadata, key(), tenant(), Column("natural_key", LargeBinary, nullable=False),
    ref("analyzer_id", "analyzer", True), Column("message_id", Uuid, nullable=True),  # null: a person's
    Column("role", Text, nullable=False),
    string("specimen_as_sent"), string("code"), ref("test_id", "test"), Column("kind", Text, nullable=False),
    Column("number", Numeric, nullable=True), string("value"), string("raw_value"), string("unit"), string("raw_flags"),
    string("instrument_time"), at("instrument_at"), string("location"), at("created_at", True),
    string("module"), string("lot_as_sent"), string("level_as_sent"), string("reagent_lot"), string("calibrator_lot"),
    strings("doubts"),  # what the analyzer itself says against it, as the reasons that would hold a patient's result
    Column("origin", Text, nullable=False, server_default=text("'analyzer'")),  # analyzer, manual
    at("measured_at", True),  # the instrument's time where it is plausible, else the receipt
    string("comment"), Column("actor_kind", Text, nullable=True), Column("actor_id", Uuid, nullable=True),
    UniqueConstraint("organization_id", "natural_key"), Index(None, "analyzer_id", "created_at"),
    Index(None, "message_id"),
    Index(
        "qc_result_calibrated_idx", "analyzer_id", "test_id", "measured_at",
        postgresql_where=text("role = 'calibrator'"),
    ),
    Index(None, "organization_id", "created_at"),
    Index("qc_result_commented_idx", "analyzer_id", "test_id", "measured_at", postgresql_where=text("comment <> ''")),
)  # fmt: skip
qc_problem = Table(  # append-only but for its end: a control that made no point when it came, and why
    "qc_problem", metadata, ref("qc_result_id", "qc_result", key=True), tenant(),
    Column("kind", Text, nullable=False),  # unknown_control, ambiguous_control, lot_expired, … : domain.qc_arrival
    string("text"), at("created_at", True), *ended(),  # a person has seen to it; a point ends it too
    Index("qc_problem_open_idx", "organization_id", "created_at", postgresql_where=text("ended_at is null")),
)  # fmt: skip
qc_point = Table(  # append-only but for its exclusion: a control's result of a known lot, judged
    "qc_point", metadata, ref("qc_result_id", "qc_result", key=True), tenant(), *_stream(),
    ref("lot_id", "qc_lot", True), ref("target_id", "qc_target"),  # null: none is in force
    integer("level_number", 1), Column("run_id", Uuid, nullable=False), at("measured_at", True),
    Column("number", Numeric, nullable=True), Column("z", Numeric, nullable=True), string("reagent_lot"),
    string("calibrator_lot"),
    Column("verdict", Text, nullable=False),  # accept, warn, reject, unknown
    strings("rules"),  # that it broke, such as 1-3s
    strings("insufficient"),  # rules that there were not enough points for
    Column("steps", JSON, nullable=False),  # its explanation, as a decision's
    at("created_at", True), at("excluded_at"), Column("excluded_by", Uuid, nullable=True), string("excluded_by_name"),
    string("exclude_reason"),
    Index("qc_point_stream_idx", "analyzer_id", "test_id", "module", "measured_at"),
    Index("qc_point_level_idx", "analyzer_id", "test_id", "module", "level_number", "measured_at"),
    Index(None, "organization_id", "created_at"),
)  # fmt: skip
qc_action = Table(  # append-only: what a person did or said; about a stream, and about a point of it perhaps
    "qc_action", metadata, key(), tenant(), *_stream(), ref("qc_result_id", "qc_result"),
    Column("kind", Text, nullable=False),  # corrective, comment, exclude, restore, look_back, maintenance
    string("text"), *did(), Index(None, "analyzer_id", "test_id", "created_at"),
    string("measured"),  # of a corrective one, what was measured meanwhile: `stands`, or is to be done `again`
)  # fmt: skip
qc_plan = Table(  # how streams are controlled; of no test or analyzer: of all. The most special one decides
    "qc_plan", metadata, key(), tenant(), ref("analyzer_id", "analyzer"), ref("test_id", "test"),
    Column("mode", Text, nullable=False, server_default=text("'modern'")),  # classic, modern
    strings("rules"),  # empty: by the number of levels
    integer("levels"),  # that an acceptable run has; 0: those that have a target
    integer("run_minutes", 60),  # a point later than this after a run's first is of another run
    Column("interval_minutes", Integer, nullable=True),  # an acceptable run is wanted so often; null: no limit
    flag("before_first", False),  # an acceptable run is wanted before the first patient of the day
    Column("timezone", Text, nullable=False, server_default=text("'UTC'")),  # whose day that is
    flag("loose_r4s", False), Column("allowable_error", Numeric, nullable=True),  # TEa, percent
    integer("version", 1), at("updated_at", True), at("ended_at"),
    Index(None, "organization_id"),
)  # fmt: skip
qc_stream = Table(  # the gate: one row a stream, its state now
    "qc_stream", metadata, key(), tenant(), *_stream(), Column("state", Text, nullable=False),
    at("since", True),  # measured: of the point that brought it about
    at("last_ok_at"),  # measured: of the last acceptable run
    Column("last_ok_id", Uuid, nullable=True), Column("failed_id", Uuid, nullable=True),  # points
    flag("action_due", False),  # a corrective action must be documented before it is OK again
    at("expires_at"), string("reason"), integer("version", 1), at("updated_at", True),
    document("history"),  # `domain.qc_state`: its state at a time
    string("plan"),  # the plan and its version
    string("alarm"), at("alarm_since"), string("alarm_reason"),  # what the patients' own results say: '', warn, fail
    integer("swept"),  # up to this version patients' results have followed; see `flow.qc_sweep`
    UniqueConstraint("organization_id", "analyzer_id", "module", "test_id"),
    Index("qc_stream_sweep_idx", "organization_id", postgresql_where=text("swept < version")),
)  # fmt: skip
qc_event = Table(  # append-only: every change of a stream's state
    "qc_event", metadata, key(), tenant(), *_stream(), Column("state", Text, nullable=False), at("since", True),
    Column("point_id", Uuid, nullable=True), Column("action_id", Uuid, nullable=True), string("reason"), *did(),
    Index(None, "analyzer_id", "test_id", "since"),
)  # fmt: skip
qc_lookback = Table(  # the patients' results since the last acceptable point, to be looked at: 42 CFR 493.1282(b)(2)
    "qc_lookback", metadata, key(), tenant(), *_stream(),
    # That failed first, or vouched first and counts no more; null: the patients' own results gave the alarm.
    ref("qc_result_id", "qc_result"),
    string("reagent_lot"), string("reason"), at("from_at"),
    at("to_at"),  # null: no control has been acceptable since
    at("filled_at"),  # null: which results it covers is still to be looked up
    Column("state", Text, nullable=False),  # open, closed
    integer("version", 1), at("created_at", True), at("closed_at"),
    Index("qc_lookback_open_idx", "organization_id", "created_at", postgresql_where=text("state = 'open'")),
)  # fmt: skip
qc_lookback_item = Table(
    "qc_lookback_item", metadata, key(), tenant(), ref("lookback_id", "qc_lookback", True),
    ref("result_id", "result", True), Column("result_version_id", Uuid, nullable=False),
    ref("of_result_id", "result"),  # of what was calculated: the result on the list that it was calculated of
    Column("state", Text, nullable=False, server_default=text("'waiting'")),  # waiting, stands, repeat, corrected
    string("reason"), Column("decided_by", Uuid, nullable=True), string("decided_by_name"), at("decided_at"),
    UniqueConstraint("lookback_id", "result_id"), Index(None, "result_id"),
)  # fmt: skip
qc_peer = Table(  # what a peer group measures
    "qc_peer", metadata, key(), tenant(), ref("lot_id", "qc_lot", True), ref("test_id", "test", True),
    Column("peer_group", Text, nullable=False), string("unit"), Column("period", Text, nullable=False),  # 2026-11
    integer("laboratories"), integer("points"), Column("mean", Numeric, nullable=False),
    Column("sd", Numeric, nullable=False), string("source"), *did(),
    UniqueConstraint("organization_id", "lot_id", "test_id", "peer_group", "period"),
)  # fmt: skip
analyzer_lot = Table(  # reagents and calibrators in use: said by the analyzer, or by a person
    "analyzer_lot", metadata, key(), tenant(), ref("analyzer_id", "analyzer", True), string("module"),
    ref("test_id", "test"),  # null: of every test
    Column("kind", Text, nullable=False),  # reagent, calibrator, diluent, other
    Column("lot", Text, nullable=False), Column("expires_on", Date, nullable=True), at("from_at", True),
    Column("message_id", Uuid, nullable=True), *did(), *ended(),
    Index(None, "analyzer_id", "kind", "from_at"), Index(None, "analyzer_id", "ended_at"),
)  # fmt: skip

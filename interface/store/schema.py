"""What the schema is called and what may be done to it, without the tables: a daemon starts without SQLAlchemy."""

from __future__ import annotations

SCHEMA = "lab"
OWNER_ROLE = "labora_owner"
APP_ROLE = "labora_app"
READER_ROLE = "labora_backup"  # sees every row, for backups (`store.census`); the embedded server does without it

# `code_map`, `rule_use`, `rule_switch`, `qc_target`, `qc_problem`, `analyzer_lot`, `pbrtqc_use`, `route`,
# `analyzer_down` and `alert_silence` but for the columns that say when a row was ended, and by what or whom; `qc_point`
# but for those that say by whom it was excluded.
APPEND_ONLY = frozenset(
    {
        "frame",
        "result_version",
        "decision_before",
        "explanation",
        "record_version",
        "audit_event",
        "page_key",
        "audit_segment",
        "audit_anchor",
        "legal_hold",
        "qc_result",
        "qc_action",
        "qc_point",
        "qc_problem",
        "qc_target",
        "qc_event",
        "alert_event",
        "alert_silence",
        "analyzer_lot",
        "pbrtqc_plan",
        "pbrtqc_validation",
        "pbrtqc_use",
        "pbrtqc_value",
        "pbrtqc_event",
        "wire_log",
        "map_change",
        "code_map",
        "rule_set",
        "rule_validation",
        "rule_use",
        "rule_switch",
        "shadow_verdict",
        "driver_revision",
        "specimen_event",
        "critical_event",
        "patient_merge",
        "sending",
        "dispatch_event",
        "route",
        "analyzer_down",
        "report",
        "report_file",
        "notice",
    }
)
DELETABLE = frozenset(
    {
        "client_assertion",
        "idempotency_key",
        "patient_word",
        "queue",
        "report_due",
        "turnaround_target",
        "work_due",
    }
)
WITHOUT_ROW_SECURITY = frozenset({"daemon", "queue"})
PARTITIONED = {"frame": "month", "audit_event": "month", "result_version": "year"}

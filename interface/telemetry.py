"""Logs and metrics, neither with patient data (DESIGN §1.9).

Logs are one JSON object a line on stderr, where systemd's journal takes them. Identifiers are logged by `fingerprint`,
bytes by their number, an exception by its type and place; only our own errors, which promise it, by their sentence.
Metrics are counted through the functions below, so that every label comes from a closed or bounded set.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import sys
import time
import traceback
from collections import Counter as Counts
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import IO, Any, cast

import orjson
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from interface.domain.model import HoldReason, ResultStatus
from interface.errors import LaboraError
from interface.log_lines import Lines

# ---- logs --------------------------------------------------------------------------------------------------------

_IDENTIFIERS = frozenset(
    {
        "accession", "barcode", "identifier", "mrn", "order_number", "patient", "patient_id", "placer_number", "sample",
        "specimen", "specimen_id", "specimen_as_sent",
    }
)  # fmt: skip
_NEVER = frozenset(
    {
        "authorization", "birth_date", "body", "bytes_as_sent", "family", "frame_bytes", "given", "message_bytes",
        "password", "patient_name", "payload", "raw", "raw_value", "secret", "token", "value",
    }
)  # fmt: skip
_GUARDED = _IDENTIFIERS | _NEVER
_LONGEST_TEXT = 500


def _fingerprint_key() -> bytes:
    """A key that stays with the machine: one specimen can be followed through its logs but not guessed from them."""
    try:
        # machine-id(5): confidential, to be used hashed and never as it is.
        seed = Path("/etc/machine-id").read_bytes().strip()
    except OSError:
        seed = b""
    return hashlib.blake2b(seed or secrets.token_bytes(16), digest_size=32, person=b"labora-logs").digest()


_KEY = _fingerprint_key()


def fingerprint(text: str) -> str:
    """Twelve hexadecimal digits that stand for an identifier in logs; the same on this machine at any time."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6, key=_KEY).hexdigest()


def _redact(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Keys that hold identifiers are fingerprinted, those that hold data left out, bytes counted, long text cut."""
    for key, value in event.items():
        if key in _GUARDED:
            if key in _NEVER:
                event[key] = "[redacted]"
            elif value:
                event[key] = fingerprint(str(value))
        elif isinstance(value, str):  # nearly always
            if len(value) > _LONGEST_TEXT:
                event[key] = value[:_LONGEST_TEXT] + "…"
        elif isinstance(value, bytes | bytearray | memoryview):
            event[key] = f"[{len(value)} bytes]"
        elif isinstance(value, BaseException):
            event[key] = _said(value)
    return event


def _said(error: BaseException) -> str:
    """An exception without what it may quote: our own say no patient data, others are named only."""
    name = type(error).__name__
    return f"{name}: {error}" if isinstance(error, LaboraError) else name


def _exception(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """`exc_info` becomes the chain of exception types and the places they passed, innermost last."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()[1]
    elif isinstance(info, tuple):
        info = info[1]
    if isinstance(info, BaseException):
        chain: list[str] = []
        seen: BaseException | None = info
        while seen is not None and len(chain) < 5:
            chain.append(_said(seen))
            seen = seen.__cause__ or seen.__context__
        event["error"] = " from ".join(chain)
        frames = traceback.extract_tb(info.__traceback__)[-12:]
        event["at"] = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    return event


REPEATS_S = 60.0
_ANSWERS = frozenset({"daemon.configuration"})  # what a person asked for is answered each time
_MOST_KINDS = 256


class Repeats:
    """Warnings and errors that say the same again within a minute are counted, not repeated: a cable that is cut or a
    database that is away must not fill the disk, nor hide what else goes wrong.

    The same is what has the same words, of the same link and message; numbers may differ. The first is told at once;
    the next one after the minute says in `repeated` how many there were in between, and where none comes, the next
    line about anything else is preceded by one that says it. `clock`: seconds that only go on.
    """

    def __init__(self, tell: Callable[[structlog.typing.EventDict], object], clock: Callable[[], float]) -> None:
        self._tell, self._clock = tell, clock
        self._told: dict[tuple[tuple[str, str], ...], tuple[float, int]] = {}  # when, how often since; the oldest first

    def __call__(self, _logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        """A processor of structlog's."""
        told = method in ("warning", "error", "critical") and event.get("action") not in _ANSWERS
        if not told and not self._told:  # nearly every line
            return event
        now = self._clock()
        if not told:
            self._expire(now)
            return event
        words = {
            name: str(said)
            for name, said in event.items()
            if name != "timestamp" and said is not None and not isinstance(said, int | float)
        }
        key = tuple(sorted(words.items()))
        self._expire(now, key)
        at, times = self._told.get(key, (-REPEATS_S, 0))
        if now - at < REPEATS_S:
            self._told[key] = at, times + 1
            raise structlog.DropEvent
        self._told.pop(key, None)
        self._told[key] = now, 0
        return {**event, "repeated": times} if times else event

    def _expire(self, now: float, but: tuple[tuple[str, str], ...] = ()) -> None:
        while self._told:
            key = next(iter(self._told))
            at, times = self._told[key]
            if key == but or (now - at < REPEATS_S and len(self._told) <= _MOST_KINDS):
                return
            del self._told[key]
            if times:
                self._tell({**dict(key), "repeated": times})


class _Foreign(logging.Handler):
    """Other packages' log records as ours: the first line of their template, never its arguments, which may be data."""

    def emit(self, record: logging.LogRecord) -> None:
        said = str(record.msg).partition("\n")[0][:200] if record.args or "\n" in str(record.msg) else ""
        structlog.get_logger().log(
            record.levelno, "library", logger=record.name, said=said or record.funcName, exc_info=record.exc_info
        )


def _stamp(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event["timestamp"] = datetime.now(UTC)
    return event


def _serialize(_logger: object, _method: str, event: structlog.typing.EventDict) -> bytes:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z)


def configure_logs(level: int = logging.INFO, stream: IO[bytes] | None = None, *, for_good: bool = False) -> Lines:
    """Send our logs and those of the libraries as JSON lines to `stream` (default: stderr). `for_good`: until this
    process ends, so that each logger is put together once and not for each line."""
    target = stream or sys.stderr.buffer
    journal = Lines(target)
    repeats = Repeats(lambda event: journal.msg(_serialize(None, "", _stamp(None, "", event))), time.monotonic)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _stamp,
            _exception,
            _redact,
            repeats,
            _serialize,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: journal,
        cache_logger_on_first_use=for_good,
    )
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Foreign)]:
        root.removeHandler(handler)
    root.addHandler(_Foreign())
    root.setLevel(max(level, logging.WARNING))
    return journal


def logger(**bound: object) -> structlog.typing.FilteringBoundLogger:
    """A logger whose lines carry `bound`. House fields: `link`, `message_id`, `action`."""
    return cast(structlog.typing.FilteringBoundLogger, structlog.get_logger(**bound))


# ---- metrics -----------------------------------------------------------------------------------------------------

_MOST_LINKS = 512
_SENDINGS = frozenset(
    "delivered given_up refused reply timeout interrupted busy contention overtaken silent lost stop unsendable".split()
)
_STATES = frozenset(
    {
        "receiving",
        "complete",
        "incomplete",
        "released",
        "held",
        "settled",
        "duplicate",
        "rejected",
        "parked",
        "discarded",
    }
)
_NAK_REASONS = frozenset(
    {
        "checksum", "frame_number", "gap", "oversize", "terminator", "no_stx", "timeout", "not_ready",
        "store_unavailable", "store_ambiguous", "not_attributed", "same_fn", "contention", "control_character",
    }
)  # fmt: skip
_REFUSALS = frozenset({"address", "limit", "busy", "handshake", "certificate", "lost", "timeout"})
_REJECTS = _NAK_REASONS | {
    "skipped", "cut", "empty", "restarted", "refused", "unframed", "stray_nuls", "stray_bytes", "commit_block",
    "reply_not_committed", "batch_count", "batch_envelope", "not_attributed_header", "not_attributed_none",
    "not_attributed_several",
}  # fmt: skip
_LINE_FAULTS = frozenset({"break", "parity"})
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_MOST_ROUTES = 256
CRITICAL_LEVELS = 9  # `flow.review_policy` takes no more times for escalation
_MOST_LENIENCIES = 64


class _Bounded:
    """At most `most` different label values; a value beyond them is counted as `other`."""

    def __init__(self, most: int) -> None:
        self._most, self._seen = most, set[str]()

    def __call__(self, value: str) -> str:
        if value in self._seen:
            return value
        if len(self._seen) >= self._most:
            return "other"
        self._seen.add(value)
        return value


def _closed(value: str, known: Collection[str]) -> str:
    return value if value in known else "other"


REGISTRY = CollectorRegistry()
_link_label, _route_label, _leniency_label = _Bounded(_MOST_LINKS), _Bounded(_MOST_ROUTES), _Bounded(_MOST_LENIENCIES)


class _Tally(Collector):
    """A counter of what happens with every message, in a dictionary: the library's own takes a lock for each step.

    Counted by the event loop alone.
    """

    def __init__(self, name: str, documentation: str, labels: Sequence[str]) -> None:
        self._name, self._documentation, self._labels = name, documentation, labels
        self._counts: dict[tuple[str, ...], int] = {}
        REGISTRY.register(self)

    def count(self, number: int, *labels: str) -> None:
        self._counts[labels] = self._counts.get(labels, 0) + number

    def collect(self) -> Iterator[CounterMetricFamily]:
        """See `prometheus_client`."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for labels, number in self._counts.items():
            family.add_metric(labels, number)
        yield family


class Asked(Collector):
    """Gauges whose values are asked for when they are read: what the daemon knows anyway is not counted twice."""

    def __init__(self, read: Callable[[], Iterable[Reading]]) -> None:
        self._read = read
        REGISTRY.register(self)

    def describe(self) -> list[Metric]:
        """Nothing: else the registry would ask before there is something to tell."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """See `prometheus_client`."""
        families: dict[str, GaugeMetricFamily] = {}
        for one in self._read():
            name, documentation, labels = GAUGES[one.gauge]
            family = families.setdefault(one.gauge, GaugeMetricFamily(name, documentation, labels=labels))
            family.add_metric(one.labels, one.value)
        yield from families.values()

    def close(self) -> None:
        """Tell no more."""
        REGISTRY.unregister(self)


@dataclass(frozen=True, slots=True)
class Reading:
    """A value of one of GAUGES."""

    gauge: str
    labels: tuple[str, ...]
    value: float


# What is read when it is asked for: its name, what it is, its labels.
GAUGES: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "link_up": ("labora_link_up", "1 where the link listens, is connected or has its port, else 0", ("link",)),
    "findings": ("labora_findings", "What the machine's doctor found, by how grave it is", ("kind", "severity")),
    "disk_free": ("labora_disk_free_bytes", "Room on the file systems that are needed", ("path",)),
    "certificate": ("labora_certificate_expiry_timestamp_seconds", "When a certificate ends", ("certificate",)),
    "backup": ("labora_backup_timestamp_seconds", "When the newest whole backup was taken", ()),
    "queue_age": ("labora_queue_oldest_seconds", "For how long the oldest message waits for its decision", ()),
    "held": ("labora_results_waiting", "Held results that wait for a person", ()),
    "unmapped": ("labora_results_unmapped", "Held results that wait for their code to be mapped", ()),
    "alerts": ("labora_alerts", "Alerts that stand", ("kind",)),
}
ProcessCollector(namespace="labora", registry=REGISTRY)
_frames = _Tally("labora_frames", "Frames and HL7 blocks committed and acknowledged", ["link"])
_naks = Counter("labora_naks", "Negative replies to analyzers", ["link", "reason"], registry=REGISTRY)
_leniencies = Counter("labora_leniencies", "Departures from the standards that a link took", ["link", "leniency"],
                      registry=REGISTRY)  # fmt: skip
_rejected = Counter("labora_rejected", "Frames, blocks and runs of stray bytes that were not taken", ["link", "reason"],
                    registry=REGISTRY)  # fmt: skip
_messages = _Tally("labora_messages", "Messages by the state they were sealed or settled in", ["link", "state"])
_results = Counter("labora_results", "Result versions by status", ["status"], registry=REGISTRY)
_results_of = cache(_results.labels)  # what is asked for with every message
_holds = Counter("labora_results_held", "Held result versions by reason", ["reason"], registry=REGISTRY)
_qc_problems = Counter("labora_qc_problems", "Controls that made no point, by why", ["problem"], registry=REGISTRY)
_queue = Gauge("labora_queue_messages", "Messages that wait for their decision", registry=REGISTRY)
_criticals = Gauge("labora_criticals_waiting", "Critical results of which nobody has confirmed to know, by how many of"
                   " their times for escalation have passed", ["level"], registry=REGISTRY)  # fmt: skip
_dispatches = Gauge("labora_dispatches", "Work of analyzers that waits to be told, or that they refused or could not be"
                    " told: a person decides about these", ["state"], registry=REGISTRY)  # fmt: skip
_patient_alarms = Gauge("labora_pbrtqc_alarms", "Open alarms that patients' own results gave, by what their plan does",
                        ["mode"], registry=REGISTRY)  # fmt: skip
_heard = Gauge("labora_link_heard_timestamp_seconds", "When a link said something last", ["link"], registry=REGISTRY)
_clocks = Gauge("labora_link_clock_seconds", "How far a sender's clock was ahead of ours, by its last message's header",
                ["link"], registry=REGISTRY)  # fmt: skip
_clock_of = cache(_clocks.labels)
_sendings = Counter("labora_sendings", "Attempts at messages of our own, by what became of them", ["link", "outcome"],
                    registry=REGISTRY)  # fmt: skip
_connections = Gauge("labora_link_connections", "Open connections", ["link"], registry=REGISTRY)
_refused = Counter("labora_connections_refused", "Connections that were not admitted", ["link", "reason"],
                   registry=REGISTRY)  # fmt: skip
_line_faults = Counter("labora_line_faults", "Breaks and damaged characters on serial lines", ["link", "fault"],
                       registry=REGISTRY)  # fmt: skip
_commit = Histogram(
    "labora_journal_commit_seconds", "One group commit of the journal", registry=REGISTRY,
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)  # fmt: skip
_group = Histogram("labora_journal_group_size", "Appends in one group commit", registry=REGISTRY,
                   buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256))  # fmt: skip
_notifications = Counter("labora_notifications", "Messages to EMRs about changes, by what became of them", ["outcome"],
                         registry=REGISTRY)  # fmt: skip
_queries = Counter("labora_queries", "Analyzers' queries answered, by whether there was work", ["link", "outcome"],
                   registry=REGISTRY)  # fmt: skip
_requests = Counter("labora_api_requests", "HTTP requests", ["method", "route", "status"], registry=REGISTRY)
_request = Histogram("labora_api_request_seconds", "Time to answer an HTTP request", ["route"], registry=REGISTRY)


# The first of these is an alarm already. A series that is not there before it rises has not risen, for Prometheus.
_ALARMING_STATE, _ALARMING_NAKS = "parked", ("store_unavailable", "store_ambiguous")


def expect(link: str) -> None:
    """`link` is served: what is to be zero of it until something is wrong is told as zero."""
    _messages.count(0, _link_label(link), _ALARMING_STATE)
    for reason in _ALARMING_NAKS:
        _naks.labels(_link_label(link), reason)


def count_frame(link: str, number: int = 1) -> None:
    """`number` frames (HL7: blocks) of `link` were committed."""
    _frames.count(number, _link_label(link))


def count_nak(link: str, reason: str) -> None:
    """A negative reply was sent; `reason` is a slug, an unknown one counts as `other`."""
    _naks.labels(_link_label(link), _closed(reason, _NAK_REASONS)).inc()


def count_leniency(link: str, leniency: str) -> None:
    """A departure from the standard was taken; `leniency` is its name in the driver and the configuration."""
    _leniencies.labels(_link_label(link), _leniency_label(leniency)).inc()


def count_rejected(link: str, reason: str) -> None:
    """Bytes were no frame or block; `reason` is a slug, an unknown one counts as `other`."""
    _rejected.labels(_link_label(link), _closed(reason, _REJECTS)).inc()


def count_message(link: str, state: str) -> None:
    """A message was sealed or settled in `state` (DESIGN §3)."""
    _messages.count(1, _link_label(link), _closed(state, _STATES))


def count_sending(link: str, outcome: str) -> None:
    """A message of our own was delivered, or was not for the reason that `link.intake.Outgoing.told` has."""
    _sendings.labels(_link_label(link), _closed(outcome, _SENDINGS)).inc()


def count_qc_problem(problem: str) -> None:
    _qc_problems.labels(problem).inc()


def count_results(statuses: Sequence[ResultStatus], held: Iterable[Iterable[HoldReason]]) -> None:
    """Result versions were committed: the status of each, and what each is held for."""
    while statuses:  # of thousands nearly all have the same
        status = statuses[0]
        number = statuses.count(status)
        _results_of(status.value).inc(number)
        statuses = [one for one in statuses if one is not status] if number < len(statuses) else []
    for reason, number in Counts([reason for reasons in held for reason in reasons]).items():
        _holds.labels(reason.value).inc(number)


def set_queue_depth(messages: int) -> None:
    """How many messages wait for their decision."""
    _queue.set(messages)


def set_criticals(levels: Mapping[int, int]) -> None:
    """How many critical results wait to be told and read back, by how many of their times have passed."""
    for level in range(CRITICAL_LEVELS + 1):
        passed = (tasks for at, tasks in levels.items() if min(at, CRITICAL_LEVELS) == level)
        _criticals.labels(str(level)).set(sum(passed))


def set_dispatches(states: Mapping[str, int]) -> None:
    """How much work of analyzers is in each of these states."""
    for state, number in states.items():
        _dispatches.labels(state).set(number)


def set_patient_alarms(modes: Mapping[str, int]) -> None:
    """How many alarms of patient-based quality control are open, by mode."""
    for mode, number in modes.items():
        _patient_alarms.labels(mode).set(number)


def set_heard(link: str, timestamp_s: float) -> None:
    """When `link` said something last, in seconds since 1970: how old an order from the hospital may be at least."""
    _heard.labels(_link_label(link)).set(timestamp_s)


def set_clock(link: str, ahead_s: float) -> None:
    """How far the clock of who sends on `link` was ahead of ours, by its last message; what the way took is in it."""
    _clock_of(_link_label(link)).set(ahead_s)


def set_connections(link: str, number: int) -> None:
    """How many connections `link` has now."""
    _connections.labels(_link_label(link)).set(number)


def count_notification(outcome: str) -> None:
    """`outcome`: sent, or the slug of a DeliveryError."""
    _notifications.labels(outcome).inc()


def count_query(link: str, outcome: str) -> None:
    """`outcome`: work, none."""
    _queries.labels(link, outcome).inc()


def count_refused(link: str, reason: str) -> None:
    """A connection to `link` was not admitted; an unknown `reason` counts as `other`."""
    _refused.labels(_link_label(link), _closed(reason, _REFUSALS)).inc()


def count_line_fault(link: str, fault: str) -> None:
    """A serial line broke, or a character came damaged."""
    _line_faults.labels(_link_label(link), _closed(fault, _LINE_FAULTS)).inc()


def observe_commit(seconds: float, group: int) -> None:
    """One group commit of the journal took `seconds` for `group` appends."""
    _commit.observe(seconds)
    _group.observe(group)


_MOST_REMEMBERED = 4096
_of_request: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}  # to look both up costs more than to count


def observe_request(method: str, route: str, status: int, seconds: float) -> None:
    """One HTTP request. `route` is its pattern (`/api/results/{id}`), never the path, which may name a patient."""
    key = method, route, status
    found = _of_request.get(key)
    if found is None:
        method, route = _closed(method, _METHODS), _route_label(route)
        found = _requests.labels(method, route, str(status)), _request.labels(route)
        if len(_of_request) < _MOST_REMEMBERED:
            _of_request[key] = found
    requests, latency = found
    requests.inc()
    latency.observe(seconds)


# ---- several processes of one daemon ----------------------------------------------------------------------------

_SUMMED = ("counter", "histogram")  # a gauge is the daemon's own


@dataclass(frozen=True, slots=True)
class Counted:
    """What a process has counted since its start, by sample: its name and labels."""

    samples: Mapping[tuple[str, tuple[tuple[str, str], ...]], float] = field(default_factory=dict)


def counted() -> Counted:
    """What this process has counted."""
    families = (family for family in REGISTRY.collect() if family.type in _SUMMED)
    return Counted({(one.name, tuple(one.labels.items())): one.value for each in families for one in each.samples})


def count_apart(before: Counted, now: Counted) -> None:
    """Another process of the daemon has counted `now`, and `before` when it said so last."""
    for sample, value in now.samples.items():
        if not sample[0].endswith("_created"):
            _apart[sample] = _apart.get(sample, 0.0) + value - before.samples.get(sample, 0.0)


_apart: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}


class _Together(Collector):
    """What this process and others have counted."""

    def collect(self) -> Iterator[Metric]:
        for family in REGISTRY.collect():
            ends = ("_total", "_bucket", "_count", "_sum")
            others = {key: value for key, value in _apart.items() if key[0] in {family.name + end for end in ends}}
            if family.type not in _SUMMED or not others:
                yield family
                continue
            made = Metric(family.name, family.documentation, family.type)
            for one in family.samples:
                value = one.value + others.pop((one.name, tuple(one.labels.items())), 0.0)
                made.add_sample(one.name, one.labels, value, one.timestamp, one.exemplar)
            for (name, labels), value in others.items():
                made.add_sample(name, dict(labels), value)
            yield made


METRICS_MEDIA = CONTENT_TYPE_LATEST.partition(";")[0]


def metrics_page() -> tuple[bytes, str]:
    """The body and the content type of `/metrics`, in OpenMetrics text."""
    return cast(bytes, cast(Any, generate_latest)(_Together())), CONTENT_TYPE_LATEST

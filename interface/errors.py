"""All errors Labora names, in one tree. Each class has a slug (logs, metrics, hold reasons) and says what then happens.

LaboraError
├── ConfigError                exit 78; carries every problem found, each with its TOML path
├── LinkError
│   ├── LinkFrameError         NAK (MLLP: nothing); counted, the bytes are in the wire log
│   ├── NotAttributed          NAK, or AR with ERR-3 204; nobody's, so nothing is kept
│   ├── LinkLost               the message is sealed incomplete; back off
│   └── LinkTimeout            the same
├── RecordError                LIS02 record; already acknowledged, so the result is held with its location
├── SegmentError               HL7 segment; AE with ERR-2 and ERR-3
├── UnsupportedMessage         AR with ERR-3 200 to 203; the message is kept
├── StoreError
│   ├── StoreUnavailable       NAK, AR or CE 207, 503; the peer resends
│   │   ├── SchemaChanged      the same; the schema is not the one that is known here
│   │   └── LeaseLost          the same; the daemon closes its links and ends: another has them
│   └── StoreAmbiguous         the same; the digest makes the resend idempotent
├── HoldError                  a result that waits for a person; replayable
│   ├── UnmappedCode  UnknownUnit  NoSuchSpecimen  AmbiguousSpecimen  PatientMismatch  DriverMismatch  RunFailed
│   └── IncompleteTransmission
├── IllegalStep                409; an order item or specimen cannot go from its state to that one; nothing changes
├── DeliveryError              an EMR was not told of a change
│   ├── DeliveryTransient      certainly not taken; again later, in order
│   ├── DeliveryAmbiguous      it may have been taken; again later all the same
│   └── DeliveryRejected       refused for what it says; a few times, then a letter for a person
├── BackupError                a backup that cannot be made, or not be used; what is there stays as it is
├── DriverError                a driver folder that cannot be used; names file and key
└── ApiError                   OperationOutcome or problem+json; no internals
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple


class LaboraError(Exception):
    """Base of all errors below. `str(error)` is one clear sentence for a person, without patient data."""

    slug: ClassVar[str] = "error"


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One fault in a configuration: `path` is its TOML path (`link[2].transport.listen`), `text` what is wrong."""

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


class ConfigError(LaboraError):
    """The configuration cannot be used. All problems at once; the process exits with 78 (EX_CONFIG)."""

    slug = "config"

    def __init__(self, problems: Sequence[ConfigProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(map(str, self.problems)))


class LinkError(LaboraError):
    """Something on one link; the link goes on."""

    slug = "link"


class LinkFrameError(LinkError):
    """A frame that cannot be accepted: checksum, frame number, size, terminator. `reason` is a short slug."""

    slug = "frame"

    def __init__(self, reason: str, text: str = "") -> None:
        self.reason = reason
        super().__init__(text or reason)


class LinkLost(LinkError):
    """The byte stream ended."""

    slug = "link_lost"


class NotAttributed(LinkError):
    """A message on a shared port that is not for exactly one of its links. `reason`: header, none, several."""

    slug = "not_attributed"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the message is not for one link of this port: {reason}")


class LinkTimeout(LinkError):
    """The peer was silent for longer than the protocol allows."""

    slug = "link_timeout"


class LocatedError(LaboraError):
    """A fault at a place in a message. `location`: `R 3 field 4`, or for HL7 ERR-2 `OBX^3^5^1`."""

    def __init__(self, text: str, location: str = "") -> None:
        self.location, self.text = location, text
        super().__init__(f"{location}: {text}" if location else text)


class RecordError(LocatedError):
    """A LIS02 record that cannot be read."""

    slug = "record"


class SegmentError(LocatedError):
    """An HL7 message whose syntax is wrong. `code` is ERR-3 (HL7 table 0357)."""

    slug = "segment"

    def __init__(self, text: str, location: str = "", code: int = 100) -> None:
        self.code = code
        super().__init__(text, location)


class UnsupportedMessage(LocatedError):
    """A message this link does not take. `code` is ERR-3: 200 type, 201 event, 202 processing id, 203 version."""

    slug = "unsupported"

    def __init__(self, text: str, location: str = "", code: int = 200) -> None:
        self.code = code
        super().__init__(text, location)


class StoreError(LaboraError):
    """The database did not do what was asked."""

    slug = "store"


class StoreUnavailable(StoreError):
    """Certainly not stored. Nothing positive may be said to the peer."""

    slug = "store_unavailable"


class SchemaChanged(StoreUnavailable):
    """The database lacks what a statement names: a migration was run beside this program, or the statement is wrong.
    Certainly not stored."""


class LeaseLost(StoreUnavailable):
    """Another daemon has ended this one, or it has not heard for so long that it has not. Nothing positive may be said,
    nothing is stored any more; it ends (docs/standby.md)."""

    slug = "lease_lost"


class StoreAmbiguous(StoreError):
    """It is unknown whether the commit took place. Nothing positive may be said; repeating is safe."""

    slug = "store_ambiguous"


class HoldError(LocatedError):
    """A result that must wait for a person; the slug is the hold reason."""

    slug = "hold"


class UnmappedCode(HoldError):
    """No test of ours for the analyzer's code."""

    slug = "unmapped_code"


class UnknownUnit(HoldError):
    """A unit that is not understood or cannot be converted safely."""

    slug = "unknown_unit"


class NoSuchSpecimen(HoldError):
    """No order for the specimen and test."""

    slug = "no_such_specimen"


class AmbiguousSpecimen(HoldError):
    """More than one open specimen carries this barcode."""

    slug = "ambiguous_specimen"


class PatientMismatch(HoldError):
    """The analyzer's patient is not the order's patient."""

    slug = "patient_mismatch"


class DriverMismatch(HoldError):
    """The message's header is not of the analyzer the link's driver is written for."""

    slug = "driver_mismatch"


class RunFailed(HoldError):
    """The analyzer says that the run failed; there is no result."""

    slug = "run_failed"


class IncompleteTransmission(HoldError):
    """The transmission was cut before its end."""

    slug = "incomplete_transmission"


class IllegalStep(LaboraError):
    """A step of an order item or a specimen that its state does not allow; the rules are in `domain.states`."""

    slug = "illegal_step"


class DeliveryError(LaboraError):
    """An EMR was not told of a change. The text is for people of the laboratory and the EMR, without patient data."""

    slug = "delivery"


class DeliveryTransient(DeliveryError):
    """Certainly not taken. `wait_s`: how long the endpoint asked us to wait, 0 where it did not."""

    slug = "delivery_transient"

    def __init__(self, text: str, wait_s: float = 0.0) -> None:
        self.wait_s = wait_s
        super().__init__(text)


class DeliveryAmbiguous(DeliveryError):
    """Sent, and without an answer. It is sent again: once too often rather than never."""

    slug = "delivery_ambiguous"


class DeliveryRejected(DeliveryError):
    """Refused for what it says; another message may be taken."""

    slug = "delivery_rejected"


class BackupError(LaboraError):
    """A backup cannot be made, verified or restored. Nothing that was there before has changed."""

    slug = "backup"


class DriverError(LaboraError):
    """A driver folder that cannot be used."""

    slug = "driver"


class Issue(NamedTuple):
    """One fault of a FHIR resource: its place in FHIRPath, and its issue type."""

    text: str
    expression: str
    code: str = "value"


class ApiError(LaboraError):
    """An HTTP error. `status` is the HTTP status, `code` the FHIR issue type, the text is for the client.

    `issues`: where the request has several faults with their places, each of them.
    """

    slug = "api"

    def __init__(self, status: int, code: str, text: str, issues: tuple[Issue, ...] = ()) -> None:
        self.status, self.code, self.issues = status, code, issues
        super().__init__(text)

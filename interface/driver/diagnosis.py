"""What a line's bytes say about the analyzer's way of talking: the words of `labora link doctor`. Pure.

Nothing here holds a patient's data: findings are counts, names and positions; the sender's own name (H-5, MSH-3/4) is
the analyzer's identity.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from interface.wire.datalink_events import Leniency
from interface.wire.trace import Direction


class Framing(StrEnum):
    """What carries the messages, and what they are."""

    SILENT = "silent"  # not a byte
    HANDSHAKE = "handshake"  # LIS01-A2 control characters and nothing else yet
    LIS01 = "lis01"  # LIS02-A2 records in LIS01-A2 frames
    LIS01_HL7 = "lis01-hl7"  # HL7 segments in LIS01-A2 frames
    LIS01_OTHER = "lis01-other"  # frames whose text is of no known kind
    BARE_RECORDS = "bare-records"  # LIS02-A2 records without frames
    MLLP = "mllp"
    BARE_HL7 = "bare-hl7"  # segments without MLLP
    DECLARED = "declared"  # a vendor's own framing that a driver declares
    FOREIGN = "foreign"  # another protocol altogether: TLS, HTTP, ...
    UNKNOWN = "unknown"


class ChecksumVerdict(StrEnum):
    """What stands where LIS01-A2 has the two checksum digits of a frame."""

    RIGHT = "right"
    LOWER_CASE = "lower-case"
    ZERO = "zero"  # 00, and it is not the sum
    ABSENT = "absent"
    WRONG = "wrong"


class Cut(StrEnum):
    """How the messages are cut into frames."""

    RECORD = "one record a frame"
    MESSAGE = "a whole message a frame"
    RECORDS = "several whole records a frame"
    PIECES = "pieces, wherever a record is"


class SymptomKind(StrEnum):
    """What is wrong with the line itself, or with who is at its end."""

    PARITY_AS_DATA = "parity-as-data"  # 7E1 or 7O1 read with 8 data bits
    EIGHTH_BIT_SET = "eighth-bit-set"  # mark parity, or 7 data bits and 2 stop bits
    PARITY_UNREAD = "parity-unread"  # 8E1 or 8O1 read as 8N1
    BAUD_TOO_HIGH = "baud-too-high"  # we listen faster than is sent
    LINE_MISMATCH = "line-mismatch"  # slower, or with other bits
    BREAK = "break"  # NUL after NUL
    FOREIGN_PROTOCOL = "foreign-protocol"
    ECHO = "echo"  # what the host says comes back


@dataclass(frozen=True, slots=True)
class Heard:
    """What one side wrote at once; `at_s`: when, in seconds since the beginning."""

    direction: Direction
    data: bytes
    at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Symptom:
    """`text`: what is seen; `advice`: what to do, one sentence; `line_format`: the format to set, where it is clear."""

    kind: SymptomKind
    text: str
    advice: str
    line_format: str = ""


@dataclass(frozen=True, slots=True)
class Handshake:
    """How often one side said each of the control characters outside frames."""

    enq: int = 0
    eot: int = 0
    ack: int = 0
    nak: int = 0


@dataclass(frozen=True, slots=True)
class FrameFindings:
    """LIS01-A2 frames. `checksums`: verdict and how often; `checksum_hint`: over what a wrong sum would be right."""

    count: int
    sessions: int
    repeated: int  # byte-identical to the one before it
    cut: Cut
    largest_text_bytes: int
    etb: int
    etx: int
    numbering: str  # "" for 1..7,0 from 1 in each session, else what is seen
    checksums: tuple[tuple[ChecksumVerdict, int], ...]
    checksum_hint: str = ""
    line_ends: tuple[tuple[str, int], ...] = ()  # what follows the checksum: CRLF, CR, LF, none

    def with_checksum(self, *verdicts: ChecksumVerdict) -> int:
        """How many frames have one of these verdicts."""
        return sum(count for verdict, count in self.checksums if verdict in verdicts)


@dataclass(frozen=True, slots=True)
class RecordFindings:
    """LIS02-A2 messages, framed or bare."""

    messages: int
    terminated: int  # of these, with their L record
    types: tuple[tuple[str, int], ...]  # type letter and how often
    delimiters: tuple[str, ...]  # as the headers define them, each once
    record_ends: tuple[tuple[str, int], ...]  # CR, CRLF, LF, none (before ETX or the end)
    escapes: tuple[str, ...]  # the kinds of escape sequences used, &S& as S
    senders: tuple[str, ...]  # H-5
    versions: tuple[str, ...]  # H-13
    faults: tuple[str, ...] = ()  # that the codec had to tolerate, without the data


@dataclass(frozen=True, slots=True)
class Hl7Findings:
    """HL7 messages, in MLLP or not."""

    messages: int
    types: tuple[tuple[str, int], ...]  # MSH-9
    versions: tuple[str, ...]  # MSH-12
    senders: tuple[str, ...]  # MSH-3 MSH-4
    charsets: tuple[str, ...]  # MSH-18 as sent, each once
    delimiters: tuple[str, ...]  # MSH-1 and MSH-2
    acknowledgement: str  # original | enhanced | mixed
    wants: tuple[str, ...]  # the replies asked for: AA, CA, none
    segment_ends: tuple[tuple[str, int], ...]
    segments: tuple[tuple[str, int], ...]
    batches: int  # FHS and BHS
    refusals: tuple[str, ...] = ()  # why a message would be answered with AE or AR
    tolerated: tuple[tuple[str, int], ...] = ()  # MLLP departures that are taken
    rejected: tuple[tuple[str, int], ...] = ()  # blocks that are not


@dataclass(frozen=True, slots=True)
class CharsetGuess:
    """`certainty`: certain (nothing else is possible) | likely | possible."""

    codec: str
    certainty: str
    why: str


@dataclass(frozen=True, slots=True)
class CharsetFindings:
    """`guesses`: best first. `declared`: the codec that the messages name; `contradiction`: why that cannot be."""

    high_bytes: int
    guesses: tuple[CharsetGuess, ...]
    declared: str = ""
    contradiction: str = ""

    @property
    def ascii_only(self) -> bool:
        return self.high_bytes == 0

    @property
    def best(self) -> str:
        """The codec to configure; "" when it makes no difference, or is not known well enough."""
        good = [guess for guess in self.guesses if guess.certainty in ("certain", "likely")]
        return good[0].codec if good and not self.ascii_only else ""


@dataclass(frozen=True, slots=True)
class DriverMatch:
    """A driver and how it fits. `recognised`: its `match` fits the header (a generic one is told by `generic`)."""

    driver: str
    title: str
    tier: str
    generic: bool
    recognised: bool
    messages: int  # that it was tried on
    results: int
    queries: int
    problems: tuple[str, ...] = ()  # locations and words, without data
    leniencies: frozenset[str] = frozenset()  # that it asks for itself


@dataclass(frozen=True, slots=True)
class LeniencyProof:
    """What the real receiver took of these bytes.

    `needed`: the smallest set of leniencies under which every message comes through, found by running the receiver.
    `proven`: with them it does; else `obstacles` say what is refused with all of them. `handshake_supplied`: there was
    neither ENQ nor EOT, they were put around the frames. `judged`: how many messages that was, or frames where their
    text is of another kind or was refused.
    `terminator_unknown`: the transmission was broken off, so whether L follows is not known. `always`: departures that
    were taken and that need not be allowed.
    """

    judged: int = 0
    by_frame: bool = False
    needed: frozenset[Leniency] = frozenset()
    proven: bool = False
    obstacles: tuple[str, ...] = ()
    handshake_supplied: bool = False
    terminator_unknown: bool = False
    always: frozenset[Leniency] = frozenset()


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything that is known of one side of a line. `host`: what the other side said, on a tap."""

    framing: Framing
    byte_count: int
    symptoms: tuple[Symptom, ...] = ()
    handshake: Handshake = Handshake()
    frames: FrameFindings | None = None
    records: RecordFindings | None = None
    hl7: Hl7Findings | None = None
    text: CharsetFindings | None = None
    drivers: tuple[DriverMatch, ...] = ()
    proof: LeniencyProof | None = None
    stray_bytes: int = 0  # that belong to nothing
    notes: tuple[str, ...] = field(default=())
    host: Diagnosis | None = None

    @property
    def driver(self) -> DriverMatch | None:
        """The one to configure: the only one that recognises the header, else the generic one."""
        recognised = [match for match in self.drivers if match.recognised]
        generic = [match for match in self.drivers if match.generic]
        return recognised[0] if len(recognised) == 1 else generic[0] if generic else None

    @property
    def line_format(self) -> str:
        """The serial format that the bytes ask for; "" when they ask for no other."""
        return next((symptom.line_format for symptom in self.symptoms if symptom.line_format), "")


def counted(things: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """Each thing and how often, in the order in which they came first."""
    counts: dict[str, int] = {}
    for thing in things:
        counts[thing] = counts.get(thing, 0) + 1
    return tuple(counts.items())

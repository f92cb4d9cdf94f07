"""The daemon's settings as frozen dataclasses. A leaf: parsed and checked by `interface.config`, read by everyone."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

WIRE_LOG_MB = 64  # of each link, unless it says otherwise


class LinkRole(StrEnum):
    """Who is at the other end; each role has a closed list of message types."""

    ANALYZER = "analyzer"
    HOSPITAL = "hospital"


class Role(StrEnum):
    """What a process of `labora run` does; by default all of it."""

    LINKS = "links"
    WORKERS = "workers"
    API = "api"


ROLES = frozenset(Role)


class TransportType(StrEnum):
    TCP_LISTEN = "tcp-listen"
    MLLP_LISTEN = "mllp-listen"
    TCP_DIAL = "tcp-dial"
    MLLP_DIAL = "mllp-dial"
    SERIAL = "serial"
    FOLDER = "folder"

    @property
    def dials(self) -> bool:
        """Whether we make the connection."""
        return self in (TransportType.TCP_DIAL, TransportType.MLLP_DIAL)


class Parity(StrEnum):
    """The bit that is added to each character on a serial line."""

    NONE = "N"
    EVEN = "E"
    ODD = "O"


class Unsolicited(StrEnum):
    """What to do with a result for which there is no order."""

    HOLD = "hold"
    REGISTER = "register"


class NameMismatch(StrEnum):
    """What to do with a result whose patient's name is another than the order's."""

    IGNORE = "ignore"
    HOLD = "hold"


class Preliminary(StrEnum):
    """What an EMR sees of a result that nobody has released yet. Held results are never seen."""

    HIDDEN = "hidden"
    VISIBLE = "visible"


class OnStoreFailure(StrEnum):
    """How an HL7 sender is told that its message was not stored."""

    AR = "ar"
    AE = "ae"
    CLOSE = "close"


class AckPolicy(StrEnum):
    """Which acknowledgements an HL7 sender gets."""

    AS_SENT = "as-sent"  # original or enhanced mode, as MSH-15 and MSH-16 of each message ask
    ORIGINAL = "original"  # always one of AA, AE, AR
    ACCEPT = "accept"  # always one of CA, CE, CR
    NONE = "none"  # none ever; what cannot be stored closes the connection


class OrderReply(StrEnum):
    """How a hospital's orders are answered, where it wants more than that they are stored."""

    APPLICATION = "application"  # ORL or ORR, with what became of each order
    ACK = "ack"


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class LineFormat:
    """How a character stands on a serial line, written `8N1`."""

    data_bits: int = 8  # 7 or 8
    parity: Parity = Parity.NONE
    stop_bits: int = 1  # 1 or 2

    def __str__(self) -> str:
        return f"{self.data_bits}{self.parity}{self.stop_bits}"


@dataclass(frozen=True, slots=True)
class SerialPort:
    path: Path
    baud: int = 9600
    format: LineFormat = LineFormat()

    def __str__(self) -> str:
        return f"{self.path} {self.baud} {self.format}"


@dataclass(frozen=True, slots=True)
class Folder:
    """Where files are dropped. A file is taken when it has not changed for `stable_s`."""

    path: Path
    pattern: str = "*"
    stable_s: float = 2.0

    def __str__(self) -> str:
        return f"{self.path}/{self.pattern}"


@dataclass(frozen=True, slots=True)
class Transport:
    """How a link's bytes come: the other end connects to an address, is dialled, is at the other end of a cable, or
    drops files."""

    type: TransportType
    endpoint: Address | SerialPort | Folder  # where to listen, whom to dial, a port, or a folder


@dataclass(frozen=True, slots=True)
class ListenTls:
    """TLS on a link that is connected to. With `client_ca` the peer must show a certificate it has signed."""

    cert: Path  # PEM, with the intermediate certificates
    key: Path
    client_ca: Path | None = None
    allow: frozenset[str] = frozenset()  # identities (see `link.tls.normalised`) that may connect; empty: all


@dataclass(frozen=True, slots=True)
class DialTls:
    """TLS on a link that dials. `cert` and `key`: what we show where the peer asks for a certificate."""

    ca: Path | None = None  # None: the authorities this machine trusts
    cert: Path | None = None
    key: Path | None = None
    server_name: str = ""  # that the peer's certificate must bear; empty: the host that is dialled


@dataclass(frozen=True, slots=True)
class Match:
    """Whose messages a link takes, of those that come to its port; what is empty is not asked for."""

    sender: str = ""  # a regular expression that is searched for in H-5 (ASTM) or MSH-3
    facility: str = ""  # in MSH-4
    peer: str = ""  # the network of the sender's host


@dataclass(frozen=True, slots=True)
class BarcodeRules:
    """How the specimen id that a link sends becomes the barcode that was printed; see `domain.barcodes`."""

    strip_prefix: str = ""
    strip_suffix: str = ""
    pattern: str = ""  # a regular expression for the whole; its group `id`, else its groups one after the other, are it
    check_digit: str = ""  # name of `domain.check_digits.CheckDigit`: the last character is checked and left out
    pad: int = 0  # with zeros on the left to so many characters

    def __bool__(self) -> bool:
        return self != _AS_SENT


_AS_SENT = BarcodeRules()
WINDOW_DAYS = 60  # mycobacteria are given six to eight weeks to grow


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """One `[[link]]` of the configuration."""

    id: str
    organization: str
    driver: str
    transport: Transport
    role: LinkRole = LinkRole.ANALYZER
    driver_revision: str = ""  # to run, and to stay at; empty: the one the link was made with
    analyzer: str = ""  # pairs several links of one instrument; empty: the link's own id
    encoding: str = ""  # Python codec name; empty: the driver's
    timezone: str = "UTC"  # the sender's clock, an IANA zone; in HL7, unless MSH-7 says another offset
    offset_by_rote: bool = False  # MSH-7's says nothing: the times are in `timezone`
    rules: str = "default"  # the name of the rule set that decides about its results
    unsolicited: Unsolicited = Unsolicited.HOLD
    racks: bool = False  # what the analyzer calls a carrier or tray is a rack of the laboratory's
    barcode: BarcodeRules = BarcodeRules()
    orders_stale_after_s: float = 0.0  # the hospital said nothing: answers say that orders may be missing; 0: never
    down_after_s: float = 0.0  # without connection or message, its work is given to the next analyzer; 0: never
    specimen_window_days: int = WINDOW_DAYS  # barcodes are used again: older specimens are not meant; 0: all are
    control_ids: tuple[str, ...] = ()  # patterns of ids that are controls', whatever the analyzer says of their role
    name_mismatch: NameMismatch = NameMismatch.IGNORE
    on_store_failure: OnStoreFailure = OnStoreFailure.AR
    allow: tuple[str, ...] = ()  # networks that may connect; empty: all that reach the address
    max_connections: int = 32
    takeover: bool = True  # at the limit, a new connection replaces a silent one from the same address
    idle_s: float = 86400.0  # a connection without a byte for so long is closed; 0: never. Analyzers sleep at night
    tls: ListenTls | DialTls | None = None
    match: Match | None = None
    max_message_bytes: int = 16 * 1024 * 1024
    # LIS01-A2 only; where the driver says something too, leniencies add up and of the others the link's counts
    leniencies: frozenset[str] = frozenset()  # names of `wire.datalink_events.Leniency`
    max_frame_bytes: int = 64_000
    frame_text_bytes: int = 0  # of the frames we send; 0: the driver's, else 240
    ack_colliding_enq: bool | None = None  # None: the driver's
    ack: AckPolicy = AckPolicy.AS_SENT  # HL7 only, as are the next two
    outstanding: int = 16  # messages of one connection under way; 1: the reply to one goes out before the next is taken
    mllp_release: int = 1  # 2: commit blocks before acknowledgements
    download: bool = False  # whether work is sent without being asked for
    send_attempts: int = 6  # of a message of ours that the analyzer does not take, before it is given up
    answer_wait_s: float = 30.0  # HL7 only: for the acknowledgement of a message of ours
    # Of a hospital only: whose the numbers are that come without an authority; its names of authorities, and ours
    authority: str = ""
    authorities: tuple[tuple[str, str], ...] = ()
    order_reply: OrderReply = OrderReply.APPLICATION
    wire_log_mb: int = WIRE_LOG_MB  # how much of what went over the wire and is in no frame is kept
    silent_after_s: float = 0.0  # of its working hours, in which nothing was heard: an alert; 0: never
    working_hours: tuple[str, ...] = ()  # as `domain.hours` reads them, in the laboratory's time zone; empty: always


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    url: str = "embedded"
    bin_dir: Path | None = None  # PostgreSQL programs for the embedded server
    folders: tuple[Path, ...] = ()  # where else it needs room: of a server of its own on this machine
    daemon_url: str = ""  # where LABORA_DATABASE_URL says another: that of configuration or credential, if known


@dataclass(frozen=True, slots=True)
class ApiSettings:
    listen: Address = Address("127.0.0.1", 8080)
    base_url: str = ""  # as clients see it; empty: http://<listen>
    preliminary: Preliminary = Preliminary.HIDDEN
    token_lifetime_s: int = 3600
    jwks_hosts: frozenset[str] = frozenset()  # `host` or `host:port`, from where clients' public keys may be fetched
    workers: int = 1  # processes that serve; 1: the daemon's own
    hooks: tuple[str, ...] = ()  # endpoints that subscriptions may send to, or below: `domain.hooks`
    hook_networks: tuple[str, ...] = ()  # that are not public, in which their names may resolve
    tls: ListenTls | None = None
    behind_proxy: bool = False  # a proxy with TLS stands before it, and nothing else reaches it
    trusted_proxies: tuple[str, ...] = ()  # networks whose X-Forwarded-For is believed
    address_rate: int = 500  # requests a second from one address; 0: without limit
    client_rate: int = 200  # of one user or client


@dataclass(frozen=True, slots=True)
class LimitSettings:
    commit_wait_s: float = 5.0  # longest wait for a commit before the peer is told no; LIS01-A2 gives the receiver 15 s
    reply_s: float = 5.0  # longest time for the answer to a query or an order before the peer is told no
    drain_s: float = 10.0  # longest time a stop waits for what is under way
    resend_window_s: float = 7 * 86400.0  # the same bytes on the same link within it are a resend
    max_attempts: int = 3  # a message that crashes its decoding this often is parked
    workers: int = 4  # results decided at the same time


class ChannelType(StrEnum):
    """By what alerts are sent."""

    SMTP = "smtp"
    WEBHOOK = "webhook"  # JSON of our own, or of a template
    SLACK = "slack"
    TEAMS = "teams"
    SMS = "sms"  # a gateway that is asked over HTTP


class MailSecurity(StrEnum):
    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


class Content(StrEnum):
    """What a message may say of whose result or order it is about. Names and values never are in one."""

    NONE = "none"
    ORDER_NUMBER = "order_number"
    TEST = "test"  # the order's number and the test's name


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    """One `[[alerts.channel]]`. `url`, `body` and `headers` are templates: {to}, {title}, {text}, {key}, {secret}."""

    id: str
    type: ChannelType
    server: Address | None = None  # SMTP only, as are the next three
    security: MailSecurity = MailSecurity.STARTTLS
    sender: str = ""
    user: str = ""
    url: str = ""
    method: str = "POST"
    body: str = ""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    ca: Path | None = None  # the authority that its certificate is checked by; None: those this machine trusts
    wait_s: float = 20.0  # for the whole of an attempt
    secret: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """When something is wrong, and by what channels it is told; to whom is in the roster."""

    channels: tuple[ChannelSettings, ...] = ()
    roster: Path | None = None
    timezone: str = "UTC"  # the laboratory's, an IANA zone
    critical_content: Content = Content.NONE
    notice_content: Content = Content.NONE
    gather_s: float = 10.0  # what enters within it is told together
    apart_s: float = 60.0  # and so are messages to one address that would come sooner after another
    link_down_after_s: float = 60.0  # before anybody is told that a link is down
    database_after_s: float = 30.0
    backlog_messages: int = 1000  # 0: never, as of all that follow
    backlog_age_s: float = 300.0
    held_after_s: float = 4 * 3600.0
    unmapped_after_s: float = 24 * 3600.0
    qc_due_min: int = 60  # a control is due so long before the last one expires


@dataclass(frozen=True, slots=True)
class UploadSettings:
    """Where backups are copied to: an S3-compatible service. The keys come from the environment or credentials."""

    bucket: str
    endpoint: str = ""  # empty: Amazon's, of the region
    region: str = "us-east-1"
    prefix: str = ""  # before each object's name
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class BackupSettings:
    """`recipients` (age or SSH public keys) or `gpg_recipients`: for whom backups are encrypted; none: not at all."""

    directory: Path | None = None  # None: `backups` in the state directory
    recipients: tuple[str, ...] = ()
    gpg_recipients: tuple[str, ...] = ()
    keep_days: int = 30  # younger ones are kept
    keep_number: int = 7  # and so many, however old
    upload: UploadSettings | None = None


@dataclass(frozen=True, slots=True)
class RetentionSettings:
    """How long what is kept, in whole months or in days; 0: for ever. Results, quality control and reports always are.

    The defaults are the longest that laws which say a number ask of each class: docs/retention.md.
    """

    frames_months: int = 24
    audit_months: int = 120
    feed_months: int = 24
    wire_log_days: int = 180
    exports_days: int = 30
    tokens_days: int = 90
    alerts_months: int = 0


@dataclass(frozen=True, slots=True)
class StandbySettings:
    """Several daemons on one database (docs/standby.md)."""

    enabled: bool = False
    name: str = ""  # as others see this daemon; empty: the host's name
    lease_s: float = 6.0  # without a sign of life for so long it is taken for dead


@dataclass(frozen=True, slots=True)
class Settings:
    state_dir: Path
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    api: ApiSettings = field(default_factory=ApiSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    links: tuple[LinkSettings, ...] = ()
    driver_path: tuple[Path, ...] = ()  # searched before the packaged drivers/
    source: Path | None = None  # the file they were read from; read again at SIGHUP
    backup: BackupSettings = field(default_factory=BackupSettings)
    alerts: AlertSettings = field(default_factory=AlertSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    standby: StandbySettings = field(default_factory=StandbySettings)
    organizations: tuple[str, ...] = ()  # laboratories beside those of the links: without a link, they work by hand

    @property
    def laboratories(self) -> tuple[str, ...]:
        """The names of all that the daemon works for."""
        return tuple(sorted({*self.organizations, *(link.organization for link in self.links)}))


def packaged(name: str) -> Path:
    """`drivers`, `mappings`, `migrations` or `config.toml` of the checkout or, once installed, of the package."""
    package = Path(__file__).resolve().parent
    root = package.parent
    return root / name if (root / "pyproject.toml").is_file() else package / "_data" / name

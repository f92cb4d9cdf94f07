"""`[alerts]`, its channels and the roster: what is read, and every problem with the path where it is."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from interface.config import load, parse
from interface.config.roster import load_roster
from interface.domain.alerts import AlertKind, Severity
from interface.domain.roster import Contact, NoticeKind
from interface.errors import ConfigError
from interface.settings import AlertSettings, ChannelType, Content, MailSecurity
from tests.link.certificates import Authority

HERE = Path("config.toml")
SECRETS = {"LABORA_ALERT_MAIL": "pw", "LABORA_ALERT_CHAT": "https://hooks.slack.example/services/T0/B0/x",
           "LABORA_ALERT_SMS": "token"}  # fmt: skip
CHANNELS = """
[[alerts.channel]]
id = "mail"
type = "smtp"
server = "smtp.example.org:587"
from = "Labora <labora@lab.example.org>"
user = "labora"
[[alerts.channel]]
id = "chat"
type = "slack"
[[alerts.channel]]
id = "sms"
type = "sms"
url = "https://sms.example.org/send"
headers = { Authorization = "Bearer {secret}" }
body = '{"to": "{to}", "text": "{text}"}'
"""
ROSTER = """
holidays = [2026-12-25, "2027-01-01"]
[[person]]
id = "anna"
name = "Anna Weber"
contact = [{ channel = "mail", to = "anna@lab.example.org" }, { channel = "sms", to = "+49 30 1234", least = "urgent" }]
[[person]]
id = "chat"
contact = [{ channel = "chat" }]
[[shift]]
name = "day"
hours = ["mon-fri 07:00-15:30"]
people = ["anna", "chat"]
[[shift]]
people = ["chat"]
kinds = ["disk", "clock"]
least = "warning"
organization = "main"
[[escalation]]
after_min = 30
people = ["anna"]
[[notice]]
ward = "3A"
on = ["final", "rejected"]
contact = [{ channel = "mail", to = "ward3a@lab.example.org" }]
"""


def settings(tmp_path: Path, roster: str = ROSTER, extra: str = "", channels: str = CHANNELS) -> AlertSettings:
    path = tmp_path / "roster.toml"
    path.write_text(roster)
    text = f'[alerts]\nroster = "{path}"\ntimezone = "Europe/Berlin"\n{extra}\n{channels}'
    return parse(text, HERE, SECRETS).alerts


def problems(tmp_path: Path, **parts: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        settings(tmp_path, **parts)
    return {problem.path: problem.text for problem in caught.value.problems}


def test_everything_has_a_default_and_the_shipped_file_says_them() -> None:
    """What stands in config.toml as a comment is what holds without it."""
    assert parse("", HERE, {}).alerts == AlertSettings() == load(Path("config.toml"), {}).alerts
    shown = Path("config.toml").read_text().split("[alerts]")[1].split("# [[alerts.channel]]")[0]
    lines = [line.split("#")[1].strip() for line in shown.splitlines() if line.startswith("# ") and " = " in line]
    lines = [line for line in lines if not line.startswith(("roster", "timezone"))]
    assert len(lines) == 11
    assert parse("\n".join(("[alerts]", *lines)), HERE, {}).alerts == AlertSettings()


def test_channels_and_roster_are_read(tmp_path: Path) -> None:
    read = settings(tmp_path)
    mail, chat, sms = read.channels
    assert (mail.type, mail.security, str(mail.server), mail.secret) == (
        ChannelType.SMTP, MailSecurity.STARTTLS, "smtp.example.org:587", "pw",
    )  # fmt: skip
    assert (chat.url, chat.secret.startswith("https://")) == ("{secret}", True)
    assert sms.headers == (("Authorization", "Bearer {secret}"),)
    assert "token" not in repr(read) and "pw'" not in repr(read), "a secret is not shown"
    assert (read.critical_content, read.notice_content) == (Content.NONE, Content.NONE)
    roster = load_roster(read)
    assert roster.calendar.holidays == {date(2026, 12, 25), date(2027, 1, 1)}
    assert roster.people["anna"].contacts[1] == Contact("sms", "+49 30 1234", Severity.URGENT)
    day, machines = roster.shifts
    assert (day.people, len(day.hours), machines.hours) == (("anna", "chat"), 1, ())
    assert machines.of.kinds == {AlertKind.DISK, AlertKind.CLOCK}
    assert [(step.after_s, step.people) for step in roster.steps] == [(1800.0, ("anna",))]
    assert roster.wishes[0].kinds == {NoticeKind.FINAL, NoticeKind.REJECTED}


def test_secrets_may_come_from_systemd(tmp_path: Path) -> None:
    (tmp_path / "labora.alert-mail").write_text("from systemd\n")
    (tmp_path / "roster.toml").write_text('[[person]]\nid="a"\ncontact=[{channel="mail",to="a@x"}]\n'
                                          '[[shift]]\npeople=["a"]')  # fmt: skip
    mail = "[[alerts.channel]]" + CHANNELS.split("[[alerts.channel]]")[1]
    text = f'[alerts]\nroster = "{tmp_path}/roster.toml"\n{mail}'
    read = parse(text, HERE, {"CREDENTIALS_DIRECTORY": str(tmp_path)}).alerts
    assert read.channels[0].secret == "from systemd"


@pytest.mark.parametrize(
    ("old", "new", "path", "text"),
    [
        ('server = "smtp', 'security = "none"\nserver = "smtp', "alerts.channel[0].security", "read by anybody"),
        ("Labora <labora@lab.example.org>", "Labora", "alerts.channel[0].from", "is not an address"),
        ('server = "smtp.example.org:587"', "", "alerts.channel[0].server", "is missing"),
        ('type = "slack"', 'type = "slack"\nurl = "https://x.example/y"', "alerts.channel[1].url", "LABORA_ALERT_CHAT"),
        ('type = "slack"', 'type = "slak"', "alerts.channel[1].type", 'did you mean "slack"'),
        ('id = "chat"', 'id = "chat2"', "alerts.channel[1]", "LABORA_ALERT_CHAT2"),
        ('id = "chat"', 'id = "mail"', "alerts.channel[1].id", "already the id of channel[0]"),
        ("https://sms", "http://sms", "alerts.channel[2].url", "is not https"),
        ("https://sms", "https://me:pw@sms", "alerts.channel[2].url", "carries a user"),
        ("https://sms.example.org", "https://{to}", "alerts.channel[2].url", "is not an https"),
        ('"text": "{text}"', '"text": "{text} {txt}"', "alerts.channel[2].body", "{txt}, which is none of"),
        ('"text": "{text}"', '"text": ""', "alerts.channel[2].body", "nothing would be said"),
        ("Authorization = ", '"bad header" = ', "alerts.channel[2].headers.bad header", "not the name of a header"),
        ('type = "sms"', 'type = "sms"\nsecurity = "tls"', "alerts.channel[2].security", "of no use with sms"),
        ('type = "sms"', 'type = "sms"\nca = "/nowhere.pem"', "alerts.channel[2].ca", "cannot be read"),
        ('type = "sms"', 'type = "sms"\nretries = 3', "alerts.channel[2].retries", "is not a key Labora knows"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_channel_is_said_at_its_path(
    tmp_path: Path, old: str, new: str, path: str, text: str
) -> None:
    assert old in CHANNELS
    found = problems(tmp_path, channels=CHANNELS.replace(old, new, 1))
    assert text in found[path], found


@pytest.mark.parametrize(
    ("old", "new", "path", "text"),
    [
        ("", "nonsense = [", "roster", "is not TOML"),
        ("2026-12-25", '"christmas"', "roster.holidays[0]", "is not a date"),
        ("2026-12-25", "2026-12-25T00:00:00", "roster.holidays[0]", "is not a date"),
        ("anna@lab.example.org", "anna", "roster.person[0].contact[0].to", "is not an e-mail address"),
        ("+49 30 1234", "anna@x", "roster.person[0].contact[1].to", "is not a telephone number"),
        ('channel = "sms"', 'channel = "sns"', "roster.person[0].contact[1].channel", 'did you mean "sms"'),
        ('channel = "chat"', 'channel = "chat", to = "#lab"', "roster.person[1].contact[0].to", "of no use with slack"),
        ('id = "chat"', 'id = "anna"', "roster.person[1].id", "is the id of another person"),
        ('contact = [{ channel = "chat" }]', "", "roster.person[1].contact", "is missing"),
        ("mon-fri 07:00", "mon-fry 07:00", "roster.shift[0].hours[0]", "mon-fry is none of"),
        ('["anna", "chat"]', '["ana", "chat"]', "roster.shift[0].people[0]", 'did you mean "anna"'),
        ('["disk", "clock"]', '["disc", "clock"]', "roster.shift[1].kinds[0]", 'did you mean "disk"'),
        ('least = "warning"', 'least = "bad"', "roster.shift[1].least", "is not one of"),
        ("after_min = 30", "after_min = 0", "roster.escalation[0].after_min", "is not between"),
        ('on = ["final", "rejected"]', 'on = ["finished"]', "roster.notice[0].on[0]", "is none of"),
        ('ward = "3A"', "", "roster.notice[0].ward", "of whose orders"),
        ("[[escalation]]", "[[escalations]]", "roster.escalations", 'did you mean "escalation"'),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_roster_is_said_at_its_path(
    tmp_path: Path, old: str, new: str, path: str, text: str
) -> None:
    found = problems(tmp_path, roster=ROSTER.replace(old, new, 1))
    assert text in found[path], found


def test_all_problems_are_said_at_once_and_nobody_to_tell_is_one(tmp_path: Path) -> None:
    roster = ROSTER.replace("anna@lab.example.org", "anna").replace("after_min = 30", "after_min = 0")
    channels = CHANNELS.replace("https://sms", "http://sms")
    assert len(problems(tmp_path, roster=roster, channels=channels, extra="backlog_age_s = -1")) == 4
    assert "nobody is told" in problems(tmp_path, roster=ROSTER.split("[[shift]]")[0])["roster.shift"]
    with pytest.raises(ConfigError, match="nobody is named"):
        parse(f"[alerts]\n{CHANNELS}", HERE, SECRETS)


def test_an_order_number_never_stands_in_an_address(tmp_path: Path) -> None:
    """Servers log addresses; what may be said of an order is in the body (DESIGN 1.9)."""
    channels = CHANNELS.replace("/send", "/send?text={text}")
    assert settings(tmp_path, channels=channels).channels[2].url.endswith("{text}")
    found = problems(tmp_path, channels=channels, extra='notice_content = "order_number"')
    assert "do not belong into addresses" in found["alerts.channel[2].url"]


def test_an_authority_of_the_house_may_be_named(tmp_path: Path) -> None:
    ca = Authority(tmp_path).file
    read = settings(tmp_path, channels=CHANNELS.replace('type = "sms"', f'type = "sms"\nca = "{ca}"'))
    assert read.channels[2].ca == ca


@pytest.mark.parametrize(
    ("line", "key"), [('working_hours = ["mon 7-8"]', "working_hours[0]"), ("silent_after_s = -1", "silent_after_s")]
)
def test_a_links_calendar_is_checked(line: str, key: str) -> None:
    link = '[[link]]\nid = "a"\norganization = "main"\ndriver = "generic_lis2"\n' + line
    text = link + '\ntransport = { type = "tcp-listen", listen = "127.0.0.1:0" }'
    with pytest.raises(ConfigError) as caught:
        parse(text, HERE, {})
    assert [problem.path for problem in caught.value.problems] == [f"link[0].{key}"]


def test_of_several_laboratories_a_notice_says_whose_ward_it_means(tmp_path: Path) -> None:
    """Each has a 3A: the one of the other hospital was told of orders that are not its own, also of critical ones."""
    (tmp_path / "roster.toml").write_text(ROSTER)
    text = f'[alerts]\nroster = "{tmp_path}/roster.toml"\n{CHANNELS}'
    links = [
        f'[[link]]\nid = "{name}"\norganization = "{name}"\ndriver = "generic_lis2"\n'
        f'transport = {{ type = "tcp-listen", listen = "127.0.0.1:{port}" }}\n'
        for name, port in (("main", 4001), ("north", 4002))
    ]
    assert parse(f"{text}\n{links[0]}", HERE, SECRETS)
    with pytest.raises(ConfigError) as caught:
        parse(f"{text}\n{''.join(links)}", HERE, SECRETS)
    [problem] = caught.value.problems
    assert (problem.path, "several laboratories" in problem.text) == ("roster.notice[0].organization", True)
    with pytest.raises(ConfigError, match="several laboratories"):  # one of them works by hand, and has a 3A too
        parse(f'organizations = ["north"]\n{text}\n{links[0]}', HERE, SECRETS)
    (tmp_path / "roster.toml").write_text(ROSTER.replace('ward = "3A"', 'ward = "3A"\norganization = "north"'))
    assert parse(f"{text}\n{''.join(links)}", HERE, SECRETS)

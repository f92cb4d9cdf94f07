"""Configuration: everything wrong is said at once, with its path; nothing secret is repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from interface import config
from interface.errors import ConfigError
from interface.settings import (
    AckPolicy,
    Address,
    BarcodeRules,
    LinkRole,
    NameMismatch,
    OnStoreFailure,
    OrderReply,
    Preliminary,
    StandbySettings,
    TransportType,
    Unsolicited,
    packaged,
)
from tests.configuration import drivers, link, parse, problems

__all__ = ["drivers"]  # a fixture


def test_an_empty_file_gives_the_documented_defaults() -> None:
    settings = parse("", LABORA_STATE_DIR="/srv/labora")
    assert settings.state_dir == Path("/srv/labora")
    assert settings.database.url == "embedded"
    assert settings.api.listen == Address("127.0.0.1", 8080)
    assert settings.api.preliminary is Preliminary.HIDDEN
    assert settings.links == ()


def test_the_shipped_file_says_nothing_but_the_defaults() -> None:
    shipped = config.load(packaged("config.toml"), {"LABORA_STATE_DIR": "/srv/labora"})
    empty = parse("", LABORA_STATE_DIR="/srv/labora")
    assert (shipped.database, shipped.api, shipped.limits) == (empty.database, empty.api, empty.limits)


def test_a_whole_link_is_read(drivers: Path) -> None:
    text = link(
        drivers,
        driver='"acme_hl7"',
        transport='{ type = "mllp-listen", listen = "[::1]:4001" }',
        analyzer='"xn-1"',
        encoding='"latin-1"',
        timezone='"Asia/Jakarta"',
        unsolicited='"register"',
        on_store_failure='"close"',
        ack='"accept"',
        outstanding="1",
        mllp_release="2",
        answer_wait_s="12.5",
        download="true",
        send_attempts="3",
        allow='["10.1.2.0/24", "fd00::/8"]',
        max_connections="4",
        max_message_bytes="65536",
    )
    [read] = parse(text).links
    assert read.transport.type is TransportType.MLLP_LISTEN
    assert read.transport.endpoint == Address("::1", 4001)
    assert (read.id, read.organization, read.driver, read.analyzer) == ("a-1", "main", "acme_hl7", "xn-1")
    assert (read.encoding, read.timezone) == ("latin-1", "Asia/Jakarta")
    assert (read.unsolicited, read.on_store_failure) == (Unsolicited.REGISTER, OnStoreFailure.CLOSE)
    assert (read.ack, read.outstanding, read.mllp_release) == (AckPolicy.ACCEPT, 1, 2)
    assert (read.answer_wait_s, read.download, read.send_attempts) == (12.5, True, 3)
    assert (read.allow, read.max_connections, read.max_message_bytes) == (("10.1.2.0/24", "fd00::/8"), 4, 65536)


def test_a_link_may_name_the_revision_of_its_driver(drivers: Path) -> None:
    [read] = parse(link(drivers, driver='"acme_one@7"')).links
    assert (read.driver, read.driver_revision) == ("acme_one", "7")


def test_a_link_adds_leniencies_and_limits_of_its_own(drivers: Path) -> None:
    [plain] = parse(link(drivers)).links
    assert (plain.leniencies, plain.max_frame_bytes) == (frozenset(), 64_000)
    assert (plain.frame_text_bytes, plain.ack_colliding_enq) == (0, None)
    named = {"leniencies": '["no_checksum", "bare_records"]', "max_frame_bytes": "200000"}
    [read] = parse(link(drivers, **named, frame_text_bytes="63993", ack_colliding_enq="true")).links
    assert read.leniencies == {"no_checksum", "bare_records"}
    assert (read.max_frame_bytes, read.frame_text_bytes, read.ack_colliding_enq) == (200_000, 63_993, True)


def test_a_leniency_that_is_not_known_is_named_with_its_place(drivers: Path) -> None:
    found = problems(link(drivers, leniencies='["no_checksum", "no_chekcsum"]', ack_colliding_enq="1"))
    assert list(found) == ["link[0].leniencies[1]", "link[0].ack_colliding_enq"]
    assert found["link[0].leniencies[1]"].startswith('"no_chekcsum" is not one of no_checksum, ')
    assert found["link[0].leniencies[1]"].endswith('(did you mean "no_checksum"?)')


def test_mllp_has_no_leniencies_of_lis01(drivers: Path) -> None:
    transport = '{ type = "mllp-listen", listen = "127.0.0.1:4001" }'
    found = problems(link(drivers, driver='"acme_hl7"', transport=transport, leniencies="[]", frame_text_bytes="240"))
    assert list(found) == ["link[0].leniencies", "link[0].frame_text_bytes"]


def test_every_problem_is_reported_at_once_with_its_toml_path(drivers: Path) -> None:
    found = problems(f"""
        sate_dir = "/x"
        driver_path = ['{drivers}']
        [database]
        url = "mysql://host/db"
        [api]
        listen = "127.0.0.1:99999"
        preliminary = "shown"
        token_lifetime_s = "long"
        [limits]
        workers = 0
        commit_wait_s = 60
        [[link]]
        id = "Hema 1"
        organization = "main"
        driver = "acme_tow"
        transport = {{ type = "tcp-listen", listen = "300.1.1.1:4001" }}
        [[link]]
        id = "b"
        driver = "acme_one"
        timezone = "Asia/Jakarta2"
        encoding = "utf-16"
        allow = ["10.0.0.1/8"]
        unsolicited = "drop"
        transport = {{ type = "tcp-listne", listen = "127.0.0.1:4002", port = 1 }}
        [[link]]
        id = "b"
        organization = "main"
        driver = "acme_hl7"
        transport = {{ type = "mllp-listen", listen = "127.0.0.1:4002" }}
        """)
    assert set(found) == {
        "sate_dir",
        "database.url",
        "api.listen",
        "api.preliminary",
        "api.token_lifetime_s",
        "limits.workers",
        "limits.commit_wait_s",
        "link[0].id",
        "link[0].driver",
        "link[0].transport.listen",
        "link[1].organization",
        "link[1].timezone",
        "link[1].encoding",
        "link[1].allow[0]",
        "link[1].unsolicited",
        "link[1].transport.type",
        "link[1].transport.port",
        "link[2].id",
    }
    assert 'did you mean "state_dir"' in found["sate_dir"]
    assert 'did you mean "acme_one"' in found["link[0].driver"] or 'did you mean "acme_two"' in found["link[0].driver"]
    assert 'did you mean "tcp-listen"' in found["link[1].transport.type"]
    assert found["link[1].organization"] == "is missing"


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        ("127.0.0.1:4001", "127.0.0.1:4001", True),
        ("0.0.0.0:4001", "127.0.0.1:4001", True),
        ("localhost:4001", "127.0.0.1:4001", True),
        ("127.0.0.1:4001", "127.0.0.2:4001", False),
        ("127.0.0.1:4001", "127.0.0.1:4002", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
    ],
)
def test_two_links_cannot_share_an_address(drivers: Path, first: str, second: str, clash: bool) -> None:
    text = link(drivers, transport=f'{{ type = "tcp-listen", listen = "{first}" }}')
    text += f"""
        [[link]]
        id = "a-2"
        organization = "main"
        driver = "acme_one"
        transport = {{ type = "tcp-listen", listen = "{second}" }}
        """
    if clash:
        assert problems(text) == {"link[1].transport.listen": f"{second} is already taken by link[0].transport.listen"}
    else:
        assert len(parse(text).links) == 2


def test_a_driver_must_speak_what_its_transport_carries(drivers: Path) -> None:
    found = problems(link(drivers, driver='"acme_hl7"'))
    assert found == {"link[0].driver": '"acme_hl7" speaks hl7, which tcp-listen does not carry'}


@pytest.mark.parametrize("type_", ["tcp-listen", "tcp-dial", "serial", "folder"])
def test_a_framing_of_a_drivers_own_goes_over_whatever_carries_bytes(drivers: Path, type_: str) -> None:
    places = ('listen = "127.0.0.1:4001"', 'dial = "10.1.2.3:4001"', 'port = "/dev/x"', 'path = "/srv/drop"')
    at = dict(zip(("tcp-listen", "tcp-dial", "serial", "folder"), places, strict=True))
    transport = f'{{ type = "{type_}", {at[type_]} }}'
    (found,) = parse(link(drivers, driver='"biomerieux_mini_vidas"', transport=transport)).links
    assert found.driver == "biomerieux_mini_vidas"
    mllp = link(drivers, driver='"biomerieux_mini_vidas"', transport='{ type = "mllp-listen", listen = "127.0.0.1:1" }')
    assert "speaks blocks of its own, which mllp-listen does not carry" in problems(mllp)["link[0].driver"]


def test_a_driver_that_cannot_be_used_is_a_problem_of_its_link(drivers: Path) -> None:
    (drivers / "acme_one" / "driver.toml").write_text("[driver]\nid = 3\n")
    found = problems(link(drivers))
    assert list(found) == ["link[0].driver"]
    assert "driver.toml: driver.title: is missing" in found["link[0].driver"]


def test_a_link_cannot_take_the_port_of_the_api(drivers: Path) -> None:
    text = link(drivers, transport='{ type = "tcp-listen", listen = "127.0.0.1:8080" }')
    assert problems(text) == {"link[0].transport.listen": "127.0.0.1:8080 is already taken by api.listen"}


@pytest.mark.parametrize(
    "url",
    ["postgresql://u:hunter2@h/d", "postgresql://u@h/d?password=hunter2", "postgresql://u@h/d?sslpassword=hunter2"],
)
def test_a_password_in_the_file_is_refused_and_not_repeated(url: str) -> None:
    found = problems(f'[database]\nurl = "{url}"')
    assert list(found) == ["database.url"]
    assert "LABORA_DATABASE_URL" in found["database.url"]
    assert "hunter2" not in str(found)


def test_the_environment_may_carry_the_password_and_wins() -> None:
    url = "postgresql://u:hunter2@h/d"
    assert parse('[database]\nurl = "postgresql://other@h/d"', LABORA_DATABASE_URL=url).database.url == url


def test_a_bad_url_in_the_environment_is_named_by_its_variable_and_not_repeated() -> None:
    found = problems("", LABORA_DATABASE_URL="oracle://u:hunter2@h/d")
    assert list(found) == ["LABORA_DATABASE_URL"]
    assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u@h", "names no database"),
        ("postgresql://u@h:99999/d", "is not a URL"),
        ("postgresql://u@h/d?sslmode=off", "unknown sslmode"),
        ("embeded", 'must be "embedded"'),
    ],
)
def test_a_database_url_is_checked(url: str, said: str) -> None:
    assert said in problems(f'[database]\nurl = "{url}"')["database.url"]


def test_a_standby_needs_a_server_of_its_own() -> None:
    assert "embedded" in problems("[standby]\nenabled = true")["standby.enabled"]
    assert problems("[standby]\nlease_s = 0.5\nname = 'Two Words'").keys() == {"standby.lease_s", "standby.name"}
    text = "[database]\nurl = 'postgresql://u@h/d'\n[standby]\nenabled = true\nname = 'lab-a'\nlease_s = 10"
    assert parse(text).standby == StandbySettings(True, "lab-a", 10.0)


def test_a_socket_folder_in_the_url_is_fine() -> None:
    assert parse('[database]\nurl = "postgresql://u@/d?host=/run/postgresql"').database.url.endswith("/run/postgresql")


@pytest.mark.parametrize("address", ["4001", "127.0.0.1", "127.0.0.1:", ":4001", "::1:4001", "a b:1", "h:-1", "h:1:2"])
def test_a_malformed_address_is_a_problem(address: str) -> None:
    assert "is not an address" in problems(f'[api]\nlisten = "{address}"')["api.listen"]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("link = 3", "link"),
        ("database = 3", "database"),
        ("[[link]]\ntransport = 3\nid = 'a'\norganization = 'o'\ndriver = 7", "link[0].transport"),
        ("driver_path = 'x'", "driver_path"),
        ("state_dir = 'relative'", "state_dir"),
        ("state_dir = '~nobody-of-this-name/x'", "state_dir"),
        (f"driver_path = ['/{'x' * 300}']", "driver_path[0]"),
        ("driver_path = ['~nobody-of-this-name/x']", "driver_path[0]"),
        ("[backup]\ndirectory = '~nobody-of-this-name/x'", "backup.directory"),
        ("[database]\nfolders = '/wal'", "database.folders"),
        ("[database]\nfolders = ['/wal', 'wal']", "database.folders[1]"),
        ("[limits]\nworkers = true", "limits.workers"),
    ],
)
def test_a_value_of_the_wrong_type_is_a_problem(text: str, path: str) -> None:
    assert path in problems(text)


def test_a_syntax_error_names_file_line_and_column() -> None:
    found = problems("[api]\nlisten = 127.0.0.1:8080\n")
    assert "line 2, column" in found["config.toml"]


def test_a_file_that_cannot_be_read_is_one_clear_problem(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.toml: cannot be read: No such file"):
        config.load(tmp_path / "nowhere.toml", {})
    (tmp_path / "latin.toml").write_bytes(b"# \xe9\n")
    with pytest.raises(ConfigError, match="is not UTF-8 at byte 2"):
        config.load(tmp_path / "latin.toml", {})


def test_the_file_named_on_the_command_line_wins_over_the_environment(tmp_path: Path) -> None:
    environ = {"LABORA_CONFIG": str(tmp_path / "env.toml")}
    assert config.find_config(tmp_path / "given.toml", environ) == tmp_path / "given.toml"
    assert config.find_config(None, environ) == tmp_path / "env.toml"


def test_the_state_directory_follows_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert config.default_state_dir({"XDG_STATE_HOME": "/home/ann/state"}) == Path("/var/lib/labora")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert config.default_state_dir({"XDG_STATE_HOME": "/home/ann/state"}) == Path("/home/ann/state/labora")
    assert config.default_state_dir({"XDG_STATE_HOME": "relative"}) == Path.home() / ".local/state/labora"


def test_a_links_rules_for_specimen_ids_are_read_and_what_cannot_be_used_is_named(drivers: Path) -> None:
    [plain] = parse(link(drivers)).links
    assert (plain.barcode, plain.specimen_window_days, plain.control_ids) == (BarcodeRules(), 60, ())
    assert (plain.rules, parse(link(drivers, rules='"pediatrics"')).links[0].rules) == ("default", "pediatrics")
    rules = '{ strip_prefix = "]C1", pattern = "(?P<id>[0-9]+)", check_digit = "luhn", pad = 10 }'
    [read] = parse(
        link(drivers, barcode=rules, control_ids='["9[0-9]{3}"]', name_mismatch='"hold"', specimen_window_days="7")
    ).links
    assert read.barcode == BarcodeRules("]C1", "", "(?P<id>[0-9]+)", "luhn", 10)
    assert (read.control_ids, read.name_mismatch) == (("9[0-9]{3}",), NameMismatch.HOLD)
    assert read.specimen_window_days == 7
    found = problems(
        link(drivers, barcode='{ check_digit = "lunh", pattern = "(", pad = 99 }', control_ids='["QC", "(a+)+"]')
    )
    assert set(found) == {
        "link[0].barcode.check_digit", "link[0].barcode.pattern", "link[0].barcode.pad", "link[0].control_ids[1]",
    }  # fmt: skip
    assert "luhn" in found["link[0].barcode.check_digit"]


def test_a_hospitals_link_has_keys_of_its_own_and_none_about_results(drivers: Path) -> None:
    mllp = '{ type = "mllp-listen", listen = "127.0.0.1:2575" }'
    own = {"authority": '"HOSP"', "authorities": '{ "MRN-A" = "urn:oid:2.999.1" }', "order_reply": '"ack"'}
    [read] = parse(link(drivers, role='"hospital"', driver='"acme_hl7"', transport=mllp, **own)).links
    assert (read.role, read.authority, read.order_reply) == (LinkRole.HOSPITAL, "HOSP", OrderReply.ACK)
    assert read.authorities == (("MRN-A", "urn:oid:2.999.1"),)
    astm = link(
        drivers, role='"hospital"', unsolicited='"hold"', rules='"x"', authority='" H"', authorities="{ A = 1 }"
    )
    found = problems(astm)
    assert {path.rpartition("link[0].")[2] for path in found} == {
        "transport.type", "unsolicited", "rules", "authority", "authorities.A",
    }  # fmt: skip
    assert [path.rpartition(".")[2] for path in problems(link(drivers, **own))] == [
        "authority",
        "authorities",
        "order_reply",
    ]


def test_endpoints_and_networks_of_hooks_are_checked() -> None:
    text = """[api]
    hooks = ["https://emr.example.org/fhir", "http://emr.example.org", "https://u@h", "http://127.0.0.1:9000"]
    hook_networks = ["10.1.2.0/24", "10.1.2.1/24", "0.0.0.0/0", "169.254.0.0/16"]"""
    assert list(problems(text)) == [
        "api.hooks[1]", "api.hooks[2]", "api.hook_networks[1]", "api.hook_networks[2]", "api.hook_networks[3]"
    ]  # fmt: skip

"""What carries a link's bytes, as the configuration has it: ports, addresses, folders, certificates, shared ports."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from interface.settings import (
    Address,
    DialTls,
    Folder,
    LineFormat,
    ListenTls,
    Match,
    Parity,
    SerialPort,
    Transport,
    TransportType,
)
from tests.configuration import drivers, link, parse, problems
from tests.link.certificates import LONG_AGO, Authority, protect

__all__ = ["drivers"]  # a fixture


def test_a_serial_link_is_read_in_full(drivers: Path) -> None:
    transport = '{ type = "serial", port = "/dev/serial/by-id/usb-1", baud = 4800, format = "7E1" }'
    [read] = parse(link(drivers, transport=transport)).links
    port = SerialPort(Path("/dev/serial/by-id/usb-1"), 4800, LineFormat(7, Parity.EVEN, 1))
    assert read.transport == Transport(TransportType.SERIAL, port)
    assert str(port) == "/dev/serial/by-id/usb-1 4800 7E1"


def test_a_serial_link_has_the_usual_speed_and_format(drivers: Path) -> None:
    [read] = parse(link(drivers, transport='{ type = "serial", port = "/dev/ttyS0" }')).links
    assert str(read.transport.endpoint) == "/dev/ttyS0 9600 8N1"


@pytest.mark.parametrize(
    ("keys", "path", "text"),
    [
        ("", "port", "is missing"),
        ('port = "ttyS0"', "port", "must be an absolute path"),
        ("port = 1", "port", "must be text"),
        ('port = "/dev/ttyS0", baud = 9601', "baud", "9601 is not one of 300,"),
        ('port = "/dev/ttyS0", baud = "9600"', "baud", "must be a whole number"),
        ('port = "/dev/ttyS0", format = "8n1"', "format", "is not the format of a serial line"),
        ('port = "/dev/ttyS0", format = "5N1"', "format", "data bits 7 or 8"),
        ('port = "/dev/ttyS0", format = "8N3"', "format", "stop bits 1 or 2"),
        ('port = "/dev/ttyS0", format = "8M1"', "format", "parity N, E or O"),
        ('port = "/dev/ttyS0", listen = "127.0.0.1:4001"', "listen", "is not a key"),
        ('port = "/dev/ttyS0", rtscts = true', "rtscts", "is not a key"),
    ],
)
def test_what_is_wrong_with_a_serial_port_is_named_by_its_key(drivers: Path, keys: str, path: str, text: str) -> None:
    found = problems(link(drivers, transport=f'{{ type = "serial"{", " if keys else ""}{keys} }}'))
    assert list(found) == [f"link[0].transport.{path}"]
    assert text in found[f"link[0].transport.{path}"]


def test_a_serial_link_carries_lis2_to_one_peer_without_a_network(drivers: Path) -> None:
    transport = '{ type = "serial", port = "/dev/ttyS0" }'
    found = problems(
        link(drivers, transport=transport, driver='"acme_hl7"', allow='["10.1.2.0/24"]', max_connections="2")
    )
    assert list(found) == ["link[0].allow", "link[0].max_connections", "link[0].driver"]
    assert "which serial does not carry" in found["link[0].driver"]


def test_two_links_cannot_share_a_serial_port_under_any_name(drivers: Path, tmp_path: Path) -> None:
    device = tmp_path / "ttyUSB0"
    device.touch()
    (tmp_path / "usb-1").symlink_to(device)

    def two(second: Path) -> str:
        text = link(drivers, transport=f'{{ type = "serial", port = "{device}" }}')
        return text + (
            '\n[[link]]\nid = "a-2"\norganization = "main"\ndriver = "acme_two"\n'
            f'transport = {{ type = "serial", port = "{second}" }}'
        )

    shared = tmp_path / "usb-1"
    assert problems(two(shared)) == {"link[1].transport.port": f"{shared} is already taken by link[0].transport.port"}
    assert len(parse(two(tmp_path / "ttyUSB1")).links) == 2


@pytest.mark.parametrize("driver", ["acme_one", "acme_hl7"])
def test_a_folder_is_read_in_full(drivers: Path, driver: str) -> None:
    transport = '{ type = "folder", path = "/srv/drop", pattern = "*.hl7", stable_s = 5 }'
    [read] = parse(link(drivers, transport=transport, driver=f'"{driver}"')).links
    assert read.transport == Transport(TransportType.FOLDER, Folder(Path("/srv/drop"), "*.hl7", 5.0))
    [usual] = parse(link(drivers, transport='{ type = "folder", path = "/srv/drop" }')).links
    assert usual.transport.endpoint == Folder(Path("/srv/drop"), "*", 2.0)


def test_what_is_wrong_with_a_folder_is_named_by_its_key(drivers: Path) -> None:
    transport = '{ type = "folder", path = "drop", pattern = "in/*.hl7", stable_s = -1, listen = "127.0.0.1:1" }'
    found = problems(link(drivers, transport=transport))
    assert set(found) == {f"link[0].transport.{key}" for key in ("path", "pattern", "stable_s", "listen")}
    allowed = link(drivers, transport='{ type = "folder", path = "/srv/drop" }', allow='["10.0.0.0/8"]', idle_s="60")
    assert set(problems(allowed)) == {"link[0].allow", "link[0].idle_s"}


def test_no_two_links_share_a_folder_under_any_name(drivers: Path, tmp_path: Path) -> None:
    (tmp_path / "here").symlink_to(tmp_path)
    text = link(drivers, transport=f'{{ type = "folder", path = "{tmp_path}" }}')
    text += (
        '\n[[link]]\nid = "a-2"\norganization = "main"\ndriver = "acme_two"\n'
        f'transport = {{ type = "folder", path = "{tmp_path}/here", pattern = "*.x" }}'
    )
    said = f"{tmp_path}/here is already taken by link[0].transport.path"
    assert problems(text) == {"link[1].transport.path": said}


@pytest.mark.parametrize(("kind", "driver"), [("tcp-dial", "acme_one"), ("mllp-dial", "acme_hl7")])
def test_a_dialled_link_names_whom_to_dial(drivers: Path, kind: str, driver: str) -> None:
    transport = f'{{ type = "{kind}", dial = "10.1.2.3:4001" }}'
    [read] = parse(link(drivers, transport=transport, driver=f'"{driver}"')).links
    assert read.transport == Transport(TransportType(kind), Address("10.1.2.3", 4001))


def test_what_is_wrong_with_a_dialled_link_is_named_by_its_key(drivers: Path) -> None:
    nobody = problems(link(drivers, transport='{ type = "tcp-dial", dial = "0.0.0.0:4001" }'))
    assert nobody == {"link[0].transport.dial": "0.0.0.0:4001 is not a host that can be dialled"}
    nowhere = problems(link(drivers, transport='{ type = "tcp-dial", dial = "10.1.2.3:0" }'))
    assert nowhere == {"link[0].transport.dial": "10.1.2.3:0 is not a host that can be dialled"}
    listening = problems(link(drivers, transport='{ type = "tcp-dial", listen = "10.1.2.3:1" }'))
    assert set(listening) == {"link[0].transport.dial", "link[0].transport.listen"}
    allowed = problems(link(drivers, transport='{ type = "tcp-dial", dial = "10.1.2.3:1" }', allow='["10.0.0.0/8"]'))
    assert allowed == {"link[0].allow": "is of no use with tcp-dial: nobody connects to this link"}


def test_no_two_links_dial_the_same_analyzer(drivers: Path) -> None:
    text = link(drivers, transport='{ type = "tcp-dial", dial = "10.1.2.3:4001" }')
    text += (
        '\n[[link]]\nid = "a-2"\norganization = "main"\ndriver = "acme_two"\n'
        'transport = { type = "tcp-dial", dial = "10.1.2.3:4001" }'
    )
    assert problems(text) == {"link[1].transport.dial": "10.1.2.3:4001 is already taken by link[0].transport.dial"}


def tls(**keys: object) -> str:
    """A `tls` table; `allow` is a TOML value, the others are paths and names."""
    written = (f"{key} = {value}" if key == "allow" else f"{key} = '{value}'" for key, value in keys.items())
    return "{ " + ", ".join(written) + " }"


def test_tls_of_a_listener_is_read(drivers: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.pair("ours")
    files = tls(cert=pair.cert, key=pair.key, client_ca=authority.file, allow='["XN-1", "AB:" ]')
    [read] = parse(link(drivers, tls=files, idle_s="600", takeover="false")).links
    assert read.tls == ListenTls(pair.cert, pair.key, authority.file, frozenset({"xn-1", "ab:"}))
    assert (read.idle_s, read.takeover) == (600.0, False)


def test_tls_of_a_dialled_link_is_read(drivers: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.pair("ours")
    transport = '{ type = "tcp-dial", dial = "10.1.2.3:4001" }'
    files = tls(ca=authority.file, cert=pair.cert, key=pair.key, server_name="xn-1")
    [read] = parse(link(drivers, transport=transport, tls=files)).links
    assert read.tls == DialTls(authority.file, pair.cert, pair.key, "xn-1")
    [plain] = parse(link(drivers, transport=transport, tls="{}")).links
    assert plain.tls == DialTls()


def test_what_is_wrong_with_certificates_is_said_at_once(drivers: Path, tmp_path: Path) -> None:
    authority, nothing = Authority(tmp_path), tmp_path / "nothing.pem"
    one, other = authority.pair("one"), authority.pair("other")
    shown = authority.pair("shown")
    shown.key.chmod(0o644)
    locked = authority.pair("locked")
    protect(locked.key)
    (tmp_path / "text.pem").write_text("no certificate")
    texts = [
        tls(cert=nothing, key=one.key, client_ca=nothing),
        tls(cert=one.cert, key=other.key),
        tls(cert=shown.cert, key=shown.key),
        tls(cert=locked.cert, key=locked.key),
        tls(cert=tmp_path / "text.pem", key=one.key),
        tls(cert="one.pem", allow='["xn-1"]'),
        tls(cert=one.cert, key=one.key, ca=authority.file),
    ]
    text = f"driver_path = ['{drivers}']\n"
    for number, written in enumerate(texts):
        text += (
            f'[[link]]\nid = "a-{number}"\norganization = "main"\ndriver = "acme_one"\n'
            f'transport = {{ type = "tcp-listen", listen = "127.0.0.1:{4001 + number}" }}\ntls = {written}\n'
        )
    found = problems(text)
    assert found == {
        "link[0].tls.cert": f"{nothing} cannot be read: no such file or directory",
        "link[0].tls.client_ca": f"{nothing} cannot be read: no such file or directory",
        "link[1].tls.key": f"{other.key} does not belong to the certificate {one.cert}",
        "link[2].tls.key": f"{shown.key} can be used by others (-rw-r--r--): chmod 600 it, or 640 where root owns it",
        "link[3].tls.key": f"{locked.key} is protected by a password, which nobody could type when the daemon starts",
        "link[4].tls.cert": f"{tmp_path}/text.pem is not a PEM file with -----BEGIN …CERTIFICATE-----",
        "link[5].tls.cert": '"one.pem" must be an absolute path',
        "link[5].tls.key": "is missing",
        "link[5].tls.allow": "needs client_ca: without it no peer shows a certificate",
        "link[6].tls.ca": "is not a key Labora knows",
    }


def test_dates_of_a_certificate_keep_no_link_from_starting(drivers: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    old = authority.pair("old", not_after=LONG_AGO)
    early = authority.pair(
        "early", not_before=datetime(2100, 1, 1, tzinfo=UTC), not_after=datetime(2101, 1, 1, tzinfo=UTC)
    )
    for pair in (old, early):
        assert parse(link(drivers, tls=tls(cert=pair.cert, key=pair.key, client_ca=pair.cert))).links


def test_a_key_that_a_group_may_read_is_roots(drivers: Path, tmp_path: Path) -> None:
    pair = Authority(tmp_path).pair("ours")
    written = link(drivers, tls=tls(cert=pair.cert, key=pair.key))
    pair.key.chmod(0o640)
    if os.geteuid() == 0:
        assert parse(written).links
        os.chown(pair.key, 65534, -1)
    assert list(problems(written)) == ["link[0].tls.key"]


def test_a_client_certificate_needs_its_key(drivers: Path, tmp_path: Path) -> None:
    pair = Authority(tmp_path).pair("ours")
    transport = '{ type = "tcp-dial", dial = "10.1.2.3:4001" }'
    found = problems(link(drivers, transport=transport, tls=tls(cert=pair.cert)))
    assert found == {"link[0].tls.key": "is missing: cert is of no use without it"}


def test_a_cable_has_no_tls(drivers: Path) -> None:
    transport = '{ type = "serial", port = "/dev/ttyS0" }'
    assert set(problems(link(drivers, transport=transport, tls="{}", idle_s="60"))) == {"link[0].tls", "link[0].idle_s"}


def test_an_idle_time_that_would_cut_every_session_is_a_problem(drivers: Path) -> None:
    assert "neither 0 (never) nor at least 10" in problems(link(drivers, idle_s="2"))["link[0].idle_s"]


def sharing(drivers: Path, first: str, second: str, **changes: str) -> str:
    """Two links on one port with these `match` tables ("": none); `changes` are the second one's."""
    text = link(drivers, **({"match": first} if first else {})) + "\n"
    keys = {"driver": '"acme_two"', **({"match": second} if second else {})} | changes
    keys = {"transport": '{ type = "tcp-listen", listen = "127.0.0.1:4001" }'} | keys
    return text + '[[link]]\nid = "a-2"\norganization = "other"\n' + "\n".join(f"{k} = {v}" for k, v in keys.items())


def test_links_may_share_a_port_where_each_has_a_match(drivers: Path) -> None:
    one, two = parse(sharing(drivers, '{ sender = "^XN-" }', '{ sender = "^CA-", peer = "10.1.2.0/24" }')).links
    assert one.match == Match("^XN-")
    assert two.match == Match("^CA-", "", "10.1.2.0/24")
    hl7 = link(
        drivers, driver='"acme_hl7"', transport='{ type = "mllp-listen", listen = "127.0.0.1:1" }',
        match='{ facility = "^LAB$" }',
    )  # fmt: skip
    assert parse(hl7).links[0].match == Match("", "^LAB$")


@pytest.mark.parametrize(
    ("first", "second", "changes", "key", "said"),
    [
        ('{ sender = "a" }', "", {}, "transport.listen", "links share a port where each has a match"),
        ("", '{ sender = "a" }', {}, "transport.listen", "is already taken by link[0].transport.listen; links share"),
        ('{ sender = "a" }', '{ sender = "a" }', {}, "match", "is that of link[0]: nothing tells their messages apart"),
        ('{ sender = "a" }', '{ sender = "b" }', {"max_connections": "3"}, "max_connections", "must be as in link[0]"),
        ('{ sender = "a" }', '{ sender = "b" }', {"allow": '["10.0.0.0/8"]'}, "allow", "must be as in link[0]"),
        (
            '{ sender = "a" }', '{ sender = "b" }',
            {"driver": '"acme_hl7"', "transport": '{ type = "mllp-listen", listen = "127.0.0.1:4001" }'},
            "transport", "must be as in link[0]",
        ),
        (
            '{ sender = "a" }', '{ sender = "b" }',
            {"transport": '{ type = "tcp-listen", listen = "0.0.0.0:4001" }'},
            "transport.listen", "0.0.0.0:4001 is already taken by link[0].transport.listen",
        ),
    ],
)  # fmt: skip
def test_links_that_one_port_cannot_serve_are_a_problem(
    drivers: Path, first: str, second: str, changes: dict[str, str], key: str, said: str
) -> None:
    found = problems(sharing(drivers, first, second, **changes))
    assert list(found) == [f"link[1].{key}"]
    assert said in found[f"link[1].{key}"]


def test_drivers_that_frame_differently_do_not_share_a_port(drivers: Path) -> None:
    manifest = drivers / "acme_two" / "driver.toml"
    manifest.write_text(manifest.read_text() + '[framing]\nleniencies = ["no_checksum"]\n')
    found = problems(sharing(drivers, '{ sender = "a" }', '{ sender = "b" }'))
    said = '"acme_two" and "acme_one" of link[0] frame differently (leniencies): not on one port'
    assert found == {"link[1].driver": said}


def test_what_has_no_header_that_says_whose_it_is_shares_a_port_by_its_peers_only(drivers: Path) -> None:
    vidas = {"driver": '"biomerieux_mini_vidas"'}
    by_peer, other = '{ peer = "10.1.2.3/32" }', '{ peer = "10.1.2.4/32" }'
    assert len(parse(sharing(drivers, by_peer, other, **vidas).replace('"acme_one"', vidas["driver"])).links) == 2
    by_name = sharing(drivers, by_peer, '{ sender = "V" }', **vidas).replace('"acme_one"', vidas["driver"])
    assert "can ask for peer only" in problems(by_name)["link[1].match"]
    framed = sharing(drivers, by_peer, other, driver='"generic_hl7_lis01"').replace('"acme_one"', '"generic_hl7_lis01"')
    assert "cannot share a port" in problems(framed)["link[1].driver"]


@pytest.mark.parametrize(
    ("match", "key", "said"),
    [
        ("{}", "match", "asks for nothing"),
        ('{ sender = "(" }', "match.sender", "is not a regular expression"),
        ('{ facility = "LAB" }', "match.facility", "not what tcp-listen carries"),
        ('{ peer = "10.0.0.1/8" }', "match.peer", "is not a network"),
        ('{ sendr = "a", peer = "10.0.0.0/8" }', "match.sendr", 'did you mean "sender"'),
        ('"XN"', "match", "must be a table"),
    ],
)
def test_what_is_wrong_with_a_match_is_named_by_its_key(drivers: Path, match: str, key: str, said: str) -> None:
    found = problems(link(drivers, match=match))
    assert list(found) == [f"link[0].{key}"]
    assert said in found[f"link[0].{key}"]


def test_only_a_listener_has_a_match(drivers: Path) -> None:
    found = problems(link(drivers, transport='{ type = "serial", port = "/dev/ttyS0" }', match='{ sender = "a" }'))
    assert list(found) == ["link[0].match"]

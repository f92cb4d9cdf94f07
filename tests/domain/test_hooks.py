"""Where may be sent to: every way to write an address of the inside that we know of."""

from __future__ import annotations

import pytest

from interface.domain.hooks import allowed, reachable, read_endpoint

ENTRIES = [
    read_endpoint(one)
    for one in ("https://emr.example.org/fhir", "https://10.1.2.3:8443", "http://127.0.0.1:9000", "https://[fd00::7]")
]
EMR = ENTRIES[0]


@pytest.mark.parametrize(
    ("text", "is_allowed"),
    [
        ("https://emr.example.org/fhir", True), ("https://emr.example.org/fhir/hook/", True),
        ("https://emr.example.org:443/fhir", True), ("https://10.1.2.3:8443/a", True),
        ("http://127.0.0.1:9000", True), ("https://[fd00::7]/x", True),
        ("https://emr.example.org/fhirx", False), ("https://emr.example.org/", False),
        ("https://emr.example.org/fhir/../admin", False), ("https://emr.example.org/fhir/%2e%2e/admin", False),
        ("https://emr.example.org:8443/fhir", False), ("http://emr.example.org/fhir", False),
        ("https://user@emr.example.org/fhir", False), ("https://emr.example.org@evil.example/fhir", False),
        ("https://emr.example.org\\@evil.example/fhir", False), ("https://emr.example.org/fhir?patient=1", False),
        ("https://emr.example.org/fhir#x", False), ("https://EMR.example.org/fhir", False),
        ("https://emr.example.org.evil.example/fhir", False), ("https://10.1.2.3.:8443", False),
        ("https://167838211:8443", False), ("https://0x0a010203:8443", False), ("https://10.258.3:8443", False),
        ("https://[::ffff:10.1.2.3]:8443", False), ("ftp://emr.example.org/fhir", False), ("", False),
        ("https://emr.example.org/fhir\nHost: x", False), ("https://emr.example.org/" + "x" * 600, False),
    ],
)  # fmt: skip
def test_only_what_lies_at_or_below_an_entry_is_allowed(text: str, is_allowed: bool) -> None:
    try:
        allowed(text, ENTRIES)
    except ValueError:
        assert not is_allowed
    else:
        assert is_allowed


@pytest.mark.parametrize(
    ("address", "is_reachable"),
    [
        ("93.184.215.14", True), ("2606:2800:21f:cb07::1", True), ("10.9.0.4", True),
        ("10.1.2.3", False), ("192.168.1.1", False), ("172.16.0.1", False), ("100.64.0.1", False),
        ("127.0.0.1", False), ("::1", False), ("0.0.0.0", False),  # noqa: S104
        ("169.254.169.254", False), ("fe80::1%eth0", False),
        ("fd00::1", False), ("fec0::1", False), ("::ffff:127.0.0.1", False), ("::ffff:10.1.2.3", False),
        ("::ffff:10.9.0.4", True), ("2002:7f00:1::1", False), ("64:ff9b::7f00:1", False), ("2001:0:1::1", False),
        ("224.0.0.1", False), ("255.255.255.255", False), ("::", False), ("240.0.0.1", False),
    ],
)  # fmt: skip
def test_a_name_may_lead_to_public_addresses_and_to_the_networks_that_are_named(
    address: str, is_reachable: bool
) -> None:
    assert reachable(address, EMR, ["10.9.0.0/16"]) is is_reachable


def test_an_entry_that_is_an_address_may_be_reached_and_no_network_opens_what_never_is() -> None:
    assert reachable("10.1.2.3", ENTRIES[1], [])
    assert not reachable("10.1.2.4", ENTRIES[1], [])
    assert reachable("127.0.0.1", ENTRIES[2], [])
    assert reachable("fd00::7", ENTRIES[3], [])
    assert not reachable("169.254.169.254", EMR, ["169.254.0.0/16"])
    assert not reachable("127.0.0.1", EMR, ["127.0.0.0/8"])

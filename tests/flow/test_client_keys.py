"""Clients that sign: which keys are taken, and what an assertion must say."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from interface.flow import client_keys
from interface.flow.client_keys import Claimed, KeysUnavailable, Refused, signing_key
from tests.api.signing import Signer, ec_key, public, rsa_key

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
AT = int(NOW.timestamp())
URL = "https://lab.example/oauth/token"
GOOD = {"iss": "me", "sub": "me", "aud": URL, "jti": "1", "exp": AT + 300}


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({}, ""),
        ({"aud": ["x", URL]}, ""),
        ({"iat": AT, "nbf": AT}, ""),
        ({"exp": AT + 310}, ""), ({"exp": AT + 311}, "too_long"),
        ({"exp": AT - 9}, ""), ({"exp": AT - 10}, "expired"), ({"exp": None}, "time"), ({"exp": "9"}, "time"),
        ({"exp": True}, "time"), ({"exp": 1e300}, "time"), ({"exp": -1}, "time"), ({"exp": 0}, "expired"),
        ({"nbf": AT + 11}, "not_yet"), ({"iat": AT + 11}, "not_yet"), ({"iat": "now"}, "time"),
        ({"iss": "you"}, "issuer"), ({"sub": "you"}, "issuer"), ({"iss": None}, "issuer"),
        ({"aud": None}, "audience"), ({"aud": URL + "/"}, "audience"), ({"aud": []}, "audience"),
        ({"aud": "https://other.example/oauth/token"}, "audience"),
        ({"jti": None}, "jti"), ({"jti": ""}, "jti"), ({"jti": 1}, "jti"), ({"jti": "x" * 257}, "jti"),
    ],
)  # fmt: skip
def test_claims_authenticate_who_signed_for_us_and_now(changed: dict[str, Any], problem: str) -> None:
    assert client_keys.claims_problem(GOOD | changed, "me", URL, NOW) == problem


def test_claims_without_an_expiry_are_expired() -> None:
    assert client_keys.claims_problem({k: v for k, v in GOOD.items() if k != "exp"}, "me", URL, NOW) == "expired"


def test_an_assertion_is_remembered_for_as_long_as_it_could_be_taken() -> None:
    _, until = client_keys.spent(GOOD)
    assert client_keys.claims_problem(GOOD, "me", URL, until) == "expired"


RS, ES = public(rsa_key(), "rs"), public(ec_key(), "es")


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ([], "not a JWK set"),
        ({}, "not a JWK set"),
        ({"keys": []}, "not a JWK set"),
        ({"keys": ["x"]}, "not a JWK"),
        ({"keys": [ES] * 51}, "not a JWK set"),
        ({"keys": [ES, ES]}, "kid of its own"),
        ({"keys": [public(ec_key(), "")]}, "kid of its own"),
        ({"keys": [{**ES, "d": "AA"}]}, "private"),
        ({"keys": [ES, {"kty": "oct", "k": "AA", "kid": "2"}]}, "private"),
        ({"keys": [public(rsa_key("small", 1024), "1")]}, "no key is for"),
        ({"keys": [public(ec.generate_private_key(ec.SECP256R1()), "1")]}, "no key is for"),
        ({"keys": [{**ES, "use": "enc"}]}, "no key is for"),
        ({"keys": [{**ES, "alg": "ES256"}]}, "no key is for"),
        ({"keys": [{**ES, "x": "AA"}]}, "no key is for"),
        ({"keys": [{"kty": "EC", "kid": "1"}]}, "no key is for"),
    ],
)
def test_keys_that_cannot_be_used_are_not_registered(document: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        client_keys.registered(document)


def test_keys_of_both_kinds_are_registered_beside_others() -> None:
    other = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    okp = {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": base64.urlsafe_b64encode(other).decode().rstrip("=")}
    document = {"keys": [RS, ES, okp], "more": 1}
    assert client_keys.registered(document) == {"keys": [RS, ES, okp]}
    assert client_keys.find_key(document, "rs", "RS384") is not None
    assert client_keys.find_key(document, "es", "ES384") is not None
    for kid, algorithm in (("rs", "ES384"), ("es", "RS384"), ("ed", "EdDSA"), ("rs", "RS256"), ("no", "RS384")):
        assert client_keys.find_key(document, kid, algorithm) is None


HOSTS = frozenset({"emr.example", "emr.example:8443", "[::1]:8443"})


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://emr.example/jwks", True), ("https://emr.example:443/jwks?x=1", True), ("https://EMR.example/", True),
        ("https://emr.example:8443/jwks", True), ("https://emr.example:9443/jwks", False),
        ("http://emr.example/jwks", False), ("https://other.example/jwks", False), ("https://127.0.0.1/jwks", False),
        ("https://emr.example@other.example/", False), ("https://user:x@emr.example/", False),
        ("https://other.example#emr.example/", False), ("https://emr.example\\@other.example/", False),
        ("https://emr.example.other.example/", False), ("file:///etc/passwd", False), ("https:///jwks", False),
        ("https://emr.example:x/", False), ("https://emr.example/\r\nX: y", False), ("", False),
        ("https://[::1", False),
    ],
)  # fmt: skip
def test_keys_come_from_named_hosts_over_https_only(url: str, allowed: bool) -> None:
    assert (client_keys.url_problem(url, HOSTS) == "") is allowed
    assert client_keys.url_problem(url, frozenset()), "no host is named by default"


class Served:
    """What an address says, one thing after another; the last again and again."""

    def __init__(self, *documents: object) -> None:
        self.documents, self.asked = list(documents), list[bool]()

    async def fetch(self, url: str, *, again: bool = False) -> object:
        self.asked.append(again)
        found = self.documents.pop(0) if len(self.documents) > 1 else self.documents[0]
        if found is None:
            raise KeysUnavailable("not now")
        return found


async def test_a_key_that_is_not_there_yet_is_fetched_once_more() -> None:
    claimed = Claimed("me", "ES384", "es", "")
    old = {"keys": [RS]}
    for documents, asked in (((old, {"keys": [ES]}), [False, True]), (({"keys": [ES]},), [False])):
        served = Served(*documents)
        assert await signing_key(claimed, {}, URL, served) is not None
        assert served.asked == asked
    served = Served(old)
    with pytest.raises(Refused, match="unknown_key"):
        await signing_key(claimed, {}, URL, served)
    assert served.asked == [False, True], "once, whatever is asked"
    with pytest.raises(Refused, match="keys_unavailable"):
        await signing_key(claimed, {}, URL, Served(None))
    with pytest.raises(Refused, match="unknown_key"):  # kept keys are not fetched
        await signing_key(claimed, old, "", Served({"keys": [ES]}))


async def test_an_address_in_the_header_is_never_followed() -> None:
    served = Served({"keys": [ES]})
    with pytest.raises(Refused, match="jku"):
        await signing_key(Claimed("me", "ES384", "es", "https://other.example/"), {}, URL, served)
    with pytest.raises(Refused, match="jku"):
        await signing_key(Claimed("me", "ES384", "es", URL), {"keys": [ES]}, "", served)
    assert served.asked == []
    assert await signing_key(Claimed("me", "ES384", "es", URL), {}, URL, served) is not None


def unsigned(header: dict[str, Any], payload: bytes = b'{"sub":"me"}', signature: bytes = b"") -> str:
    import orjson

    parts = (orjson.dumps(header), payload, signature)
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


@pytest.mark.parametrize(
    ("assertion", "reason"),
    [
        ("", "malformed"), ("a.b.c", "malformed"), ("a" * 20_000, "malformed"),
        (unsigned({"alg": "ES384", "kid": "es"}, b"[]"), "malformed"),
        (unsigned({"alg": "ES384", "kid": "es"}, b'{"sub":1}'), "malformed"),
        (unsigned({"alg": "ES384"}), "malformed"), (unsigned({"alg": "ES384", "kid": 1}), "malformed"),
        (unsigned({"alg": "ES384", "kid": "es", "crit": ["b64"], "b64": True}), "malformed"),
        (unsigned({"alg": "ES384", "kid": "es"}, b"[" * 100_000), "malformed"),
        *((unsigned({"alg": name, "kid": "es"}), "algorithm")
          for name in ("none", "None", "NONE", "HS256", "HS384", "RS256", "ES256", "PS384", "EdDSA", "")),
    ],
)  # fmt: skip
def test_an_assertion_that_is_none_or_of_another_kind_is_refused(assertion: str, reason: str) -> None:
    """Where it names somebody, it is for that one's audit trail."""
    try:
        claimed = client_keys.peek(assertion)
    except Refused as error:
        assert error.reason == reason
    else:
        assert (claimed.client_id, claimed.algorithm, claimed.problem) == ("me", "", reason)


def test_a_signature_is_of_the_key_and_of_these_bytes() -> None:
    signer = Signer("me", URL)
    good, key = signer.sign(), ec_key().public_key()
    assert client_keys.verified(good, key, "ES384")["sub"] == "me"
    head, payload, signature = good.split(".")
    other = Signer("me", URL).sign().split(".")[1]
    for wrong in (f"{head}.{other}.{signature}", f"{head}.{payload}.", f"{head}.{payload}.{signature[:-4]}"):
        with pytest.raises(Refused, match="signature"):
            client_keys.verified(wrong, key, "ES384")
    with pytest.raises(Refused, match="signature"):
        client_keys.verified(Signer("me", URL, ec_key("another")).sign(), key, "ES384")
    # The public key as a shared secret (CVE-2015-9235): the algorithm is the key's, not the header's.
    forged = jwt.encode(signer.claims(), "public" * 10, "HS384", {"kid": "ec"})
    with pytest.raises(Refused, match="signature"):
        client_keys.verified(forged, key, "ES384")

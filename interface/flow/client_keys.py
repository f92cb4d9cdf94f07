"""Clients that prove who they are by signing (SMART App Launch 2.0, "Client Authentication: Asymmetric"; RFC 7523).

A client's public keys are kept, or fetched from the address it was registered with; `RS384` and `ES384` are what a key
may be for, and nothing that an assertion's header says widens that. An assertion is taken once.

`jwt` and the library behind it are imported with the first key or assertion: many a daemon meets none.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit
from uuid import UUID

import orjson

from interface.errors import ApiError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

ALGORITHMS = ("RS384", "ES384")
LONGEST_AHEAD_S = 300  # SMART: exp is no more than five minutes in the future
CLOCK_SKEW_S = 10  # between the client's clock and ours
MOST_KEYS, LEAST_RSA_BITS = 50, 2048
MOST_ASSERTION_CHARACTERS, MOST_JTI_CHARACTERS = 10_000, 256

_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})  # RFC 7518 6.2.2, 6.3.2, 6.4.1
_KEY_TYPES = {"RS384": "RSA", "ES384": "EC"}
_HOST = re.compile(r"[a-z0-9.-]+|\[[0-9a-f:]+\]")


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """Where a client's public keys are: in `document`, a JWK set, or at `url`."""

    document: Mapping[str, object] | None = None
    url: str = ""


class KeysUnavailable(Exception):
    """A client's keys cannot be fetched; the text is for the laboratory's audit trail."""


class KeySource(Protocol):
    """Fetches JWK sets."""

    async def fetch(self, url: str, *, again: bool = False) -> object:
        """The JSON document at `url`; `again`: not the one that is kept, where that is older than a moment. Raises
        KeysUnavailable."""
        ...


class Refused(Exception):
    """An assertion that is not taken. `reason` is a slug for the audit; the client is not told it."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Claimed:
    """What an assertion says before anything of it is believed. `problem`: why it is not taken whoever signed it, as a
    slug; the client that it names hears of it in its laboratory's audit trail."""

    client_id: str
    algorithm: str
    key_id: str
    jku: str
    problem: str = ""


# ---- keys -----------------------------------------------------------------------------------------------------------


def registered(document: object) -> dict[str, object]:
    """A JWK set as it may be kept: with at least one key that can be used, and none that is private.

    ValueError, with a text for the reader.
    """
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list) or not 0 < len(keys) <= MOST_KEYS or not all(isinstance(key, dict) for key in keys):
        raise ValueError('not a JWK set: it reads {"keys": [{"kty": "EC", "crv": "P-384", "kid": "1", …}]}')
    if any(_PRIVATE & key.keys() for key in keys):
        raise ValueError("there is a private or symmetric key in it: give the public ones, and make a new private key")
    ids = [key.get("kid") for key in keys]
    if not all(isinstance(kid, str) and kid for kid in ids) or len(set(ids)) != len(ids):
        raise ValueError("each key needs a kid of its own")
    if not any(_usable(key, algorithm) is not None for key in keys for algorithm in ALGORITHMS):
        raise ValueError(f"no key is for RS384 (RSA, {LEAST_RSA_BITS} bits or more) or ES384 (EC, P-384)")
    return {"keys": keys}


def url_problem(url: str, hosts: frozenset[str]) -> str:
    """Why keys are not fetched from `url`; "" when they may be. `hosts`: each `host` or `host:port`."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port or 443
    except ValueError:
        return "is not an address"
    if parts.scheme != "https" or not _HOST.fullmatch(host) or parts.username is not None or parts.fragment:
        return "is not an https:// address without user and fragment"
    if not url.isascii() or not url.isprintable() or "\\" in url or " " in url:
        return "is not an https:// address"
    if f"{host}:{port}" not in hosts and not (port == 443 and host in hosts):
        return f"is at a host that [api] jwks_hosts does not name: {host}{'' if port == 443 else f':{port}'}"
    return ""


def find_key(document: object, key_id: str, algorithm: str) -> RSAPublicKey | EllipticCurvePublicKey | None:
    """The key of that id, if it is one for this algorithm."""
    keys = document.get("keys") if isinstance(document, dict) else None
    for key in keys[:MOST_KEYS] if isinstance(keys, list) else ():
        if isinstance(key, dict) and key.get("kid") == key_id:
            return _usable(key, algorithm)
    return None


def _usable(key: Mapping[str, Any], algorithm: str) -> RSAPublicKey | EllipticCurvePublicKey | None:
    if key.get("kty") != _KEY_TYPES.get(algorithm) or key.get("alg", algorithm) != algorithm:
        return None
    if key.get("use", "sig") != "sig":
        return None
    import jwt
    from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    try:
        found = jwt.PyJWK({name: key[name] for name in key.keys() - _PRIVATE}, algorithm=algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if isinstance(found, RSAPublicKey) and found.key_size >= LEAST_RSA_BITS:
        return found
    if isinstance(found, EllipticCurvePublicKey) and isinstance(found.curve, SECP384R1):
        return found
    return None


# ---- assertions -----------------------------------------------------------------------------------------------------


def peek(assertion: str) -> Claimed:
    """Who an assertion says that signed it, and how. Raises Refused where it names nobody."""
    parts = assertion.split(".")
    if len(assertion) > MOST_ASSERTION_CHARACTERS or len(parts) != 3:
        raise Refused("malformed")
    header, claims = map(_told, parts[:2])
    subject = claims.get("sub")
    # fhirclient sends no client_id beside the assertion, and needs none: the subject says it (RFC 7523 3).
    if not isinstance(subject, str):
        raise Refused("malformed")
    algorithm, key_id, jku = header.get("alg"), header.get("kid"), header.get("jku", "")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        return Claimed(subject, "", "", "", "algorithm")
    if not isinstance(key_id, str) or not isinstance(jku, str) or "crit" in header:
        return Claimed(subject, "", "", "", "malformed")
    return Claimed(subject, algorithm, key_id, jku)


def _told(part: str) -> Mapping[str, object]:
    """What a part of an assertion says, if it is an object at all."""
    try:
        said = orjson.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except ValueError:  # binascii.Error and JSONDecodeError are
        return {}
    return said if isinstance(said, dict) else {}


def verified(assertion: str, key: RSAPublicKey | EllipticCurvePublicKey, algorithm: str) -> Mapping[str, object]:
    """The claims that `key` has signed. Raises Refused."""
    import jwt

    try:
        claims = orjson.loads(jwt.api_jws.decode(assertion, key, algorithms=[algorithm]))
    except (jwt.PyJWTError, ValueError, TypeError):
        raise Refused("signature") from None
    if not isinstance(claims, dict):
        raise Refused("malformed")
    return claims


def claims_problem(claims: Mapping[str, object], client_id: str, token_url: str, now: datetime) -> str:
    """Why signed claims do not authenticate the client at `token_url`, as a slug; "" when they do."""
    audience, expires, jti = claims.get("aud"), claims.get("exp"), claims.get("jti")
    if claims.get("iss") != client_id or claims.get("sub") != client_id:
        return "issuer"
    if token_url not in (audience if isinstance(audience, list) else [audience]):
        return "audience"
    at = now.timestamp()
    for name in ("exp", "nbf", "iat"):
        value = claims.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1 << 40:
            return "time"
        if name != "exp" and value > at + CLOCK_SKEW_S:
            return "not_yet"
    if not isinstance(expires, int | float) or expires <= at - CLOCK_SKEW_S:
        return "expired"
    if expires > at + LONGEST_AHEAD_S + CLOCK_SKEW_S:
        return "too_long"
    if not isinstance(jti, str) or not 0 < len(jti) <= MOST_JTI_CHARACTERS:
        return "jti"
    return ""


def spent(claims: Mapping[str, object]) -> tuple[bytes, datetime]:
    """By what an assertion is known that was taken, and until when it could be tried again."""
    expires = claims["exp"]
    assert isinstance(expires, int | float)  # noqa: S101 - `claims_problem` has looked
    digest = hashlib.sha256(str(claims["jti"]).encode(errors="surrogatepass")).digest()
    return digest, datetime.fromtimestamp(expires + 2 * CLOCK_SKEW_S, UTC)


async def signing_key(
    claimed: Claimed, document: Mapping[str, object], url: str, source: KeySource
) -> RSAPublicKey | EllipticCurvePublicKey:
    """The registered key that the assertion names. One that is not in a fetched set may have been made since: it is
    fetched once more. Raises Refused."""
    if claimed.jku and claimed.jku != url:  # SMART: it must be the registered one
        raise Refused("jku")
    if not url:
        found = find_key(document, claimed.key_id, claimed.algorithm)
    else:
        try:
            found = find_key(await source.fetch(url), claimed.key_id, claimed.algorithm)
            if found is None:
                found = find_key(await source.fetch(url, again=True), claimed.key_id, claimed.algorithm)
        except KeysUnavailable:
            raise Refused("keys_unavailable") from None
    if found is None:
        raise Refused("unknown_key")
    return found


def checked(keys: ClientKeys, hosts: frozenset[str]) -> ClientKeys:
    """Keys as they may be registered. Raises ApiError 422."""
    if keys.url:
        if text := url_problem(keys.url, hosts):
            raise ApiError(422, "value", f"the address of the keys {text}")
        return keys
    try:
        return ClientKeys(registered(keys.document))
    except ValueError as error:
        raise ApiError(422, "value", f"the keys: {error}") from None


def organization_of(client_id: str) -> tuple[UUID, UUID] | None:
    """The ids of organization and client that a client id is made of; None where it is none."""
    match = re.fullmatch(r"([0-9a-f]{32})\.([0-9a-f]{32})", client_id)
    return (UUID(match[1]), UUID(match[2])) if match else None

"""A client that signs: keys of its own, and assertions as SMART Backend Services has them, or almost."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from uuid import uuid4

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import ec, rsa

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@cache
def rsa_key(name: str = "", bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@cache
def ec_key(name: str = "") -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def public(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, kid: str, **changed: Any) -> dict[str, Any]:
    """The public half as a JWK."""
    algorithm: Any = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {**orjson.loads(algorithm.to_jwk(key.public_key())), "kid": kid, **changed}


@dataclass(slots=True)
class Signer:
    client_id: str
    token_url: str
    key: Any = field(default_factory=ec_key)
    kid: str = "ec"
    algorithm: str = "ES384"

    def claims(self, **changed: Any) -> dict[str, Any]:
        """As they should be, but for `changed`; None leaves one out."""
        good = {
            "iss": self.client_id, "sub": self.client_id, "aud": self.token_url, "jti": uuid4().hex,
            "exp": int(time.time()) + 240,
        }  # fmt: skip
        return {name: value for name, value in (good | changed).items() if value is not None}

    def sign(self, header: dict[str, Any] | None = None, **changed: Any) -> str:
        return jwt.encode(self.claims(**changed), self.key, self.algorithm, {"kid": self.kid, **(header or {})})

    def form(self, assertion: str, **changed: str) -> dict[str, str]:
        return {
            "grant_type": "client_credentials", "scope": "system/*.rs", "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": assertion, **changed,
        }  # fmt: skip

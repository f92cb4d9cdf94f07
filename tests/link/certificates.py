"""Certificates for the tests: an authority of their own, and files as a site would have them."""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from interface.settings import ListenTls

LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its key, in files."""

    cert: Path
    key: Path
    fingerprint: str


class Authority:
    """Signs certificates and writes them to `folder`."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._ca, self._folder = trustme.CA(), folder
        self.file = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def pair(
        self, file: str, *names: str, common_name: str | None = None, not_after: datetime | None = None,
        not_before: datetime | None = None, rsa: bool = False,
    ) -> Pair:  # fmt: skip
        issued = self._ca.issue_cert(
            *(names or ("127.0.0.1",)),
            common_name=common_name,
            not_after=not_after,
            not_before=not_before,
            key_type=trustme.KeyType.RSA if rsa else trustme.KeyType.ECDSA,
        )
        cert, key = self._folder / f"{file}.pem", self._folder / f"{file}.key"
        cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        key.touch(0o600)
        issued.private_key_pem.write_to_path(str(key))
        encoded = ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())
        return Pair(cert, key, hashlib.sha256(encoded).hexdigest())

    def revoke(self, *pairs: Pair, life: timedelta = timedelta(days=91)) -> Path:
        """The authority's certificate with its list of those that it has revoked, in a file."""
        ca = x509.load_pem_x509_certificate(self._ca.cert_pem.bytes())
        now = datetime.now(UTC)
        made = now - min(timedelta(days=1), life / 2)
        builder = x509.CertificateRevocationListBuilder(ca.subject, made, made + life)
        for pair in pairs:
            serial = x509.load_pem_x509_certificate(pair.cert.read_bytes()).serial_number
            revoked = x509.RevokedCertificateBuilder(serial, now - timedelta(hours=1)).build()
            builder = builder.add_revoked_certificate(revoked)
        key = load_pem_private_key(self._ca.private_key_pem.bytes(), None)
        revocations = builder.sign(key, hashes.SHA256())  # type: ignore[arg-type]
        path = self.file.with_suffix(".revoked.pem")
        path.write_bytes(self.file.read_bytes() + revocations.public_bytes(Encoding.PEM))
        return path


def listen_tls(pair: Pair, ca: Path | None = None, *allow: str) -> ListenTls:
    return ListenTls(pair.cert, pair.key, ca, frozenset(allow))


def protect(key: Path) -> None:
    """Put a password on a key file."""
    private = load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open sesame")))

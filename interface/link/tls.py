"""TLS on a byte stream: contexts from certificate files, the handshake, and who is admitted by certificate.

It runs over any `ByteStream` and in the stream's own task: nothing is read ahead beyond one chunk, and a handshake can
be timed by the link's clock.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
import stat
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from interface.errors import LinkError, LinkLost
from interface.link.stream import CHUNK_BYTES, ByteStream, null_modem
from interface.settings import DialTls, ListenTls

_CLOSE_WAIT_S = 2.0  # for the peer to take our goodbye
_FINGERPRINT = re.compile(r"([0-9a-f]{2}:?){31}[0-9a-f]{2}", re.IGNORECASE)
_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
# Of TLS 1.2, which for an RSA certificate has others too: what was recorded stays secret when the key is known one day.
# Which of them are on by default is a matter of how Python was built.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:!PSK:!SRP:!aNULL"
_REVOCATIONS = b"-----BEGIN X509 CRL-----"
_NO_CHECK_TIME = ssl.VerifyFlags(0x200000)  # X509_V_FLAG_NO_CHECK_TIME (x509_vfy.h)
_VERDICTS = {  # X509_V_ERR_* (x509_vfy.h)
    26: "is not made for this use: see its extended key usage",
}


class TlsError(LinkError):
    """A TLS connection that does not come about. `reason` is a slug: handshake, certificate, lost, timeout."""

    slug = "tls"

    def __init__(self, reason: str, text: str) -> None:
        self.reason = reason
        super().__init__(text)


class TlsStream:
    """A `ByteStream` over another one. Made by `accept` and `call`."""

    def __init__(self, carrier: ByteStream, context: ssl.SSLContext, server_name: str | None, *, server: bool) -> None:
        self._carrier, self._in, self._out = carrier, ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=server, server_hostname=server_name)

    @property
    def peer(self) -> str:
        return self._carrier.peer

    async def read(self) -> bytes:
        while True:
            try:
                return self._tls.read(CHUNK_BYTES)  # b"": the peer said goodbye
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:  # damaged, or cut without a goodbye: the protocols within know whether that matters
                return b""
            try:
                await self._flush()  # the answer to a change of keys
            except LinkLost:
                return b""
            data = await self._carrier.read()
            if not data:
                return b""
            self._in.write(data)

    async def write(self, data: bytes) -> None:
        if data:
            try:
                self._tls.write(data)
            except ssl.SSLError as error:
                raise LinkLost(f"the connection to {self.peer} is closed") from error
        await self._flush()

    async def close(self) -> None:
        with suppress(ssl.SSLError, ValueError):
            self._tls.unwrap()
        with suppress(LinkLost, TimeoutError):
            async with asyncio.timeout(_CLOSE_WAIT_S):
                await self._flush()
        await self._carrier.close()

    async def handshake(self) -> None:
        """Raises TlsError. The peer is told why, as far as TLS has a word for it."""
        try:
            while True:
                try:
                    self._tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    await self._flush()
                    data = await self._carrier.read()
                    if not data:
                        raise TlsError("lost", "the peer hung up in the TLS handshake") from None
                    self._in.write(data)
            await self._flush()
        except ssl.SSLError as error:
            with suppress(LinkLost):
                await self._flush()
            raise TlsError(_slug(error), f"the TLS handshake failed: {_said(error)}") from error
        except LinkLost as error:
            raise TlsError("lost", "the peer hung up in the TLS handshake") from error

    def identities(self) -> frozenset[str]:
        """Who the peer's certificate says it is: common name, alternative names, SHA-256 fingerprint, normalised."""
        certificate, encoded = self._tls.getpeercert() or {}, self._tls.getpeercert(binary_form=True)
        names = [str(value) for part in certificate.get("subject", ()) for value in _common_names(part)]
        names += [str(entry[1]) for entry in certificate.get("subjectAltName", ())]
        # Whoever asks for a certificate says how they are called: also as another's fingerprint, which fits (RFC 5280
        # appendix A.1, ub-common-name 64).
        found = [normalised(name) for name in names if not _FINGERPRINT.fullmatch(name.strip())]
        return frozenset((*found, hashlib.sha256(encoded).hexdigest()) if encoded else found)

    async def _flush(self) -> None:
        if data := self._out.read():
            await self._carrier.write(data)


async def accept(carrier: ByteStream, context: ssl.SSLContext, allow: frozenset[str]) -> TlsStream:
    """The listener's side of a handshake. `allow`: identities of which the peer must have one, empty for all.

    Raises TlsError.
    """
    stream = TlsStream(carrier, context, None, server=True)
    await stream.handshake()
    if allow and not allow & stream.identities():
        await stream.close()
        raise TlsError("certificate", "the peer's certificate is not in the list of those that are allowed")
    return stream


async def call(carrier: ByteStream, context: ssl.SSLContext, server_name: str) -> TlsStream:
    """The caller's side of a handshake. Raises TlsError."""
    stream = TlsStream(carrier, context, server_name, server=False)
    await stream.handshake()
    return stream


async def rehearse(tls: ListenTls) -> None:
    """A handshake with ourselves, in memory. The caller trusts the last certificate of our file, so that the others
    must lead to it, and shows none: `client_ca` is read and not tried.

    Raises TlsError, and what `listen_context` raises.
    """
    listen_context(tls)
    ours = listen_context(replace(tls, client_ca=None))
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    theirs.check_hostname = False
    theirs.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    theirs.load_verify_locations(cadata=_CERTIFICATE.findall(tls.cert.read_text(encoding="utf-8"))[-1])
    there, here = null_modem()
    sides = TlsStream(there, theirs, None, server=False), TlsStream(here, ours, None, server=True)
    faults = await asyncio.gather(*(side.handshake() for side in sides), return_exceptions=True)
    await asyncio.gather(*(side.close() for side in sides))
    for fault in faults:
        if fault is not None:
            raise fault


def normalised(identity: str) -> str:
    """A name or fingerprint as it is compared: without regard to case, a fingerprint without colons."""
    text = identity.strip().lower()
    return text.replace(":", "") if _FINGERPRINT.fullmatch(text) else text


def listen_context(tls: ListenTls) -> ssl.SSLContext:
    """Raises OSError (ssl.SSLError is one) and ValueError where `listen_problems` finds something."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    # Without tickets no session is resumed, so that every connection shows its certificate again.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.load_cert_chain(tls.cert, tls.key, _no_password)
    if tls.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(tls.client_ca)
        if _REVOCATIONS in tls.client_ca.read_bytes():
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    return context


def dial_context(tls: DialTls) -> ssl.SSLContext:
    """Raises OSError (ssl.SSLError is one) and ValueError where `dial_problems` finds something."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.ca is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(tls.ca)
    if tls.cert is not None and tls.key is not None:
        context.load_cert_chain(tls.cert, tls.key, _no_password)
    return context


def listen_problems(tls: ListenTls) -> list[tuple[str, str]]:
    """What is wrong with the files, as (key, sentence)."""
    found = _pair_problems(tls.cert, tls.key, server=True)
    return found + (ca_problems("client_ca", tls.client_ca) if tls.client_ca is not None else [])


def dial_problems(tls: DialTls) -> list[tuple[str, str]]:
    """What is wrong with the files, as (key, sentence)."""
    found = ca_problems("ca", tls.ca) if tls.ca is not None else []
    if tls.cert is not None and tls.key is not None:
        found += _pair_problems(tls.cert, tls.key, server=False)
    return found


def _pair_problems(cert: Path, key: Path, *, server: bool) -> list[tuple[str, str]]:
    found = [
        (name, text)
        for name, path, mark in (("cert", cert, b"-----BEGIN CERTIFICATE-----"), ("key", key, b"PRIVATE KEY-----"))
        if (text := _file_problem(path, mark))
    ]
    if text := _mode_problem(key):
        found.append(("key", text))
    if found:
        return found
    try:
        ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        ours.load_cert_chain(cert, key, _no_password)
    except ValueError:
        return [("key", f"{key} is protected by a password, which nobody could type when the daemon starts")]
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return [("key", f"{key} does not belong to the certificate {cert}")]
        return [("cert", f"{cert} and its key cannot be used: {_said(error)}")]
    verdict = _verdict(ours, cert, key, server=server)
    return [("cert", f"{cert} {verdict}")] if verdict else []


def _verdict(ours: ssl.SSLContext, cert: Path, key: Path, *, server: bool) -> str:
    """What a peer that trusts exactly this certificate would object to, but for its dates. "" for nothing.

    A certificate that has expired must not keep the daemon, and with it every other link, from starting after a power
    cut: it is told by `labora check`, `labora doctor` and an alert.

    A handshake with ourselves, in memory: the standard library reads certificates no other way.
    """
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if server else ssl.PROTOCOL_TLS_SERVER)
    theirs.check_hostname = ours.check_hostname = False
    theirs.verify_mode, ours.verify_mode = ssl.CERT_REQUIRED, ssl.CERT_NONE
    theirs.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    theirs.load_verify_locations(cert)
    if not server:  # the judge is the server, and needs a certificate of its own: this one does
        theirs.load_cert_chain(cert, key, _no_password)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [ours.wrap_bio(there, back, server_side=server), theirs.wrap_bio(back, there, server_side=not server)]
    for _ in range(8):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return _VERDICTS.get(error.verify_code, f"cannot be used: {error.verify_message}")
            except ssl.SSLError as error:
                return f"cannot be used: {_said(error)}"
    return ""


def ca_problems(name: str, path: Path) -> list[tuple[str, str]]:
    if text := _file_problem(path, b"-----BEGIN CERTIFICATE-----"):
        return [(name, text)]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        return [(name, f"{path} cannot be used: {_said(error)}")]
    return []


def _file_problem(path: Path, mark: bytes) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        return f"{path} cannot be read: {(error.strerror or str(error)).lower()}"
    return "" if mark in content else f"{path} is not a PEM file with -----BEGIN …{mark.decode().rpartition('N ')[2]}"


def _mode_problem(key: Path) -> str:
    """PostgreSQL's rule: nobody but its owner reads a key; a group may where the owner is root (Debian's ssl-cert)."""
    try:
        status = key.stat()
    except OSError:
        return ""  # said already
    barred = stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP | (0 if status.st_uid == 0 else stat.S_IRGRP)
    if not status.st_mode & barred:
        return ""
    return f"{key} can be used by others ({stat.filemode(status.st_mode)}): chmod 600 it, or 640 where root owns it"


def _no_password() -> str:
    """OpenSSL would ask on the terminal."""
    raise ValueError("the key is protected by a password")


def _common_names(part: object) -> list[object]:
    return [value for key, value in part if key == "commonName"] if isinstance(part, tuple) else []


def _slug(error: ssl.SSLError) -> str:
    certificate = isinstance(error, ssl.SSLCertVerificationError) or "CERTIFICATE" in (error.reason or "")
    return "certificate" if certificate else "handshake"


def _said(error: ssl.SSLError) -> str:
    """OpenSSL's reason in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    return (error.reason or type(error).__name__).replace("_", " ").lower()

"""What goes from the database into a backup's file and back: PostgreSQL's programs, encryption, a checksum.

Everything streams, and nothing is on a disk in plain text that is to be encrypted. age is read and written by `pyrage`
(docs/decisions/backups.md), GPG by its program with the keys of whoever runs this. What the programs say may quote
rows: only the sentences below, which do not, are passed on.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Final

from interface.errors import BackupError

CHUNK_BYTES: Final = 1 << 20
_SAID: Final = (  # of what PostgreSQL's programs say, what may be repeated
    re.compile(rb"unsupported version \([0-9.]+\) in file header"),
    re.compile(rb"did not find magic string in file header"),
    re.compile(rb"could not read from input file: end of file"),
    re.compile(rb"server version mismatch"),
    re.compile(rb"permission denied (?:for|to) [A-Za-z0-9_ \"]+"),
    re.compile(rb"must be (?:owner of|member of|able to) [A-Za-z0-9_ \"]+"),
    re.compile(rb"No space left on device"),
    re.compile(rb"connection to server .*"),
    re.compile(rb"query would be affected by row-level security policy for table \"[a-z_0-9]+\""),
    re.compile(rb"terminating connection due to administrator command"),
    re.compile(rb"server closed the connection unexpectedly"),
)


class Encryption(StrEnum):
    """How a backup's file is encrypted, and what its name ends in."""

    NONE = "none"
    AGE = "age"
    GPG = "gpg"

    @property
    def suffix(self) -> str:
        return "" if self is Encryption.NONE else f".{self.value}"


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that was written: how long it is, and its SHA-256."""

    bytes: int
    sha256: str


class Run:
    """The processes of one run, so that whoever gives up can end them from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: list[subprocess.Popen[bytes]] = []
        self._ended = False

    def start(self, command: Sequence[str], environment: Mapping[str, str], **streams: Any) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._ended:
                raise BackupError("interrupted")
            try:
                process = subprocess.Popen(command, env=dict(environment), cwd="/", **streams)  # noqa: S603
            except FileNotFoundError:
                raise BackupError(f"the program {command[0]} is not installed") from None
            self._running.append(process)
            return process

    def end(self) -> None:
        """End every process; what reads from one or writes to one goes on to its end."""
        with self._lock:
            self._ended = True
            for process in self._running:
                if process.poll() is None:
                    process.kill()


class _Writer:
    """A file that is written: counts, digests, and keeps the error that a library in between would put in its words."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._digest = file, hashlib.sha256()
        self.bytes, self.error = 0, None  # type: int, OSError | None

    def write(self, data: bytes) -> int:
        try:
            self._file.write(data)
        except OSError as error:
            self.error = error
            raise
        self._digest.update(data)
        self.bytes += len(data)
        return len(data)

    def flush(self) -> None:
        """What is not written yet is written when the file is synced."""

    @property
    def stored(self) -> Stored:
        return Stored(self.bytes, self._digest.hexdigest())


def dump(
    run: Run, command: Sequence[str], environment: Mapping[str, str], path: Path, encryption: Encryption,
    recipients: Sequence[str],
) -> Stored:  # fmt: skip
    """Write what a program prints, encrypted, to a new file, and have it on the disk. Raises BackupError."""
    with tempfile.TemporaryFile() as said, _file_errors(path), open(path, "xb", opener=_private) as file:
        writer = _Writer(file)
        process = run.start(command, environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said)
        source = process.stdout
        assert source is not None  # noqa: S101 - a pipe was asked for
        try:
            _ENCRYPT[encryption](run, source, writer, recipients)
        except BaseException:
            process.kill()
            if writer.error is not None:
                raise writer.error from None
            raise
        finally:
            source.close()
            status = process.wait()
        if status != 0:
            raise _ended(command, status, said)
        file.flush()
        os.fsync(file.fileno())
        return writer.stored


def load(
    run: Run, path: Path, encryption: Encryption, identity: Path | None, command: Sequence[str],
    environment: Mapping[str, str],
) -> None:  # fmt: skip
    """Give a program what is in a backup's file, decrypted. Raises BackupError."""
    with tempfile.TemporaryFile() as said, _file_errors(path), open(path, "rb") as file:
        process = run.start(command, environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said)
        target = process.stdin
        assert target is not None  # noqa: S101 - a pipe was asked for
        broken = False
        try:
            _DECRYPT[encryption](run, file, target, identity)
            target.close()
        except BrokenPipeError:  # the program has ended, and says why
            broken = True
        except BaseException:
            process.kill()
            raise
        finally:
            try:
                target.close()
            except BrokenPipeError:
                broken = True
            status = process.wait()
        if status != 0 or broken:
            raise _ended(command, status, said)


def checksum(path: Path) -> Stored:
    """A file's length and SHA-256 as it is now. Raises BackupError."""
    digest, length = hashlib.sha256(), 0
    with _file_errors(path), open(path, "rb") as file:
        while block := file.read(CHUNK_BYTES):
            digest.update(block)
            length += len(block)
    return Stored(length, digest.hexdigest())


def check_recipients(encryption: Encryption, recipients: Sequence[str]) -> None:
    """Raise BackupError for an age recipient that is none, before anything is begun."""
    if encryption is Encryption.AGE:
        for text in recipients:
            _age_recipient(text)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BackupError(f"no room is left on the disk of {path.parent.parent}: nothing was kept there") from error
        raise BackupError(f"{error.filename or path}: {error.strerror or type(error).__name__}") from error


def _ended(command: Sequence[str], status: int, said: IO[bytes]) -> BackupError:
    said.seek(0)
    text = said.read(1 << 20)
    why = next((found[0].decode(errors="replace") for each in _SAID if (found := each.search(text))), "")
    name = Path(command[0]).name
    return BackupError(f"{name} failed: {why}" if why else f"{name} ended with status {status}")


# ---- no encryption, age, GPG ----------------------------------------------------------------------------------------


def _copy(source: IO[bytes], target: Any) -> None:
    while block := source.read(CHUNK_BYTES):
        target.write(block)


def _encrypt_none(_run: Run, source: IO[bytes], writer: _Writer, _recipients: Sequence[str]) -> None:
    _copy(source, writer)


def _decrypt_none(_run: Run, file: IO[bytes], target: IO[bytes], _identity: Path | None) -> None:
    _copy(file, target)


def _age_recipient(text: str) -> Any:
    import pyrage

    kind = pyrage.ssh if text.startswith("ssh-") else pyrage.x25519
    try:
        return kind.Recipient.from_str(text)
    except pyrage.RecipientError:
        raise BackupError(f'backup.recipient: "{text}" is not a public key of age') from None


def _encrypt_age(_run: Run, source: IO[bytes], writer: _Writer, recipients: Sequence[str]) -> None:
    import pyrage

    try:
        pyrage.encrypt_io(source, writer, [_age_recipient(text) for text in recipients])
    except pyrage.EncryptError as error:
        raise BackupError(f"age could not encrypt: {error}") from None


def _identities(path: Path | None) -> list[Any]:
    """The private keys in a file as `age-keygen` or `ssh-keygen` writes it. Raises BackupError."""
    import pyrage

    if path is None:
        raise BackupError("the backup is encrypted with age: name the file of the private key by --identity")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BackupError(f"{path}: {error.strerror}") from None
    try:
        if b"PRIVATE KEY" in data:
            return [pyrage.ssh.Identity.from_buffer(data)]
        lines = [line.strip() for line in data.decode().splitlines()]
        found = [pyrage.x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")]
    except (pyrage.IdentityError, ValueError):
        found = []
    if not found:
        raise BackupError(f"{path} is not a private key of age or SSH that is kept without a passphrase")
    return list(found)


def _decrypt_age(_run: Run, file: IO[bytes], target: IO[bytes], identity: Path | None) -> None:
    import pyrage

    keys, writer = _identities(identity), _Writer(target)
    try:
        pyrage.decrypt_io(file, writer, keys)
    except (pyrage.DecryptError, OSError) as error:
        if writer.error is not None:
            raise writer.error from None
        if "No matching keys" in str(error):
            raise BackupError("the backup is not encrypted for this private key") from None
        raise BackupError(f"the backup cannot be decrypted: {error}") from None


def _gpg_failed(said: IO[bytes]) -> BackupError:
    said.seek(0)
    lines = [line for line in said.read().decode(errors="replace").splitlines() if line.strip()]
    return BackupError(f"gpg failed: {lines[-1].removeprefix('gpg: ') if lines else 'it does not say why'}")


def _gpg_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key in ("HOME", "PATH", "GNUPGHOME")} | {"LC_ALL": "C"}


def _encrypt_gpg(run: Run, source: IO[bytes], writer: _Writer, recipients: Sequence[str]) -> None:
    named = [part for text in recipients for part in ("--recipient", text)]
    # always: the administrator who wrote the key into the configuration has decided that it is the right one
    how = ["--trust-model", "always", "--compress-algo", "none", *named, "--output", "-", "--encrypt"]
    _through_gpg(run, how, source, writer)


def _decrypt_gpg(run: Run, file: IO[bytes], target: IO[bytes], _identity: Path | None) -> None:
    _through_gpg(run, ["--decrypt"], file, target)


def _through_gpg(run: Run, how: Sequence[str], source: IO[bytes], target: _Writer | IO[bytes]) -> None:
    """Raises BackupError in gpg's own words where it fails."""
    with tempfile.TemporaryFile() as said:
        process = run.start(
            ["gpg", "--batch", "--no-tty", "--quiet", *how], _gpg_environment(),
            stdin=source, stdout=subprocess.PIPE, stderr=said,
        )  # fmt: skip
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        try:
            with process.stdout as made:
                _copy(made, target)
        except BaseException:
            process.kill()
            raise
        finally:
            status = process.wait()
        if status != 0:
            raise _gpg_failed(said)


_ENCRYPT: Final[Mapping[Encryption, Callable[[Run, IO[bytes], _Writer, Sequence[str]], None]]] = {
    Encryption.NONE: _encrypt_none, Encryption.AGE: _encrypt_age, Encryption.GPG: _encrypt_gpg,
}  # fmt: skip
_DECRYPT: Final[Mapping[Encryption, Callable[[Run, IO[bytes], IO[bytes], Path | None], None]]] = {
    Encryption.NONE: _decrypt_none, Encryption.AGE: _decrypt_age, Encryption.GPG: _decrypt_gpg,
}  # fmt: skip

"""`[backup]`: where backups go, for whom they are encrypted, how many are kept."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from interface.config.credentials import secret
from interface.config.table import Table
from interface.settings import BackupSettings, UploadSettings

ACCESS_KEY: Final = "LABORA_S3_ACCESS_KEY"
SECRET_KEY: Final = "LABORA_S3_SECRET_KEY"  # noqa: S105 - a name
_AGE: Final = re.compile(r"age1[0-9a-z]{58}|ssh-(ed25519|rsa) [A-Za-z0-9+/=]+( .*)?")
_GPG: Final = re.compile(r"(0x)?[0-9A-Fa-f]{16,64}|[^@\s]+@[^@\s]+")
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


def read_backup(table: Table | None, environ: Mapping[str, str]) -> BackupSettings:
    """What `[backup]` says, its problems collected."""
    default = BackupSettings()
    if table is None:
        return default
    directory = table.text("directory")
    directory = os.path.expanduser(directory)
    if directory and not Path(directory).is_absolute():
        table.problem("directory", f'"{directory}" must be an absolute path')
    recipients, gpg = table.texts("recipient"), table.texts("gpg_recipient")
    for index, text in enumerate(recipients):
        if text.startswith("AGE-SECRET-KEY") or "PRIVATE KEY" in text:
            table.problem(f"recipient[{index}]", "is a private key: what stands here is the public one, age1…")
        elif not _AGE.fullmatch(text):
            table.problem(f"recipient[{index}]", f'"{text}" is not the public key of age (age1…) or SSH')
    for index, text in enumerate(gpg):
        if not _GPG.fullmatch(text):
            table.problem(f"gpg_recipient[{index}]", f'"{text}" is neither the fingerprint of a key nor an address')
    if recipients and gpg:
        table.problem("gpg_recipient", "stands beside recipient: a backup is encrypted with age or with GPG")
    settings = BackupSettings(
        Path(directory) if directory else None,
        recipients,
        gpg,
        table.whole("keep_days", default.keep_days, 0, 36500),
        table.whole("keep_number", default.keep_number, 1, 100000),
        _upload(table.table("upload"), environ) if table.has("upload") else None,
    )
    table.close(("upload",))
    return settings


def _upload(table: Table | None, environ: Mapping[str, str]) -> UploadSettings | None:
    if table is None:
        return None
    bucket, endpoint = table.text("bucket", required=True), table.text("endpoint")
    if bucket and not _BUCKET.fullmatch(bucket):
        table.problem("bucket", f'"{bucket}" is not the name of a bucket')
    try:
        parts = urlsplit(endpoint)
        host = parts.hostname
        ok = not endpoint or parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)
        ok = ok and (not endpoint or bool(host)) and parts.username is None and not parts.query
    except ValueError:
        ok = False
    if not ok:
        table.problem("endpoint", "must be https://host (http:// for this machine only), without a login")
    # A daemon does without the keys: who uploads says when they are missing.
    settings = UploadSettings(
        bucket,
        endpoint.rstrip("/"),
        table.text("region", "us-east-1"),
        table.text("prefix").strip("/"),
        secret(ACCESS_KEY, "labora.s3-access-key", environ),
        secret(SECRET_KEY, "labora.s3-secret-key", environ),
    )
    table.close()
    return settings

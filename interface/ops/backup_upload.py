"""A copy of each backup on an S3-compatible service: the dump in parts, the manifest last.

What has no manifest there is no backup. Nothing is deleted there: a service keeps so many days by a rule of its own,
and a key that may write and not delete is the one to give to a server that may be broken into.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from interface.errors import BackupError
from interface.ops.backup_manifest import MANIFEST, SUMS
from interface.settings import UploadSettings

if TYPE_CHECKING:
    from obstore.store import S3Store

_PART_BYTES: Final = 8 * 1024 * 1024  # 10,000 parts at most (Amazon S3): 80 GB
_AT_ONCE: Final = 2
_TRIED: Final = timedelta(minutes=5)


def check_keys(settings: UploadSettings) -> None:
    """Raise BackupError where the keys are missing, before anything is begun."""
    if not (settings.access_key and settings.secret_key):
        raise BackupError(
            "backup.upload needs LABORA_S3_ACCESS_KEY and LABORA_S3_SECRET_KEY in the environment, or the systemd "
            "credentials labora.s3-access-key and labora.s3-secret-key"
        )


def upload(settings: UploadSettings, folder: Path, file: str) -> str:
    """Copy a backup's files, and read back how long they are; where to. Raises BackupError."""
    import obstore

    store = _store(settings)
    place = f"s3://{settings.bucket}/{settings.prefix + '/' if settings.prefix else ''}{folder.name}"
    try:
        for name in (file, SUMS, MANIFEST):
            path, target = folder / name, f"{folder.name}/{name}"
            obstore.put(store, target, path, chunk_size=_PART_BYTES, max_concurrency=_AT_ONCE)
            there = obstore.head(store, target)["size"]
            if there != path.stat().st_size:
                raise BackupError(f"{place}/{name} has {there} bytes, and not {path.stat().st_size}")
    except (obstore.exceptions.BaseError, OSError) as error:
        raise BackupError(f"the backup is in {folder}, but was not copied to {place}: {_said(error)}") from None
    return place


def _store(settings: UploadSettings) -> S3Store:
    from obstore.store import S3Store

    return S3Store(
        settings.bucket,
        prefix=settings.prefix or None,
        config={
            "access_key_id": settings.access_key,
            "secret_access_key": settings.secret_key,
            "region": settings.region,
            **({"endpoint": settings.endpoint} if settings.endpoint else {}),
        },
        client_options={"allow_http": settings.endpoint.startswith("http://"), "timeout": timedelta(minutes=10)},
        retry_config={"max_retries": 5, "retry_timeout": _TRIED},
    )


def _said(error: Exception) -> str:
    """The first line of what the library says, which names status and operation; never a key."""
    text = next(iter(str(error).strip().splitlines()), "")
    return text[:300] or type(error).__name__

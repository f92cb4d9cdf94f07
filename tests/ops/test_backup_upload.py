"""Backups are copied to an S3-compatible service: a server nobody here wrote, over HTTP, that checks signatures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import boto3
import moto.settings
import pytest
from moto.server import ThreadedMotoServer

from interface.errors import BackupError
from interface.ops import backup, backup_upload
from interface.settings import BackupSettings, Settings, UploadSettings

POLICY = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:*"],"Resource":"*"}]}'


@dataclass(frozen=True, slots=True)
class Service:
    """A server with one bucket, and the keys of who may use it."""

    settings: UploadSettings
    buckets: Any


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    patch = pytest.MonkeyPatch()
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    # What it knows is the process's: of tests of this module that ran here before others.
    urlopen(Request(f"{endpoint}/moto-api/reset", method="POST")).close()  # noqa: S310  our own server
    known = {"endpoint_url": endpoint, "region_name": "us-east-1"}
    first = {"aws_access_key_id": "first", "aws_secret_access_key": "first"}
    try:
        people = boto3.client("iam", **known, **first)
        people.create_user(UserName="labora")
        people.put_user_policy(UserName="labora", PolicyName="all", PolicyDocument=POLICY)
        key = people.create_access_key(UserName="labora")["AccessKey"]
        # From here on every request is checked.
        patch.setattr(moto.settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0)
        keys = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
        buckets = boto3.client("s3", **known, **keys)
        buckets.create_bucket(Bucket="lab")
        yield Service(
            UploadSettings("lab", endpoint, "us-east-1", "site-1", key["AccessKeyId"], key["SecretAccessKey"]), buckets
        )
    finally:
        patch.undo()
        server.stop()


def planted(folder: Path) -> Path:
    """A backup's folder, with a dump of more parts than one."""
    path = folder / "labora-20260101T000000Z"
    path.mkdir()
    (path / "labora.dump.age").write_bytes(os.urandom(17 * 1024 * 1024))
    for name in ("manifest.json", "SHA256SUMS"):
        (path / name).write_text(name)
    return path


def test_what_is_copied_is_the_same_there(service: Service, tmp_path: Path) -> None:
    path = planted(tmp_path)
    place = backup_upload.upload(service.settings, path, "labora.dump.age")
    assert place == "s3://lab/site-1/labora-20260101T000000Z"
    for file in path.iterdir():
        there = service.buckets.get_object(Bucket="lab", Key=f"site-1/{path.name}/{file.name}")
        assert there["Body"].read() == file.read_bytes()


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"secret_key": "another"}, "403"),
        ({"access_key": "nobody"}, "403"),
        ({"bucket": "missing"}, "404"),
    ],
)
def test_what_is_refused_is_said_without_a_key(
    service: Service, tmp_path: Path, changed: dict[str, str], text: str
) -> None:
    with pytest.raises(BackupError, match="but was not copied to s3://") as caught:
        backup_upload.upload(replace(service.settings, **changed), planted(tmp_path), "labora.dump.age")
    assert text in str(caught.value) and "\n" not in str(caught.value)
    assert service.settings.secret_key not in str(caught.value)


async def test_a_backup_that_is_not_copied_is_one_and_the_problem_is_said(
    database_url: str, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from interface.settings import DatabaseSettings
    from tests.cluster import owner_of

    settings = Settings(
        tmp_path, DatabaseSettings(owner_of(database_url)), backup=BackupSettings(upload=service.settings)
    )
    made = await backup.create(settings)
    assert (made.uploaded, made.problem) == (f"s3://lab/site-1/{made.info.name}", "")

    def refused(*_: object) -> str:
        raise BackupError("was not copied")

    monkeypatch.setattr(backup_upload, "upload", refused)
    made = await backup.create(settings)
    assert (made.uploaded, made.problem) == ("", "was not copied")
    assert backup.newest(settings) == made.info
    without = replace(settings, backup=BackupSettings(upload=replace(service.settings, secret_key="")))
    with pytest.raises(BackupError, match="needs LABORA_S3_ACCESS_KEY"):
        await backup.create(without)

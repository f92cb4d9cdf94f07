"""The `[backup]` and `[retention]` tables: what is read of them, and where secrets come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from interface.config import parse
from interface.errors import ConfigError
from interface.settings import BackupSettings, RetentionSettings, UploadSettings

HERE = Path("config.toml")
AGE = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"  # of age's own README


def backup(*lines: str, **environ: str) -> BackupSettings:
    return parse("\n".join(("[backup]", *lines)), HERE, environ).backup


def test_without_a_word_backups_are_kept_and_nothing_is_sent() -> None:
    assert backup() == BackupSettings()
    assert (backup().keep_days, backup().keep_number, backup().upload) == (30, 7, None)


def test_what_is_written_is_read_and_the_keys_come_from_elsewhere(tmp_path: Path) -> None:
    lines = ('directory = "/var/backups/labora"', f'recipient = ["{AGE}", "ssh-ed25519 AAAA+/= me"]', "keep_days = 90",
             "keep_number = 3",
             'upload = { bucket = "lab", endpoint = "https://s3.example.org/", prefix = "/lab/", region = "x" }',
             )  # fmt: skip
    (tmp_path / "labora.s3-secret-key").write_text("hidden\n")
    read = backup(*lines, LABORA_S3_ACCESS_KEY="known", CREDENTIALS_DIRECTORY=str(tmp_path))
    upload = UploadSettings("lab", "https://s3.example.org", "x", "lab", "known", "hidden")
    assert read == BackupSettings(Path("/var/backups/labora"), (AGE, "ssh-ed25519 AAAA+/= me"), (), 90, 3, upload)
    assert "hidden" not in repr(read) and "known" not in repr(read)
    assert backup('gpg_recipient = ["0123456789ABCDEF0123", "a@b"]').gpg_recipients[1] == "a@b"
    assert backup(lines[-1]).upload is not None  # a daemon has no need of the keys


@pytest.mark.parametrize(
    ("line", "path", "text"),
    [
        ('directory = "backups"', "backup.directory", "must be an absolute path"),
        ('recipient = ["age1short"]', "backup.recipient[0]", "is not the public key"),
        ('recipient = ["AGE-SECRET-KEY-1ABC"]', "backup.recipient[0]", "is a private key"),
        (f'recipient = "{AGE}"', "backup.recipient", "must be a list"),
        ('gpg_recipient = ["somebody"]', "backup.gpg_recipient[0]", "is neither the fingerprint"),
        (f'recipient = ["{AGE}"]\ngpg_recipient = ["a@b"]', "backup.gpg_recipient", "with age or with GPG"),
        ("keep_number = 0", "backup.keep_number", "is not between 1"),
        ("keep_days = -1", "backup.keep_days", "is not between 0"),
        ("upload = {}", "backup.upload.bucket", "is missing"),
        ('upload = { bucket = "A_B" }', "backup.upload.bucket", "is not the name of a bucket"),
        ('upload = { bucket = "abc", endpoint = "http://s3.example.org" }', "backup.upload.endpoint", "https://"),
        ('upload = { bucket = "abc", endpoint = "https://a:b@s3.example.org" }', "backup.upload.endpoint", "login"),
        ('upload = { bucket = "abc", secret_key = "x" }', "backup.upload.secret_key", "is not a key"),
        ("dir = 1", "backup.dir", "is not a key"),
    ],
)
def test_what_cannot_be_is_said_with_its_place(line: str, path: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        backup(line)
    said = {problem.path: problem.text for problem in caught.value.problems}
    assert text in said[path]
    assert "AGE-SECRET" not in str(caught.value)


def test_what_is_kept_is_said_by_class() -> None:
    assert parse("[retention]", HERE, {}).retention == RetentionSettings(24, 120, 24, 180, 30, 90)
    assert parse("[retention]\nframes_months = 0\ntokens_days = 7", HERE, {}).retention == RetentionSettings(
        0, tokens_days=7
    )
    with pytest.raises(ConfigError) as caught:
        parse("[retention]\nframes_months = -1\nresults_months = 12", HERE, {})
    said = {problem.path: problem.text for problem in caught.value.problems}
    assert "is not between 0" in said["retention.frames_months"] and "is not a key" in said["retention.results_months"]

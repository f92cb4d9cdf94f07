"""The `[api]` table: what is read of it, and that what would be unsafe prevents the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from interface.config import CREDENTIAL, parse
from interface.errors import ConfigError
from interface.settings import ApiSettings, ListenTls
from tests.link.certificates import Authority

HERE = Path("config.toml")


def api(*lines: str) -> ApiSettings:
    return parse("\n".join(("[api]", *lines)), HERE, {}).api


def problems(text: str, **environ: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, HERE, environ)
    return {problem.path: problem.text for problem in caught.value.problems}


def test_everything_has_a_safe_default() -> None:
    assert api() == ApiSettings()
    assert api().listen.host == "127.0.0.1"
    assert (api().jwks_hosts, api().trusted_proxies, api().tls) == (frozenset(), (), None)
    assert api().client_rate > 0 < api().address_rate


def test_what_is_written_is_read(tmp_path: Path) -> None:
    pair = Authority(tmp_path).pair("api")
    read = api(
        'listen = "0.0.0.0:8443"', f'tls = {{ cert = "{pair.cert}", key = "{pair.key}" }}',
        'base_url = "https://lab.example.org/labora/"', 'jwks_hosts = ["emr.example.org:8443"]',
        'trusted_proxies = ["10.1.2.3", "fd00::/8"]', "address_rate = 0", "client_rate = 50", "workers = 2",
    )  # fmt: skip
    assert read.tls == ListenTls(pair.cert, pair.key)
    assert read.base_url == "https://lab.example.org/labora"
    assert read.trusted_proxies == ("10.1.2.3/32", "fd00::/8")
    assert (read.address_rate, read.client_rate, read.workers) == (0, 50, 2)
    assert read.jwks_hosts == {"emr.example.org:8443"}


@pytest.mark.parametrize(
    ("line", "path", "text"),
    [
        ('listen = "0.0.0.0:8080"', "api.listen", "without TLS"),
        ('listen = "[::]:8080"', "api.listen", "without TLS"),
        ('listen = "10.1.2.3:8080"\nbehind_proxy = false', "api.listen", "without TLS"),
        ('base_url = "http://lab.example.org"', "api.base_url", "is not https"),
        ('base_url = "http://10.1.2.3:8080"', "api.base_url", "is not https"),
        ('base_url = "http://localhost.example.org"', "api.base_url", "is not https"),
        ('base_url = "ftp://lab.example.org"', "api.base_url", "is not an http"),
        ('base_url = "https://a:b@lab.example.org"', "api.base_url", "without user"),
        ('jwks_hosts = ["https://emr.example.org"]', "api.jwks_hosts[0]", "is not a host"),
        ("behind_proxy = true", "api.trusted_proxies", "keeps everybody from logging in"),
        ('trusted_proxies = ["proxy"]', "api.trusted_proxies[0]", "is not an address"),
        ('trusted_proxies = ["10.0.0.1/8"]', "api.trusted_proxies[0]", "is not an address"),
        ("client_rate = -1", "api.client_rate", "is not between"),
        ('tls = { cert = "x", key = "/y" }', "api.tls.cert", "absolute path"),
        ('tls = { cert = "/x" }', "api.tls.key", "is missing"),
        ('tls = { cert = "/x", key = "/y", client_ca = "/z" }', "api.tls.client_ca", "is not a key"),
    ],
)
def test_what_is_unsafe_or_wrong_is_a_problem(line: str, path: str, text: str) -> None:
    assert text in problems(f"[api]\n{line}")[path]


@pytest.mark.parametrize(
    "line",
    ['listen = "0.0.0.0:8080"\nbehind_proxy = true\ntrusted_proxies = ["10.1.2.3"]',
     'listen = "[::1]:8080"', 'listen = "localhost:8080"',
     'base_url = "http://127.0.0.1:8080"', 'base_url = "http://[::1]:8080"', 'base_url = "http://localhost/x"'],
)  # fmt: skip
def test_what_only_this_machine_or_a_proxy_reaches_may_do_without_tls(line: str) -> None:
    api(line)


def test_a_key_that_others_may_read_prevents_the_start(tmp_path: Path) -> None:
    pair = Authority(tmp_path).pair("api")
    pair.key.chmod(0o644)
    found = problems(f'[api]\nlisten = "0.0.0.0:1"\ntls = {{ cert = "{pair.cert}", key = "{pair.key}" }}')
    assert list(found) == ["api.tls.key"], "TLS was meant, so that is not said as well"
    assert "can be used by others" in found["api.tls.key"]


@pytest.mark.parametrize("password", ["postgres", "Password", "labora", "someone", "changeme", ""])
def test_a_password_that_everybody_knows_prevents_the_start(password: str) -> None:
    url = f"postgresql://someone:{password}@db/lab"
    found = problems("", LABORA_DATABASE_URL=url)
    assert "everybody knows" in found["LABORA_DATABASE_URL"]
    assert url not in str(found)


def test_a_secret_comes_from_systemd_too(tmp_path: Path) -> None:
    url = "postgresql://someone:correct-horse@db/lab"
    (tmp_path / CREDENTIAL).write_text(url + "\n")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert parse("", HERE, environ).database.url == url
    named = {**environ, "LABORA_DATABASE_URL": "postgresql://other@db/lab"}
    assert parse("", HERE, named).database.url == "postgresql://other@db/lab"
    assert parse("", HERE, {"CREDENTIALS_DIRECTORY": str(tmp_path / "none")}).database.url == "embedded"
    (tmp_path / CREDENTIAL).write_text("mysql://someone:correct-horse@db/lab")
    assert "correct-horse" not in str(problems("", **environ))


@pytest.mark.parametrize("content", [b"", b"\n", b"postgresql://u:caf\xe9-au-lait@db/lab", None])
def test_a_database_that_systemd_should_hand_over_is_no_other(tmp_path: Path, content: bytes | None) -> None:
    """Half written, in another charset, not to be read: what analyzers send must not go to the one of the file."""
    file = tmp_path / CREDENTIAL
    file.mkdir() if content is None else file.write_bytes(content)
    for written in ("", '[database]\nurl = "postgresql:///labora?host=/run/postgresql"'):
        found = problems(written, CREDENTIALS_DIRECTORY=str(tmp_path))
        assert list(found) == [CREDENTIAL] and "lait" not in str(found)

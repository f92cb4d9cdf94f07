"""Secrets: from the environment, or from files that systemd hands over. Never from the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def credential(name: str, environ: Mapping[str, str]) -> str:
    """A secret that systemd hands over in a file that nobody else reads; "" where there is none."""
    folder = environ.get("CREDENTIALS_DIRECTORY", "")
    try:
        return (Path(folder) / name).read_text(encoding="utf-8").strip() if folder else ""
    except (OSError, UnicodeDecodeError):
        return ""


def secret(variable: str, name: str, environ: Mapping[str, str]) -> str:
    """A secret from an environment variable, else from systemd's credential `name`; "" where there is none."""
    return environ.get(variable, "") or credential(name, environ)

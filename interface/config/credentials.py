"""Secrets: from the environment, or from files that systemd hands over. Never from the configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def credential(name: str, environ: Mapping[str, str]) -> str:
    """A secret that systemd hands over in a file that nobody else reads; "" where there is none."""
    folder = environ.get("CREDENTIALS_DIRECTORY", "")
    try:
        return (Path(folder) / name).read_text(encoding="utf-8").strip() if folder else ""
    except (OSError, UnicodeDecodeError):
        return ""


def unusable(name: str, environ: Mapping[str, str]) -> str:
    """Why a secret that systemd hands over is none; "" where it is one, or nothing is handed over."""
    folder = environ.get("CREDENTIALS_DIRECTORY", "")
    if not folder or not os.path.lexists(Path(folder) / name):
        return ""
    try:
        return "" if (Path(folder) / name).read_text(encoding="utf-8").strip() else "is empty"
    except UnicodeDecodeError:
        return "is not UTF-8"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def secret(variable: str, name: str, environ: Mapping[str, str]) -> str:
    """A secret from an environment variable, else from systemd's credential `name`; "" where there is none."""
    return environ.get(variable, "") or credential(name, environ)

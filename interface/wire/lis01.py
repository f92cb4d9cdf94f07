"""LIS01-A2 (ASTM E1381) data link."""

from __future__ import annotations

from interface.wire.frames import build_frame, checksum, parse_frame

__all__ = ["build_frame", "checksum", "parse_frame"]

"""Programs that a test interrupts as Ctrl-C does."""

from __future__ import annotations

import signal


def hear_interrupts() -> None:
    """For `preexec_fn`: a shell starts what runs in the background with SIGINT ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)

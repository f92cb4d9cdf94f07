"""`python -m tests.e2e.hurried ...`: `labora`, whose daemon looks after itself many times as often, and for which what
was wrong is over a second after it was found last."""

from __future__ import annotations

from interface.cli import main
from interface.ops import alert_center, machine, machine_watch

LOOK_S = 0.2
STANDS_S = 0.8


def hurry() -> None:
    alert_center.LOOK_S = alert_center.SEND_S = LOOK_S  # type: ignore[misc]
    machine_watch.WATCH_S = LOOK_S  # type: ignore[misc]
    machine_watch.STANDS_S = machine._STEP_TOLD_S = STANDS_S  # type: ignore[misc]
    # Whether the machine of the tests follows a time server is not what they ask.
    machine.synchronized = lambda: True


if __name__ == "__main__":
    hurry()
    main()

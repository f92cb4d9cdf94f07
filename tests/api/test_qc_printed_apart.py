"""A long report of quality control is printed by a process of its own, also where systemd lets none be lowered."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
from typing import Final

import pytest

# What `SystemCallFilter=~@resources` of labora.service does with nice(2): seccomp(2), prctl(2), <linux/filter.h>.
_SET_PRIORITY: Final = {"x86_64": 141, "aarch64": 140}
_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER = 38, 22, 2
_LOAD, _SKIP_UNLESS, _RETURN = 0x20, 0x15, 0x06
_REFUSED, _ALLOWED = 0x0005_0000 | 1, 0x7FFF_0000  # EPERM


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def refuse_priority() -> None:
    """From here on this process and those that it starts are refused another priority."""
    steps = ((_LOAD, 0, 0, 0), (_SKIP_UNLESS, 0, 1, _SET_PRIORITY[os.uname().machine]), (_RETURN, 0, 0, _REFUSED),
             (_RETURN, 0, 0, _ALLOWED))  # fmt: skip
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    kept = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(steps), ctypes.cast(kept, ctypes.c_void_p))
    system = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_NO_NEW_PRIVILEGES, 1, 0, 0, 0), (_SECCOMP, _FILTER, ctypes.byref(program), 0, 0)):
        if system.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "prctl")


def print_long() -> None:
    from interface.api.qc_charts import MOST_HERE, printed
    from interface.domain.report import Paper
    from tests.render.report_cases import month, usual

    refuse_priority()
    with pytest.raises(PermissionError):
        os.nice(1)
    report = month(*usual().streams * 2)
    assert sum(not stream.empty for stream in report.streams) > MOST_HERE
    body = printed(report, Paper.A4)
    print(body[:5].decode())


@pytest.mark.skipif(os.uname().machine not in _SET_PRIORITY, reason="the number of the system call is not known here")
def test_a_long_report_is_printed_where_no_priority_may_be_lowered() -> None:
    words = "from tests.api.test_qc_printed_apart import print_long; print_long()"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "%PDF-\n"), done.stderr

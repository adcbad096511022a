"""The kernel's word that a process reads no file but the installed code: Landlock (Linux 5.13 and later), for good.

What the hook of `sealed.py` cannot see, a library that opens a file past Python, is refused as well.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable
from pathlib import Path

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446  # the same numbers on every architecture
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_PATH_BENEATH, _NO_NEW_PRIVS = 1, 38


class _Ruleset(ctypes.Structure):
    _fields_ = (("handled_access_fs", ctypes.c_uint64),)


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def reads_only(folders: Iterable[str]) -> bool:
    """From now on this process and its children can open and list nothing outside `folders`; False where the kernel
    has no Landlock."""
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    rights = _Ruleset(_READ_FILE | _READ_DIR)
    ruleset = libc.syscall(_CREATE, ctypes.byref(rights), ctypes.sizeof(rights), 0)
    if ruleset < 0:
        return False
    try:
        for folder in folders:
            if not Path(folder).is_dir():
                continue
            handle = os.open(folder, os.O_PATH)
            rule = _Beneath(_READ_FILE | _READ_DIR, handle)
            libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
            os.close(handle)
        libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
        return libc.syscall(_RESTRICT, ruleset, 0) == 0
    finally:
        os.close(ruleset)

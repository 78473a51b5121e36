"""Landlock: for an enclave's command the second lock on files, behind the private view, and the first on signals; for
the keeper the only lock on files.

Landlock's access rights by ABI version (Linux ``include/uapi/linux/landlock.h``): 1 the base, 2 REFER, 3 TRUNCATE,
4 TCP, 5 device controls, 6 scopes for abstract sockets and signals, 7 audit flags (nothing to restrict).
"""

from __future__ import annotations

import os
import stat
from typing import Final

from strongroom.walls.adapters import syscalls

EXECUTE: Final = 1 << 0
WRITE_FILE: Final = 1 << 1
READ_FILE: Final = 1 << 2
READ_DIR: Final = 1 << 3
REMOVE_DIR: Final = 1 << 4
REMOVE_FILE: Final = 1 << 5
MAKE_DIR: Final = 1 << 7
MAKE_REG: Final = 1 << 8
MAKE_SOCK: Final = 1 << 9
REFER: Final = 1 << 13
TRUNCATE: Final = 1 << 14
_RIGHTS: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_FILE_RIGHTS: Final = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | (1 << 15)
TCP_BIND: Final = 0b01
TCP: Final = 0b11
_SCOPES: Final = 0b11

READ: Final = READ_FILE | READ_DIR
WRITE: Final = READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | REFER | TRUNCATE

LEAST_VERSION: Final = 3
"""Below it truncation isn't mediated; the view's read-only mounts still are. Older kernels are refused."""


def restrict(grants: tuple[tuple[str, int], ...], *, tcp: int = TCP) -> int:
    """Restrict the caller for good to ``grants`` (path, rights) and return the ABI version that was enforced.

    A path that isn't there grants nothing. What ``tcp`` names is closed from version 4 on, signals and
    abstract sockets to outside from version 6 on; an enclave's namespaces close both on any version.

    :raises OSError: the kernel has no Landlock or refuses the ruleset.
    """
    version = syscalls.landlock_version()
    if version < LEAST_VERSION:
        raise OSError(95, f"landlock: version {version} is too old; {LEAST_VERSION} is needed")
    handled = max(rights for least, rights in _RIGHTS.items() if least <= version)
    attributes = [handled, tcp if version >= 4 else 0, _SCOPES if version >= 6 else 0]
    # An older kernel takes a shorter structure: one word up to version 3, two up to 5.
    words = 1 if version < 4 else 2 if version < 6 else 3
    ruleset = syscalls.landlock_ruleset(b"".join(word.to_bytes(8, "little") for word in attributes[:words]))
    try:
        for path, rights in grants:
            _grant(ruleset, path, rights & handled)
        syscalls.landlock_enforce(ruleset)
    finally:
        os.close(ruleset)
    return version


def _grant(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _FILE_RIGHTS
        syscalls.landlock_allow_beneath(ruleset, access=rights, directory=descriptor)
    finally:
        os.close(descriptor)

"""``python as_ordinary_user.py UID PROGRAM ARGUMENT...``: run a program as UID without privileges. Needs root.

The interpreter may lie in a folder that only root can enter; in a private mount namespace such folders are replaced by
open ones that hold nothing but the interpreter's own folder.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from strongroom.walls.adapters import syscalls


def main() -> None:
    uid, program = int(sys.argv[1]), sys.argv[2:]
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", kind=None, flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    for needed in {sys.base_prefix, sys.prefix}:
        closed = [p for p in reversed(Path(needed).parents) if not p.stat().st_mode & 0o001]
        if closed:
            tree = syscalls.open_tree(needed)
            syscalls.mount("open", str(closed[0]), kind="tmpfs", flags=0, data="mode=0755")
            Path(needed).mkdir(parents=True)
            syscalls.move_mount(tree, needed)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    os.execv(program[0], program)  # noqa: S606 - no shell is wanted


main()

"""Reading the host: each protection is tried, in a child that ends at once, rather than guessed from a version."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from strongroom.enclave.facts import Fact, Seen, judge
from strongroom.walls.adapters import syscalls
from strongroom.walls.bpf import ALLOW, RETURN

TPM_DEVICE: Final = Path("/dev/tpmrm0")
_ADJTIMEX_BYTES: Final = 208
_TIME_ERROR: Final = 5
_STA_UNSYNC: Final = 0x40


def host_facts(home: Path) -> tuple[Fact, ...]:
    """Return the facts about this host; ``home`` is the deployment's folder, or one that will hold it."""
    return judge(look(home))


def look(home: Path) -> Seen:
    """Read the host."""
    release = re.match(r"(\d+)\.(\d+)", platform.release())
    soft = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    core = resource.getrlimit(resource.RLIMIT_CORE)[1]
    return Seen(
        kernel=(int(release[1]), int(release[2])) if release else (0, 0),
        python=sys.version_info[:3],
        user_namespaces=_answer(lambda: syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)),
        landlock_version=_landlock(),
        seccomp=not _answer(_try_filter),
        secret_memory=not _answer(_try_secret_memory),
        deny_write_execute=not _answer(lambda: syscalls.prctl(syscalls.PR_SET_MDWE, syscalls.PR_MDWE_REFUSE_EXEC_GAIN)),
        locked_memory=None if soft == resource.RLIM_INFINITY else soft,
        swap=_swap(),
        core_pattern=_text("/proc/sys/kernel/core_pattern"),
        core_hard_limit=None if core == resource.RLIM_INFINITY else core,
        ptrace_scope=_number("/proc/sys/kernel/yama/ptrace_scope"),
        swap_excludable=not _answer(_try_noswap),
        tpm_device=_tpm(),
        software_tpm=shutil.which("swtpm") or "",
        free_disk=shutil.disk_usage(next(path for path in (home, *home.resolve().parents) if path.is_dir())).free,
        free_memory=_meminfo("MemAvailable"),
        clock_synchronised=_synchronised(),
        root=os.geteuid() == 0,
    )


def _answer(attempt: Callable[[], object]) -> str:
    """Try ``attempt`` in a child process; return nothing when it worked, or the kernel's answer."""
    child = os.fork()
    if child == 0:
        status = 255
        try:
            attempt()
            status = 0
        except OSError as error:
            status = error.errno or 255
        finally:
            os._exit(status)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return "" if code == 0 else os.strerror(code) if 0 < code < 255 else "the attempt ended the process"


def _landlock() -> int | None:
    try:
        return syscalls.landlock_version()
    except OSError:
        return None


def _try_filter() -> None:
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.load_filter(RETURN.to_bytes(2, sys.byteorder) + bytes(2) + ALLOW.to_bytes(4, sys.byteorder))


def _try_secret_memory() -> None:
    descriptor = syscalls.memfd_secret()
    os.ftruncate(descriptor, 4096)
    address = syscalls.map_memory(4096, flags=syscalls.MAP_SHARED, descriptor=descriptor)
    ctypes.memset(address, 1, 1)


def _try_noswap() -> None:
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", kind=None, flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.mount("probe", "/proc", kind="tmpfs", flags=0, data="size=4096,noswap")


def _tpm() -> str:
    if not TPM_DEVICE.exists():
        return ""
    return str(TPM_DEVICE) if os.access(TPM_DEVICE, os.R_OK | os.W_OK) else f"[{TPM_DEVICE}, not accessible]"


def _swap() -> int:
    lines = (_text("/proc/swaps") or "").splitlines()[1:]
    return sum(int(line.split()[2]) * 1024 for line in lines)


def _meminfo(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", _text("/proc/meminfo") or "", re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _synchronised() -> bool | None:
    # adjtimex(2) with no mode set only reads; status is an int at offset 40 on 64-bit machines.
    buffer = ctypes.create_string_buffer(_ADJTIMEX_BYTES)
    state: int = ctypes.CDLL(None).adjtimex(buffer)
    if state < 0:
        return None
    return state != _TIME_ERROR and not int.from_bytes(buffer.raw[40:44], sys.byteorder) & _STA_UNSYNC


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _number(path: str) -> int | None:
    text = _text(path)
    return int(text) if text is not None and text.isdecimal() else None

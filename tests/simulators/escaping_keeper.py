"""The real keeper, taken over: told to lock, it tries to get out first, and writes how that went.

``HOME/keeper/escapes.json``: attempt -> ``escaped`` with what was gained, or the errno's name.
"""

# ruff: noqa: PTH123, PTH208 - attempts use the plainest call there is
from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from strongroom.keeper.service import Keeper
from strongroom.keeper.wiring import main
from support.escape_calls import CALLS, FAMILIES

HOME = Path(sys.argv[sys.argv.index("--home") + 1])
LIBC = ctypes.CDLL(None, use_errno=True)
ALLOWED = {"accept", "connect", "shmget", "shmat", "semget"}
"""Calls of the list that a keeper makes, or that the kernel judges alike with and without walls."""
ATTEMPTS: dict[str, Callable[[], object]] = {}


def attempt(function: Callable[[], object]) -> Callable[[], object]:
    ATTEMPTS[function.__name__] = function
    return function


@attempt
def start_a_program() -> object:
    return subprocess.run(["/bin/true"], check=True)


@attempt
def become_a_program() -> object:
    os.execv("/bin/true", ["/bin/true"])  # noqa: S606 - that is the attempt


@attempt
def fork() -> object:
    child = os.fork()
    if child == 0:
        os._exit(0)
    return os.waitpid(child, 0)


@attempt
def read_another_process() -> object:
    return len(Path(f"/proc/{os.getppid()}/environ").read_bytes())


@attempt
def read_another_processes_memory() -> object:
    return open(f"/proc/{os.getppid()}/mem", "rb", buffering=0).fileno()


@attempt
def signal_another_process() -> object:
    os.kill(os.getppid(), 0)
    return os.getppid()


@attempt
def signal_a_group() -> object:
    os.killpg(0, 0)
    return "the group"


@attempt
def open_the_network() -> object:
    return socket.socket(socket.AF_INET).fileno()


@attempt
def open_the_network_by_ipv6() -> object:
    return socket.socket(socket.AF_INET6).fileno()


@attempt
def open_a_door_of_its_own() -> object:
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(HOME / "run" / "door.sock"))
        door.listen()
    return "listens"


@attempt
def talk_past_namespaces() -> object:
    with socket.socket(socket.AF_UNIX) as door:
        door.connect(b"\0" + (HOME / "keeper" / "abstract").read_bytes())
    return "connected"


@attempt
def read_the_logs_key() -> object:
    return sorted(os.listdir(HOME / "log"))


@attempt
def read_the_home() -> object:
    return sorted(os.listdir(HOME))


@attempt
def read_passwd() -> object:
    return len(Path("/etc/passwd").read_bytes())


@attempt
def read_ones_own_key_files() -> object:
    return os.listdir(Path("~").expanduser())


@attempt
def write_beside() -> object:
    return (HOME / "genesis.json").write_bytes(b"")


@attempt
def write_into_its_own_program() -> object:
    return Path(sys.modules["strongroom.keeper.service"].__file__ or "").open("ab").fileno()


@attempt
def write_to_tmp() -> object:
    return Path("/tmp/strongroom-escape").write_bytes(b"x")  # noqa: S108 - that is the attempt


@attempt
def cut_a_file_short() -> object:
    os.truncate(HOME / "genesis.json", 0)
    return "done"


@attempt
def make_code_out_of_data() -> object:
    return mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)


@attempt
def allow_core_dumps() -> object:
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return "a core dump may be as large as it likes"


@attempt
def become_dumpable() -> object:
    if LIBC.prctl(4, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "")
    return "dumpable"


@attempt
def open_its_files_to_others() -> object:
    (HOME / "keeper" / "keyring.json").chmod(0o644)
    return "done"


@attempt
def become_somebody_else() -> object:
    os.setuid(12345)
    return "done"


@attempt
def keep_a_process_in_memory() -> object:
    return os.memfd_create("program")


@attempt
def mend_the_filter() -> object:
    if LIBC.prctl(22, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "")
    return "another filter"


def call(number: int, *arguments: object) -> int:
    wide = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result: int = LIBC.syscall(ctypes.c_long(number), *wide)
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result


def outcome(act: Callable[[], object]) -> str:
    try:
        return f"escaped: {act()}"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "?")
    except ValueError:
        return "EPERM"  # as this Python says it of a limit


def tried() -> dict[str, str]:
    """Make every attempt; in a thread too, because filters and Landlock are each thread's own."""
    said = {name: outcome(act) for name, act in ATTEMPTS.items()}
    elsewhere: dict[str, str] = {}
    names = ("read_passwd", "open_the_network", "start_a_program", "write_beside")
    thread = threading.Thread(target=lambda: elsewhere.update({n: outcome(ATTEMPTS[n]) for n in names}))
    thread.start()
    thread.join()
    said |= {f"{name} from another thread": one for name, one in elsewhere.items()}
    if os.uname().machine == "x86_64":
        for name, (x86, _arm, arguments) in CALLS.items():
            if name not in ALLOWED:
                said[f"call {name}"] = outcome(lambda x86=x86, arguments=arguments: call(x86, *arguments))  # type: ignore[misc]
    for name, family in FAMILIES.items():
        said[f"socket {name}"] = outcome(lambda family=family: socket.socket(family, socket.SOCK_RAW).fileno())  # type: ignore[misc]
    return said


class EscapingKeeper(Keeper):
    """Tries to get out before it locks itself."""

    def lock(self, cause: str) -> None:
        """Try everything; then lock."""
        if cause == "asked":
            (HOME / "keeper" / "escapes.json").write_text(json.dumps(tried()))
        super().lock(cause)


if __name__ == "__main__":
    signal.signal(signal.SIGSYS, signal.SIG_DFL)
    main(EscapingKeeper)

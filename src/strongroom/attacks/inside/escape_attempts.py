"""Runs as the command inside an enclave (or, for comparison, outside) and really tries to get out.

Prints one JSON object: attempt -> ``escaped`` with what was gained, or ``blocked`` with the errno's name.
"""

# ruff: noqa: PTH208, PTH123, PTH101 - attempts use the plainest call there is
from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import platform
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
X86 = platform.machine() == "x86_64"
FACTS: dict[str, str] = {}
ATTEMPTS: dict[str, Callable[[], object]] = {}


def attempt(function: Callable[[], object]) -> Callable[[], object]:
    ATTEMPTS[function.__name__] = function
    return function


def call(x86: int, arm: int, *arguments: object) -> int:
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result: int = LIBC.syscall(ctypes.c_long(x86 if X86 else arm), *wide)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


@attempt
def use_left_over_descriptors() -> object:
    kept = [fd for fd in range(3, 1024) if _is_open(fd)]
    return kept or _refused("none is open")


@attempt
def read_shadow() -> object:
    return len(Path("/etc/shadow").read_bytes())


@attempt
def read_passwd() -> object:
    return len(Path("/etc/passwd").read_bytes())


@attempt
def read_sealed_files_sibling() -> object:
    return Path(FACTS["sibling"]).read_text()


@attempt
def read_sealed_files() -> object:
    return os.listdir(FACTS["sealed"])


@attempt
def list_host_root() -> object:
    names = set(os.listdir("/"))
    return sorted(names & {"etc", "home", "var", "boot", "opt"}) or _refused("the host's folders aren't there")


@attempt
def climb_out_by_dotdot() -> object:
    return os.listdir("/" + "../" * 40 + "etc")


@attempt
def climb_out_by_proc_root() -> object:
    names = [f"/proc/{who}/root/etc" for who in ("self", "1", os.getppid())]
    return [os.listdir(name) for name in names if Path(name).is_dir()] or _refused("no such folder")


@attempt
def write_tmp() -> object:
    Path(FACTS["tmp"], "escaped").write_text("out")
    return "written"


@attempt
def write_home() -> object:
    Path(FACTS["home"], ".escaped").write_text("out")
    return "written"


@attempt
def write_code() -> object:
    Path(__file__).with_name("escaped.py").write_text("out")
    return "written"


@attempt
def write_model() -> object:
    Path(os.environ["STRONGROOM_MODEL"], "escaped").write_text("out")
    return "written"


@attempt
def open_model_file_for_writing() -> object:
    folder = os.environ["STRONGROOM_MODEL"]
    name = Path(folder, os.listdir(folder)[0])
    os.chmod(name, 0o600)
    name.write_text("out")
    return "written"


@attempt
def write_root() -> object:
    Path("/escaped").write_text("out")
    return "written"


@attempt
def inet_socket() -> object:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return "bound"


@attempt
def netlink_socket() -> object:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW):
        return "opened"


@attempt
def packet_socket() -> object:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW):
        return "opened"


@attempt
def unix_socket_to_keeper() -> object:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(FACTS["socket"])
        return "connected"


@attempt
def abstract_socket() -> object:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect("\0" + FACTS["abstract"])
        return "connected"


@attempt
def start_shell() -> object:
    return subprocess.run(["/bin/sh", "-c", "echo out"], check=True, capture_output=True).stdout.decode()


@attempt
def start_measured_interpreter() -> object:
    return subprocess.run([sys.executable, "-c", "print('out')"], check=True, capture_output=True).stdout.decode()


@attempt
def fork_a_process() -> object:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return "forked"


@attempt
def fork_by_clone3() -> object:
    arguments = ctypes.create_string_buffer(bytes(32) + int(signal.SIGCHLD).to_bytes(8, "little") + bytes(48), 88)
    child = call(435, 435, arguments, 88)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return "forked"


@attempt
def trace_parent() -> object:
    call(101, 117, 16, os.getppid(), 0, 0)  # PTRACE_ATTACH
    os.waitpid(os.getppid(), 0)
    return "attached"


@attempt
def read_parent_memory() -> object:
    with open(f"/proc/{os.getppid()}/mem", "rb", buffering=0) as memory:
        memory.seek(_an_address())
        return len(memory.read(4))


@attempt
def read_parent_memory_by_process_vm() -> object:
    data = ctypes.create_string_buffer(8)
    local = (ctypes.c_ulong * 2)(ctypes.addressof(data), 8)
    remote = (ctypes.c_ulong * 2)(_an_address(), 8)
    return call(310, 270, os.getppid(), local, 1, remote, 1, 0)


@attempt
def take_parents_descriptor() -> object:
    handle = call(434, 434, os.getppid(), 0)
    return call(438, 438, handle, 1, 0)


@attempt
def list_other_processes() -> object:
    others = [name for name in os.listdir("/proc") if name.isdigit() and name != str(os.getpid())]
    others += [name for name in os.listdir("/proc/pids") if name.isdigit()] if Path("/proc/pids").is_dir() else []
    others = [name for name in others if name != str(os.getpid())]
    return others or _refused("none is shown")


@attempt
def memfd_and_exec() -> object:
    handle = os.memfd_create("program")
    os.write(handle, Path(sys.executable).resolve().read_bytes())
    return subprocess.run([f"/proc/self/fd/{handle}", "-c", "0"], check=True, pass_fds=[handle]).returncode


@attempt
def exec_from_scratch() -> object:
    copy = Path(os.environ.get("TMPDIR", FACTS["tmp"]), "program")
    copy.write_bytes(Path(sys.executable).resolve().read_bytes())
    copy.chmod(0o700)
    return subprocess.run([str(copy), "-c", "0"], check=True, capture_output=True).returncode


@attempt
def map_scratch_file_as_code() -> object:
    copy = Path(os.environ.get("TMPDIR", FACTS["tmp"]), "code")
    copy.write_bytes(b"\xc3" * 4096)
    with copy.open("rb") as stream, mmap.mmap(stream.fileno(), 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC):
        return "mapped"


@attempt
def io_uring() -> object:
    return call(425, 425, 4, ctypes.create_string_buffer(120))


@attempt
def bpf() -> object:
    return call(321, 280, 0, ctypes.create_string_buffer((1).to_bytes(4, "little") + bytes(116)), 72)


@attempt
def perf_event_open() -> object:
    return call(298, 241, ctypes.create_string_buffer((1).to_bytes(4, "little") + (128).to_bytes(4, "little"), 128), 0)


@attempt
def userfaultfd() -> object:
    return call(323, 282, 1)


@attempt
def keyctl() -> object:
    return call(250, 219, 0, -3, 1)


@attempt
def unshare_user_namespace() -> object:
    return call(272, 97, 0x10000000)


@attempt
def join_parents_namespace() -> object:
    with open(f"/proc/{os.getppid()}/ns/net", "rb") as handle:
        return call(308, 268, handle.fileno(), 0)


@attempt
def mount_tmpfs() -> object:
    return call(165, 40, b"none", b"/scratch", b"tmpfs", 0, None)


@attempt
def remount_model_writable() -> object:
    return call(165, 40, b"none", b"/model", None, 0x20 | 0x1000, None)


@attempt
def unmount_view() -> object:
    return call(166, 39, b"/proc", 2)


@attempt
def chroot() -> object:
    os.chroot("/")
    return "changed"


@attempt
def signal_parent() -> object:
    os.kill(os.getppid(), signal.SIGCONT)
    return "sent"


@attempt
def signal_parent_thread() -> object:
    return call(234, 131, os.getppid(), os.getppid(), int(signal.SIGCONT))


@attempt
def signal_everybody() -> object:
    os.kill(-1, 0)
    return "sent"


@attempt
def signal_by_file_owner() -> object:
    import fcntl  # noqa: PLC0415 - only this attempt

    reader, _ = os.pipe()
    return fcntl.fcntl(reader, fcntl.F_SETOWN, os.getppid())


@attempt
def map_writable_code() -> object:
    with mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC):
        return "mapped"


@attempt
def turn_data_into_code() -> object:
    page = mmap.mmap(-1, 4096)
    page.write(b"\xc3")
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    return call(10, 226, address, 4096, 5)


@attempt
def become_dumpable() -> object:
    if LIBC.prctl(4, 1, 0, 0, 0):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return "dumpable"


@attempt
def write_core_pattern() -> object:
    path = Path("/proc/sys/kernel/core_pattern")
    path.write_text(path.read_text())
    return "written"


@attempt
def write_sysctl() -> object:
    path = Path("/proc/sys/kernel/hostname")
    path.write_text(path.read_text())
    return "written"


@attempt
def load_kernel() -> object:
    return call(320, 294, -1, -1, 0, b"", 0)


@attempt
def load_module() -> object:
    return call(313, 273, -1, b"", 0)


@attempt
def type_into_terminal() -> object:
    import fcntl  # noqa: PLC0415 - only this attempt

    return fcntl.ioctl(0, 0x5412, b"x")


@attempt
def open_by_handle() -> object:
    return call(304, 265, -100, ctypes.create_string_buffer(24), 0)


@attempt
def raise_limit_of_parent() -> object:
    return call(302, 261, os.getppid(), 7, None, ctypes.create_string_buffer(16))


@attempt
def become_root() -> object:
    os.setuid(0)
    return os.getuid() or "root"


@attempt
def escape_by_thread() -> object:
    # The filter holds for every thread, old and new.
    gained: list[object] = []

    def work() -> None:
        try:
            gained.append(len(Path("/etc/passwd").read_bytes()))
        except OSError as error:
            gained.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if isinstance(gained[0], OSError):
        raise gained[0]
    return gained[0]


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _an_address() -> int:
    return ctypes.addressof(ctypes.c_int.in_dll(LIBC, "optind"))


def _refused(why: str) -> object:
    raise OSError(errno.ENOENT, why)


def main() -> None:
    FACTS.update(json.loads(sys.argv[1]))
    results = {}
    for name in json.loads(sys.argv[2]) or ATTEMPTS:
        try:
            results[name] = ["escaped", repr(ATTEMPTS[name]())]
        except OSError as error:
            results[name] = ["blocked", errno.errorcode.get(error.errno or 0, "?")]
        except Exception as error:  # noqa: BLE001 - an attempt that breaks otherwise proves nothing, and must show
            results[name] = ["broken", f"{type(error).__name__}: {error}"]
    print(json.dumps(results))  # noqa: T201 - its only output


if __name__ == "__main__":
    main()

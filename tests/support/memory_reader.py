"""Looks for known bytes in the memory of other processes, in each way that Linux offers to root.

``python memory_reader.py < ORDER``: the order has ``pids``, ``needles`` (name -> hex), ``ways`` (none: all but those
that are asked for by name) and ``swap`` (a swap file, or nothing). Prints what was found, process -> way -> needle ->
places, or the errno in place of a way's needles. A program of its own, so that what it searches for is never in what it
searches.
"""

# ruff: noqa: PTH123 - the plainest call there is
from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.restype = ctypes.c_long
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
LIBC.process_vm_readv.restype = ctypes.c_ssize_t
CHUNK = 1 << 20
PEEK, ATTACH, DETACH = 2, 16, 17
PAGE = 4096
PIDFD_GETFD = 438
PROCESS_MADVISE = 440
MADV_PAGEOUT = 21

Needles = dict[str, bytes]
Found = dict[str, list[str]]
Map = tuple[int, int, str]
WAYS: dict[str, Callable[[int, Needles], Found]] = {}
ASKED_FOR = {"gcore"}
"""Ways that take long: only when they are named."""


def way(function: Callable[[int, Needles], Found]) -> Callable[[int, Needles], Found]:
    WAYS[function.__name__] = function
    return function


@way
def proc_mem(pid: int, needles: Needles) -> Found:
    """Read every mapping through /proc/PID/mem."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:

        def read(address: int, size: int) -> bytes:
            return os.pread(memory.fileno(), size, address)

        return in_maps(pid, needles, read)


@way
def process_vm(pid: int, needles: Needles) -> Found:
    """Read every mapping by process_vm_readv."""
    data = ctypes.create_string_buffer(CHUNK)

    def read(address: int, size: int) -> bytes:
        local = (ctypes.c_ulong * 2)(ctypes.addressof(data), size)
        remote = (ctypes.c_ulong * 2)(address, size)
        got = LIBC.process_vm_readv(pid, local, 1, remote, 1, 0)
        if got < 0:
            raise OSError(ctypes.get_errno(), "")
        return data.raw[:got]

    return in_maps(pid, needles, read)


@way
def ptrace(pid: int, needles: Needles) -> Found:
    """Stop it, and read word by word: where /proc/PID/mem found something, and all of the secret pages."""
    wanted = {int(place.partition(" ")[0], 16) for places in proc_mem(pid, needles).values() for place in places}
    pages = {at // PAGE * PAGE for at in wanted}
    pages |= {at for low, high, name in maps(pid) if is_secret(name) for at in range(low, high, PAGE)}
    found: Found = {}
    with attached(pid):
        for page in sorted(pages):
            data = bytearray()
            for at in range(page, page + 2 * PAGE, 8):  # a needle may reach into the next page
                ctypes.set_errno(0)
                word = LIBC.ptrace(PEEK, pid, at, None)
                if ctypes.get_errno():
                    break
                data += (word & (1 << 64) - 1).to_bytes(8, "little")
            for name, needle in needles.items():
                if (at := data.find(needle)) >= 0:
                    found.setdefault(name, []).append(f"{page + at:x}")
    return found


@way
def map_files(pid: int, needles: Needles) -> Found:
    """Open what is mapped, by its link."""
    found: Found = {}
    for low, high, name in maps(pid):
        link = f"/proc/{pid}/map_files/{low:x}-{high:x}"
        with suppress(OSError):
            add(found, in_file(link, needles), name)
    return found


@way
def descriptors(pid: int, needles: Needles) -> Found:
    """Open what it has open, files in memory as well."""
    found: Found = {}
    for number in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208 - as above
        link = f"/proc/{pid}/fd/{number}"
        with suppress(OSError):
            if stat.S_ISREG(os.stat(link).st_mode):  # noqa: PTH116 - as above
                add(found, in_file(link, needles), os.readlink(link))  # noqa: PTH115 - as above
    return found


@way
def taken_descriptors(pid: int, needles: Needles) -> Found:
    """Take its descriptors over (pidfd_getfd), and read those of files."""
    found: Found = {}
    handle = os.pidfd_open(pid)
    try:
        for number in map(int, os.listdir(f"/proc/{pid}/fd")):  # noqa: PTH208 - as above
            taken = LIBC.syscall(PIDFD_GETFD, handle, number, 0)
            if taken < 0:
                raise OSError(ctypes.get_errno(), "")
            with suppress(OSError):
                if stat.S_ISREG(os.fstat(taken).st_mode):
                    add(found, in_file(f"/proc/self/fd/{taken}", needles), f"descriptor {number}")
            os.close(taken)
    finally:
        os.close(handle)
    return found


@way
def its_files(pid: int, needles: Needles) -> Found:
    """Read the folders in memory that its view has, through /proc/PID/root."""
    found: Found = {}
    for folder in ("model", "scratch"):
        for path in Path(f"/proc/{pid}/root/{folder}").rglob("*"):
            if path.is_file():
                add(found, in_file(str(path), needles), "/".join(path.parts[4:]))
    return found


@way
def environment(pid: int, needles: Needles) -> Found:
    """Read how it was started."""
    found: Found = {}
    for name in ("environ", "cmdline", "auxv"):
        add(found, in_file(f"/proc/{pid}/{name}", needles), name)
    return found


@way
def gcore(pid: int, needles: Needles) -> Found:
    """Have the debugger write a core file of it."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["gcore", "-a", "-o", f"{folder}/core", str(pid)]
        ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
        name = f"{folder}/core.{pid}"
        if not Path(name).exists():
            raise OSError(errno.ENOENT, ran.stderr[-200:])
        low, high = registers(name)
        return {
            needle: ["registers" if low <= place < high else "core file" for place in places]
            for needle, places in in_file(name, needles).items()
        }


def registers(core: str) -> tuple[int, int]:
    """Return from where to where the notes of a 64-bit core file reach: each thread's registers, vectors included."""
    with open(core, "rb") as file:
        header = file.read(64)
        offset, size, count = (*struct.unpack_from("<Q", header, 32), *struct.unpack_from("<HH", header, 54))
        file.seek(offset)
        for _ in range(count):
            kind, _flags, begin, _address, _physical, length, *_ = struct.unpack_from("<IIQQQQQQ", file.read(size))
            if kind == 4:  # PT_NOTE
                return begin, begin + length
    return 0, 0


@contextmanager
def attached(pid: int) -> Iterator[None]:
    """Stop a process as a debugger does."""
    if LIBC.ptrace(ATTACH, pid, None, None):
        raise OSError(ctypes.get_errno(), "")
    os.waitpid(pid, 0x40000000)  # __WALL
    try:
        yield
    finally:
        LIBC.ptrace(DETACH, pid, None, None)


def page_out(pid: int) -> int:
    """Have the kernel swap out what it can of a process's own memory; returns the bytes that it was asked for."""
    handle, asked = os.pidfd_open(pid), 0
    try:
        for low, high, _ in maps(pid):
            vector = (ctypes.c_ulong * 2)(low, high - low)
            # Locked and secret pages are refused, one by one, and that is the point.
            asked += max(0, LIBC.syscall(PROCESS_MADVISE, handle, vector, ctypes.c_ulong(1), MADV_PAGEOUT, 0))
    finally:
        os.close(handle)
    return asked


def swapped(swap: str, needles: Needles) -> Found:
    """Read the file that the kernel swaps to."""
    found: Found = {}
    descriptor = os.open(swap, os.O_RDONLY)
    # The kernel swaps past the file system: what that still has in its cache is older.
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    add(found, in_file(swap, needles), "swap")
    return found


def maps(pid: int) -> list[Map]:
    """Return the readable mappings: from, to, name."""
    found = []
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        where, rights, *_, name = [*line.split(None, 5), "(anonymous)"][:6]
        low, high = (int(part, 16) for part in where.split("-"))
        if rights.startswith("r") and not name.startswith("[v"):
            found.append((low, high, name.strip()))
    return found


def is_secret(name: str) -> bool:
    return name.startswith("/secretmem")


def in_maps(pid: int, needles: Needles, read: Callable[[int, int], bytes]) -> Found:
    """Search all mappings. Pages that can't be read are passed over one by one: what is beside them still counts."""
    found: Found = {}
    overlap = max(map(len, needles.values())) - 1
    for low, high, name in maps(pid):
        at, before = low, b""
        while at < high:
            size = min(CHUNK, high - at)
            try:
                data = read(at, size)
            except OSError as error:
                if error.errno not in {errno.EIO, errno.EFAULT}:
                    raise
                data = b""
            if not data:
                at, before = at + PAGE, b""
                continue
            for needle, places in in_bytes(before + data, needles, at - len(before)).items():
                found.setdefault(needle, []).extend(f"{place:x} {name}" for place in places)
            at, before = at + len(data), data[-overlap:]
    # An overlap may show a place twice.
    return {needle: sorted(set(places)) for needle, places in found.items()}


def in_file(name: str, needles: Needles) -> dict[str, list[int]]:
    """Return where in a file each needle is."""
    found: dict[str, set[int]] = {}
    overlap = max(map(len, needles.values())) - 1
    with open(name, "rb", buffering=0) as stream:
        at, before = 0, b""
        while data := stream.read(CHUNK):
            for needle, places in in_bytes(before + data, needles, at - len(before)).items():
                found.setdefault(needle, set()).update(places)
            at, before = at + len(data), data[-overlap:]
    return {needle: sorted(places) for needle, places in found.items()}


def in_bytes(data: bytes, needles: Needles, base: int) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for name, needle in needles.items():
        at = data.find(needle)
        while at >= 0:
            found.setdefault(name, []).append(base + at)
            at = data.find(needle, at + 1)
    return found


def add(found: Found, places: dict[str, list[int]], where: str) -> None:
    for needle, some in places.items():
        found.setdefault(needle, []).extend(f"{where} +{place}" for place in some)


def search(pid: int, needles: Needles, ways: list[str]) -> dict[str, Found | str]:
    """Search one process in each way."""
    results: dict[str, Found | str] = {}
    for name in ways or [name for name in WAYS if name not in ASKED_FOR]:
        try:
            results[name] = WAYS[name](pid, needles)
        except OSError as error:
            results[name] = errno.errorcode.get(error.errno or 0, "?")
    return results


def below(pid: int) -> list[int]:
    """Return a process and all that it started, by their ids outside."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += below(int(child))
    return found


def main() -> None:
    order = json.load(sys.stdin)
    needles = {name: bytes.fromhex(text) for name, text in order["needles"].items()}
    signal.alarm(300)
    if swap := order["swap"]:
        for pid in order["pids"]:
            page_out(pid)
        os.sync()
    said: dict[str, dict[str, Found | str]] = {"swap": {"swap": swapped(swap, needles)}} if swap else {}
    said |= {str(pid): search(pid, needles, order["ways"]) for pid in order["pids"]}
    print(json.dumps(said))  # noqa: T201 - its only output


if __name__ == "__main__":
    main()

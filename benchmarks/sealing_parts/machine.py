"""The machine: page cache, heap and load. What makes two samples comparable, and says so where they are not."""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CHUNK: Final = 4 << 20
_CACHESTAT: Final = 451
_QUIET: Final = 0.12
"""The share of all cores that others may use in a sample that counts as undisturbed."""
_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.malloc.restype = ctypes.c_void_p
_libc.malloc.argtypes = [ctypes.c_size_t]
_libc.free.argtypes = [ctypes.c_void_p]

HOT_HEAP: Final = {
    # glibc keeps what was freed and takes nothing by mmap, so that memory once touched stays touched.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(64 << 20),
    "MALLOC_ARENA_MAX": "1",
}


class _CachestatRange(ctypes.Structure):
    _fields_ = (("offset", ctypes.c_uint64), ("length", ctypes.c_uint64))


class _Cachestat(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("cached", "dirty", "writeback", "evicted", "recently"))


def _cached_pages(handle: int, size: int) -> int:
    found = _Cachestat()
    area = _CachestatRange(0, 0)
    if _libc.syscall(_CACHESTAT, handle, ctypes.byref(area), ctypes.byref(found), 0) == 0:
        return int(found.cached)
    # Before Linux 6.5.
    with mmap.mmap(handle, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE) as view:
        pages = -(-size // mmap.PAGESIZE)
        resident = (ctypes.c_ubyte * pages)()
        start = ctypes.c_char.from_buffer(view)
        failed = _libc.mincore(ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(size), resident)
        del start
        if failed:
            raise OSError(ctypes.get_errno(), "neither cachestat nor mincore says what is in the page cache")
        return sum(one & 1 for one in resident)


def cached_share(files: Iterable[Path]) -> float:
    """Return which share of the files' bytes is in the page cache."""
    cached = whole = 0
    for file in files:
        size = file.stat().st_size
        if size:
            handle = os.open(file, os.O_RDWR)
            try:
                cached += _cached_pages(handle, size)
            finally:
                os.close(handle)
            whole += -(-size // mmap.PAGESIZE)
    return cached / whole if whole else 0.0


def warm(files: list[Path]) -> None:
    """Read the files into the page cache.

    :raises RuntimeError: they don't stay there.
    """
    buffer = bytearray(CHUNK)
    for file in files:
        with file.open("rb", buffering=0) as source:
            while source.readinto(buffer):
                pass
    if (share := cached_share(files)) < 0.995:
        raise RuntimeError(f"only {share:.1%} of the file is in the page cache: too little memory")


def evict(files: list[Path], *, attempts: int = 20) -> None:
    """Write the files to the disk and drop them from the page cache.

    :raises RuntimeError: they are still there.
    """
    for _ in range(attempts):
        for file in files:
            handle = os.open(file, os.O_RDWR)
            try:
                os.fsync(handle)
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(handle)
        if (share := cached_share(files)) < 0.001:
            return
        time.sleep(0.05)
    raise RuntimeError(f"{share:.1%} of the file stayed in the page cache")


def disk_speed(file: Path, *, threads: int = 4, block: int = 4 << 20) -> float:
    """Return how many bytes a second the disk gives to reads past the page cache: what no reader can beat."""
    handle = os.open(file, os.O_RDONLY | os.O_DIRECT)
    offsets = iter(range(0, os.fstat(handle).st_size, block))
    lock = threading.Lock()

    def read() -> int:
        done, buffer = 0, mmap.mmap(-1, block)
        while True:
            with lock:
                offset = next(offsets, None)
            if offset is None:
                return done
            done += os.preadv(handle, [buffer], offset)

    began = time.perf_counter()
    try:
        with ThreadPoolExecutor(threads) as pool:
            total = sum(future.result() for future in [pool.submit(read) for _ in range(threads)])
    finally:
        os.close(handle)
    return total / (time.perf_counter() - began)


def touch_heap(size: int) -> None:
    """Make the heap hold `size` bytes of touched, free memory."""
    block = _libc.malloc(size)
    if not block:
        raise MemoryError
    ctypes.memset(block, 1, size)
    _libc.free(block)


def touch_guest(size: int) -> None:
    """Take memory from the machine and give it back.

    A virtual machine's host may have taken freed memory away, and giving it again takes seconds: that's not measured.
    """
    with mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        area.madvise(mmap.MADV_HUGEPAGE)
        start = ctypes.c_char.from_buffer(area)
        ctypes.memset(ctypes.addressof(start), 1, size)
        del start


def reset_peak() -> int:
    """Begin to measure the peak of resident memory; returns what is resident now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status("VmRSS")


def peak() -> int:
    """Return the peak of resident memory since `reset_peak`, in bytes."""
    return _status("VmHWM")


def read_from_disk() -> int:
    """Return how many bytes this process has had read from the disk."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("read_bytes")).split()[1])


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def free_memory() -> int:
    """Return how many bytes of memory nothing uses, not even the page cache."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("MemFree")).split()[1])


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """How much of the machine other programs used, from its making on: user time, and what the host took."""

    at: float
    busy: float
    own: float

    @classmethod
    def start(cls) -> Stopwatch:
        """Begin."""
        words = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()
        user, nice, stolen = (int(words[n]) / os.sysconf("SC_CLK_TCK") for n in (1, 2, 8))
        who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        return cls(time.monotonic(), user + nice + stolen, sum(resource.getrusage(one).ru_utime for one in who))

    def others(self) -> float:
        """Return the share of all cores that others used; for waited-for children only their own part is left out."""
        now = Stopwatch.start()
        spent = (now.busy - self.busy) - (now.own - self.own)
        return max(0.0, spent / max(0.01, now.at - self.at) / (os.cpu_count() or 1))

    def quiet(self) -> bool:
        """Return whether others used so little that a sample counts."""
        return self.others() <= _QUIET


def wait_for_quiet(limit: float) -> float:
    """Wait until others leave the machine alone, at most `limit` seconds; returns how long it took."""
    began = time.monotonic()
    while True:
        watch = Stopwatch.start()
        time.sleep(0.2)
        if watch.quiet() or time.monotonic() - began > limit:
            return time.monotonic() - began

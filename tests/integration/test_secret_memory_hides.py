"""A key in secret memory isn't readable from another process, by root or by a child; and the weaker kind says so."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from strongroom.core.errors import UnavailableError
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes, SecretUseError
from strongroom.walls.adapters import syscalls
from strongroom.walls.adapters.secret_memory import SecretMemoryKind, SecretPage, secret_from

pytestmark = pytest.mark.integration
KEY = bytes(range(32, 64))

# Run as another process (root in most test environments): reads the victim's memory in each way there is.
READER = """
import ctypes, errno, json, os, sys
pid, address, size = map(int, sys.argv[1:4])
libc = ctypes.CDLL(None, use_errno=True)
def by_proc_mem():
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        return memory.read(size)
def by_process_vm_readv():
    data = ctypes.create_string_buffer(size)
    local, remote = (ctypes.c_ulong * 2)(ctypes.addressof(data), size), (ctypes.c_ulong * 2)(address, size)
    if libc.process_vm_readv(pid, local, 1, remote, 1, 0) < 0:
        raise OSError(ctypes.get_errno(), "")
    return data.raw
def by_map_files():
    ranges = [(n, *(int(end, 16) for end in n.split("-"))) for n in os.listdir(f"/proc/{pid}/map_files")]
    names = [name for name, low, high in ranges if low <= address < high]
    if not names:
        raise OSError(errno.ENOENT, "")
    with open(f"/proc/{pid}/map_files/{names[0]}", "rb", buffering=0) as mapped:
        return mapped.read(size)
said = {}
for way in (by_proc_mem, by_process_vm_readv, by_map_files):
    try:
        said[way.__name__] = way().hex()
    except OSError as error:
        said[way.__name__] = errno.errorcode.get(error.errno, "?")
print(json.dumps(said))
"""


def address_of(view: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


def page(kind: SecretMemoryKind) -> SecretPage:
    try:
        return SecretPage.taking(bytearray(KEY), kind=kind)
    except UnavailableError as error:
        pytest.skip(error.message)


def read_from_outside(address: int) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", READER, str(os.getpid()), str(address), str(len(KEY))],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return ran.stdout


def may_read_others() -> bool:
    plain = bytearray(KEY)
    return KEY.hex() in read_from_outside(address_of(memoryview(plain)))


def test_unmapped_memory_is_unreadable_from_outside() -> None:
    secret = page(SecretMemoryKind.UNMAPPED)
    said = read_from_outside(address_of(secret.reveal(TOKEN)))
    assert KEY.hex() not in said
    # Otherwise the line above would prove nothing: the same reader does read ordinary memory.
    if not may_read_others():
        pytest.skip("this process's memory can't be read from outside at all, whatever it holds")


def test_locked_memory_is_readable_and_says_what_it_is() -> None:
    secret = page(SecretMemoryKind.LOCKED)
    assert secret.kind is SecretMemoryKind.LOCKED
    if may_read_others():
        assert KEY.hex() in read_from_outside(address_of(secret.reveal(TOKEN)))


@pytest.mark.parametrize("kind", list(SecretMemoryKind))
def test_a_child_does_not_have_the_secret(kind: SecretMemoryKind) -> None:
    secret = page(kind)
    address = address_of(secret.reveal(TOKEN))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        # Read through the kernel, which answers EFAULT where the page isn't there, instead of dying.
        try:
            os.write(writer, b"R")
            result = ctypes.CDLL(None).write(writer, ctypes.c_void_p(address), len(KEY))
            os._exit(0 if result in {-1, len(KEY)} else 1)
        finally:
            os._exit(2)
    os.close(writer)
    assert os.waitpid(child, 0)[1] == 0
    with os.fdopen(reader, "rb") as pipe:
        seen = pipe.read()
    assert KEY not in seen
    assert bytes(secret.reveal(TOKEN)) == KEY


@pytest.mark.parametrize("kind", list(SecretMemoryKind))
def test_wiped_means_gone(kind: SecretMemoryKind) -> None:
    secret = page(kind)
    late = secret.reveal(TOKEN)
    secret.wipe()
    secret.wipe()
    assert bytes(late) == bytes(len(KEY))
    with pytest.raises(SecretUseError):
        secret.reveal(TOKEN)


def test_the_source_is_zeroed() -> None:
    source = bytearray(KEY)
    with secret_from(source) as secret:
        assert isinstance(secret, SecretBytes)
        assert source == bytes(len(KEY))
        assert bytes(secret.reveal(TOKEN)) == KEY
        assert repr(secret) == "<secret>"


def test_the_source_is_zeroed_when_there_is_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> int:
        raise OSError(12, "cannot allocate memory")

    monkeypatch.setattr(syscalls, "memfd_secret", refuse)
    monkeypatch.setattr(syscalls, "lock_memory", refuse)
    source = bytearray(KEY)
    with pytest.raises(UnavailableError, match="out of swap"):
        secret_from(source)
    assert source == bytes(len(KEY))


def test_falls_back_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise OSError(38, "function not implemented")

    monkeypatch.setattr(syscalls, "memfd_secret", refuse)
    with secret_from(bytearray(KEY)) as secret:
        assert secret.kind is SecretMemoryKind.LOCKED
    with pytest.raises(UnavailableError, match="unmapped secret memory"):
        SecretPage(32, kind=SecretMemoryKind.UNMAPPED)


def test_many_secrets_give_their_memory_back() -> None:
    # Locked memory is scarce: a page that isn't returned would end this loop with a refusal.
    limit, before = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0], locked_kib()
    # Without a limit nothing would be refused; each round takes the kernel a tenth of a second.
    rounds = 8 if limit == resource.RLIM_INFINITY else min(limit // (1 << 20) * 2 + 2, 64)
    for _ in range(rounds):
        SecretPage(1 << 20).wipe()
    assert locked_kib() == before
    for _ in range(rounds):
        SecretPage(1 << 20)  # forgotten instead of wiped
    assert locked_kib() == before
    held = SecretPage(1 << 20)
    assert locked_kib() >= before + 1024, "the count doesn't see what is held"
    held.wipe()


def locked_kib() -> int:
    """Return how much of this process's memory is locked."""
    (line,) = (one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmLck:"))
    return int(line.split()[1])


def test_sizes_are_bounded() -> None:
    for length in (0, -1, (1 << 20) + 1):
        with pytest.raises(UnavailableError):
            SecretPage(length)
    with pytest.raises(UnavailableError):
        secret_from(bytearray())

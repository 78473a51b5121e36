"""An interpreter of classic BPF: what the kernel would answer for one system call under a filter."""

from __future__ import annotations

import struct


def decide(program: bytes, call: int, *arguments: int, arch: int) -> int:
    """Return what the kernel would for one call: the accumulator machine of ``seccomp(2)``'s man page."""
    words = [call, arch, 0, 0]
    for argument in (*arguments, *[0] * (6 - len(arguments))):
        words += [argument & 0xFFFFFFFF, argument >> 32]
    data = struct.pack("<16I", *words)
    code = list(struct.iter_unpack("=HBBI", program))
    at = accumulator = 0
    while True:
        operation, true, false, k = code[at]
        at += 1
        match operation:
            case 0x20:
                accumulator = struct.unpack_from("<I", data, k)[0]
            case 0x54:
                accumulator &= k
            case 0x15:
                at += true if accumulator == k else false
            case 0x35:
                at += true if accumulator >= k else false
            case 0x06:
                return int(k)
            case _:
                raise AssertionError(f"operation {operation:#x}")

"""MRTD of a distribution's firmware, as another project publishes it; and firmware that isn't one for TDX."""

from __future__ import annotations

import gzip
import hashlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.errors import MalformedError, StrongroomError
from strongroom.enclave.vm.firmware_table import guid, table_of
from strongroom.enclave.vm.tdx_digest import mrtd
from support.vectors import vectors_folder

# OVMF.fd of Ubuntu's edk2 2025.02-3ubuntu2, by virtee/tdx-measure (Apache-2.0), tests/fixtures/runtime-capture.
FIRMWARE_SHA256 = "9e807cb2cd4313406a3aa4becc0836671a5c64ca7bdc08a45e15260184b446bf"
MRTD = "7357a10d2e2724dffe68813e3cc4cfcde6814d749f2fb62e3953e54f6e0b50a219786afe2cd478f684b52c61837e1114"
METADATA = guid("e47a6535-984a-4798-865e-4685a7bf8ec2")
FOOTER = guid("96b582de-1fb2-45f7-baea-a366c55a082d")
PAGE = 4096


def test_it_is_the_published_one() -> None:
    firmware = gzip.decompress((vectors_folder("tdx-firmware") / "OVMF.fd.gz").read_bytes())
    assert hashlib.sha256(firmware).hexdigest() == FIRMWARE_SHA256
    assert mrtd(firmware).hex() == MRTD


def section(offset: int, stored: int, address: int, size: int, attributes: int) -> bytes:
    sizes = ((offset, 4), (stored, 4), (address, 8), (size, 8), (0, 4), (attributes, 4))
    return b"".join(value.to_bytes(width, "little") for value, width in sizes)


def made_up(*sections: bytes, magic: bytes = b"TDVF", back: int | None = None) -> bytes:
    """Return one page of code, then what the sections say, then the table of contents."""
    head = magic + b"".join(value.to_bytes(4, "little") for value in (0, 1, len(sections)))
    body = head + b"".join(sections)
    size = 18 + 4 + 18
    where = (len(body) + size + 32 if back is None else back).to_bytes(4, "little")
    table = where + (22).to_bytes(2, "little") + METADATA + size.to_bytes(2, "little") + FOOTER
    return b"c" * PAGE + body + table + bytes(32)


def record(name: bytes, address: int) -> bytes:
    return name.ljust(16, b"\0") + address.to_bytes(8, "little") + bytes(104)


def test_each_page_and_each_measured_part_is_told() -> None:
    later, measured, plain = (
        section(0, 0, 0, PAGE, 2),
        section(0, PAGE, 16 * PAGE, PAGE, 1),
        section(0, 0, PAGE, PAGE, 0),
    )
    wanted = hashlib.sha384(record(b"MEM.PAGE.ADD", 16 * PAGE))
    for at in range(0, PAGE, 256):
        wanted.update(record(b"MR.EXTEND", 16 * PAGE + at) + b"c" * 256)
    wanted.update(record(b"MEM.PAGE.ADD", PAGE))
    assert mrtd(made_up(later, measured, plain)) == wanted.digest()


@pytest.mark.parametrize(
    "firmware",
    [
        b"",
        bytes(PAGE),
        made_up(magic=b"ASEV"),
        made_up(back=0),
        made_up(back=1 << 20),
        made_up(*[section(0, 0, 0, PAGE, 0)] * 65),
        made_up(section(0, 0, 0, 100, 0)),
        made_up(section(0, 0, 100, PAGE, 0)),
        made_up(section(0, 0, 0, 1 << 40, 0)),
        made_up(section(0, 0, (1 << 64) - PAGE, PAGE, 0)),
        made_up(section(0, 0, 0, PAGE, 1)),
        made_up(section(2 * PAGE, PAGE, 0, PAGE, 1)),
    ],
)
def test_other_firmware_is_refused(firmware: bytes) -> None:
    with pytest.raises(MalformedError):
        mrtd(firmware)


@given(st.binary(max_size=300), st.integers(0, 4400), st.integers(0, 255))
def test_reading_firmware_is_total(tail: bytes, at: int, value: int) -> None:
    firmware = bytearray(made_up(section(0, PAGE, 0, PAGE, 1)))
    firmware[at % len(firmware)] = value
    for data in (tail, bytes(firmware)):
        for read in (mrtd, table_of):
            with suppress(StrongroomError):
                read(data)

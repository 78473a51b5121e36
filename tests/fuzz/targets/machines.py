"""Targets around a virtual machine: what it and its launcher say, what its meter is given, and firmware's tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from fuzz.targets.target import Target
from strongroom.core import canonical
from strongroom.enclave.metered import Code, Frame, Kind, Order
from strongroom.enclave.taximeter import Taximeter
from strongroom.enclave.vm.definition import VmImage
from strongroom.enclave.vm.firmware_table import guid
from strongroom.enclave.vm.messages import (
    Booted,
    ForAgent,
    FramesOut,
    FromAgent,
    MeterOpened,
    OrdersIn,
    Output,
    Stopped,
    Stream,
    Vouched,
    hear,
    listen,
    say,
    tell,
)
from strongroom.enclave.vm.tdx_digest import mrtd
from support.logs import GENESIS
from support.odometer_entries import MODEL, REQUEST, USE, odometer_entry
from support.vm_images import files_of, image_of

_GENERATE: Final = Order(kind=Kind.GENERATE, answer=0, most=4, prompt=(1, 2))


def _told() -> Iterable[bytes]:
    booted = Booted(pcrs={4: "00" * 32}, event_log=b"log", milliseconds=7)
    said = (booted, FromAgent({"ask": 1}), Output(Stream.OUT, b"x"), FramesOut(bytes(10)), Stopped())
    return [canonical.encode(tell(one)) for one in said]


def _said() -> Iterable[bytes]:
    said = (ForAgent({"order": {}}), MeterOpened(512), Vouched(b"{}"), OrdersIn(_GENERATE.to_bytes()))
    return [canonical.encode(say(one)) for one in said]


def _meter() -> Taximeter:
    meter = Taximeter(genesis=GENESIS, request=REQUEST, model=MODEL)
    meter.released(USE)
    meter.begin(512)
    return meter


def _ordered(data: bytes) -> object:
    meter = _meter()
    meter.vouch(odometer_entry(1 << 20))
    return meter.ordered(data)


def _spoken(data: bytes) -> object:
    meter = _meter()
    meter.vouch(odometer_entry(1 << 20))
    meter.ordered(_GENERATE.to_bytes())
    return meter.said(data)


def _firmware() -> Iterable[bytes]:
    sizes = ((0, 4), (4096, 4), (0, 8), (4096, 8), (0, 4), (1, 4))
    body = b"TDVF" + bytes(4) + b"".join((1).to_bytes(4, "little") for _ in range(2))
    body += b"".join(value.to_bytes(width, "little") for value, width in sizes)
    table = (len(body) + 72).to_bytes(4, "little") + (22).to_bytes(2, "little")
    table += guid("e47a6535-984a-4798-865e-4685a7bf8ec2") + (40).to_bytes(2, "little")
    return [bytes(4096) + body + table + guid("96b582de-1fb2-45f7-baea-a366c55a082d") + bytes(32)]


MACHINES: Final[Mapping[str, Target]] = MappingProxyType(
    {
        "machine-says": Target(read=lambda data: hear(canonical.decode(data)), seeds=_told),
        "launcher-says": Target(read=lambda data: listen(canonical.decode(data)), seeds=_said),
        "machine-image": Target(read=VmImage.parse, seeds=lambda: [image_of(files_of()).to_bytes()]),
        "meter-entry": Target(
            read=lambda data: _meter().vouch(data), seeds=lambda: [odometer_entry(1 << 20)], changes=100
        ),
        "meter-orders": Target(read=_ordered, seeds=lambda: [_GENERATE.to_bytes()], changes=100),
        "meter-frames": Target(
            read=_spoken,
            seeds=lambda: [
                b"".join(Frame(0, code, code is Code.TOKEN).to_bytes() for code in (Code.TOKEN, Code.STOPPED))
            ],
            changes=100,
        ),
        "tdx-firmware": Target(read=mrtd, seeds=_firmware),
    }
)

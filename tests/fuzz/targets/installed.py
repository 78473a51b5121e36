"""Targets of what is installed: a wheel's RECORD, the bill of materials, the provenance, and what is pinned."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from fuzz.targets.target import Target
from strongroom.core.digest import Digest
from strongroom.intake.installation.bill import Bill, Component, pinned
from strongroom.intake.installation.provenance import Provenance
from strongroom.intake.installation.record import Record

_DIGEST: Final = Digest.of(b"")
_RECORD: Final = b'a/b.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\n"../bin/a",,\na-1.dist-info/RECORD,,\n'


def _bill() -> bytes:
    one = Component(name="click", version="1.0", wheels=(_DIGEST,), record=_DIGEST, tags=("py3-none-any",))
    return Bill(version="1.0", made_at=1_800_000_000, components=(one,)).to_bytes()


def _provenance() -> bytes:
    return Provenance(
        version="1.0", revision="0" * 40, wheel=_DIGEST, bill=_DIGEST, record=_RECORD, tools=("pkg:pypi/pip@1",)
    ).to_bytes()


def _same_bill(data: bytes) -> None:
    if Bill.parse(data).to_bytes() != data:
        raise AssertionError


def _same_provenance(data: bytes) -> None:
    found = Provenance.parse(data)
    if found.to_bytes() != data:
        raise AssertionError
    found.installed  # noqa: B018 - reads the RECORD in it


def _pinned(data: bytes) -> None:
    list(pinned(data.decode("utf-8", errors="replace")))


INSTALLED: Final[Mapping[str, Target]] = MappingProxyType(
    {
        "installed-record": Target(read=Record.parse, seeds=lambda: (_RECORD,), longest=4096),
        "installed-bill": Target(read=_same_bill, seeds=lambda: (_bill(),)),
        "installed-provenance": Target(read=_same_provenance, seeds=lambda: (_provenance(),)),
        "installed-pinned": Target(
            read=_pinned, seeds=lambda: (f"a==1 \\\n    --hash={_DIGEST}\n".encode(),), longest=4096
        ),
    }
)

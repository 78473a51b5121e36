"""Targets of destruction: certificates that are handed around, and what a custodian signs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from fuzz.targets.target import Target
from strongroom.core.digest import Digest
from strongroom.core.ids import ModelId, PersonId
from strongroom.keys.provider import Finality
from strongroom.release.destruction import (
    Certificate,
)
from strongroom.release.destruction_parts import (
    Answered,
    Because,
    Copy,
    Destroyed,
    Exposed,
    Exposure,
    Medium,
    Sealed,
    Step,
)
from strongroom.release.share_statements import ShareDestroyed

_DIGEST: Final = Digest.of(b"")


def sample_certificate() -> Certificate:
    """Return a certificate with something of every kind in it."""
    return Certificate(
        genesis=_DIGEST,
        model=ModelId("atlas"),
        serial=2,
        previous=_DIGEST,
        request=_DIGEST,
        requester=PersonId("dana"),
        approvers=(PersonId("rina"), PersonId("sam")),
        agreed=7,
        agreed_at=1,
        destroyed=9,
        destroyed_at=2,
        kek="0" * 32,
        escrowed=True,
        versions=(Sealed(version=1, manifest=_DIGEST, data_key="1" * 32),),
        versions_left_out=0,
        epoch=Step(index=10, at=3, before=1, after=2),
        epoch_destroyed=11,
        generation=Step(index=12, at=4, before=1, after=2),
        providers=(Destroyed(provider="transit:https://h/t/k?token-file=/t", kept="v2", finality=Finality.SCHEDULED),),
        answered=(Answered(custodian=PersonId("sam"), generation=1, statement=_DIGEST, index=14),),
        exposed=(
            Exposed(
                request=_DIGEST,
                how=Exposure.EXPORT,
                person=PersonId("dana"),
                uses=1,
                first=5,
                first_at=1,
                last=5,
                last_at=1,
            ),
        ),
        exposed_left_out=1,
        not_reachable=(
            Copy(medium=Medium.KEYRINGS, because=Because.ELSEWHERE, generation=1),
            Copy(medium=Medium.BACKUP, because=Because.ELSEWHERE, name=str(_DIGEST), index=3),
        ),
        not_reachable_left_out=0,
        log_size=15,
        log_root=_DIGEST,
        certified_at=5,
    )


def _certificates() -> Iterable[bytes]:
    yield sample_certificate().to_bytes()


def _certificate(data: bytes) -> None:
    assert Certificate.parse(data).to_bytes() == data


def _shares() -> Iterable[bytes]:
    yield ShareDestroyed(genesis=_DIGEST, custodian=PersonId("sam"), generation=1).to_bytes()


def _share(data: bytes) -> None:
    assert ShareDestroyed.parse(data).to_bytes() == data


DESTRUCTIONS: Final[Mapping[str, Target]] = MappingProxyType(
    {
        "destruction-certificate": Target(read=_certificate, seeds=_certificates),
        "share-destroyed": Target(read=_share, seeds=_shares),
    }
)

"""Targets that read what witnesses, their policies and timestamping authorities say."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

from fuzz.targets.target import Target
from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.cosignature import CosignatureKind, Cosigner
from strongroom.audit.note import Note
from strongroom.audit.proof_file import ProofFile
from strongroom.audit.timestamp import read_roots, request_timestamp, verify_timestamp
from strongroom.audit.witness import Submission, judge
from strongroom.audit.witness_policy import WitnessPolicy, check_note
from strongroom.audit.witnessing import read_cosignature
from support.cosigners import LOG_SEED, witness
from support.logs import AT, LOG_KEY, LOG_SIGNER, ORIGIN
from support.timestamping import Authority

_CHECKPOINT: Final = Checkpoint(ORIGIN, 1, b"\x01" * 32)
_ED25519, _ML_DSA = witness(1, CosignatureKind.ED25519), witness(2)
_LOG: Final = Cosigner.of_log(ORIGIN, LOG_SEED)
_POLICY: Final = f"log {LOG_KEY}\nwitness A {_ED25519.key}\nwitness B {_ML_DSA.key}\ngroup G any A B\nquorum G\n"


def _cosigned() -> bytes:
    signers = (_LOG, _ED25519, _ML_DSA)
    lines = (one.cosign(_CHECKPOINT, AT) for one in signers)
    return Note.parse(_CHECKPOINT.sign(LOG_SIGNER)).signed_also(lines).to_bytes()


@lru_cache(maxsize=1)
def _stamped() -> tuple[bytes, bytes]:
    """Return an answer of a real authority over one message, and the authority's root."""
    with tempfile.TemporaryDirectory() as name:
        authority = Authority.found(Path(name) / "tsa")
        request = Path(name) / "one.tsq"
        request.write_bytes(request_timestamp(b"message"))
        return authority.stamp(request).read_bytes(), authority.root.read_bytes()


WITNESSES: Final[Mapping[str, Target]] = MappingProxyType(
    {
        "cosigned-checkpoint": Target(
            read=lambda data: check_note(data, WitnessPolicy.parse(_POLICY.encode()), now=AT),
            seeds=lambda: (_cosigned(),),
            longest=20_000,
        ),
        "witness-policy": Target(read=WitnessPolicy.parse, seeds=lambda: (_POLICY.encode(),), longest=20_000),
        "witness-submission": Target(
            read=lambda data: judge(Submission.parse(data), (LOG_KEY, _LOG.key), None),
            seeds=lambda: (Submission(old=0, proof=(), note=Note.parse(_cosigned())).to_bytes(),),
            longest=20_000,
        ),
        "witness-answer": Target(
            read=lambda data: read_cosignature(data, _CHECKPOINT, _ED25519.key, now=AT),
            seeds=lambda: (_ED25519.cosign(_CHECKPOINT, AT).line().encode(),),
            longest=8192,
        ),
        "proof-file": Target(
            read=ProofFile.parse,
            seeds=lambda: (ProofFile(index=0, hashes=(bytes(32),), checkpoint=_cosigned(), extra=b"more").to_bytes(),),
            longest=20_000,
        ),
        "timestamp": Target(
            read=lambda data: verify_timestamp(data, b"message", read_roots(_stamped()[1]), now=2**33),
            seeds=lambda: (_stamped()[0],),
            longest=8192,
        ),
    }
)

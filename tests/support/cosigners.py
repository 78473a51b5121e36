"""Cosigners with keys made for tests: the log's own, and some witnesses."""

from __future__ import annotations

from typing import Final

from strongroom.audit.cosignature import CosignatureKind, Cosigner

LOG_SEED: Final = b"L" * 32
LOG_COSIGNER: Final = Cosigner.of_log("vault.example/log", LOG_SEED).key.raw
"""The ML-DSA-44 public key of the log whose Ed25519 key has this seed."""


def witness(number: int, kind: CosignatureKind = CosignatureKind.ML_DSA_44) -> Cosigner:
    """Return a witness with a key of its own."""
    return Cosigner.from_seed(f"witness.example/w{number}", kind, bytes([number, kind]) * 16)

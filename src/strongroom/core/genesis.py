"""The genesis: what a deployment's parties pin. Everything signed is checked against it, and names it by its digest."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

from strongroom.core.canonical import decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope, verify
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.signature import MAX_KEY_TEXT, SIGNING_ALGORITHMS, PublicKey, SignatureAlgorithm

MAX_ROOT_KEYS: Final = 16
ML_DSA_44_KEY_BYTES: Final = 1312


@dataclass(frozen=True, slots=True, kw_only=True)
class Genesis:
    """The root of trust of one deployment.

    ``root_keys`` and ``root_threshold`` sign rosters, policies and reference values. ``keeper_key`` signs releases and
    the keeper's log entries, ``log_key`` signs checkpoints of the log called ``log_origin``; what is published of them
    is also cosigned by ``log_cosigner``, an ML-DSA-44 key (1,312 bytes): Ed25519 won't outlast a quantum computer, and
    a log is read for years.
    """

    deployment: str
    created: Instant
    root_keys: tuple[PublicKey, ...]
    root_threshold: int
    keeper_key: PublicKey
    log_origin: str
    log_key: PublicKey
    log_cosigner: bytes

    @classmethod
    def parse(cls, data: bytes) -> Genesis:
        """Read canonical bytes.

        :raises MalformedError: not a genesis, a hybrid key, equal root keys, or a threshold that can't be met.
        """
        with Fields(decode(data, max_bytes=16384), "genesis") as fields:
            fields.constant("v", 1)
            genesis = cls(
                deployment=fields.text("deployment", max_length=64),
                created=fields.instant("created"),
                root_keys=tuple(
                    _holder(text) for text in fields.texts("root_keys", most=MAX_ROOT_KEYS, max_length=MAX_KEY_TEXT)
                ),
                root_threshold=fields.integer("root_threshold", least=1, most=MAX_ROOT_KEYS),
                keeper_key=fields.parsed("keeper_key", _plain, max_length=MAX_KEY_TEXT),
                log_origin=fields.text("log_origin", max_length=128),
                log_key=fields.parsed("log_key", _plain, max_length=MAX_KEY_TEXT),
                log_cosigner=_cosigner(fields.binary("log_cosigner", max_length=ML_DSA_44_KEY_BYTES)),
            )
        if len(set(genesis.root_keys)) != len(genesis.root_keys):
            raise MalformedError("the genesis lists a root key twice")
        if genesis.root_threshold > len(genesis.root_keys):
            raise MalformedError("the genesis asks for more root signatures than it has root keys")
        return genesis

    def to_bytes(self) -> bytes:
        """Return the canonical bytes: what is digested and pinned."""
        return encode(
            {
                "v": 1,
                "deployment": self.deployment,
                "created": format_instant(self.created),
                "root_keys": [str(key) for key in self.root_keys],
                "root_threshold": self.root_threshold,
                "keeper_key": str(self.keeper_key),
                "log_origin": self.log_origin,
                "log_key": str(self.log_key),
                "log_cosigner": to_base64(self.log_cosigner),
            }
        )

    @property
    def digest(self) -> Digest:
        """The deployment's name in every signed object."""
        return _digest(self)

    def verify_root(self, envelope: Envelope, kind: str) -> None:
        """Check that the root quorum signed ``envelope`` as ``kind``.

        :raises SignatureError: wrong type, a bad signature, or too few root keys.
        """
        verify(envelope, kind, self.root_keys, threshold=self.root_threshold)


def _plain(text: str) -> PublicKey:
    # The log's notes and entries hold Ed25519 signatures alone.
    key = PublicKey.parse(text)
    if key.algorithm is not SignatureAlgorithm.ED25519:
        raise MalformedError(
            f"a genesis names keys of keeper and log of the form `{SignatureAlgorithm.ED25519.value}:<base64>` alone"
        )
    return key


def _cosigner(raw: bytes) -> bytes:
    try:
        MLDSA44PublicKey.from_public_bytes(raw)
    except ValueError:
        raise MalformedError(f"`genesis.log_cosigner` is an ML-DSA-44 key of {ML_DSA_44_KEY_BYTES} bytes") from None
    return raw


def _holder(text: str) -> PublicKey:
    # A root holder signs with a wallet's plain key or with a security key.
    key = PublicKey.parse(text)
    if key.algorithm not in SIGNING_ALGORITHMS:
        raise MalformedError(f"a genesis names no root key of the form `{key.algorithm.value}:<base64>`")
    return key


@lru_cache(maxsize=16)
def _digest(genesis: Genesis) -> Digest:
    # Asked for many times in each decision, and always of the same value.
    return Digest.of(genesis.to_bytes())

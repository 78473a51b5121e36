"""Key orders: what the root quorum tells the keeper to do with the deployment's keys, each good once.

Acts on one model's keys are requests, agreed on by the policy's quorum. What concerns all models at once has no model
whose rule could be asked: it takes the quorum that answers for the rules themselves (RAND's SL4-WMO-01).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.access.request import LogHead
from strongroom.core.canonical import decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope, payload_type
from strongroom.core.errors import DeniedError, MalformedError
from strongroom.core.fields import Fields
from strongroom.core.genesis import Genesis
from strongroom.release.ledger import Ledger

KEY_ORDER_TYPE: Final = payload_type("key-order.v1")
MAX_ORDER: Final = 4096
ORDER_SECONDS: Final = 7 * 86_400
"""An order may be carried out for a week at most: one that lies around longer says what its signers no longer know."""
NONCE_BYTES: Final = 16


class KeyAct(StrEnum):
    """What an order may be about."""

    ROTATE_EPOCH = "rotate-epoch"
    """New epoch keys under the same root keys."""
    ROTATE_ROOT = "rotate-root"
    """New root keys, under the same key services."""
    ADOPT_ESCROW = "adopt-escrow"
    RESTORE = "restore"


_WITH_SUBJECT: Final = frozenset({KeyAct.ADOPT_ESCROW, KeyAct.RESTORE})


class KeyOrderRefusedError(DeniedError):
    """The order may not be carried out: another deployment's, its time is over, used before, or signed over a lie."""

    code = "key-order-refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyOrder:
    """One order. ``log`` is the log as whoever made it saw it: the signers see it before they sign."""

    genesis: Digest
    act: KeyAct
    subject: Digest | None
    """What it is about, where an act needs that: the escrow or the backup."""
    nonce: bytes
    log: LogHead
    issued: Instant
    expires: Instant

    @classmethod
    def parse(cls, payload: bytes) -> KeyOrder:
        """Read canonical bytes.

        :raises MalformedError: another form, a subject that the act doesn't have, or good for longer than a week.
        """
        with Fields(decode(payload, max_bytes=MAX_ORDER), "key order") as fields:
            fields.constant("v", 1)
            order = cls(
                genesis=fields.digest("genesis"),
                act=fields.parsed("act", KeyAct),
                subject=fields.digest("subject") if fields.optional("subject") else None,
                nonce=fields.binary("nonce", max_length=NONCE_BYTES),
                log=_log_head(fields.child("log")),
                issued=fields.instant("issued"),
                expires=fields.instant("expires"),
            )
        order._check()
        return order

    def _check(self) -> None:
        if len(self.nonce) != NONCE_BYTES:
            raise MalformedError(f"a key order's nonce has {NONCE_BYTES} bytes")
        if not 0 < self.expires - self.issued <= ORDER_SECONDS:
            raise MalformedError(f"a key order is good for at most {ORDER_SECONDS // 86_400} days")
        if (self.subject is not None) is not (self.act in _WITH_SUBJECT):
            verb = "needs" if self.act in _WITH_SUBJECT else "has no"
            raise MalformedError(f"a key order to `{self.act.value}` {verb} subject")

    def to_bytes(self) -> bytes:
        """Return the canonical bytes: what is shown, digested and signed.

        :raises MalformedError: the members don't fit together, as in :meth:`parse`.
        """
        self._check()
        return encode(
            {
                "v": 1,
                "genesis": str(self.genesis),
                "act": self.act.value,
                "subject": None if self.subject is None else str(self.subject),
                "nonce": to_base64(self.nonce),
                "log": {"size": self.log.size, "root": str(self.log.root)},
                "issued": format_instant(self.issued),
                "expires": format_instant(self.expires),
            }
        )


def examine_order(envelope: Envelope, genesis: Genesis, ledger: Ledger, now: Instant) -> KeyOrder:
    """Check that an order may be carried out now.

    :raises SignatureError: too few root keys signed.
    :raises MalformedError: not a key order.
    :raises KeyOrderRefusedError: it may not be carried out; ``reason`` says why.
    """
    genesis.verify_root(envelope, KEY_ORDER_TYPE)
    order = KeyOrder.parse(envelope.payload)
    if order.genesis != genesis.digest:
        raise KeyOrderRefusedError("the key order belongs to another deployment", reason="other-deployment")
    if not order.issued <= now < order.expires:
        raise KeyOrderRefusedError(
            "the key order isn't good now", reason="order-expired", remedy="make a new one: strongroom key order"
        )
    if order.log.size > ledger.size or order.log.root.value != ledger.root_at(order.log.size):
        # Who signed saw a log that isn't this one's beginning: one of the two was forged or rolled back.
        raise KeyOrderRefusedError(
            f"the order was made over another log of {order.log.size} entries than this one was",
            reason="log-forked",
            remedy="the log was rolled back or another one was shown; treat this as an incident",
        )
    if envelope.digest in ledger.keys.authorities:
        raise KeyOrderRefusedError("the key order was carried out before", reason="order-used")
    return order


def _log_head(fields: Fields) -> LogHead:
    with fields:
        return LogHead(size=fields.integer("size", least=1), root=fields.digest("root"))

"""Key orders as root holders meet them: written by one, shown to and signed by each, checked against what they saw."""

from __future__ import annotations

from typing import Final

from strongroom.access.request import LogHead
from strongroom.client.trust import Prove, StateMismatchError, Trust, check_witnessed
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import DeniedError, UsageError
from strongroom.core.genesis import Genesis
from strongroom.core.signature import PublicKey
from strongroom.keys.wrapping import RandomBytes
from strongroom.release.key_orders import KEY_ORDER_TYPE, NONCE_BYTES, KeyAct, KeyOrder

SAYS: Final = {
    KeyAct.ROTATE_EPOCH: "make new epoch keys, and destroy the ones before",
    KeyAct.ROTATE_ROOT: "make new root keys under the same key services, and new shares for the same custodians",
    KeyAct.ADOPT_ESCROW: "hand shares of the root key to the custodians whom the subject names",
    KeyAct.RESTORE: "RESTORE the deployment from the backup that the subject names",
}


def make_order(
    genesis: Genesis,
    log: LogHead,
    act: KeyAct,
    subject: Digest | None,
    *,
    now: Instant,
    seconds: int,
    random_bytes: RandomBytes,
) -> Envelope:
    """Write an order over the log as whoever writes it sees it, without any signature.

    :raises MalformedError: good for longer than a week, or a subject that the act doesn't have.
    """
    order = KeyOrder(
        genesis=genesis.digest,
        act=act,
        subject=subject,
        nonce=random_bytes(NONCE_BYTES),
        log=log,
        issued=now,
        expires=now + seconds,
    )
    return Envelope(KEY_ORDER_TYPE, order.to_bytes(), ())


def check_order(envelope: Envelope, genesis: Genesis, key: PublicKey, *, now: Instant) -> KeyOrder:
    """Check an order before a root holder signs it. The log that it names is for :func:`check_log` to compare.

    :raises UsageError: something else than an order, or its time is over.
    :raises StateMismatchError: another deployment's.
    :raises DeniedError: the key is no root key.
    """
    if envelope.kind != KEY_ORDER_TYPE:
        raise UsageError("the file holds a signed object of another kind than a key order")
    order = KeyOrder.parse(envelope.payload)
    if order.genesis != genesis.digest:
        raise StateMismatchError("the key order belongs to another deployment than the one pinned in this wallet")
    require_root_key(genesis, key)
    if not order.issued <= now < order.expires:
        raise UsageError("the key order isn't good now", remedy="have a new one written")
    return order


def require_root_key(genesis: Genesis, key: PublicKey) -> None:
    """Check that a key may sign orders.

    :raises DeniedError: it is no root key.
    """
    if key not in genesis.root_keys:
        raise DeniedError("this wallet's key isn't a root key of the deployment", reason="not-a-root-key")


def check_log(order: KeyOrder, trust: Trust, prove: Prove) -> None:
    """Check that the log that an order names is the one that this client sees.

    :raises LogWithheldError: whoever wrote it saw more of the log. :raises ForkError: they saw another log.
    """
    check_witnessed(order.log, trust, prove)


def summary(order: KeyOrder, digest: Digest) -> tuple[str, ...]:
    """Return what a root holder must see before signing."""
    return (
        f"key order: {order.act.value}",
        f"  that is     {SAYS[order.act]}",
        f"  digest      {digest}",
        f"  deployment  {order.genesis}",
        f"  subject     {order.subject or 'none'}",
        f"  log         {order.log.size} entries, {order.log.root}",
        f"  good until  {format_instant(order.expires)}",
    )

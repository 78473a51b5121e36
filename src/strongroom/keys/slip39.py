"""Shamir's shares as words (SLIP-39), by the reference implementation; an extra.

One group, no passphrase, 2 <= threshold <= count <= 16: the plainest use of the scheme, and nothing else is read. So
each share has 33 words. The library takes its randomness from the system and keeps words as Python text, which can't be
wiped. Its arithmetic isn't constant in time: it runs once, in the keeper, when nobody is served yet.

None of the library's errors goes on: their texts repeat words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.constant_time import bytes_eq

from strongroom.core.errors import TamperedError, UsageError
from strongroom.core.extras import need
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.keys.wrapping import KEY_BYTES

EXTRA: Final = "shamir"
MOST_SHARES: Final = 16
LEAST_THRESHOLD: Final = 2
WORDS: Final = 33
PADDED: Final = 320
"""Bytes of a share as it is encrypted. Words have 4 to 8 letters: without padding, its length would tell of them."""
_ITERATIONS: Final = 0
"""SLIP-39's exponent of PBKDF2 rounds, which are for a passphrase. A foreign share could ask for 2^15 times as many."""
_FORM: Final = re.compile(rb"[a-z]{4,8}(?: [a-z]{4,8}){32}")


class ShareError(TamperedError):
    """Words that aren't a share, or shares that don't give a secret. Which word or share was wrong isn't said here."""

    code = "share-refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareFacts:
    """What a share says of itself. Not secret."""

    split: int
    """15 random bits that all shares of one splitting have in common."""
    number: int
    """1 to 16."""
    threshold: int


def split(root: SecretBytes, *, threshold: int, count: int) -> tuple[SecretBytes, ...]:
    """Split 32 bytes into ``count`` shares of words, any ``threshold`` of which give them back. Each is padded.

    Before anything is returned, the shares are put together again: ``count`` times, each time others, so that every
    share has been seen to work.

    :raises UsageError: not 2 <= threshold <= count <= 16.
    :raises MissingExtraError: the library isn't installed.
    :raises ShareError: what was split doesn't come back.
    """
    if not LEAST_THRESHOLD <= threshold <= count <= MOST_SHARES:
        raise UsageError(
            f"{threshold} of {count} shares can't be made",
            remedy=f"at least {LEAST_THRESHOLD} must be needed, of at most {MOST_SHARES}",
            reason="custodian-threshold",
        )
    library = _library()
    secret = bytes(root.reveal(TOKEN))
    (made,) = library.generate_mnemonics(1, [(threshold, count)], secret, iteration_exponent=_ITERATIONS)
    shares = tuple(SecretBytes(bytearray(text.encode().ljust(PADDED))) for text in made)
    for first in range(count):
        with combine([shares[(first + step) % count] for step in range(threshold)]) as again:
            if not bytes_eq(bytes(again.reveal(TOKEN)), secret):
                raise ShareError("the shares of a secret don't give it back")
    return shares


def combine(shares: Sequence[SecretBytes]) -> SecretBytes:
    """Return the 32 bytes that as many shares as their threshold give. SLIP-39's own digest (32 bits) is checked.

    That tells mistakes. It is the keyring, opened with what comes back, that proves the root key.

    :raises ShareError: no shares, too few or too many, twice the same, or of different splittings.
    :raises MissingExtraError: the library isn't installed.
    """
    facts = [read_share(share) for share in shares]
    if len({(one.split, one.threshold) for one in facts}) != 1:
        raise ShareError("the shares come from different splittings", reason="shares-mixed")
    if len({one.number for one in facts}) != len(facts):
        raise ShareError("one share was given twice", reason="share-known")
    if len(facts) != facts[0].threshold:
        raise ShareError(f"{len(facts)} shares are there; {facts[0].threshold} are needed", reason="shares-missing")
    library = _library()
    try:
        found = bytearray(library.combine_mnemonics([_text(share) for share in shares]))
    except library.MnemonicError:
        raise ShareError("the shares don't give a secret: one is wrong, or from another splitting") from None
    return SecretBytes(found)


def read_share(share: SecretBytes) -> ShareFacts:
    """Read what a share says of itself, and check its checksum (RS1024: finds any three wrong words).

    :raises ShareError: words of another form, another kind of share, or a wrong word.
    :raises MissingExtraError: the library isn't installed.
    """
    library = _library()
    try:
        found = library.share.Share.from_mnemonic(_text(share))
    except (library.MnemonicError, ValueError):
        raise ShareError("the words aren't a share: one is wrong, or they stand in another order") from None
    form = (found.group_count, found.group_threshold, found.group_index, found.iteration_exponent, found.extendable)
    # The exponent is looked at before anything is computed with it.
    if (
        form != (1, 1, 0, _ITERATIONS, True)
        or len(found.value) != KEY_BYTES
        or found.member_threshold < LEAST_THRESHOLD
    ):
        raise ShareError("the words are a share of another kind: groups, a passphrase's rounds, or another length")
    return ShareFacts(split=found.identifier, number=found.index + 1, threshold=found.member_threshold)


def padded(words: SecretBytes) -> SecretBytes:
    """Return words, as a person typed them, in the form of :func:`split`: lower case, one space between two.

    :raises ShareError: not 33 words.
    """
    plain = b" ".join(bytes(words.reveal(TOKEN)).lower().split())
    if not _FORM.fullmatch(plain):
        raise ShareError(f"a share has {WORDS} words of 4 to 8 letters")
    return SecretBytes(bytearray(plain.ljust(PADDED)))


def _text(share: SecretBytes) -> str:
    # One spelling for each share: the library would also take capitals and any white space.
    raw = bytes(share.reveal(TOKEN))
    plain = raw.rstrip(b" ")
    if len(raw) != PADDED or not _FORM.fullmatch(plain):
        raise ShareError(f"a share has {WORDS} words of 4 to 8 letters")
    return plain.decode("ascii")


def _library() -> Any:
    return need("shamir_mnemonic", extra=EXTRA)

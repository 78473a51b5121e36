"""Sketches of tensors: 32 bytes for each block of 4,096 elements, by which a copy is known under another name or type.

A sketch is 256 signs of random projections, which a key chooses (SimHash: Charikar, STOC 2002, section 3). Two blocks
at an angle of t radians differ in about 256 t / pi bits, whatever their scale: a cast, a little noise or eight-bit
rounding turn a block by little, and blocks that have nothing in common stand at a right angle. Who hasn't the key can
neither aim at a sketch nor read weights out of one: it says one bit about each of 256 sums that they don't know.

What is found, what isn't and how often chance finds something is in docs/spec/fingerprints.md.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from typing import TYPE_CHECKING, Any, Final

from strongroom.core.errors import MalformedError
from strongroom.core.extras import need
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Sketches = NDArray[np.uint8]

KEY_BYTES: Final = 32
BLOCK: Final = 4096
"""Elements, in the order in which they lie."""
BITS: Final = 256
SKETCH_BYTES: Final = BITS // 8
NEAR: Final = 56
"""Bits in which two sketches of one block may differ. Of pairs that have nothing in common, one in 1e15 is as near."""
MOST_KEPT: Final = 256
"""Sketches of one tensor in a catalogue: of a larger one, of every 2nd, 4th, ... block."""
SPREAD: Final = 16
"""Blocks all over a tensor that a search looks at, and then:"""
RUN: Final = 64
"""the first blocks, so that a piece of a tensor meets one whose sketch was kept."""
_FOLDED: Final = 1024
_CLIP: Final = 4.0
_LIKE_ITSELF: Final = 0.5
_FEWEST: Final = 32
"""Values, as if they were of one size, that hold a block's power: a Gaussian one has 1,365."""
_SMALLEST: Final = 1e-30


class Sketcher:
    """Makes sketches under one key. Needs numpy.

    :raises MalformedError: a key of another length. :raises MissingExtraError: numpy isn't installed.
    """

    __slots__ = ("_np", "_projection", "_signs")

    def __init__(self, key: SecretBytes) -> None:
        if len(key) != KEY_BYTES:
            raise MalformedError(f"a sketch key has {KEY_BYTES} bytes")
        self._np = need("numpy", extra="numpy")
        self._signs = self._random_signs(key, b"signs", BLOCK).reshape(-1, _FOLDED)
        self._projection = self._random_signs(key, b"projection", _FOLDED * BITS).reshape(_FOLDED, BITS)

    def _random_signs(self, key: SecretBytes, use: bytes, count: int) -> Floats:
        """Return +1 and -1, by SHAKE-256 over a subkey: the same with every version of every library."""
        seed = hmac.digest(key.reveal(TOKEN), b"strongroom sketch v1\0" + use, "sha256")
        bits = self._np.frombuffer(hashlib.shake_256(seed).digest(count // 8), dtype="u1")
        signs: Floats = self._np.unpackbits(bits).astype("f4") * 2 - 1
        return signs

    def sketch(self, blocks: Floats) -> Sketches:
        """Return 32 bytes for each row of 4,096 values; zeros for one that is constant, or not finite throughout.

        The rows are left as they are.
        """
        np = self._np
        with np.errstate(all="ignore"):
            # What isn't finite makes the mean so, and is noticed there.
            values = blocks - blocks.mean(axis=1, keepdims=True)
            deviation = np.sqrt(np.einsum("ij,ij->i", values, values) / BLOCK)
            usable = np.isfinite(deviation) & (deviation > _SMALLEST)
            # A few outliers would decide every projection.
            most = np.where(usable, _CLIP * deviation, 0)[:, None].astype("f4")
            values = np.nan_to_num(np.clip(values, -most, most, out=values), copy=False)
            # Four elements under random signs share a sum, a quarter of the work; angles stay within 3 %.
            folded = np.einsum("nkf,kf->nf", values.reshape(len(values), -1, _FOLDED), self._signs)
            sketches: Sketches = np.packbits(folded @ self._projection > 0, axis=1)
        sketches[~usable] = 0
        return sketches

    def sketch_known(self, blocks: Floats) -> Sketches:
        """Return what :meth:`sketch` does, and zeros for a row that repeats itself, or has its power in few values.

        Those are masks and tables of positions: shifted by some number of places they are like themselves, by half of
        their power or more. And identity matrices, which are a one in thousands of zeros. Two models have the same ones
        without being copies; what isn't kept can't be met.
        """
        np = self._np
        sketches = self.sketch(blocks)
        with np.errstate(all="ignore"):
            values = np.nan_to_num(blocks - blocks.mean(axis=1, keepdims=True))
            powers = (values / np.abs(values).max(axis=1, keepdims=True)) ** 2
            few = powers.sum(axis=1) ** 2 < _FEWEST * (powers**2).sum(axis=1)
            spectrum = np.fft.rfft(values, axis=1)
            shifted = np.fft.irfft(spectrum.real**2 + spectrum.imag**2, axis=1)
            repeats = abs(shifted[:, 1 : BLOCK // 2 + 1]).max(axis=1) > _LIKE_ITSELF * shifted[:, 0]
        sketches[repeats | few] = 0
        return sketches


def similarity(bits: float) -> float:
    """Return the cosine of two blocks whose sketches differ in ``bits`` bits: 1 for equal ones, 0 for strangers."""
    return math.cos(math.pi * bits / BITS)


def stride_of(blocks: int) -> int:
    """Return which blocks of a tensor of ``blocks`` are kept: the multiples of this power of two."""
    stride = 1
    while -(-blocks // stride) > MOST_KEPT:
        stride *= 2
    return stride


def spread_over(blocks: int) -> tuple[int, ...]:
    """Return up to 16 blocks, all over a tensor, at multiples of the largest power of two that gives as many as that.

    So each is among the kept ones, however large the tensor is: ``SPREAD`` is less than ``MOST_KEPT``.
    """
    step = 1
    while -(-blocks // step) > SPREAD:
        step *= 2
    return tuple(range(0, blocks, step))


def distances(left: Any, right: Any) -> Any:
    """Return in how many bits rows of two arrays of sketches differ."""
    np = need("numpy", extra="numpy")
    return np.bitwise_count(left.view("u8") ^ right.view("u8")).sum(axis=1)

"""Finds photographs that look alike, whatever their size, format, quality, brightness or side.

Difference hashes find candidates fast; of dusk and sea, whose hashes are few, only those count whose small grey
versions correlate.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

# Grey versions that are compared are squares of this side; alike ones correlate at least so.
_SIDE, _CORRELATION = 16, 0.98
# Pairs after which the search ends: so many say that the set is made of alike pictures, such as frames of a film.
MOST_PAIRS = 100_000
# Photographs that are compared with all others at a time.
_BLOCK = 128


@dataclass(frozen=True)
class Signature:
    """What a photograph is recognised by.

    Attributes:
        hash: difference hash, 64 bits.
        mirrored_hash: that of its mirror image.
        grey: small grey version, (16, 16) float32 of mean 0 and length 1.
    """

    hash: int
    mirrored_hash: int
    grey: np.ndarray


def signature(picture: Image.Image) -> Signature:
    """Make out what a photograph is recognised by.

    Args:
        picture: any size, mode RGB; a small version will do.

    Source: Krawetz, "Kind of like that", 2013 (dHash: where brightness falls from left to right).
    """
    brightness = picture.convert("L")
    coarse = np.asarray(brightness.resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    grey = np.asarray(brightness.resize((_SIDE, _SIDE), Image.Resampling.BOX), dtype=np.float32)
    grey = grey - grey.mean()
    return Signature(_falling(coarse), _falling(coarse[:, ::-1]), grey / max(np.linalg.norm(grey), 1e-6))


def _falling(grey: np.ndarray) -> int:
    return int.from_bytes(np.packbits(grey[:, :-1] > grey[:, 1:]).tobytes(), "big")


def alike(signatures: list[Signature], distance: int = 8) -> list[tuple[int, int]]:
    """Find the pairs of photographs that look alike, one of them perhaps mirrored.

    Every pair is compared; a plain picture is like no other.

    Args:
        signatures: of the photographs.
        distance: bits of 64 in which hashes of candidates may differ.

    Returns:
        Pairs (i, j) with i < j, in order; the search ends at about `MOST_PAIRS`.
    """
    hashes = np.array([one.hash for one in signatures], dtype=np.uint64)
    mirrored = np.array([one.mirrored_hash for one in signatures], dtype=np.uint64)
    pairs = []
    for start in range(0, len(hashes), _BLOCK):
        block = hashes[start : start + _BLOCK, None]
        bits = np.bitwise_count(block ^ hashes[start:])
        np.minimum(bits, np.bitwise_count(block ^ mirrored[start:]), out=bits)
        candidates = zip(*(start + np.nonzero(bits <= distance)[side] for side in (0, 1)), strict=True)
        pairs += [(int(i), int(j)) for i, j in candidates if i < j and _correlate(signatures[i], signatures[j])]
        if len(pairs) >= MOST_PAIRS:
            break
    return pairs


def _correlate(one: Signature, other: Signature) -> bool:
    straight, mirrored = (one.grey * other.grey).sum(), (one.grey * other.grey[:, ::-1]).sum()
    return max(straight, mirrored) >= _CORRELATION

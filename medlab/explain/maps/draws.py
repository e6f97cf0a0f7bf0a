"""Draws: chance that belongs to a case, wherever it stands among others.

In: the image of a case and a seed. Out: a generator of random numbers.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def generator_of(image: NDArray[np.float32], seed: int, *numbers: int) -> np.random.Generator:
    """Random numbers that depend on the image's own values and ``seed``: the same alone and in any batch.

    Equal images draw the same; different ones draw independently, so that their mean is that of independent cases.

    Args:
        image: (i, j[, k], c) of one case.
        seed: 0 or above.
        numbers: 0 or above, where one case needs several generators.
    """
    own = hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest()
    return np.random.default_rng((seed, int.from_bytes(own, "little"), *numbers))

"""What a model was shown: how alike a molecule is to the nearest one that it learned from.

Needs no RDKit: fingerprints come in packed, eight places to a byte (`fingerprints.packed`).
Shapes: N molecules asked about, M known, P bytes.
"""

import zlib
from base64 import b64decode, b64encode
from functools import cached_property
from typing import Any

import numpy as np
from pydantic import Field

from medray.spec.base import Section

Array = np.ndarray[Any, Any]

_AT_ONCE = 256  # molecules compared with all that are known


class Known(Section):
    """Fingerprints of the molecules a model learned from, small enough to travel with it.

    packed  base64 of the zlib-compressed (M, P) bytes.
    """

    molecules: int = Field(ge=0)
    packed: str

    @classmethod
    def of(cls, packed_MP: Array) -> "Known":
        """Keep some fingerprints."""
        data = zlib.compress(np.ascontiguousarray(packed_MP, np.uint8).tobytes(), 9)
        return cls(molecules=len(packed_MP), packed=b64encode(data).decode("ascii"))

    @cached_property
    def _bits_MF(self) -> Array:
        data = zlib.decompress(b64decode(self.packed))
        packed_MP = np.frombuffer(data, np.uint8).reshape(self.molecules, -1)
        return np.unpackbits(packed_MP, axis=1)

    def nearest(self, asked_NP: Array) -> Array:
        """Greatest Tanimoto similarity (N,) float32 to any of them; 0 where none is known.

        Two molecules without a single surrounding are alike.
        """
        best = np.zeros(len(asked_NP), np.float32)
        if not self.molecules:
            return best
        # whole numbers up to the places of a fingerprint are exact in float32
        known_MF = self._bits_MF.astype(np.float32)
        size_M = known_MF.sum(axis=1)
        for at in range(0, len(asked_NP), _AT_ONCE):
            asked_NF = np.unpackbits(asked_NP[at : at + _AT_ONCE], axis=1).astype(np.float32)
            both_NM = asked_NF @ known_MF.T
            either_NM = asked_NF.sum(axis=1)[:, None] + size_M - both_NM
            alike_NM = np.ones_like(both_NM)
            np.divide(both_NM, either_NM, out=alike_NM, where=either_NM > 0)
            best[at : at + _AT_ONCE] = alike_NM.max(axis=1)
        return best

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

from medray.molecules.metrics.similarity import nearest
from medray.spec.base import Section

Array = np.ndarray[Any, Any]


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
    def _packed_MP(self) -> Array:
        data = zlib.decompress(b64decode(self.packed))
        return np.frombuffer(data, np.uint8).reshape(self.molecules, -1)

    def nearest(self, asked_NP: Array) -> Array:
        """Greatest Tanimoto similarity (N,) float32 to any of them; 0 where none is known."""
        if not self.molecules:
            return np.zeros(len(asked_NP), np.float32)
        return nearest(asked_NP, self._packed_MP).astype(np.float32)

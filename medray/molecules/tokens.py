"""Molecules as sequences of tokens: SMILES as they are, or SELFIES, where every sequence is valid.

SMILES: an atom in brackets, a two-letter atom, a ring number of two digits, or one character, is a
token (Daylight's grammar). SELFIES: Krenn et al. 2020, Mach. Learn.: Sci. Technol. 1:045024.
Shapes: N molecules, T tokens of the longest with its end.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np

from medray.errors import Code, RejectError
from medray.spec.base import Section

Array = np.ndarray[Any, Any]
Notation = Literal["smiles", "selfies"]

PAD, START, END, UNKNOWN = range(4)
SPECIAL = 4

_SMILES = re.compile(r"\[[^\]]+\]|Br|Cl|%\d{2}|.")
_SELFIES = re.compile(r"\[[^\]]+\]|\.")


def split(smiles: str, notation: Notation) -> list[str]:
    """Tokens of a molecule. Raises RejectError for one that SELFIES cannot write."""
    if notation == "smiles":
        return _SMILES.findall(smiles)
    import selfies

    try:
        return _SELFIES.findall(selfies.encoder(smiles))
    except selfies.EncoderError:
        raise RejectError(Code.INVALID_STRUCTURE, "SELFIES cannot write it") from None


class Vocabulary(Section):
    """The tokens a model knows, ids from `SPECIAL` on; all others are UNKNOWN."""

    notation: Notation
    tokens: tuple[str, ...]
    longest: int

    @property
    def size(self) -> int:
        """Ids, the special ones included."""
        return SPECIAL + len(self.tokens)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {token: SPECIAL + index for index, token in enumerate(self.tokens)}

    def encode(self, smiles: Sequence[str]) -> Array:
        """Ids (N, T) int16: tokens, END, then PAD. What cannot be written is one UNKNOWN."""
        rows = [self._row(one) for one in smiles]
        ids_NT = np.full((len(rows), max(map(len, rows), default=1)), PAD, np.int16)
        for place, row in enumerate(rows):
            ids_NT[place, : len(row)] = row
        return ids_NT

    def _row(self, smiles: str) -> list[int]:
        try:
            tokens = split(smiles, self.notation)
        except RejectError:
            return [UNKNOWN, END]
        return [*(self._ids.get(token, UNKNOWN) for token in tokens), END]

    def decode(self, ids_NT: Array) -> list[str]:
        """SMILES of sequences of ids, each up to its END; one without END is cut at T."""
        return [self._text(row) for row in ids_NT.tolist()]

    def _text(self, row: list[int]) -> str:
        end = row.index(END) if END in row else len(row)
        text = "".join(self.tokens[one - SPECIAL] for one in row[:end] if one >= SPECIAL)
        if self.notation == "smiles":
            return text
        import selfies

        return str(selfies.decoder(text) or "")


def count(smiles: Iterable[str], notation: Notation) -> tuple[dict[str, int], int]:
    """Molecules that hold each token, and the tokens of the longest molecule."""
    counts: Counter[str] = Counter()
    longest = 0
    for one in smiles:
        try:
            tokens = split(one, notation)
        except RejectError:
            continue
        counts.update(set(tokens))
        longest = max(longest, len(tokens))
    return dict(counts), longest


def learn(
    counts: dict[str, int], longest: int, notation: Notation, min_molecules: int
) -> Vocabulary:
    """Tokens of at least so many molecules, in the order of the alphabet."""
    kept = sorted(token for token, molecules in counts.items() if molecules >= min_molecules)
    return Vocabulary(notation=notation, tokens=tuple(kept), longest=longest)

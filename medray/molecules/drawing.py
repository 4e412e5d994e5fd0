"""Molecules as pictures: plain, or with what each atom added to an answer. Needs RDKit.

Shapes: A atoms.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rdkit import Chem
from rdkit.Chem.Draw import rdMolDraw2D

Array = np.ndarray[Any, Any]
chem: Any = Chem
draw: Any = rdMolDraw2D

# Orange adds, blue takes away: told apart without colour vision, too (Okabe and Ito 2008).
_ADDS, _TAKES = (0.90, 0.62, 0.0), (0.34, 0.71, 0.91)
_LEAST = 0.05  # of the greatest part: below it an atom stays plain


def svg(smiles: str, credit_A: Array | None = None, size: tuple[int, int] = (320, 240)) -> str:
    """A molecule as an SVG document, atoms coloured by what they added: orange, or took: blue.

    credit_A  in any unit, NaN nowhere; the greatest part has the full colour.
    """
    return _drawn(draw.MolDraw2DSVG(*size), smiles, credit_A)


def png(smiles: str, credit_A: Array | None = None, size: tuple[int, int] = (320, 240)) -> bytes:
    """`svg` as a PNG."""
    return _drawn(draw.MolDraw2DCairo(*size), smiles, credit_A)


def _drawn(canvas: Any, smiles: str, credit_A: Array | None) -> Any:
    mol = chem.MolFromSmiles(smiles)
    colours: dict[int, tuple[float, ...]] = {}
    if credit_A is not None:
        colours = _colours(credit_A.tolist())
    canvas.drawOptions().useBWAtomPalette()
    canvas.drawOptions().fillHighlights = True
    draw.PrepareAndDrawMolecule(
        canvas,
        mol,
        highlightAtoms=list(colours),
        highlightAtomColors=colours,
        highlightBonds=[],
    )
    canvas.FinishDrawing()
    return canvas.GetDrawingText()


def _colours(credit: Sequence[float]) -> dict[int, tuple[float, ...]]:
    """Colour of each atom that has a part worth showing, from white to full."""
    greatest = max((abs(one) for one in credit), default=0.0)
    if not greatest > 0:
        return {}
    found: dict[int, tuple[float, ...]] = {}
    for atom, one in enumerate(credit):
        strength = abs(one) / greatest
        if strength >= _LEAST:
            full = _ADDS if one > 0 else _TAKES
            found[atom] = tuple(1 - strength * (1 - part) for part in full)
    return found

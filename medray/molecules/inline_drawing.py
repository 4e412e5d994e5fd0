"""A molecule as a small <svg>: RDKit's drawing without what a page of hundreds need not repeat.

RDKit writes a styled path for every bond and a text for every letter; here lines are one path,
wedges another, and colours and sizes are left to the page (`.molecule` in its styles), so that a
structure reads in light and in dark and takes 2 KB instead of 12. Needs RDKit.
"""

import re
from typing import Any

from rdkit import Chem
from rdkit.Chem.Draw import rdMolDraw2D

drawing: Any = rdMolDraw2D

WIDTH, HEIGHT = 220, 150
_FONT, _BOND = 10, 24  # px
_PATH = re.compile(r"<path (?:class='[^']*' )?d='([^']*)' style='([^']*)'")
_TEXT = re.compile(r"<text x='([^']*)' y='([^']*)'[^>]*?style='font-size:(\d+)px[^>]*>([^<]*)<")
_NUMBER = re.compile(r"-?\d+\.\d+")
_SPACE = re.compile(r"\s*([MLQZ])\s*")


def molecule_svg(smiles: str, label: str) -> str:
    """An <svg> of class `molecule` that is drawn in the page's own colours.

    label  what is read out in its place. Raises ValueError for a text that is no molecule.
    """
    molecule: Any = Chem.MolFromSmiles(smiles)
    if molecule is None:
        raise ValueError("this is no SMILES")
    canvas = drawing.MolDraw2DSVG(WIDTH, HEIGHT, -1, -1, True)  # letters as text, not as paths
    options = canvas.drawOptions()
    options.useBWAtomPalette()
    options.clearBackground = False
    options.fixedFontSize = _FONT
    options.fixedBondLength = _BOND  # at most: what would not fit is drawn smaller
    drawing.PrepareAndDrawMolecule(canvas, molecule)
    canvas.FinishDrawing()
    return _compact(str(canvas.GetDrawingText()), label)


def _compact(text: str, label: str) -> str:
    """The paths and letters of RDKit's SVG, joined, without their styles."""
    lines, wedges = list[str](), list[str]()
    for path, style in _PATH.findall(text):
        (lines if "fill:none" in style else wedges).append(_short(path))
    letters = "".join(
        f'<text x="{_round(x)}" y="{_round(y)}"{_size(int(size))}>{letter}</text>'
        for x, y, size, letter in _TEXT.findall(text)
    )
    solid = f'<path class="wedge" d="{"".join(wedges)}"/>' if wedges else ""
    said = label.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return (
        f'<svg class="molecule" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{said}">'
        f'<path d="{"".join(lines)}"/>{solid}{letters}</svg>'
    )


def _size(size: int) -> str:
    """Indices and charges are smaller than atoms."""
    return ' class="index"' if size < _FONT - 2 else ""


def _short(path: str) -> str:
    return _SPACE.sub(r"\1", _NUMBER.sub(lambda found: _round(found[0]), path)).strip()


def _round(number: str) -> str:
    return f"{float(number):.1f}".removesuffix(".0")

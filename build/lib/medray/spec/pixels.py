"""How stored pixels become the array a model sees: the `pixels:` section of a spec.

Part of a package, because scoring must repeat it to the bit.
"""

from typing import Literal

from pydantic import Field

from medray.spec.base import Section


class WindowIndex(Section):
    """One of the file's own VOI windows or VOI LUTs, by index (PS3.3 C.11.2)."""

    index: int = Field(ge=0)


class FixedWindow(Section):
    """The same window for every file, in modality units (e.g. a CT brain window 40/80 HU)."""

    center: float
    width: float = Field(gt=0)
    function: Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"] = "LINEAR"  # PS3.3 C.11.2.1.2-3


class PixelSpec(Section):
    """Pixels as a model sees them.

    window  `file`: the file's first VOI LUT or window, else its full range; `none`: modality
            values (Hounsfield units, …) untouched by VOI and by MONOCHROME1 inversion;
            `{index: n}` or `{center, width}`: that one.
    size    rows, columns after resizing by area; absent: as stored.
    fit     `stretch` to size, or `pad` with the darkest value to keep the aspect ratio.
    channels 1: colour becomes luminance (ITU-R BT.601); 3: grey is repeated; absent: as stored.
    """

    item: Literal["frame", "instance"] = "frame"
    window: Literal["file", "none"] | WindowIndex | FixedWindow = "file"
    size: tuple[int, int] | None = None
    fit: Literal["stretch", "pad"] = "stretch"
    channels: Literal[1, 3] | None = 1

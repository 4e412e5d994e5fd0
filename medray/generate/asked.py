"""What is asked of a generation. Its hash names the work: a killed run goes on with the same."""

from typing import Literal

from pydantic import Field

from medray.spec.base import Section

Format = Literal["csv", "sdf"]


class Asked(Section):
    """A number of new molecules, and what they must be.

    count            distinct molecules wanted.
    way              how they are drawn: one of the package's ways; absent: its first.
    temperature      of the decoder: below 1 more usual molecules, above 1 odder ones.
    filters          those that a medicinal chemistry filter (MCF, PAINS, elements, charges, rings)
                     holds something against are left out.
    unlike_training  those whose most similar molecule of `train` is this similar or more are left
                     out (Tanimoto); 1 leaves out what `train` holds.
    by, lowest       the column they are ranked by, and from which end; absent: as suits the column.
    formats          files beside the table.
    """

    count: int = Field(default=30_000, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**31)
    way: str | None = None
    temperature: float = Field(default=1.0, gt=0)
    filters: bool = True
    unlike_training: float | None = Field(default=None, gt=0, le=1)
    by: str = "QED"
    lowest: bool | None = None
    formats: tuple[Format, ...] = ("csv", "sdf")

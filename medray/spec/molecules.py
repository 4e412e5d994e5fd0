"""Where molecules come from and how they are brought into one form: the `molecules:` section."""

from typing import Any, Literal

from pydantic import Field, field_validator

from medray.spec.base import Section


class StandardSpec(Section):
    """How a structure is brought into standard form, and what is refused.

    largest_fragment  salts and solvents are left off; the largest organic part stays.
    neutralise        charges are balanced by adding or removing hydrogens, where that can be.
    stereo            `keep` stereochemistry or `drop` it.
    metals            a structure that holds a metal after that: `reject` (code `metal`) or `keep`.
    max_heavy_atoms   larger structures are refused (`too_many_atoms`): no small molecule.
    """

    largest_fragment: bool = True
    neutralise: bool = True
    stereo: Literal["keep", "drop"] = "keep"
    metals: Literal["reject", "keep"] = "reject"
    max_heavy_atoms: int = Field(default=150, ge=1)


class MoleculeSource(Section):
    """Files of molecules.

    path     CSV or Parquet tables, .smi (SMILES, space, name) or SDF files, .gz of them, or folders
             of these; local, s3:// or gs:// (one or several).
    smiles   tables: the column that holds the SMILES.
    columns  tables and SDF: columns (properties) to keep; absent: all others.
    split    all of them stand in this split, whatever `split` says.
    name     what reports call them; absent: the first path's file name without its ending.
    """

    path: tuple[str, ...]
    smiles: str = "smiles"
    columns: tuple[str, ...] | None = None
    split: Literal["train", "tuning", "held_out"] | None = None
    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.-]{1,32}$")

    @field_validator("path", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class MoleculesSpec(Section):
    """From files of molecules to a dataset.

    duplicates    the same standard form once more is refused (`duplicate_molecule`); `merge`: what
                  it knows is added to the first (of numbers that differ the mean; of a column of
                  nothing but 0 and 1 nothing then), `first`: only the first counts.
    reject_limit  rejected share of the rows above which the run ends with exit code 3; duplicates
                  are not counted.
    rows_per_task rows that one task brings into standard form; more are lost when it is killed.
    """

    sources: tuple[MoleculeSource, ...] = Field(min_length=1)
    standard: StandardSpec = StandardSpec()
    duplicates: Literal["merge", "first"] = "merge"
    reject_limit: float = Field(default=0.05, ge=0, le=1)
    rows_per_task: int = Field(default=20_000, ge=1)

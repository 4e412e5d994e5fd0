"""What a generation has to say: counts, means, where everything lies."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class GenerateSummary(BaseModel):
    """One run of `generate`.

    wanted, kept   molecules asked for, and given; `short`: fewer were found before it gave up.
    drawn … alike  what became of the draws: see `picked.Counts`; `spare`: good ones that were not
                   needed.
    means          mean of every property and score over the molecules; `train_means`: of properties
                   over a sample of `train`.
    of_training    the molecules were compared with what the package learned from; False: with
                   another dataset; None: with nothing.
    resumed        draws that an interrupted run had made.
    seconds        of this call; molecules_per_s: kept ones, of those it made itself.
    files          what lies where.
    """

    model_config = ConfigDict(frozen=True)

    identity: str
    package: str
    way: str
    seed: int
    temperature: float
    toxicity: tuple[str, ...] = ()
    wanted: int
    kept: int
    short: bool
    drawn: int
    valid: int
    refused: dict[str, int]
    distinct: int
    novel: int | None
    alerts: int
    filtered: bool
    alike: int
    spare: int
    means: dict[str, float | None]
    train_means: dict[str, float]
    of_training: bool | None
    resumed: int
    seconds: float
    molecules_per_s: float
    files: dict[str, str]
    already_done: bool = False

    def headline(self) -> str:
        """One line for people."""
        again = "already made: " if self.already_done else ""
        short = f" of {self.wanted:,} wanted" if self.short else ""
        qed = self.means.get("QED")
        mean = "" if qed is None else f", mean QED {qed:.3f}"
        return f"{again}{self.kept:,} molecules{short} by {self.package} ({self.way}){mean}"

    def to_dict(self) -> dict[str, Any]:
        """Facts for people."""
        share = {
            "valid": f"{self.valid:,} of {self.drawn:,} drawn ({self.valid / self.drawn:.1%})",
            "distinct": f"{self.distinct:,}",
        }
        if self.novel is not None:
            where = "train" if self.of_training else "the dataset"
            share["novel"] = f"{self.novel:,} of these are not in {where}"
        if self.alerts:
            kind = "left out" if self.filtered else "kept"
            share["medicinal chemistry alerts"] = f"{self.alerts:,}, {kind}"
        facts = {
            "refused": self.refused,
            "too similar to train": self.alike,
            "means": self.means,
            "means of train": self.train_means,
            "draws resumed": self.resumed,
            "seconds": self.seconds,
            "molecules_per_s": self.molecules_per_s,
        }
        return share | facts | self.files

"""How a package that makes molecules is moved toward wanted ones: the `reinforce:` section."""

from typing import Literal, Self

from pydantic import Field, model_validator

from medray.spec.base import Section


class RewardSpec(Section):
    """One wish, worth 0 to 1 for each molecule (desirability: Derringer & Suich 1980).

    of          a property computed of the molecule; or
    package     folder of a package of predictors, and `target`: which of its targets; or
    similar_to  SMILES: the similarity to the nearest of them (Tanimoto, Morgan radius 2).
    better      `higher`: worth 0 at `low`, 1 at `high`; `lower`: the other way round; `between`:
                worth 1 from `low` to `high`, falling to 0 within their distance outside.
    weight      share among the wishes.
    """

    of: Literal["QED", "SA", "logP", "weight"] | None = None
    package: str | None = None
    target: str | None = None
    similar_to: tuple[str, ...] = ()
    better: Literal["higher", "lower", "between"] = "higher"
    low: float = 0.0
    high: float = 1.0
    weight: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _one_wish(self) -> Self:
        if sum(map(bool, (self.of, self.package, self.similar_to))) != 1:
            raise ValueError("a reward is of one of `of`, `package` and `similar_to`")
        if (self.package is None) != (self.target is None):
            raise ValueError("`target` says what of `package` is wanted")
        if not self.low < self.high:
            raise ValueError("`low` is below `high`")
        return self

    @property
    def name(self) -> str:
        """What history and reports call it."""
        return self.of or self.target or "similarity"


class ReinforceSpec(Section):
    """Policy gradient on the language model of a package, on a leash to what it was.

    package       the package to start from; it stays as it is.
    rewards       what is wanted; the reward of a molecule is their weighted mean.
    way           how latents are drawn; absent: the package's first way.
    steps         updates, of `batch_size` molecules each.
    lr            of Adam.
    leash         reward per nat: what a molecule costs that the prior would write less often. The
                  greater, the nearer the new package stays to the old one.
    per_scaffold  molecules of one scaffold that are rewarded (0: any number). Those after get
                  nothing, nor does a molecule that stands in the batch before: a find is not to be
                  repeated for ever.
    filters       a molecule that medicinal chemistry filters hold something against gets nothing.
    keep_steps    updates between checkpoints; a killed run repeats at most so many.
    """

    package: str
    rewards: tuple[RewardSpec, ...] = Field(min_length=1)
    way: str | None = None
    steps: int = Field(default=200, ge=1)
    batch_size: int = Field(default=128, ge=4)
    lr: float = Field(default=1e-4, gt=0)
    leash: float = Field(default=0.03, ge=0)
    per_scaffold: int = Field(default=25, ge=0)
    filters: bool = True
    keep_steps: int = Field(default=10, ge=1)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [one.name for one in self.rewards]
        if len(set(names)) != len(names):
            raise ValueError("two rewards have one name, so that they cannot be told apart")
        return self

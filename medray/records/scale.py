"""How a measured value is brought to mean 0 and standard deviation 1, and back."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from medray.spec.base import Section

Array = NDArray[Any]


class Scale(Section):
    """Mean and standard deviation of a code's values in `train`, after a logarithm where it helps.

    transform  `log`: log(1 + x), for values that are not negative and skewed.
    """

    transform: Literal["linear", "log"] = "linear"
    mean: float = 0.0
    std: float = Field(default=1.0, gt=0)

    def standard(self, values: Array) -> Array:
        """Values of the source in standard deviations; what a logarithm has not is taken as 0."""
        if self.transform == "log":
            values = np.log1p(np.maximum(values, 0))
        return (values - self.mean) / self.std

    def back(self, standard: Array) -> Array:
        """Standard deviations in the source's unit."""
        plain = np.asarray(standard, np.float64) * self.std + self.mean
        return np.maximum(np.expm1(plain), 0.0) if self.transform == "log" else plain

"""ChemNet: the network whose activations the Fréchet ChemNet distance compares.

Architecture and weights are those of fcd_torch (MIT), converted from Mayr et al., Chem. Sci. 2018;
Preuer et al., J. Chem. Inf. Model. 2018;58:1736.

Shapes: B molecules of a block, T = 350 places, V = 35 symbols, D = 512 activations.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fcd_torch
import numpy as np
import torch
from fcd_torch.utils import get_one_hot, load_imported_model
from numpy.typing import NDArray

from medray.errors import UsageError

ACTIVATIONS = 512
_PLACES, _SYMBOLS = 350, 35
_WEIGHTS = "ChemNet_v0.13_pretrained.pt"
_BLOCK = 256


class ChemNet:
    """The network with its weights, on a device: cpu or cuda.

    Raises UsageError for a GPU that is not there.
    """

    def __init__(self, device: str = "cpu") -> None:
        if device != "cpu" and not torch.cuda.is_available():
            raise UsageError("this machine has no CUDA device", remedy="use device cpu")
        path = Path(str(fcd_torch.__file__)).parent / _WEIGHTS
        layers: Any = torch.load(path, map_location="cpu", weights_only=True)
        self._device = torch.device(device)
        self._network: torch.nn.Module = load_imported_model(layers).eval().to(self._device)

    def activations(self, smiles: Sequence[str]) -> NDArray[np.float32]:
        """Activations (N, D) of canonical SMILES, in blocks.

        What follows the 349th symbol is not read.
        """
        blocks = [smiles[at : at + _BLOCK] for at in range(0, len(smiles), _BLOCK)]
        found = [self._block(block) for block in blocks]
        return np.concatenate(found) if found else np.empty((0, ACTIVATIONS), np.float32)

    @torch.inference_mode()
    def _block(self, smiles: Sequence[str]) -> NDArray[np.float32]:
        x_BTV = np.zeros((len(smiles), _PLACES, _SYMBOLS), np.float32)
        for row, one in zip(x_BTV, smiles, strict=True):
            row[:] = get_one_hot(one, _PLACES) / _SYMBOLS
        x_BVT = torch.from_numpy(x_BTV).to(self._device).transpose(1, 2)
        return self._network(x_BVT).float().cpu().numpy()

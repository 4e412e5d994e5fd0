"""medray: medical deep learning on Ray, from a hospital's archive to the bedside."""

__version__ = "0.1.0"

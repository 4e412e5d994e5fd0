"""Synthetic chest radiographs from a simple physical model.

Monoenergetic X-rays cross a body of soft tissue, lung and bone (Beer-Lambert); a share of them
scatters, quanta are counted (Poisson), and the detector stores the negative logarithm, as a DX
image "for presentation" does. Half of the patients with a finding have one, the rest several
nodules of soft tissue in a lung. The pictures teach a network something; they are no medicine.

Legend: H rows, W columns; thicknesses in cm, attenuation in 1/cm.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

Image = np.ndarray[Any, np.dtype[np.float64]]

# Linear attenuation near 60 keV: water-like tissue, inflated lung, cortical bone (NIST XCOM).
MU_TISSUE = 0.205
MU_LUNG = 0.055
MU_BONE = 0.55


@dataclass(frozen=True, slots=True)
class Anatomy:
    """One patient's build, drawn once and kept over follow-up images. Lengths in cm."""

    female: bool
    age_years: int
    width: float
    thickness: float
    lung_height: float
    heart_radius: float
    rib_phase: float
    nodules: tuple[tuple[float, float, float], ...]  # x, y, radius


def draw_anatomy(rng: np.random.Generator, finding: bool) -> Anatomy:
    """A patient; with `finding`, one to three masses of 1.5 to 3 cm radius in the lungs."""
    female = bool(rng.random() < 0.5)
    age = int(rng.integers(18, 92))
    width = rng.normal(15.5 if female else 17.0, 0.9)
    count = int(rng.choice([1, 2, 3], p=[0.5, 0.3, 0.2])) if finding else 0
    nodules = tuple(
        (
            float(rng.choice([-1, 1]) * rng.uniform(4.5, 8.0)),
            float(rng.uniform(-7.0, 5.0)),
            float(rng.uniform(1.5, 3.0)),
        )
        for _ in range(count)
    )
    return Anatomy(
        female=female,
        age_years=age,
        width=float(width),
        thickness=float(rng.normal(19.0 if female else 21.0, 1.5)),
        lung_height=float(rng.normal(10.5, 0.8)),
        heart_radius=float(rng.normal(4.2 + age * 0.01, 0.4)),
        rib_phase=float(rng.uniform(0, 1.8)),
        nodules=nodules,
    )


def radiograph(
    anatomy: Anatomy, rng: np.random.Generator, size: int = 128, photons: float = 4000.0
) -> Image:
    """A picture (H, W) of `size`², attenuation in 0..1 of the detector's range; 1 is densest.

    Position, dose and scatter vary from exposure to exposure.
    """
    y_HW, x_HW = np.mgrid[-19 : 19 : size * 1j, -19 : 19 : size * 1j]
    x_HW = x_HW - rng.normal(0, 0.6)
    y_HW = y_HW - rng.normal(0, 0.6)
    path_HW = _attenuation(anatomy, x_HW, y_HW)
    primary_HW = np.exp(-path_HW)
    scatter_share = rng.uniform(0.15, 0.35)
    scattered_HW = gaussian_filter(primary_HW, size / 12)
    fluence_HW = (1 - scatter_share) * primary_HW + scatter_share * scattered_HW
    dose = photons * rng.uniform(0.7, 1.3) / 0.02
    counts_HW = rng.poisson(fluence_HW * dose).astype(np.float64)
    log_HW = -np.log(np.maximum(counts_HW, 1.0) / dose)
    return np.clip(log_HW / 6.0, 0.0, 1.0)


def _attenuation(anatomy: Anatomy, x_HW: Image, y_HW: Image) -> Image:
    """Line integral of the attenuation along the beam (H, W), no unit."""
    a = anatomy
    body = _chord(x_HW / a.width, y_HW / 24.0) * a.thickness
    path = MU_TISSUE * body
    for side in (-1, 1):
        lung = _chord((x_HW - side * 6.6) / 4.6, (y_HW + 1.0) / a.lung_height)
        path += (MU_LUNG - MU_TISSUE) * lung * a.thickness * 0.62
    heart = _chord((x_HW - 1.6) / a.heart_radius, (y_HW - 4.5) / (a.heart_radius * 1.15))
    path += (MU_TISSUE - MU_LUNG) * heart * 5.0
    path += MU_BONE * np.exp(-((x_HW / 1.3) ** 2)) * 1.6  # spine
    for rib in range(8):
        centre = -11.0 + a.rib_phase + rib * 2.6
        arc = y_HW - centre - 0.035 * x_HW**2
        path += MU_BONE * 0.45 * np.exp(-((arc / 0.32) ** 2)) * (body > 0)
    for x, y, radius in a.nodules:
        path += (
            (MU_TISSUE - MU_LUNG) * _chord((x_HW - x) / radius, (y_HW - y) / radius) * (2 * radius)
        )
    return path


def _chord(u_HW: Image, v_HW: Image) -> Image:
    """Length of the beam in a unit ellipsoid, 0..1 of its full depth."""
    return np.sqrt(np.maximum(0.0, 1.0 - u_HW**2 - v_HW**2))

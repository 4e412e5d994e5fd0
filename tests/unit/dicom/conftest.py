"""Fixtures of the DICOM tests."""

import numpy as np
import pytest
from dicom_builders import IDS

from medray.dicom.write import write_instance


@pytest.fixture
def ramp():
    """(16,24) uint16 of 12 bits: every value differs from its neighbours."""
    return (np.arange(16 * 24) * 10).astype(np.uint16).reshape(16, 24)


@pytest.fixture
def write():
    """write_instance with fixed identifiers."""
    return lambda pixels, **more: write_instance(pixels, **{**IDS, **more})

"""Datasets: of images, of timelines or of molecules. `open_dataset` finds out which."""

from medray.dataset.columns import label_arrays
from medray.dataset.images import (
    Dataset,
    DatasetMeta,
    read_meta,
    to_columns,
    write_meta,
)
from medray.dataset.leaks import check_leaks
from medray.dataset.molecules import MoleculesDataset, MoleculesMeta
from medray.dataset.open import AnyDataset, open_any, open_dataset
from medray.dataset.records import RecordsDataset, RecordsMeta

__all__ = [
    "AnyDataset",
    "Dataset",
    "DatasetMeta",
    "MoleculesDataset",
    "MoleculesMeta",
    "RecordsDataset",
    "RecordsMeta",
    "check_leaks",
    "label_arrays",
    "open_any",
    "open_dataset",
    "read_meta",
    "to_columns",
    "write_meta",
]

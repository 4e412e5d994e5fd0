"""Which kind of dataset lies in a folder."""

from medray import storage
from medray.dataset.images import Dataset, read_meta
from medray.dataset.molecules import MoleculesDataset, read_molecules_meta
from medray.dataset.records import RecordsDataset, read_records_meta
from medray.errors import DataError

AnyDataset = Dataset | RecordsDataset | MoleculesDataset


def open_any(uri: str) -> AnyDataset:
    """Open a dataset by its own folder or by the run's output folder.

    Raises DataError where none lies, or where its ingest has not finished.
    """
    for place in (storage.absolute(uri), storage.join(storage.absolute(uri), "dataset")):
        records = read_records_meta(place)
        if records is not None:
            return RecordsDataset(place, records)
        molecules = read_molecules_meta(place)
        if molecules is not None:
            return MoleculesDataset(place, molecules)
        meta = read_meta(place)
        if meta is None:
            continue
        if meta.labels_sha256 is None:
            raise DataError("this dataset's ingest has not finished", remedy="run ingest again")
        return Dataset(place, meta)
    raise DataError(
        "there is no dataset here", remedy="run `medray ingest` first, or name another folder"
    )


def open_dataset(uri: str) -> Dataset:
    """`open_any` for images. Raises DataError for a dataset of another kind, too."""
    dataset = open_any(uri)
    if isinstance(dataset, Dataset):
        return dataset
    kind = dataset.meta.kind
    raise DataError(f"this is a dataset of {kind}, not of images", remedy="see `medray workloads`")

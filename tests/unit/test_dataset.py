"""Reading what ingest published."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from medray import storage
from medray.dataset import Dataset, DatasetMeta, open_dataset, to_columns, write_meta
from medray.errors import DataError
from medray.schema import IMAGES
from medray.spec.pixels import PixelSpec

SPLITS = ("train", "train", "held_out", "tuning", None, "train")


def meta(**changes: Any) -> DatasetMeta:
    values: dict[str, Any] = {
        "name": "d",
        "pixels": PixelSpec(),
        "columns": (),
        "subject": "patient_id",
        "ingest_sha256": "0",
        "key_check": "k",
        "labels_sha256": "l",
    }
    return DatasetMeta(**values | changes)


def picture(number: int, shape: tuple[int, ...] = (2, 3), dtype: str = "uint8") -> dict[str, Any]:
    array = np.full(shape, number, dtype)
    return {
        "item_id": f"i{number}#0",
        "subject_id": f"s{number // 2}",
        "study_id": f"t{number}",
        "file_id": f"f{number}",
        "frame": 0,
        "pixels": array.tobytes(),
        "shape": list(shape),
        "dtype": dtype,
        "pixels_sha256": f"h{number}",
        "spacing_mm": [0.5, 0.5],
    }


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """Six items in two files that are in no order."""
    for name, numbers in (("one", (5, 0, 3)), ("two", (4, 2, 1))):
        part = str(tmp_path / "dataset" / "images" / f"{name}.parquet")
        table = pa.Table.from_pylist([picture(n) for n in numbers], schema=IMAGES)
        storage.write_parquet(part, table, no_dictionary=("pixels",))
        storage.publish(str(tmp_path / "dataset" / "images"), IMAGES, [part], name, 1)
    labels = pa.table(
        {
            "item_id": [f"i{n}#0" for n in range(6)],
            "subject_id": [f"s{n // 2}" for n in range(6)],
            "study_id": [f"t{n}" for n in range(6)],
            "split": list(SPLITS),
            "grade": pa.array([0, 1, None, 1, 0, 1]),
            "ill": pa.array([True, None, False, True, True, True]),
            "site": pa.array(["A", None, "A", "B", "B", "A"]),
        }
    )
    storage.replace_table(str(tmp_path / "dataset" / "labels"), labels, "one", 1)
    write_meta(str(tmp_path / "dataset"), meta())
    return str(tmp_path)


def test_open_by_either_folder_and_say_when_there_is_none(uri: str, tmp_path: Path) -> None:
    assert open_dataset(uri).meta == open_dataset(f"{uri}/dataset").meta
    with pytest.raises(DataError, match="no dataset here"):
        open_dataset(f"{uri}/dataset/images")
    write_meta(f"{uri}/dataset", meta(labels_sha256=None))
    with pytest.raises(DataError, match="not finished"):
        open_dataset(uri)
    storage.write_atomic(str(tmp_path / "dataset" / "dataset.json"), b"{}")
    with pytest.raises(DataError, match=r"dataset\.json cannot be read"):
        open_dataset(uri)


def test_counts_and_bytes(uri: str) -> None:
    dataset = open_dataset(uri)
    assert dataset.counts() == {
        "train": {"items": 3, "subjects": 2, "studies": 3},
        "tuning": {"items": 1, "subjects": 1, "studies": 1},
        "held_out": {"items": 1, "subjects": 1, "studies": 1},
    }
    assert dataset.nbytes("train") == 3 * 6


def test_a_split_is_read_whole_and_in_order(uri: str) -> None:
    columns = open_dataset(uri).read("train")
    assert list(columns["item_id"]) == ["i0#0", "i1#0", "i5#0"]
    assert columns["pixels"].shape == (3, 2, 3)
    assert columns["pixels"].dtype == np.uint8
    assert columns["pixels"].flags.writeable
    assert columns["pixels"][:, 0, 0].tolist() == [0, 1, 5]
    np.testing.assert_array_equal(columns["grade"], [0.0, 1.0, 1.0])
    np.testing.assert_array_equal(columns["ill"], [1.0, np.nan, 1.0])
    assert list(columns["site"]) == ["A", None, "A"]
    assert "pixels" not in open_dataset(uri).read("train", pixels=False)
    with pytest.raises(DataError, match="no split 'test'"):
        open_dataset(uri).read("test")


def test_a_streamed_batch_holds_one_split_and_its_labels(uri: str) -> None:
    dataset = open_dataset(uri)
    whole = dataset.read("train")
    batches = [
        to_columns(storage.read_parquet([file], IMAGES), dataset.columns("train"))
        for file in dataset.image_files()
    ]
    order = np.argsort(np.concatenate([batch["item_id"] for batch in batches]))
    for name, values in whole.items():
        streamed = np.concatenate([batch[name] for batch in batches])[order]
        np.testing.assert_array_equal(streamed, values)


def test_without_labels_all_rows_are_taken() -> None:
    table = pa.Table.from_pylist([picture(1), picture(2)], schema=IMAGES)
    columns = to_columns(table)
    assert columns["pixels"].shape == (2, 2, 3)
    assert list(columns["item_id"]) == ["i1#0", "i2#0"]
    assert to_columns(table.slice(0, 0))["pixels"].shape[0] == 0


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (picture(2, (3, 3)), "2×3 uint8, 3×3 uint8"),
        (picture(2, dtype="int16"), "2×3 int16, 2×3 uint8"),
    ],
)
def test_items_that_differ_are_named(other: dict[str, Any], said: str) -> None:
    table = pa.Table.from_pylist([picture(1), other], schema=IMAGES)
    with pytest.raises(DataError, match=said):
        to_columns(table)


def test_shapes_that_differ_between_files_are_named(uri: str) -> None:
    part = f"{uri}/dataset/images/three.parquet"
    table = pa.Table.from_pylist([picture(9, (4, 4))], schema=IMAGES)
    storage.write_parquet(part, table)
    storage.publish(f"{uri}/dataset/images", IMAGES, [part], "three", 1)
    labels = storage.read_table(f"{uri}/dataset/labels")
    more = labels.slice(0, 1).set_column(0, "item_id", pa.array(["i9#0"]))
    storage.replace_table(f"{uri}/dataset/labels", pa.concat_tables([labels, more]), "two", 1)
    with pytest.raises(DataError, match="differ in shape"):
        open_dataset(uri).read("train")


def test_a_label_without_pixels_is_an_error(uri: str) -> None:
    labels = storage.read_table(f"{uri}/dataset/labels")
    more = labels.slice(0, 1).set_column(0, "item_id", pa.array(["gone#0"]))
    storage.replace_table(f"{uri}/dataset/labels", pa.concat_tables([labels, more]), "two", 1)
    with pytest.raises(DataError, match="1 labelled items have no pixels"):
        open_dataset(uri).read("train")


def test_the_fingerprint_follows_content_not_layout(uri: str) -> None:
    before = open_dataset(uri).fingerprint()
    assert Dataset(f"{uri}/dataset", meta(name="other")).fingerprint() == before
    sized = meta(pixels=PixelSpec(size=(8, 8)))
    assert Dataset(f"{uri}/dataset", sized).fingerprint() != before
    labels = storage.read_table(f"{uri}/dataset/labels")
    storage.replace_table(f"{uri}/dataset/labels", labels.take([5, 4, 3, 2, 1, 0]), "two", 1)
    assert open_dataset(uri).fingerprint() == before
    changed = labels.set_column(4, "grade", pa.array([0, 1, None, 1, 0, 0]))
    storage.replace_table(f"{uri}/dataset/labels", changed, "three", 1)
    assert open_dataset(uri).fingerprint() != before

"""A spec guessed from a label table: recognised, or refused with what to do."""

from pathlib import Path

import pytest

from medray.demo.own import own_spec
from medray.errors import UsageError


def table(folder: Path, header: str, rows: list[str]) -> str:
    file = folder / "labels.csv"
    file.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return str(file)


def test_key_label_and_split_are_read_off_the_header(tmp_path: Path) -> None:
    rows = [f"1.2.{i},P{i},{i % 2},{'train' if i % 3 else 'tuning'}" for i in range(30)]
    labels = table(tmp_path, "StudyInstanceUID,patient_id,malignant,split", rows)
    spec = own_spec(tmp_path / "out", "scans", labels)
    assert spec.ingest is not None
    join = spec.ingest.tables[0]
    assert (join.on, join.key) == ("study_instance_uid", "StudyInstanceUID")
    assert spec.params["label"] == "malignant"
    assert spec.params["task"] == "binary"
    assert spec.split.column == "split"


def test_words_become_classes(tmp_path: Path) -> None:
    rows = [f"P{i},{'benign' if i % 2 else 'malignant'}" for i in range(30)]
    spec = own_spec(tmp_path / "out", "scans", table(tmp_path, "Patient ID,finding", rows))
    assert spec.params["task"] == "multiclass"
    assert spec.params["classes"] == ["benign", "malignant"]
    assert spec.split.column is None


def test_without_labels_the_class_folders_are_learned(tmp_path: Path) -> None:
    assert own_spec(tmp_path, "tree", None).params["label"] == "class_folder"


@pytest.mark.parametrize(
    ("header", "rows", "said"),
    [
        ("id,label", [f"{i},{i % 2}" for i in range(30)], "names what a row belongs to"),
        ("patient_id,age", [f"P{i},{i}" for i in range(30)], "looks like a label"),
    ],
)
def test_what_cannot_be_recognised_is_refused(
    tmp_path: Path, header: str, rows: list[str], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        own_spec(tmp_path, "scans", table(tmp_path, header, rows))
    with pytest.raises(UsageError, match="no label table"):
        own_spec(tmp_path, "scans", str(tmp_path / "none.csv"))

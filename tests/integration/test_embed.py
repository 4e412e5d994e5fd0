"""Image and record in one model: what a network sees in scans stands in patients' timelines."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medray import api
from medray.dataset import open_any, open_dataset
from medray.dicom.write import EXPLICIT_LE, write_instance
from medray.embedding import projected
from medray.errors import DataError, LeakError, OutputConflictError, PackageError, UsageError
from medray.ingest.shards import number_of_pseudonym
from medray.score.predictor import Predictor
from medray.spec.models import RunSpec, SplitSpec
from tests.timelines import HEADER, records_spec, write_csv, write_outcomes

PATIENTS = 160


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan per patient, bright in those who die; a record that says nothing of it; a package."""
    root = tmp_path_factory.mktemp("embed")
    rng = np.random.default_rng(0)
    died = {f"p{number:03d}": int(rng.random() < 0.5) for number in range(PATIENTS)}
    archive, rows, events = root / "archive", [], []
    archive.mkdir()
    for number, (name, ill) in enumerate(died.items()):
        uid = f"2.25.1{number:06d}"
        pixels = np.clip(rng.normal(140 if ill else 100, 25, (24, 24)), 0, 255).astype(np.uint8)
        data = write_instance(
            pixels,
            sop_instance_uid=uid,
            study_instance_uid=f"2.25.2{number:06d}",
            series_instance_uid=f"2.25.3{number:06d}",
            patient_id=name,
            transfer_syntax_uid=EXPLICIT_LE,
        )
        (archive / f"{number}.dcm").write_bytes(data)
        # the first has no date; of every other patient the scan came after the prediction
        date = "" if not number else ("20200105" if number % 10 else "2020-03-01T08:00:00")
        rows.append((uid, date, ill))
        events += [(name, f"2020-01-{day:02d}", "HR", f"{rng.normal(80, 9):.1f}") for day in (2, 9)]
    write_csv(root / "scans.csv", rows, ("sop_instance_uid", "taken", "bright"))
    write_csv(root / "events/all.csv", events, HEADER)
    write_outcomes(root / "outcomes.csv", died)
    imaging = RunSpec.model_validate(
        {
            "name": "bright",
            "output": str(root / "imaging"),
            "ingest": {
                "archive": [str(archive)],
                "pixels": {"window": "none", "size": [24, 24]},
                "tables": [{"path": str(root / "scans.csv"), "on": "sop_instance_uid"}],
            },
            "params": {"network": "conv3", "width": 0.25, "label": "bright"},
            "train": {"epochs": 4, "batch_size": 16, "optimizer": {"lr": 3e-3}},
        }
    )
    api.ingest(imaging)
    api.train(imaging)
    return root


def embed(root: Path, out: str = "scans.parquet", **changes: Any) -> Any:
    asked: dict[str, Any] = {
        "package": str(root / "imaging/package"),
        "dataset": str(root / "imaging/dataset"),
        "time": "taken",
        "out": str(root / out),
        "dimensions": 8,
    }
    return api.embed(**{**asked, **changes})


def fused(root: Path, output: str, scans: str | None) -> RunSpec:
    spec = records_spec(root, output=str(root / output))
    source = spec["records"]["sources"][0] | {"static": []}
    source |= {"time": "hours", "time_unit": "timestamp"}
    more = {"format": "long", "path": str(root / scans), "pseudonyms": True} if scans else None
    spec["records"]["sources"] = [source, *([more] if more else [])]
    spec["params"] |= {"predict_at": {"days": [10]}}
    spec["train"] |= {"epochs": 30, "keep": "last"}
    spec["split"] = {"fractions": {"train": 0.5, "tuning": 0.1, "held_out": 0.4}}
    return RunSpec.model_validate(spec)


def auroc(root: Path, output: str, scans: str | None) -> float:
    spec = fused(root, output, scans)
    api.ingest(spec)
    api.train(spec)
    (result,) = api.evaluate(spec).report.targets
    return float(result.auroc.value)


def test_scans_become_events_at_their_time(root: Path) -> None:
    found = embed(root)
    assert (found.scans, found.without_time, found.dimensions) == (PATIENTS - 1, 1, 8)
    table = pq.read_table(root / "scans.parquet")
    assert table.num_rows == found.events == (PATIENTS - 1) * 8
    times = set(table["time"].cast(pa.date32()).to_pylist())
    assert {str(day) for day in times} == {"2020-01-05", "2020-03-01"}
    again = (root / "scans.parquet").read_bytes()
    embed(root)
    assert (root / "scans.parquet").read_bytes() == again
    assert b"p001" not in again


def test_a_scan_says_the_same_alone_and_in_a_batch(root: Path) -> None:
    predictor = Predictor(str(root / "imaging/package"))
    pixels = open_dataset(str(root / "imaging/dataset")).read("train")["pixels"][:40]
    batch = predictor.embed({"pixels": pixels})
    np.testing.assert_array_equal(predictor.embed({"pixels": pixels[7:8]})[0], batch[7])


def test_image_and_record_in_one_model(root: Path) -> None:
    embed(root)
    alone, both = auroc(root, "alone", None), auroc(root, "both", "scans.parquet")
    assert alone < 0.7
    assert both > 0.8


def test_nobody_whose_scan_was_learned_from_is_held_out(root: Path) -> None:
    """Or a network that knows its patients by heart would tell the label of those held out."""
    embed(root)
    spec = fused(root, "kept", "scans.parquet")
    summary = api.ingest(spec)
    assert "keep the split of their scans" in summary.split_by
    images = open_dataset(str(root / "imaging/dataset")).labels().to_pylist()
    dated = {row["subject_id"]: row["split"] for row in images if row["taken"]}
    kept = open_any(str(root / "kept")).labels()
    found = dict(zip(kept["subject_id"].to_pylist(), kept["split"].to_pylist(), strict=True))
    for name, split in dated.items():
        assert found[str(number_of_pseudonym(name))] == split
    with pytest.raises(LeakError, match="folds would hold out"):
        api.crossval(spec.model_copy(update={"split": SplitSpec(folds=2)}))


def test_a_column_that_tears_scans_and_records_apart_is_a_leak(root: Path) -> None:
    embed(root)
    names = [f"p{number:03d}" for number in range(PATIENTS)]
    parts = ["held_out" if number % 2 else "train" for number in range(PATIENTS)]
    write_csv(root / "parts.csv", list(zip(names, parts, strict=True)), ("stay", "part"))
    spec = fused(root, "torn", "scans.parquet").model_dump(mode="json")
    spec["records"]["tables"].append({"path": str(root / "parts.csv"), "key": "stay"})
    spec["split"] = {"column": "part"}
    with pytest.raises(LeakError, match=r"learned from the scans of \d+ patients"):
        api.ingest(RunSpec.model_validate(spec))


def test_a_night_without_the_scans_is_refused(root: Path) -> None:
    if not (root / "both/package").exists():
        auroc(root, "both", "scans.parquet")
    spec = fused(root, "both", "scans.parquet").model_dump(mode="json")
    tables = [one for one in spec["records"]["sources"] if not one["pseudonyms"]]
    spec["score"] = {"records": {"sources": tables}}
    with pytest.raises(UsageError, match="the package reads scans"):
        api.score(RunSpec.model_validate(spec))


def test_what_cannot_be_embedded_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no column 'when'"):
        embed(root, time="when")
    write_csv(root / "mine.csv", [("a", "b")], ("x", "y"))
    with pytest.raises(OutputConflictError, match="not one that `medray embed` made"):
        embed(root, out="mine.csv")
    write_csv(root / "names.csv", [("p001", "2020-01-03", "X", "1")], HEADER)
    with pytest.raises(OutputConflictError, match="pseudonym key"):
        api.ingest(fused(root, "other", "names.csv"))
    embed(root)
    monkeypatch.setenv("MEDRAY_KEY_FILE", str(root / "another.key"))
    with pytest.raises(OutputConflictError, match="another pseudonym key"):
        embed(root)
    with pytest.raises(OutputConflictError, match="not made with this pseudonym key"):
        api.ingest(fused(root, "stranger", "scans.parquet"))


def test_only_packages_of_images_embed(root: Path) -> None:
    package = root / "both/package"
    if not package.exists():
        auroc(root, "both", "scans.parquet")
    with pytest.raises(PackageError, match="not of images"):
        embed(root, package=str(package))


def test_a_projection_keeps_distances_and_learns_nothing() -> None:
    vectors = np.random.default_rng(3).normal(size=(60, 512))
    found = projected(vectors, 32)
    assert found.shape == (60, 32)
    np.testing.assert_array_equal(projected(vectors[5:6], 32), found[5:6])
    before = np.linalg.norm(vectors[:30] - vectors[30:], axis=1)
    after = np.linalg.norm(found[:30] - found[30:], axis=1)
    assert abs(np.mean(after / before) - 1) < 0.05
    assert np.std(after / before) < 0.2
    np.testing.assert_array_equal(projected(vectors[:, :8], 32), vectors[:, :8].astype(np.float32))


def test_names_are_no_pseudonyms() -> None:
    assert number_of_pseudonym("ff" * 16) == 2**63 - 1
    with pytest.raises(DataError, match="something else"):
        number_of_pseudonym("Jane Doe")

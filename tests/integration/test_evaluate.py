"""A package and a dataset become a report: numbers against scikit-learn, refusals, openings."""

import hashlib
import json
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn import metrics as oracle

from medray import storage
from medray.api import evaluate
from medray.calibration import fit_calibration
from medray.dataset import DatasetMeta, open_dataset, write_meta
from medray.errors import DataError, LeakError, PackageError
from medray.package import forward, load_modules, open_package, write_package
from medray.schema import IMAGES
from medray.spec.models import RunSpec
from medray.spec.pixels import PixelSpec
from medray.workloads import WORKLOADS

IMAGING = WORKLOADS["imaging"]
SIZE = 16
SPLITS = ["train"] * 24 + ["tuning"] * 40 + ["held_out"] * 60
N = len(SPLITS)
TASKS = {
    "binary": {"task": "binary", "label": "bright", "network": "conv3"},
    "multilabel": {"task": "multilabel", "labels": ["bright", "rare"], "network": "conv3"},
    "multiclass": {
        "task": "multiclass",
        "label": "kind",
        "classes": ["a", "b", "c"],
        "network": "conv3",
    },
}


def pictures():
    """(N, H, W) noise, the first half brighter by a little."""
    rng = np.random.default_rng(0)
    level = np.arange(N) % 2
    noise = rng.integers(0, 120, (N, SIZE, SIZE)) + 40 * level[:, None, None]
    return noise.astype(np.uint8), level


def make_dataset(folder, split=SPLITS, bright=None, subjects=None, copies=()):
    """An ingested dataset; `copies`: pairs of rows whose pictures are the same."""
    pixels, level = pictures()
    for a, b in copies:
        pixels[a] = pixels[b]
    rows = range(N)
    ids = [f"{i:032x}" for i in rows]
    subjects = subjects or [f"{i // 2:032d}" for i in rows]
    images = pa.table(
        {
            "item_id": ids,
            "subject_id": subjects,
            "study_id": subjects,
            "file_id": ids,
            "frame": pa.array([0] * N, pa.int32()),
            "pixels": [picture.tobytes() for picture in pixels],
            "shape": pa.array([[SIZE, SIZE]] * N, pa.list_(pa.int32())),
            "dtype": ["uint8"] * N,
            "pixels_sha256": [hashlib.sha256(p.tobytes()).hexdigest() for p in pixels],
            "spacing_mm": pa.array([None] * N, pa.list_(pa.float64())),
        },
        schema=IMAGES,
    )
    labels = pa.table(
        {
            "item_id": ids,
            "subject_id": subjects,
            "study_id": subjects,
            "split": pa.array(split, pa.string()),
            "bright": pa.array(level if bright is None else bright, pa.int64()),
            "rare": pa.array([i // 2 % 2 if i < 64 else 0 for i in range(N)], pa.int64()),
            "kind": [("a", "b", "c")[i % 3] if i % 7 else None for i in rows],
            "PatientSex": ["F" if i // 2 % 2 else "M" for i in rows],
            "PatientAge": [f"{20 + i // 2 % 60:03d}Y" for i in rows],
            "Manufacturer": ["Rare" if i in (70, 71, 72) else "Acme" for i in rows],
        }
    )
    uri = str(folder / "run" / "dataset")
    storage.replace_table(storage.join(uri, "images"), images, "test", 1)
    storage.replace_table(storage.join(uri, "labels"), labels, "test", 1)
    meta = DatasetMeta(
        name="squares",
        pixels=PixelSpec(size=(SIZE, SIZE)),
        columns=(),
        subject="patient_id",
        ingest_sha256="0" * 64,
        key_check="0",
        labels_sha256="0" * 64,
    )
    write_meta(uri, meta)
    return open_dataset(uri)


def make_spec(folder, task, **more):
    return RunSpec.model_validate(
        {
            "name": "squares",
            "output": str(folder / "run"),
            "params": TASKS[task],
            "ingest": {"archive": "archive", "pixels": {"size": [SIZE, SIZE]}},
            "evaluate": {"replicates": 100, "prevalence": 0.1, "mistakes": 3},
            **more,
        }
    )


def make_package(spec, dataset):
    """A package of random weights, calibrated on tuning."""
    params = IMAGING.params_model.model_validate(spec.params)
    train = dataset.read("train") if dataset.counts()["train"]["items"] else dataset.read("tuning")
    fitted = IMAGING.fit(IMAGING.summarize(train, params), params)
    torch.manual_seed(1)
    modules = IMAGING.build_modules(params, fitted)
    for module in modules.values():
        module.eval()
    tuning = dataset.read("tuning")
    logits = forward(IMAGING, modules, tuning, params, fitted, torch.device("cpu"))
    write_package(
        storage.join(spec.output_uri, "package"),
        spec=spec,
        workload=IMAGING,
        params=params,
        fitted=fitted,
        modules=modules,
        calibration=fit_calibration(
            IMAGING.targets(params, fitted), logits, IMAGING.truth(tuning, params), "youden"
        ),
        lineage={"dataset": dataset.fingerprint()},
        history=[
            {"epoch": 1, "loss": 0.7, "tuning_loss": 0.6, "tuning_auroc": None, "best_epoch": 1},
            {"epoch": 2, "loss": 0.5, "tuning_loss": 0.7, "tuning_auroc": 0.6, "best_epoch": 1},
        ],
    )


def evaluated(folder, task):
    dataset = make_dataset(folder)
    spec = make_spec(folder, task)
    make_package(spec, dataset)
    result = evaluate(spec)
    report = json.loads((folder / "run" / "report" / "report.json").read_text())
    html = (folder / "run" / "report" / "report.html").read_text()
    return spec, dataset, result, report, html


@pytest.fixture(scope="module")
def binary(tmp_path_factory):
    return evaluated(tmp_path_factory.mktemp("binary"), "binary")


@pytest.fixture(scope="module")
def multilabel(tmp_path_factory):
    return evaluated(tmp_path_factory.mktemp("multilabel"), "multilabel")


@pytest.fixture(scope="module")
def multiclass(tmp_path_factory):
    return evaluated(tmp_path_factory.mktemp("multiclass"), "multiclass")


def held_out_logits(spec, dataset):
    """Straight from the package's modules, without the predictor."""
    package = open_package(storage.join(spec.output_uri, "package"))
    loaded = load_modules(package, IMAGING)
    params, fitted, modules = loaded
    columns = dataset.read("held_out")
    answered = forward(IMAGING, modules, columns, params, fitted, torch.device("cpu"))
    return package, columns, answered


def test_binary_numbers_match_scikit_learn(binary):
    spec, dataset, _, report, _ = binary
    package, columns, logits = held_out_logits(spec, dataset)
    target = report["targets"][0]
    truth, score = columns["bright"], logits["bright"].astype(float)
    entry = package.calibration.targets["bright"]
    p = 1 / (1 + np.exp(-score / entry.temperature))
    assert target["items"] == 60
    assert target["patients"] == 30
    assert target["auroc"]["value"] == pytest.approx(oracle.roc_auc_score(truth, score), abs=1e-4)
    assert target["auprc"]["value"] == pytest.approx(
        oracle.average_precision_score(truth, score), abs=1e-3
    )
    assert target["calibration"]["after"]["brier"] == pytest.approx(
        oracle.brier_score_loss(truth, p), abs=1e-5
    )
    tn, fp, fn, tp = oracle.confusion_matrix(truth, p >= entry.threshold).ravel()
    op = target["operating"]
    found = [op[k] for k in ("true_negatives", "false_positives", "false_negatives")]
    assert [*found, op["true_positives"]] == [tn, fp, fn, tp]
    assert op["elsewhere"]["prevalence"] == 0.1


def test_the_report_says_where_it_comes_from(binary):
    spec, dataset, result, report, html = binary
    provenance = report["provenance"]
    assert provenance["package"] == result.package
    assert provenance["data_fingerprint"] == dataset.fingerprint()
    assert len(provenance["spec_sha256"]) == 64
    assert provenance["software"]["libraries"]["torch"]
    assert RunSpec.model_validate(report["spec"]) == spec
    assert report["history"]["series"]["tuning auroc"] == [None, 0.6]
    assert report["history"]["best_epoch"] == 1
    assert provenance["package_digest"] in html
    # No column Modality in this dataset: skipped, and said.
    assert report["skipped_columns"] == ["Modality"]
    assert "not in the dataset: Modality" in html
    assert report["notes"] == []


def test_cohort_counts_every_split(binary):
    rows = {row["split"]: row for row in binary[3]["cohort"]["rows"]}
    assert {name: (row["patients"], row["items"]) for name, row in rows.items()} == {
        "train": (12, 24),
        "tuning": (20, 40),
        "held_out": (30, 60),
    }
    assert rows["held_out"]["labels"][0]["items"] == {"negative": 30, "positive": 30}


def test_small_groups_are_suppressed(binary):
    tables = {table["attribute"]: table for table in binary[3]["targets"][0]["subgroups"]}
    assert set(tables) == {"PatientSex", "PatientAge", "Manufacturer"}
    rare = next(row for row in tables["Manufacturer"]["rows"] if row["group"] == "Rare")
    assert rare["suppressed"]
    assert rare["patients"] is None
    assert [row["patients"] for row in tables["PatientSex"]["rows"]] == [15, 15]


class Images(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.found.append(dict(attrs))


def test_mistakes_are_shown_as_pictures_with_heat_maps(binary):
    _, _, _, report, html = binary
    mistakes = report["targets"][0]["mistakes"]
    images = Images(html).found
    assert len(images) == len(mistakes) == 3
    assert all(image["alt"] for image in images)
    assert all(image["src"].startswith("data:image/png;base64,") for image in images)


def test_the_card_goes_into_the_package_and_the_digest_stays(binary):
    spec, _, result, report, _ = binary
    package = open_package(storage.join(spec.output_uri, "package"))
    assert package.ref == result.package
    stored = package.metrics["evaluation"]["targets"][0]
    assert stored["auroc"] == report["targets"][0]["auroc"]
    card = storage.read_bytes(storage.join(package.uri, "MODEL_CARD.md")).decode()
    assert "## Quantitative analyses" in card


def test_multilabel_has_one_section_each_and_says_what_is_undefined(multilabel):
    _, _, result, report, html = multilabel
    bright, rare = report["targets"]
    assert bright["auroc"]["value"] is not None
    assert "negative" in rare["undefined"]
    assert rare["auroc"] is None
    assert rare["undefined"] in html
    assert "NaN" not in json.dumps(report)
    assert "rare: All 60" in result.headline()


def test_multiclass_numbers_match_scikit_learn(multiclass):
    spec, dataset, _, report, html = multiclass
    _, columns, logits = held_out_logits(spec, dataset)
    known = np.array([value is not None for value in columns["kind"]])
    truth, score = columns["kind"][known].astype(str), logits["kind"][known].astype(float)
    called = np.array(["a", "b", "c"])[score.argmax(axis=1)]
    target = report["targets"][0]
    assert target["items"] == known.sum()
    assert target["accuracy"]["value"] == pytest.approx(oracle.accuracy_score(truth, called))
    assert target["confusion"] == oracle.confusion_matrix(truth, called).tolist()
    assert "Confusion matrix" in html


def test_every_look_at_held_out_is_written_down(tmp_path):
    dataset = make_dataset(tmp_path)
    spec = make_spec(tmp_path, "binary")
    make_package(spec, dataset)
    assert evaluate(spec).openings == 1
    told = []
    assert evaluate(spec, progress=told.append).openings == 2
    lines = (tmp_path / "run" / "report" / "openings.jsonl").read_text().splitlines()
    digest = open_package(str(tmp_path / "run" / "package")).digest
    assert [json.loads(line)["package"] for line in lines] == [digest, digest]
    assert "opened 2 times" in (tmp_path / "run" / "report" / "report.html").read_text()
    assert {"predict tuning", "predict held_out", "measure"} == {word["stage"] for word in told}
    assert all(word["done"] <= word["total"] for word in told)


def refused(tmp_path, error, match, task="binary", package_from=None, **changes):
    """Evaluating the changed dataset fails, says what to do, and writes no report."""
    spec = make_spec(tmp_path, task)
    dataset = make_dataset(tmp_path, **changes)
    source = make_dataset(tmp_path / "other") if package_from is None else dataset
    make_package(spec, source)
    with pytest.raises(error, match=match) as caught:
        evaluate(spec)
    assert caught.value.remedy
    assert not (tmp_path / "run" / "report").exists()


def test_a_subject_in_two_splits_is_refused(tmp_path):
    subjects = [f"{i:032d}" for i in range(N)]
    subjects[-1] = subjects[0]
    refused(tmp_path, LeakError, "more than one split", subjects=subjects)


def test_an_identical_image_in_two_splits_is_refused(tmp_path):
    refused(tmp_path, LeakError, "identical", copies=[(0, 100)])


def test_an_empty_held_out_is_refused(tmp_path):
    split = ["train"] * 24 + ["tuning"] * 100
    refused(tmp_path, DataError, "held_out split is empty", split=split)


def test_a_held_out_of_one_class_is_refused(tmp_path):
    bright = [i % 2 if i < 64 else 1 for i in range(N)]
    refused(tmp_path, DataError, "no target", bright=bright)


def test_no_package_and_no_dataset_are_refused(tmp_path):
    spec = make_spec(tmp_path, "binary")
    with pytest.raises(PackageError, match="no package"):
        evaluate(spec)
    make_package(spec, make_dataset(tmp_path / "other"))
    with pytest.raises(DataError, match="no dataset"):
        evaluate(spec)


def test_a_package_of_another_dataset_is_said(tmp_path):
    spec = make_spec(tmp_path, "binary")
    dataset = make_dataset(tmp_path)
    make_package(spec, make_dataset(tmp_path / "other", copies=[(0, 1)]))
    result = evaluate(spec)
    assert result.report.provenance.data_fingerprint == dataset.fingerprint()
    assert any("not trained on this version" in note for note in result.report.notes)


def test_identical_images_can_be_left_out_instead(tmp_path):
    spec = make_spec(tmp_path, "binary", split={"identical_images": "drop"})
    dataset = make_dataset(tmp_path, copies=[(0, 100), (30, 101)])
    make_package(spec, dataset)
    rows = {row.split: row.items for row in evaluate(spec).report.cohort.rows}
    assert rows == {"train": 23, "tuning": 39, "held_out": 60}


def test_a_killed_write_leaves_the_old_report(tmp_path, monkeypatch):
    dataset = make_dataset(tmp_path)
    spec = make_spec(tmp_path, "binary")
    make_package(spec, dataset)
    evaluate(spec)
    before = (tmp_path / "run" / "report" / "report.html").read_bytes()

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("medray.evaluate.run.render_html", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate(spec)
    assert (tmp_path / "run" / "report" / "report.html").read_bytes() == before
    assert open_package(str(tmp_path / "run" / "package")).metrics["evaluation"]

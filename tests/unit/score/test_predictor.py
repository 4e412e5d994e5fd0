import hashlib
import hmac
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scans import SYNTAXES, scan
from tiny import SPEC, TINY, Fitted, Params, Tiny, make_package

from medray import items
from medray.errors import Code, PackageError, RejectError, UsageError
from medray.score.pictures import Pictures
from medray.score.predictor import Predictor, chunk_rows
from medray.spec.models import RunSpec
from medray.spec.pixels import PixelSpec

KEY = bytes(range(32))


@pytest.fixture(autouse=True)
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pseudonym.key"
    path.write_bytes(KEY)
    path.chmod(0o600)
    monkeypatch.setenv("MEDRAY_KEY_FILE", str(path))


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_package(str(tmp_path_factory.mktemp("tiny") / "package")).uri


@pytest.fixture
def predictor(package: str) -> Predictor:
    return Predictor(package, workload=TINY)


def _pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 16), dtype=np.uint8)


def _independent(picture: np.ndarray, weights: dict[str, torch.Tensor]) -> list[float]:
    """The tiny model in plain Python: probabilities of bright, k0, k1, k2."""
    x = [(float(v) - 100.0) / 50.0 for v in picture.ravel()]
    mean = sum(x) / len(x)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in x) / (len(x) - 1))
    logits = [
        float(w[0]) * mean + float(w[1]) * deviation + float(b)
        for w, b in zip(weights["weight"], weights["bias"], strict=True)
    ]
    powers = [math.exp(v / 0.7) for v in logits[1:]]
    return [1 / (1 + math.exp(-logits[0] / 1.5)), *(p / sum(powers) for p in powers)]


def test_scores_are_what_the_model_and_the_calibration_say(package: str, predictor: Predictor):
    from safetensors.torch import load_file

    weights = load_file(Path(package) / "weights" / "classifier.safetensors")
    pictures = _pictures(5)
    outcomes = predictor.predict_columns({"pixels": pictures})
    for picture, outcome in zip(pictures, outcomes, strict=True):
        assert outcome.reason is None
        names = [(score.target, score.text_value) for score in outcome.scores]
        assert names == [("bright", None), ("kind", "k0"), ("kind", "k1"), ("kind", "k2")]
        expected = _independent(picture, weights)
        np.testing.assert_allclose([s.score for s in outcome.scores], expected, atol=1e-5)
        assert outcome.scores[0].decision == (expected[0] >= 0.4)
        assert [s.decision for s in outcome.scores[1:]] == [
            p == max(expected[1:]) for p in expected[1:]
        ]


@pytest.mark.parametrize("count", [1, 3, 16, 17, 40])
def test_scores_do_not_depend_on_what_stands_beside(predictor: Predictor, count: int):
    pictures = _pictures(40)
    together = predictor.predict_columns({"pixels": pictures})
    some = predictor.predict_columns({"pixels": pictures[::-1][:count]})
    assert some == together[::-1][:count]


def test_a_row_that_is_not_finite_touches_no_other(predictor: Predictor):
    pictures = _pictures(6).astype(np.float32)
    clean = predictor.predict_columns({"pixels": pictures})
    pictures[2, 0, 0] = np.nan
    pictures[5] = np.inf
    got = predictor.predict_columns({"pixels": pictures})
    assert [outcome.reason for outcome in got] == [
        None,
        None,
        Code.NOT_FINITE,
        None,
        None,
        Code.NOT_FINITE,
    ]
    assert [got[i] for i in (0, 1, 3, 4)] == [clean[i] for i in (0, 1, 3, 4)]
    assert got[2].scores == ()


def test_pictures_of_other_shapes_are_refused_one_by_one(tmp_path: Path):
    class Strict(Tiny):
        def collate(self, columns, params: Params, fitted: Fitted):
            if columns["pixels"].shape[1:] != (16, 16):
                raise RejectError(Code.UNEXPECTED_SHAPE, "16×16 expected")
            return super().collate(columns, params, fitted)

    predictor = Predictor(make_package(str(tmp_path / "p")).uri, workload=Strict())
    good = _pictures(3)
    mixed = [good[0], np.zeros((8, 8), np.uint8), good[1].astype(np.float32), good[2]]
    got = Pictures(predictor).predict_arrays(mixed)
    assert [outcome.reason for outcome in got] == [None, Code.UNEXPECTED_SHAPE, None, None]
    alone = predictor.predict_columns({"pixels": good})
    assert [got[0], got[2], got[3]] == alone
    assert Pictures(predictor).predict_arrays([]) == []


def test_logits_are_in_the_order_of_the_rows(predictor: Predictor):
    pictures = _pictures(35)
    logits = predictor.logits({"pixels": pictures})
    assert logits["bright"].shape == (len(pictures),)
    assert logits["kind"].shape == (len(pictures), 3)
    order = np.random.default_rng(1).permutation(len(pictures))
    shuffled = predictor.logits({"pixels": pictures[order]})
    np.testing.assert_array_equal(shuffled["kind"], logits["kind"][order])


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_bytes_of_every_syntax_give_the_score_of_their_pixels(predictor: Predictor, syntax: str):
    rows = Pictures(predictor).predict_bytes("scan.dcm", scan(3, syntax))
    assert [row.status for row in rows] == ["ok"] * 4
    reference = items.decode_items(scan(3), "dicom", PixelSpec(size=(16, 16)))
    expected = predictor.predict_columns({"pixels": reference[0].pixels[None]})[0]
    assert [row.score for row in rows] == [score.score for score in expected.scores]


def test_ids_are_keyed_hashes_of_the_uids(predictor: Predictor):
    row = Pictures(predictor).predict_bytes("scan.dcm", scan(3))[0]
    digest = hmac.new(KEY, b"instance\x002.25.1000003", hashlib.sha256).hexdigest()[:32]
    assert row.item_id == f"{digest}#0"
    other = Pictures(predictor).predict_bytes("other.dcm", scan(2))[0]
    assert other.study_id == row.study_id
    assert other.subject_id == row.subject_id
    assert other.item_id != row.item_id


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda data: b"", "empty_file"),
        (lambda data: b"hello " * 100, "not_dicom"),
        (lambda data: data[:-50], "truncated"),
        (lambda data: data[:-300] + bytes(300), "decode_failed"),
    ],
)
def test_bad_bytes_are_one_rejected_row(
    predictor: Predictor, spoil: Callable[[bytes], bytes], reason: str
):
    rows = Pictures(predictor).predict_bytes("x", spoil(scan(1, SYNTAXES[5])))
    assert [(row.status, row.reason, row.score) for row in rows] == [("rejected", reason, None)]


def test_predict_file_with_a_heat_map(predictor: Predictor, tmp_path: Path):
    file = tmp_path / "scan.dcm"
    file.write_bytes(scan(1))
    found = Pictures(predictor).predict_file(str(file), explain=str(tmp_path / "maps"))
    assert not found.rejected
    assert found.file == str(file)
    assert "bright 0." in found.headline()
    assert len(found.pictures) == 1
    with Image.open(found.pictures[0]) as picture:
        assert picture.size == (512, 256)
    assert [p.name for p in (tmp_path / "maps").iterdir()] == [Path(found.pictures[0]).name]
    as_json = json.loads(json.dumps(found.to_dict()))
    assert as_json["rows"][0]["score"] == found.rows[0].score


def test_a_file_that_cannot_be_read_is_a_rejected_row(predictor: Predictor, tmp_path: Path):
    found = Pictures(predictor).predict_file(str(tmp_path / "missing.dcm"))
    assert found.rejected
    assert found.headline() == "rejected: unreadable (No such file or directory)"


def test_heat_map_of_an_unknown_target(predictor: Predictor):
    with pytest.raises(UsageError, match="does not predict 'other'"):
        Pictures(predictor).explain_bytes(scan(1), "other")
    found = Pictures(predictor).explain_bytes(scan(1), "kind")
    assert found[0].picture.shape == found[0].heatmap.shape == (16, 16)
    assert found[0].picture.dtype == np.uint8


def test_an_altered_package_or_an_absent_device_is_an_error(tmp_path: Path):
    uri = make_package(str(tmp_path / "p")).uri
    with pytest.raises(UsageError, match="no device 'tpu'"):
        Predictor(uri, device="tpu", workload=TINY)
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="CUDA"):
            Predictor(uri, device="cuda", workload=TINY)
    with pytest.raises(UsageError, match="no workload 'tiny'"):
        Predictor(uri)
    (Path(uri) / "fitted.json").write_text('{"mean": 101.0}')
    with pytest.raises(PackageError, match=r"fitted\.json"):
        Predictor(uri, workload=TINY)


def test_frames_are_rows_of_their_own(tmp_path: Path):
    from pydicom.data import get_testdata_file

    spec = RunSpec.model_validate(SPEC.model_dump())
    predictor = Predictor(make_package(str(tmp_path / "p"), spec=spec).uri, workload=TINY)
    data = Path(str(get_testdata_file("SC_rgb_rle_2frame.dcm", download=False))).read_bytes()
    rows = [row for row in Pictures(predictor).predict_bytes("mr", data) if row.target == "bright"]
    assert [row.frame for row in rows] == [0, 1]
    assert len({row.item_id for row in rows}) == 2
    assert len({row.item_id.partition("#")[0] for row in rows}) == 1


def test_predicting_imports_nothing_heavy(tmp_path: Path):
    uri = make_package(str(tmp_path / "p")).uri
    file = tmp_path / "scan.dcm"
    file.write_bytes(scan(1))
    code = (
        "import sys; sys.path.insert(0, sys.argv[3]); from tiny import TINY;"
        "from medray.score.pictures import Pictures;"
        "from medray.score.predictor import Predictor;"
        "model = Pictures(Predictor(sys.argv[1], workload=TINY));"
        "assert not model.predict_file(sys.argv[2]).rejected;"
        "heavy = {'ray', 'deltalake', 'pandas', 'sklearn', 'matplotlib', 'monai'};"
        "found = sorted(heavy & set(sys.modules)); sys.exit(str(found) if found else 0)"
    )
    here = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, uri, str(file), here],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("shape", "device", "rows"),
    [
        ((5, 16, 16), "cpu", 16),
        ((5, 64, 64), "cpu", 4),
        ((5, 64, 64, 3), "cpu", 1),
        ((1, 512, 512), "cpu", 1),
        ((0, 512, 512), "cpu", 16),
        ((5, 64, 64), "cuda", 64),
        ((5, 512, 512), "cuda", 16),
    ],
)
def test_a_chunk_is_decided_by_the_shape_of_a_row(shape: tuple[int, ...], device: str, rows: int):
    assert chunk_rows({"pixels": np.zeros(shape, np.uint8)}, device) == rows

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import ValidationError

from medray.errors import Code, DataError, RejectError
from medray.workloads import WORKLOADS
from medray.workloads.imaging import Imaging, ImagingFitted, ImagingParams
from medray.workloads.imaging.classifier import supervised_loss

IMAGING = Imaging()


def columns(count: int = 12, size: tuple[int, ...] = (16, 16), **labels: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {"pixels": rng.integers(0, 256, (count, *size), dtype=np.uint8), **labels}


def binary(**more: Any) -> ImagingParams:
    return ImagingParams(label="y", network="conv3", **more)


def fitted(params: ImagingParams, data: dict[str, Any]) -> ImagingFitted:
    return IMAGING.fit(IMAGING.summarize(data, params), params)


FITTED = fitted(binary(), columns(y=np.array([0.0, 1.0] * 6)))


def test_stands_in_the_dict_under_its_name() -> None:
    assert WORKLOADS["imaging"].name == "imaging"


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({}, "needs `label`"),
        ({"task": "multilabel", "label": "y"}, "needs `labels`"),
        ({"task": "multilabel", "labels": ["a", "a"]}, "each once"),
        ({"task": "multiclass", "label": "y"}, "needs `classes`"),
        ({"task": "multiclass", "label": "y", "classes": ["a", "a", "b"]}, "twice"),
        ({"label": "y", "classes": ["a", "b"]}, "belongs to multiclass"),
        ({"task": "multilabel", "labels": ["a"], "positive": "x"}, "belongs to binary"),
        ({"label": "y", "network": "conv3", "stem": "small"}, "no small stem"),
        ({"label": "y", "network": "efficientnet_b0", "width": 0.5}, "one width"),
        ({"label": "y", "netwrok": "conv3"}, "Extra inputs"),
        ({"label": "y", "variants": [{}, {}]}, "2 variants need"),
        ({"label": "y", "variants": [{"network": "conv3", "stem": "small"}]}, "no small stem"),
    ],
)
def test_refuses_params_that_cannot_be(params: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        ImagingParams(**params)


def test_sums_of_batches_merge_to_the_sums_of_all() -> None:
    params = binary()
    data = columns(20, (16, 18, 3), y=np.arange(20.0) % 2)
    parts = [
        IMAGING.summarize({k: v[a : a + 7] for k, v in data.items()}, params) for a in (0, 7, 14)
    ]
    learned = IMAGING.fit(pa.concat_tables(parts), params)
    pixels = data["pixels"].astype(float)
    np.testing.assert_allclose(learned.mean, pixels.mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(learned.std, pixels.std(axis=(0, 1, 2)))
    assert (learned.low, learned.high) == (pixels.min(), pixels.max())
    assert learned.size == (16, 18)
    assert learned.channels == 3
    assert learned.counts == ((10, 10),)


def test_fit_refuses_what_it_cannot_learn_from() -> None:
    params = binary()
    one = IMAGING.summarize(columns(4, y=np.array([0, 1, 0, 1.0])), params)
    other = IMAGING.summarize(columns(4, (20, 16), y=np.array([0, 1, 0, 1.0])), params)
    with pytest.raises(DataError, match="2 shapes"):
        IMAGING.fit(pa.concat_tables([one, other]), params)
    with pytest.raises(DataError, match="no item of"):
        fitted(params, columns(4, y=np.zeros(4)))
    with pytest.raises(DataError, match="at least 8×8"):
        fitted(params, columns(4, (6, 6), y=np.array([0, 1, 0, 1.0])))
    with pytest.raises(DataError, match="empty"):
        IMAGING.fit(one.slice(0, 0), params)


@pytest.mark.parametrize(
    ("values", "more", "expected"),
    [
        (np.array([0.0, 1.0, np.nan]), {}, [0, 1, np.nan]),
        (np.array(["0", "1", None], object), {}, [0, 1, np.nan]),
        (np.array(["benign", "malignant", None], object), {"positive": "malignant"}, [0, 1, None]),
        (np.array([1.0, 2.0, np.nan]), {"positive": "2"}, [0, 1, np.nan]),
        (np.array([False, True, True]), {}, [0, 1, 1]),
    ],
)
def test_binary_labels(values: Any, more: dict[str, Any], expected: list[Any]) -> None:
    truth = IMAGING.truth({"y": values}, binary(**more))["y"]
    np.testing.assert_array_equal(truth, np.array(expected, dtype=float))


def test_labels_of_unknown_values_are_refused() -> None:
    with pytest.raises(DataError, match="other values than 0 and 1"):
        IMAGING.truth({"y": np.array(["yes", "no"], object)}, binary())
    params = ImagingParams(task="multiclass", label="y", classes=("a", "b"))
    with pytest.raises(DataError, match=r"among them \['c'\]"):
        IMAGING.truth({"y": np.array(["a", "c", None], object)}, params)
    with pytest.raises(DataError, match="no label column 'y'"):
        IMAGING.truth({}, params)


def test_classes_may_be_numbers() -> None:
    params = ImagingParams(task="multiclass", label="y", classes=("0", "1", "2"))
    truth = IMAGING.truth({"y": np.array([2.0, 0.0, np.nan])}, params)["y"]
    assert truth.tolist() == [2, 0, -1]


def test_collate_keeps_bytes_and_adds_labels_when_there() -> None:
    params = binary()
    data = columns(4, (16, 16, 3), y=np.array([0, 1, 0, 1.0]))
    data["pixels"].flags.writeable = False
    learned = fitted(params, data)
    batch = IMAGING.collate(data, params, learned)
    assert batch["pixels"].dtype == torch.uint8
    assert batch["pixels"].shape == (4, 3, 16, 16)
    assert batch["labels"].shape == (4, 1)
    assert "labels" not in IMAGING.collate({"pixels": data["pixels"]}, params, learned)
    with pytest.raises(RejectError) as refused:
        IMAGING.collate({"pixels": data["pixels"][:, :12]}, params, learned)
    assert refused.value.code is Code.UNEXPECTED_SHAPE


def test_uint16_and_float_pixels_are_taken() -> None:
    params = binary()
    for dtype in (np.uint16, np.int16, np.float32):
        data = columns(4, y=np.array([0, 1, 0, 1.0]))
        data["pixels"] = data["pixels"].astype(dtype) * 100
        learned = fitted(params, data)
        assert IMAGING.collate(data, params, learned)["pixels"].dtype == torch.float32
        example = IMAGING.example(params, learned, 3)["pixels"]
        assert example.dtype == dtype
        assert example.min() >= learned.low
        assert example.max() <= learned.high


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_missing_labels_change_neither_loss_nor_gradient(task: str) -> None:
    names: dict[str, Any] = {
        "binary": {"label": "y"},
        "multiclass": {"label": "y", "classes": ("a", "b", "c")},
        "multilabel": {"labels": ("a", "b")},
    }[task]
    params = ImagingParams(task=task, class_weights="balanced", label_smoothing=0.1, **names)
    outputs = params.outputs
    learned = ImagingFitted(
        size=(16, 16), channels=1, dtype="uint8", items=9, low=0, high=1, mean=(0,), std=(1,),
        counts=((2, 3, 4),) if task == "multiclass" else ((6, 3),) * outputs,
    )  # fmt: skip
    logits = torch.randn(5, outputs, generator=torch.Generator().manual_seed(0))
    if task == "multiclass":
        labels, missing = torch.tensor([0, 1, 2, 1, 0]), -1
    else:
        labels, missing = torch.tensor([[0.0], [1], [1], [0], [1]]).repeat(1, outputs), torch.nan
    masked = labels.clone()
    masked[3:] = missing
    free = logits.clone().requires_grad_()
    loss = supervised_loss(free, masked, params, learned)
    loss.backward()
    expected = supervised_loss(logits[:3], labels[:3], params, learned)
    torch.testing.assert_close(loss.detach(), expected)
    assert free.grad is not None
    assert (free.grad[3:] == 0).all()
    nothing = torch.full_like(labels, missing)
    assert float(supervised_loss(logits, nothing, params, learned)) == 0


def test_balanced_weights_count_classes_alike() -> None:
    params = binary(class_weights="balanced")
    learned = fitted(params, columns(8, y=np.array([0, 0, 0, 0, 0, 0, 1, 1.0])))
    logits = torch.zeros(8, 1)
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1.0])[:, None]
    logits.requires_grad_()
    supervised_loss(logits, labels, params, learned).backward()
    assert logits.grad is not None
    torch.testing.assert_close(-logits.grad[6:].sum(), logits.grad[:6].sum())


def test_measure_agrees_with_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

    rng = np.random.default_rng(1)
    y = rng.integers(0, 3, 60)
    logits = rng.normal(size=(60, 3))
    logits[np.arange(60), y] += 1
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    params = ImagingParams(task="multiclass", label="y", classes=("0", "1", "2"))
    found = IMAGING.measure({"y": logits}, {"y": y.astype(float)}, params, FITTED)
    assert found["accuracy"] == pytest.approx(accuracy_score(y, p.argmax(1)))
    assert found["loss"] == pytest.approx(log_loss(y, p))
    assert found["auroc"] == pytest.approx(roc_auc_score(y, p, multi_class="ovr"))
    two = IMAGING.measure({"y": logits[:, 0]}, {"y": (y == 0).astype(float)}, binary(), FITTED)
    assert two["auroc"] == pytest.approx(roc_auc_score(y == 0, logits[:, 0]))
    assert two["loss"] == pytest.approx(log_loss(y == 0, 1 / (1 + np.exp(-logits[:, 0]))))
    assert IMAGING.monitor(binary()).name in two


def test_an_undefined_metric_is_nan() -> None:
    found = IMAGING.measure({"y": np.zeros(3)}, {"y": np.full(3, np.nan)}, binary(), FITTED)
    assert all(np.isnan(value) for value in found.values())


def test_members_take_variants_in_turn() -> None:
    params = ImagingParams(
        label="y", network="resnet18", width=0.125, dropout=0.3, members=3,
        variants=({"stem": "standard"}, {"network": "conv3", "width": 0.25, "dropout": 0.1}),  # type: ignore[arg-type]
    )  # fmt: skip
    assert [(m.name, m.network, m.width, m.stem, m.dropout) for m in params.ensemble] == [
        ("classifier_1", "resnet18", 0.125, "standard", 0.3),
        ("classifier_2", "conv3", 0.25, "auto", 0.1),
        ("classifier_3", "resnet18", 0.125, "standard", 0.3),
    ]
    data = columns(4, y=np.array([0, 1, 0, 1.0]))
    learned = fitted(params, data)
    torch.manual_seed(0)
    modules = IMAGING.build_modules(params, learned)
    for module in modules.values():
        module.eval()
    batch = IMAGING.collate({"pixels": data["pixels"]}, params, learned)
    with torch.no_grad():
        each = [modules[member.name](batch["pixels"])[:, 0] for member in params.ensemble]
        logits = IMAGING.predict(modules, batch, params)["y"]
    assert not torch.equal(each[0], each[1])
    torch.testing.assert_close(logits, torch.stack(each).mean(dim=0))
    found = IMAGING.explain(modules, {"pixels": data["pixels"]}, "y", 0, params, learned)
    assert found.values.shape == (4, 16, 16)


@pytest.mark.parametrize("members", [1, 2])
def test_predicts_and_explains(members: int) -> None:
    params = ImagingParams(
        task="multilabel", labels=("a", "b"), network="resnet18", width=0.125, members=members,
        tta=("horizontal", "vertical"),
    )  # fmt: skip
    data = columns(6, a=np.array([0, 1, 0, 1, 0, 1.0]), b=np.array([0, 0, 1, 1, np.nan, 1]))
    learned = fitted(params, data)
    torch.manual_seed(0)
    modules = IMAGING.build_modules(params, learned)
    for module in modules.values():
        module.eval()
    assert len(modules) == len(IMAGING.objectives(params, learned)) == members
    batch = IMAGING.collate({"pixels": data["pixels"]}, params, learned)
    mirrored = {"pixels": batch["pixels"].flip(-1)}
    with torch.no_grad():
        logits = IMAGING.predict(modules, batch, params)
        again = IMAGING.predict(modules, mirrored, params)
    assert {name: tuple(v.shape) for name, v in logits.items()} == {"a": (6,), "b": (6,)}
    torch.testing.assert_close(logits["a"], again["a"], rtol=1e-4, atol=1e-5)
    pixels = {"pixels": data["pixels"]}
    heatmap = IMAGING.explain(modules, pixels, "b", 0, params, learned).values
    assert heatmap.shape == (6, 16, 16)
    assert 0 <= float(heatmap.min()) <= float(heatmap.max()) <= 1


def _as_numpy_moves(pixels_BCHW: np.ndarray[Any, Any], down: int, right: int) -> torch.Tensor:
    rows, cols = abs(down), abs(right)
    height, width = pixels_BCHW.shape[2:]
    padded = np.pad(pixels_BCHW, ((0, 0), (0, 0), (rows, rows), (cols, cols)), mode="edge")
    top, left = rows - down, cols - right
    return torch.from_numpy(padded[:, :, top : top + height, left : left + width].copy())


@pytest.mark.parametrize(
    ("share", "reach"),
    [(0.125, (2, 3)), (0.01, (1, 1)), (0.5, (8, 12))],
    ids=["a share of each side", "a pixel at least", "half the picture"],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_views_of_a_moved_picture_are_averaged(
    share: float, reach: tuple[int, int], dtype: type[np.generic]
) -> None:
    params = binary(tta=("horizontal",), tta_shift=share)
    data = columns(5, (16, 24), y=np.array([0, 1, 0, 1, 1.0]))
    data["pixels"] = data["pixels"].astype(dtype)
    learned = fitted(params, data)
    torch.manual_seed(0)
    modules = IMAGING.build_modules(params, learned)
    module = modules["classifier"].eval()
    pixels = data["pixels"][:, None]
    down, right = reach
    moves = [(0, 0), (-down, -right), (-down, right), (down, -right), (down, right)]
    with torch.no_grad():
        seen = [_as_numpy_moves(pixels, *move) for move in moves]
        each = [module(view)[:, 0] for place in seen for view in (place, place.flip(-1))]
        logits = IMAGING.predict(modules, {"pixels": torch.from_numpy(pixels)}, params)["y"]
    assert len(each) == 10
    torch.testing.assert_close(logits, torch.stack(each).mean(dim=0))


@pytest.mark.parametrize("network", ["conv3", "resnet18", "densenet121", "efficientnet_b0"])
def test_every_network_can_be_explained(network: str) -> None:
    params = ImagingParams(label="y", network=network)  # type: ignore[arg-type]
    data = columns(2, (40, 40), y=np.array([0, 1.0]))
    learned = fitted(params, data)
    torch.manual_seed(0)
    modules = IMAGING.build_modules(params, learned)
    modules["classifier"].eval()
    pixels = {"pixels": data["pixels"]}
    heatmap = IMAGING.explain(modules, pixels, "y", 0, params, learned).values
    assert heatmap.shape == (2, 40, 40)
    assert torch.isfinite(heatmap).all()


def test_grad_cam_finds_what_decides() -> None:
    """A network that answers the mean of one bright corner must be seen looking there."""
    params = binary()
    data = columns(2, (32, 32), y=np.array([0, 1.0]))
    learned = fitted(params, data)
    modules = IMAGING.build_modules(params, learned)
    classifier = modules["classifier"].eval()
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.fill_(0)
        network = classifier.get_submodule("network")
        for index in ("features.0", "features.3", "features.6"):
            network.get_submodule(index).weight[0, 0, 1, 1] = 1.0
        network.get_submodule("head.1").weight[0, 0] = 1.0  # channel 0, top left of 4 × 4
        network.get_submodule("head.4").weight[0, 0] = 1.0
    pixels = np.zeros((1, 32, 32), np.uint8)
    pixels[0, :8, :8] = 255
    heatmap = IMAGING.explain(modules, {"pixels": pixels}, "y", 0, params, learned).values[0]
    assert float(heatmap[:8, :8].mean()) > 10 * float(heatmap[16:, 16:].mean())

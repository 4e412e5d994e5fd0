"""What preprocessing learns from `train`: sums of batches, merged, then read.

Shapes: B items, H rows, W columns, C channels.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from medray.errors import Code, DataError, RejectError
from medray.models.cnn import NETWORKS
from medray.workload import Columns
from medray.workloads.imaging.labels import counts_of, truth_of
from medray.workloads.imaging.params import ImagingFitted, ImagingParams

Array = np.ndarray[Any, Any]

SUMMARY = pa.schema(
    [
        pa.field("items", pa.int64()),
        pa.field("shape", pa.list_(pa.int32())),  # rows, columns, channels
        pa.field("dtype", pa.string()),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("sum", pa.list_(pa.float64())),  # per channel
        pa.field("square_sum", pa.list_(pa.float64())),
        pa.field("counts", pa.list_(pa.list_(pa.int64()))),
    ]
)


def pixels_of(columns: Columns) -> Array:
    """The `pixels` column as (B, H, W, C). Raises RejectError for other shapes."""
    pixels = np.asarray(columns["pixels"])
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if pixels.ndim != 4 or pixels.dtype == object:
        raise RejectError(Code.UNEXPECTED_SHAPE, "pictures of one shape, (H, W) or (H, W, C)")
    return pixels


def summarize(columns: Columns, params: ImagingParams) -> pa.Table:
    """One row of sums for one batch of items."""
    pixels_BHWC = pixels_of(columns)
    exact = pixels_BHWC.astype(np.float64)
    row = {
        "items": len(exact),
        "shape": list(exact.shape[1:]),
        "dtype": pixels_BHWC.dtype.name,
        "low": float(exact.min()),
        "high": float(exact.max()),
        "sum": exact.sum(axis=(0, 1, 2)).tolist(),
        "square_sum": np.square(exact).sum(axis=(0, 1, 2)).tolist(),
        "counts": counts_of(truth_of(columns, params), params),
    }
    return pa.Table.from_pylist([row], schema=SUMMARY)


def fit(summaries: pa.Table, params: ImagingParams) -> ImagingFitted:
    """Merge the sums of all batches of `train`.

    Raises DataError for no items, for pictures of several shapes or too small for the network,
    for values that are not finite, and when a class to be learned never occurs.
    """
    rows = summaries.to_pylist()
    items = sum(row["items"] for row in rows)
    if not items:
        raise DataError("there is nothing to learn from: `train` is empty")
    shapes = sorted({tuple(row["shape"]) for row in rows})
    if len(shapes) > 1:
        raise DataError(
            f"pictures of {len(shapes)} shapes in one dataset, among them {shapes[:3]}",
            remedy="set `ingest.pixels.size` (and `channels`) so that all have one",
        )
    height, width, channels = shapes[0]
    _check_size((height, width), params)
    counts = np.sum([row["counts"] for row in rows], axis=0)
    _check_counts(counts, params)
    mean, std = _moments(rows, items * height * width)
    low, high = min(row["low"] for row in rows), max(row["high"] for row in rows)
    if not np.isfinite([low, high]).all():
        raise DataError("`train` holds pixel values that are not finite numbers")
    return ImagingFitted(
        size=(height, width),
        channels=channels,
        dtype=rows[0]["dtype"],
        items=items,
        low=low,
        high=high if high > low else low + 1,
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        counts=tuple(tuple(int(n) for n in column) for column in counts),
    )


def _moments(rows: list[dict[str, Any]], pixels: int) -> tuple[Array, Array]:
    """Mean and standard deviation per channel; a constant channel gets a deviation of 1."""
    mean = np.sum([row["sum"] for row in rows], axis=0) / pixels
    variance = np.sum([row["square_sum"] for row in rows], axis=0) / pixels - mean**2
    # what is left of a constant channel is rounding
    constant = variance <= 1e-9 * (1 + mean**2)
    return mean, np.where(constant, 1.0, np.sqrt(np.maximum(variance, 1e-12)))


def _check_size(size: tuple[int, int], params: ImagingParams) -> None:
    network = max((m.network for m in params.ensemble), key=lambda name: NETWORKS[name].smallest)
    smallest = NETWORKS[network].smallest
    if min(size) < smallest:
        raise DataError(
            f"{network} takes pictures of at least {smallest}×{smallest} pixels; "
            f"the dataset's are {size[0]}×{size[1]}",
            remedy="use a larger `ingest.pixels.size` or another `params.network`",
        )


def _check_counts(counts: Array, params: ImagingParams) -> None:
    for column, seen in zip(params.columns, counts, strict=True):
        names = params.classes or ("negative", "positive")
        absent = [name for name, count in zip(names, seen, strict=True) if count == 0]
        if absent:
            raise DataError(
                f"`train` holds no item of {absent} in the label column {column!r}",
                remedy="check the label table, its key, and the split",
            )

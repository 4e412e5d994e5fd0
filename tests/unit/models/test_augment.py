import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medray.models.augment import AugmentSpec, augment, mix_partners


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int = 8, channels: int = 1, rows: int = 20, columns: int = 24) -> torch.Tensor:
    return torch.rand(count, channels, rows, columns, generator=generator(5))


EVERYTHING = AugmentSpec(
    shift=0.1,
    flip_horizontal=True,
    flip_vertical=True,
    rotate_degrees=20,
    shear_degrees=5,
    zoom=0.2,
    crop=0.7,
    brightness=0.1,
    contrast=0.2,
    gamma=0.2,
    noise=0.05,
    erase=0.5,
)
ONE_AT_A_TIME = [
    AugmentSpec(**{name: getattr(EVERYTHING, name)})
    for name in AugmentSpec.model_fields
    if name not in ("fill", "mixup")
]


def test_the_default_changes_nothing() -> None:
    x = pictures()
    assert augment(x, AugmentSpec(), generator()) is x


@pytest.mark.parametrize(
    "spec", [*ONE_AT_A_TIME, EVERYTHING], ids=lambda s: ",".join(sorted(s.model_fields_set))
)
def test_each_change_changes_and_repeats(spec: AugmentSpec) -> None:
    x = pictures(channels=3)
    before = x.clone()
    first, again = augment(x, spec, generator(1)), augment(x, spec, generator(1))
    other = augment(x, spec, generator(2))
    assert torch.equal(x, before)
    assert first.shape == x.shape
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.isfinite(first).all()


def test_flips_are_exact_mirror_images() -> None:
    x = pictures(64)
    flipped = augment(x, AugmentSpec(flip_horizontal=True), generator())
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(flipped, x, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(flipped, x, strict=True)]
    assert all(m != s for m, s in zip(mirrored, same, strict=True))
    assert 16 < sum(mirrored) < 48


@pytest.mark.parametrize("fill", ["dark", "edge", "reflect"])
def test_shift_moves_by_whole_pixels(fill: str) -> None:
    x = pictures(32)
    moved = augment(x, AugmentSpec(shift=0.2, fill=fill), generator())
    values = torch.unique(torch.cat([x.flatten(), torch.zeros(1)]))
    assert torch.isin(moved, values).all()
    centre = (slice(8, 12), slice(8, 14))
    for item, source in zip(moved, x, strict=True):
        found = any(
            torch.equal(item[0][centre], source[0, 8 + dy : 12 + dy, 8 + dx : 14 + dx])
            for dy in range(-4, 5)
            for dx in range(-4, 5)
        )
        assert found
    if fill == "dark":
        assert (moved == 0).any()


def test_zoom_alone_keeps_the_centre_in_place() -> None:
    x = torch.zeros(16, 1, 21, 21)
    x[:, :, 10, 10] = 1
    zoomed = augment(x, AugmentSpec(zoom=0.3), generator())
    peaks = zoomed.flatten(1).argmax(dim=1)
    assert (peaks == 10 * 21 + 10).all()


def test_rotation_keeps_distances_of_oblong_pictures() -> None:
    # a point 8 pixels right of the centre stays 8 pixels away in a 41 × 81 picture
    x = torch.zeros(32, 1, 41, 81)
    x[:, :, 20, 48] = 1
    turned = augment(x, AugmentSpec(rotate_degrees=90, fill="dark"), generator())
    weight = turned[:, 0] / turned[:, 0].sum(dim=(1, 2), keepdim=True)
    y = (weight.sum(2) * torch.arange(41.0)).sum(1) - 20
    across = (weight.sum(1) * torch.arange(81.0)).sum(1) - 40
    assert torch.allclose(torch.hypot(y, across), torch.tensor(8.0), atol=0.35)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(1, 17),
    columns=st.integers(1, 17),
    shift=st.floats(0, 0.5),
    fill=st.sampled_from(["dark", "edge", "reflect"]),
)
def test_any_size_can_be_shifted(
    seed: int, rows: int, columns: int, shift: float, fill: str
) -> None:
    x = pictures(3, 2, rows, columns)
    spec = AugmentSpec(shift=shift, flip_vertical=True, fill=fill)
    assert augment(x, spec, generator(seed)).shape == x.shape


def test_mixing_keeps_the_larger_part() -> None:
    partners, keep = mix_partners(10, 0.4, generator(3))
    assert sorted(partners.tolist()) == list(range(10))
    assert 0.5 <= keep <= 1
    again, same = mix_partners(10, 0.4, generator(3))
    assert torch.equal(partners, again)
    assert keep == same

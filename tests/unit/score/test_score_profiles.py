"""Profiles are computed once, in parts that survive a kill, here or over Ray, all the same."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medray.molecules.metrics.profile import Profile
from medray.score.profiles import known_smiles, profile_key, profiled

SMILES = [f"{'C' * at}O" for at in range(1, 12)] + ["INVALID", "", "OC"]


class Killed(Exception):
    """Stands for whatever ends a run."""


def killed_after(parts: int) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done >= parts:
            raise Killed

    return progress


def same(one: Profile, other: Profile) -> bool:
    assert one.molecules.to_pylist() == other.molecules.to_pylist()
    assert one.chemnet.count == other.chemnet.count == 12
    np.testing.assert_allclose(one.chemnet.mean, other.chemnet.mean, atol=1e-6)
    np.testing.assert_allclose(one.chemnet.scatter, other.chemnet.scatter, atol=1e-5)
    return True


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    return profiled(SMILES, "generated", str(tmp_path_factory.mktemp("whole")))


def test_the_order_is_that_of_the_list(whole: Profile) -> None:
    assert whole.given == len(SMILES)
    expected = [None if one in ("INVALID", "") else one for one in SMILES[:-1]] + ["CO"]
    assert whole.molecules["smiles"].to_pylist() == expected


def test_it_is_computed_once(tmp_path: Path, whole: Profile) -> None:
    folder = str(tmp_path)
    first = profiled(SMILES, "generated", folder, per_part=4)
    (place,) = tmp_path.iterdir()
    assert place.name == profile_key(SMILES, "generated")
    assert sorted(file.name for file in place.iterdir()) == ["chemnet.parquet", "molecules.parquet"]
    told: list[int] = []
    again = profiled(SMILES, "generated", folder, progress=lambda done, total: told.append(done))
    assert same(first, whole)
    assert same(again, whole)
    assert told == []


def test_a_killed_run_goes_on(tmp_path: Path, whole: Profile) -> None:
    folder, told = str(tmp_path), list[tuple[int, int]]()
    with pytest.raises(Killed):
        profiled(SMILES, "generated", folder, per_part=3, progress=killed_after(2))
    progress = lambda done, total: told.append((done, total))  # noqa: E731
    found = profiled(SMILES, "generated", folder, per_part=3, progress=progress)
    assert told == [(2, 5), (3, 5), (4, 5), (5, 5)]
    assert same(found, whole)


def test_parts_over_ray(
    tmp_path: Path, whole: Profile, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "joined already")  # few molecules are else done in process
    assert same(profiled(SMILES, "generated", str(tmp_path), per_part=5), whole)


def test_another_list_role_or_order_is_another_profile() -> None:
    names = {
        profile_key(SMILES, "generated"),
        profile_key(SMILES, "reference"),
        profile_key(SMILES[::-1], "generated"),
        profile_key(SMILES[1:], "generated"),
    }
    assert len(names) == 4


def test_known_smiles_are_canonical_and_without_a_network(tmp_path: Path) -> None:
    found = known_smiles(["OCC", "C(O)C", "nothing", "c1ccccc1"], str(tmp_path))
    assert found.to_pylist() == ["CCO", "CCO", "c1ccccc1"]
    assert profiled([], "known", str(tmp_path)).given == 0

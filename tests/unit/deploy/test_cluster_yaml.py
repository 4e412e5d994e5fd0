"""cluster.yaml against the schema `ray up` itself validates with."""

import json
from pathlib import Path

import jsonschema
import pytest
import ray
import yaml

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def schema() -> dict[str, object]:
    file = Path(ray.__file__).parent / "autoscaler" / "ray-schema.json"
    return json.loads(file.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def cluster() -> dict[str, object]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))


def test_ray_up_accepts_it(cluster: dict[str, object], schema: dict[str, object]) -> None:
    jsonschema.validate(cluster, schema)


def test_an_unknown_key_would_fail(cluster: dict[str, object], schema: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**cluster, "max_worker": 3}, schema)


def test_the_head_does_no_work_and_limits_add_up(cluster: dict) -> None:
    types = cluster["available_node_types"]
    assert types[cluster["head_node_type"]]["resources"]["CPU"] == 0
    workers = [t for name, t in types.items() if name != cluster["head_node_type"]]
    assert sum(t["max_workers"] for t in workers) <= cluster["max_workers"]

"""From a service's file to what Serve deploys."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import untrained
import yaml

from medray import api
from medray.errors import SpecError, UsageError
from medray.serve.plan import plan
from medray.serve.routes import Routes
from medray.spec.serve import ServeSpec

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, pseudonym_key: None) -> Path:
    """Two versions of a model, and another one."""
    folder = tmp_path_factory.mktemp("store")
    untrained.imaging(folder / "one")
    untrained.imaging(folder / "two", version="2", seed=1)
    untrained.imaging(folder / "other", name="other")
    return folder


def _spec(home: Path, *models: dict[str, Any], **more: Any) -> ServeSpec:
    placed = [{**one, "package": str(home / one["package"] / "package")} for one in models]
    return ServeSpec.model_validate({"models": placed, **more})


def test_every_version_is_an_application_and_the_door_knows_them(store: Path):
    made = plan(
        _spec(
            store,
            {"package": "one", "aliases": ["stable"], "queue": 7, "batch": {"most": 3}},
            {"package": "two", "weight": 0.25, "replicas": {"min": 0, "max": 3, "cpus": 2}},
            {"package": "other", "pooled": True},
            port=8123,
        )
    )
    config = made.config()
    first, second, pool, door = config["applications"]
    assert config["http_options"] == {"host": "127.0.0.1", "port": 8123}
    digests = [one.digest for one in made.routes.every]
    assert [first["name"], second["name"]] == [
        f"scans--1--{digests[0][:12]}",
        f"scans--2--{digests[1][:12]}",
    ]
    assert first["deployments"][0]["max_queued_requests"] == 7
    assert first["args"]["batch"]["most"] == 3
    scaling = second["deployments"][0]["autoscaling_config"]
    assert (scaling["min_replicas"], scaling["max_replicas"]) == (0, 3)
    assert second["deployments"][0]["ray_actor_options"]["num_cpus"] == 2
    assert (pool["name"], made.routes.of("other").app) == ("pool--cpu", "pool--cpu")
    assert door["route_prefix"] == "/"
    told = Routes.model_validate(door["deployments"][0]["user_config"])
    assert told == made.routes
    assert (told.of("scans@stable").version, told.of("scans@2").weight) == ("1", 0.25)
    assert [one["route_prefix"] for one in (first, second, pool)] == [None] * 3


def test_serve_itself_takes_the_configuration(store: Path, tmp_path: Path):
    spec = _spec(store, {"package": "one"}, {"package": "other", "pooled": True})
    text = api.serve_config(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Serve's own use of pydantic, too
        from ray.serve.schema import ServeDeploySchema

        read = ServeDeploySchema.model_validate(yaml.safe_load(text))
    assert {one.name for one in read.applications} >= {"door", "pool--cpu"}
    assert read.logging_config is not None
    assert not read.logging_config.enable_access_log


def test_only_what_needs_other_processes_stands_in_arguments(store: Path):
    small = plan(_spec(store, {"package": "one"})).config()["applications"]
    large = plan(
        _spec(store, {"package": "one", "replicas": {"max": 9}, "queue": 1, "timeout_s": 1})
    ).config()["applications"]
    assert [one["args"] for one in small] == [one["args"] for one in large]


def test_a_package_outside_the_store_is_refused(store: Path):
    with pytest.raises(UsageError, match="store"):
        plan(_spec(store, {"package": "one"}, store=str(store / "other")))
    with pytest.raises(UsageError, match="store"):
        plan(_spec(store, {"package": "other/../one"}, store=str(store / "other")))
    assert plan(_spec(store, {"package": "one"}, store=str(store)))


def test_two_entries_for_one_version_are_refused(store: Path):
    with pytest.raises(UsageError, match="scans@1 stands for two packages"):
        plan(_spec(store, {"package": "one"}, {"package": "one"}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"host": "0.0.0.0", "access": {"open": True}}, "open"),
        ({"haproxy": "on", "tls": {"certificate": "a", "key": "b"}}, "TLS"),
        ({"models": [{"package": "x", "replicas": {"min": 3, "max": 2}}]}, "min"),
        ({"prot": 1}, "did you mean 'port'"),
        ({"access": {"oidc": {"issuer": "i", "audience": "a", "jwks": "http://x.de"}}}, "https"),
    ],
)
def test_what_cannot_be_is_said_with_its_line(change: dict[str, Any], said: str, tmp_path: Path):
    file = tmp_path / "service.yaml"
    file.write_text(json.dumps({"models": [{"package": "x"}], **change}))
    with pytest.raises(SpecError, match=said):
        api.service_spec(str(file))


def test_the_ready_service_is_sound():
    spec = api.service_spec(str(ROOT / "jobs" / "ward" / "service.yaml"))
    assert spec.access.open
    changed = ["host=0.0.0.0", "access.open=false", "access.tokens=tokens.json"]
    assert not api.service_spec(str(ROOT / "jobs" / "ward" / "service.yaml"), changed).access.open

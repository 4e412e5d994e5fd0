"""Fixtures of all tests: one Ray cluster, a pseudonym key of their own."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from medray.spec.models import RunSpec

# Correctness is tested here, not speed: a busy machine must not fail an example.
settings.register_profile("medray", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("medray")


@pytest.fixture(scope="session", autouse=True)
def pseudonym_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test touches the user's key; the same key for the whole session."""
    before = os.environ.get("MEDRAY_KEY_FILE")
    os.environ["MEDRAY_KEY_FILE"] = str(tmp_path_factory.mktemp("key") / "pseudonym.key")
    yield
    if before is None:
        del os.environ["MEDRAY_KEY_FILE"]
    else:
        os.environ["MEDRAY_KEY_FILE"] = before


@pytest.fixture(scope="session")
def tiny_records(
    tmp_path_factory: pytest.TempPathFactory, pseudonym_key: None
) -> "tuple[Path, RunSpec]":
    """A small model of patients' records, and the run that made it: to read, not to change."""
    import tiny_records as made

    folder = tmp_path_factory.mktemp("records")
    return folder, made.trained(folder)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A local cluster for the session; "local", or it would join another one on the machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=256 << 20,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def data_context() -> Iterator[None]:
    """What a test sets in Ray Data's context ends with it."""
    if "ray.data" not in sys.modules:
        yield
        return
    from ray.data import DataContext

    before = DataContext.get_current().copy()
    yield
    DataContext._set_current(before)


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """The command line in this process: arguments → exit code, stdout, stderr."""
    from medray.cli import main

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["medray", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return call

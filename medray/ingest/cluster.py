"""Ray, started or joined once per process, quietly, with settings that small jobs need.

The only place that calls `ray.init`. Nothing is reported to anybody.
"""

import logging
import os
from typing import Any

import ray
from ray.data import DataContext

from medray.errors import MedrayError

_ATTEMPTS = 3  # a local cluster has 30 s to start, which a loaded machine may pass


def ensure_ray() -> None:
    """Join the cluster of RAY_ADDRESS, else start a local one; nothing if already connected.

    Raises MedrayError when the cluster cannot be reached.
    """
    if not ray.is_initialized():
        _connect(os.environ.get("RAY_ADDRESS"))
    _configure(DataContext.get_current())


def _connect(address: str | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray announces that a future version will no longer hide GPUs from tasks that ask for none.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    for attempt in range(_ATTEMPTS):
        try:
            # Without "local" an address file of another cluster on this machine would be used.
            ray.init(address=address or "local", **({} if address else _local()), **quiet)
        except Exception as error:  # Ray raises what it likes, among it plain Exception
            ray.shutdown()
            if address or attempt + 1 == _ATTEMPTS:
                raise _failed(address, error) from error
        else:
            return


def _failed(address: str | None, error: Exception) -> MedrayError:
    if address:
        return MedrayError(
            f"the cluster of RAY_ADDRESS cannot be joined: {type(error).__name__}",
            remedy="check RAY_ADDRESS, or unset it to work on this machine alone",
        )
    return MedrayError(
        f"a local Ray cluster cannot be started: {type(error).__name__}",
        remedy="check free memory and disk and the machine's load, or set RAY_ADDRESS",
    )


def _local() -> dict[str, Any]:
    # A pool of actors and the tasks that feed it need two CPUs not to wait for each other.
    return {"include_dashboard": False, "num_cpus": max(2, os.cpu_count() or 2)}


def _configure(context: DataContext) -> None:
    context.enable_progress_bars = False
    context.read_op_min_num_blocks = 4  # the default of 200 costs seconds on small tables
    context.enable_operator_progress_bars = False
    context.print_on_execution_start = False
    context.use_ray_tqdm = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)

"""The Serve applications of a service, as its configuration names them; see `launch.Plan`.

    applications:
      - {name: breast--1--0123456789ab, import_path: medray.serve.app:model, args: {…}}
      - {name: door, route_prefix: /, import_path: medray.serve.app:door, args: {…}}

Arguments hold what needs other processes when it changes. What Serve changes in those that run —
numbers of replicas, queues, the door's routes — stands under `deployments` of each application.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.serve import Application

from medray.spec.serve import BatchSpec, FrontSpec


class _Args(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelArgs(_Args):
    """Arguments of `model`. digest: of the package, so that another one is another deployment."""

    package: str
    digest: str
    device: str = "cpu"
    batch: BatchSpec = BatchSpec()


class PoolArgs(_Args):
    """Arguments of `pool`. resident: models that a replica holds at most."""

    resident: int
    device: str = "cpu"
    batch: BatchSpec = BatchSpec()


class DoorArgs(_Args):
    """Arguments of `door`."""

    front: FrontSpec


def model(args: ModelArgs) -> Application:
    """Build the application of one model version."""
    from medray.serve.replica import Replica

    made: Any = serve.deployment(name="model")(Replica)
    return made.bind(args.package, args.digest, args.device, args.batch.model_dump())


def pool(args: PoolArgs) -> Application:
    """Build the application of the models that share replicas."""
    from medray.serve.replica import Pool

    made: Any = serve.deployment(name="pool")(Pool)
    return made.bind(args.resident, args.device, args.batch.model_dump())


def door(args: DoorArgs) -> Application:
    """Build the application that answers HTTP."""
    from medray.serve.door import Door

    made: Any = serve.deployment(name="door")(serve.ingress()(Door))
    return made.bind(args.front.model_dump(mode="json"))

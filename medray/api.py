"""One function per verb. The command line only parses, shows progress and prints.

Every function takes the path of a spec (or a RunSpec) and `sets`, its `key.path=value` overrides,
and returns what the verb has to say as a value. Imports are inside the functions, so that
`medray --help` starts neither torch nor Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medray.crossval import CrossvalResult
    from medray.demo.run import DemoSummary
    from medray.embedding import EmbedSummary
    from medray.evaluate import EvaluationResult
    from medray.evaluate.makers import MakerResult
    from medray.explain.events import Explanation
    from medray.export import MedsSummary
    from medray.generate import GenerateSummary
    from medray.ingest.molecules_summary import MoleculesSummary
    from medray.ingest.records_summary import RecordsSummary
    from medray.ingest.summary import IngestSummary
    from medray.inspection import Inspection
    from medray.reinforce import ReinforceResult
    from medray.score.prediction import FilePrediction, MoleculesPrediction, TablesPrediction
    from medray.score.summary import ScoreSummary
    from medray.serve.access.token_file import NewToken
    from medray.serve.access.tokens import Token
    from medray.serve.access.verify import AuditCheck
    from medray.serve.launch import Service
    from medray.spec.models import RunSpec
    from medray.spec.serve import ServeSpec
    from medray.train.driver import TrainResult

Progress = Callable[[dict[str, Any]], None]


def validate(spec: str | RunSpec, sets: Sequence[str] = ()) -> RunSpec:
    """Read a spec and check all of it, the workload's params included.

    Raises SpecError listing every problem.
    """
    from medray.spec.load import load_spec
    from medray.spec.models import RunSpec as Model

    if isinstance(spec, Model):
        return spec
    from medray.workloads import WORKLOADS

    models = {name: workload.params_model for name, workload in WORKLOADS.items()}
    return load_spec(spec, sets, models)


def ingest(
    spec: str | RunSpec, sets: Sequence[str] = (), progress: Progress | None = None
) -> IngestSummary | RecordsSummary | MoleculesSummary:
    """Archive, tables or molecules → dataset. Does only what is new or changed since last time."""
    from medray.ingest import ingest as of_images
    from medray.ingest import ingest_molecules, ingest_records

    checked = validate(spec, sets)
    if checked.records is not None:
        return ingest_records(checked, progress=progress)
    if checked.molecules is not None:
        return ingest_molecules(checked, progress=progress)
    return of_images(checked, progress=progress)


def train(
    spec: str | RunSpec, sets: Sequence[str] = (), progress: Progress | None = None
) -> TrainResult:
    """Dataset → package. Run again after an interruption, it resumes."""
    from medray.train import train as run

    return run(validate(spec, sets), progress=progress)


def reinforce(
    spec: str | RunSpec, sets: Sequence[str] = (), progress: Progress | None = None
) -> ReinforceResult:
    """A package that makes molecules → another that makes more of the wanted ones.

    Run again after an interruption, it resumes.
    """
    from medray.reinforce import reinforce as run

    return run(validate(spec, sets), progress=progress)


def evaluate(
    spec: str | RunSpec, sets: Sequence[str] = (), progress: Progress | None = None
) -> EvaluationResult | MakerResult:
    """Package + `held_out` → report (HTML, JSON) and the package's model card."""
    from medray.evaluate import evaluate as run

    return run(validate(spec, sets), progress=progress)


def crossval(
    spec: str | RunSpec, sets: Sequence[str] = (), progress: Progress | None = None
) -> CrossvalResult:
    """Train and judge every fold of `split.folds`, side by side on Ray."""
    from medray.crossval import crossval as run

    return run(validate(spec, sets), progress=progress)


def score(
    spec: str | RunSpec, sets: Sequence[str] = (), progress: Progress | None = None
) -> ScoreSummary:
    """Package + archive → predictions, each item once, only what this package has not scored."""
    from medray.score import score as run

    return run(validate(spec, sets), progress=progress)


def predict(
    package: str,
    files: Sequence[str],
    explain: str | None = None,
    device: str = "auto",
    *,
    every: bool = False,
    source: int | None = None,
) -> Sequence[FilePrediction | TablesPrediction | MoleculesPrediction]:
    """Score files in this process, without Ray.

    Images: one answer per file; `explain` is a folder for heat-map PNGs. Tables of records (or
    folders of them): one answer for all; `every`: at all times that the task learns from, instead
    of the latest; `source`: which of the package's `records.sources` they are, from 1. Molecules:
    files, SMILES themselves, or `-` for lines of standard input; `explain` is a folder for
    structures coloured by what each atom added.
    """
    from medray.score.predictor import Predictor

    predictor = Predictor(package, device=device)
    if predictor.package.reads == "records":
        from medray.score.files import predict_tables

        return [predict_tables(predictor, files, explain=explain, every=every, source=source)]
    if predictor.package.reads == "molecules":
        from medray.score.structures import predict_molecules

        return [predict_molecules(predictor, files, explain=explain, every=every, source=source)]
    from medray.score.pictures import predict_files

    return predict_files(predictor, files, explain=explain, every=every, source=source)


def explain(
    package: str,
    subject: str,
    *,
    dataset: str | None = None,
    at: str | None = None,
    target: str | None = None,
    out: str | None = None,
    top: int = 20,
    device: str = "auto",
) -> tuple[Explanation, dict[str, str]]:
    """What the prediction for a patient rests on, and the files written into the folder `out`.

    See `medray.explanation.explain`; `top` events stand in the page's table.
    """
    from medray.explanation import explain as run
    from medray.explanation import write

    found = run(package, subject, dataset=dataset, at=at, target=target, device=device)
    return found, {} if out is None else write(found, out, top)


def embed(
    package: str,
    dataset: str,
    time: str,
    out: str,
    dimensions: int = 16,
    progress: Progress | None = None,
) -> EmbedSummary:
    """What an imaging package sees in the scans of a dataset → events for `records.sources`."""
    from medray.embedding import embed as run

    return run(package, dataset, time, out, dimensions, progress=progress)


def export_meds(
    source: str | RunSpec, out: str, sets: Sequence[str] = (), progress: Progress | None = None
) -> MedsSummary:
    """Dataset of timelines → a folder in the Medical Event Data Standard (MEDS 0.4).

    source  a spec, whose task gives the labels, or the output folder of a run.
    """
    from medray.export import export_meds as run

    if isinstance(source, str) and not source.lower().endswith((".yaml", ".yml")):
        return run(source, out, progress=progress)
    checked = validate(source, sets)
    return run(checked.dataset_uri, out, checked, progress)


def generate(
    package: str,
    out: str,
    *,
    toxicity: Sequence[str] = (),
    dataset: str | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    **asked: Any,
) -> GenerateSummary:
    """A package that makes molecules → new ones, as a table, CSV, SDF and a page of drawings.

    asked     fields of `medray.generate.asked.Asked`: count, seed, way, temperature, filters,
              unlike_training, by, lowest, formats.
    toxicity  packages that say something of each molecule. dataset: what molecules are compared
              with; absent: the one the package was trained on, if it lies beside it.
    Stopped or killed, the same call goes on where it was.
    """
    from pydantic import ValidationError

    from medray.errors import UsageError
    from medray.generate import generate as run
    from medray.generate.asked import Asked

    try:
        wanted = Asked.model_validate(asked)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise UsageError(f"{name}: {first['msg']}", remedy="see `medray generate --help`") from None
    return run(
        package,
        out,
        wanted,
        toxicity=toxicity,
        dataset=dataset,
        device=device,
        progress=progress,
    )


def token_new(
    name: str,
    scopes: Sequence[str],
    file: str,
    *,
    per_minute: int | None = None,
    days: int | None = None,
) -> NewToken:
    """Make a bearer token for a service, its hash written into the file. It is told once.

    days: after these it expires. Raises UsageError.
    """
    from medray.serve.access.token_file import new_token

    return new_token(Path(file), name, scopes, per_minute, days)


def token_list(file: str) -> Sequence[Token]:
    """What a tokens file holds: names, scopes, dates; never a token. Raises UsageError."""
    from medray.serve.access.tokens import read

    return read(Path(file)).tokens


def token_revoke(name: str, file: str) -> Token:
    """Make a token worthless from now on. Raises UsageError."""
    from medray.serve.access.token_file import revoke_token

    return revoke_token(Path(file), name)


def audit_verify(folder: str) -> AuditCheck:
    """Check that no line of a service's audit was changed or taken out. Raises UsageError."""
    from medray.serve.access.verify import verify

    return verify(Path(folder))


def inspect(path: str) -> Inspection:
    """What a path is — run, archive, dataset, package, predictions — and what it holds."""
    from medray.inspection import inspect as run

    return run(path)


def serve(
    service: str | ServeSpec,
    sets: Sequence[str] = (),
    address: str | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Service:
    """Start a service, a context: the end of it ends the service, if it runs on this machine.

    address  of a Ray cluster to deploy on; absent: processes of this machine.
    tell     is told what is going on.
    """
    from medray.serve.launch import Service

    found = Service(tell, address)
    found.start(service_spec(service, sets))
    return found


def service_spec(service: str | ServeSpec, sets: Sequence[str] = ()) -> ServeSpec:
    """Read a service's file. Raises SpecError listing every problem."""
    from medray.spec.load import load_service
    from medray.spec.serve import ServeSpec as Model

    return service if isinstance(service, Model) else load_service(service, sets)


def serve_config(service: str | ServeSpec, sets: Sequence[str] = ()) -> str:
    """What `serve deploy` and a RayService's `serveConfigV2` take, as YAML."""
    from medray.serve.plan import plan
    from medray.spec.yaml_source import dump

    return dump(plan(service_spec(service, sets)).config())


def workloads() -> dict[str, str]:
    """Name → one line, for every prediction task medray knows."""
    from medray.workloads import WORKLOADS

    return {name: workload.summary for name, workload in WORKLOADS.items()}


def demo(
    output: str = "runs/demo",
    archive: str | None = None,
    labels: str | None = None,
    progress: Progress | None = None,
) -> DemoSummary:
    """The whole way on a small archive made on the spot, or on the user's own."""
    from medray.demo.run import run_demo

    return run_demo(Path(output), archive, labels, progress)

"""The verb for packages that make molecules: draws beside held-out → report and model card.

Each way of the package, and packages named beside it, are drawn from and measured in the same way
(MOSES metrics). What is drawn and profiled is kept in report/, so that a killed run goes on.

    report/samples/   what was drawn, in order, valid or not
    report/profiles/  what was computed of each molecule: see medray.score.profiles

Shapes: N molecules, D latent.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from medray import storage
from medray.dataset import MoleculesDataset
from medray.errors import DataError, PackageError
from medray.evaluate.standing import history_of, provenance_of, record_opening
from medray.evaluate.verdict import compare, measured, verdict
from medray.generate.draws import CHUNK
from medray.generate.page import AXES, PROPERTIES, card_of
from medray.generate.texts import TEXTS, TextJob, draw_texts
from medray.molecules.metrics.moses import moses_metrics
from medray.molecules.metrics.profile import Profile
from medray.molecules.metrics.published import published_rows
from medray.molecules.text import as_bytes, strings
from medray.package import Task, add_evaluation
from medray.report.gallery import Card
from medray.report.generator_card import generator_metrics, render_generator_card
from medray.report.generator_page import Drawn, render_generator
from medray.report.generators import GeneratorReport, MakerRow, Measured, SetRow, one_line
from medray.report.molecule_plots import distribution_svg, latents_svg
from medray.score.predictor import Predictor
from medray.score.profiles import known_smiles, profiled
from medray.spec.models import SPLITS, RunSpec
from medray.train.source import open_run

compute: Any = pc
Array = NDArray[Any]
Progress = Callable[[dict[str, Any]], None]

_LATENTS = 2_000  # held-out molecules whose latents are drawn
_SHOWN = 24  # molecules drawn in the report
_OTHER_DATA = (
    "The package was not trained on this version of the dataset: molecules it learned from may "
    "stand in held-out here, and what is new is told by this version's train."
)


@dataclass(frozen=True, slots=True)
class MakerResult:
    """Where the report lies and what it says."""

    report: GeneratorReport
    html_uri: str
    json_uri: str
    package: str
    openings: int

    def headline(self) -> str:
        """One line for a terminal."""
        return one_line(self.report)

    def to_dict(self) -> dict[str, Any]:
        """Facts as JSON."""
        return {
            "report": self.html_uri,
            "json": self.json_uri,
            "package": self.package,
            "verdict": self.report.verdict,
            "draws": self.report.samples,
            "samplings": self.report.samplings,
            "openings": self.openings,
            "notes": list(self.report.notes),
        }


@dataclass(frozen=True, slots=True)
class _Maker:
    """One way to measure: of the package itself, or of one beside it."""

    name: str
    predictor: Predictor
    way: str
    own: bool


@dataclass(frozen=True, slots=True)
class _Evaluation:
    spec: RunSpec
    folder: str
    tell: Progress
    task: Task | None

    def stage(self, name: str, unit: str, each: int = 1) -> Callable[[int, int], None]:
        """Progress of a stage, `each` units per step."""

        def tell(done: int, total: int) -> None:
            event = {"stage": name, "done": done * each, "total": total * each, "unit": unit}
            self.tell(event)

        return tell

    def profile(self, name: str, smiles: Sequence[str], role: Any) -> Profile:
        """What is computed of each molecule, once for a report's folder."""
        place = storage.join(self.folder, "profiles")
        return profiled(smiles, role, place, progress=self.stage(name, "parts"))


def evaluate_maker(
    spec: RunSpec, *, progress: Progress | None = None, workload: Task | None = None
) -> MakerResult:
    """Measure the run's package against `held_out`; writes report/ and the package's model card.

    Raises DataError when `held_out` is empty, PackageError for a package that is not intact or
    makes nothing.
    """
    folder = storage.absolute(storage.join(spec.output_uri, "report"))
    job = _Evaluation(spec, folder, progress or (lambda _: None), workload)
    package_uri = storage.absolute(storage.join(spec.output_uri, "package"))
    predictor = Predictor(package_uri, "auto", workload)
    makers = list(_makers(job, predictor))
    dataset = open_run(spec)
    if not isinstance(dataset, MoleculesDataset):
        raise DataError("this is no dataset of molecules", remedy="see `dataset` of the spec")
    references = _references(job, dataset)
    openings = record_opening(spec, predictor.package)
    known = known_smiles(
        strings(dataset.smiles("train")),
        storage.join(folder, "profiles"),
        progress=job.stage("train", "parts"),
    )
    made = {maker.name: _sampled(job, maker) for maker in makers}
    rows = [_row(maker, made[maker.name], references, known) for maker in makers]
    fcd = f"FCD/{next(iter(references))}"
    comparisons = tuple(compare(rows[0], rival, fcd) for rival in rows[1:])
    latents, explained = _latents(predictor, dataset, spec.seed)
    fingerprint = dataset.fingerprint()
    package = predictor.package
    report = GeneratorReport(
        name=package.name,
        version=package.version,
        workload=package.workload,
        dataset=dataset.meta.name,
        notes=() if package.lineage.get("dataset") == fingerprint else (_OTHER_DATA,),
        samples=spec.evaluate.samples,
        samplings=spec.evaluate.samplings,
        references=tuple(references),
        sets=_sets(dataset),
        makers=(*rows, *_published(spec, tuple(references))),
        comparisons=comparisons,
        verdict=verdict(rows[0], comparisons),
        explained=explained,
        history=history_of(package.metrics.get("history") or []),
        openings=openings,
        provenance=provenance_of(spec, package, fingerprint),
        spec=spec.model_dump(mode="json"),
    )
    drawn = Drawn(
        distributions=tuple(_distributions(references, made)),
        latents=latents,
        molecules=tuple(_cards(made[makers[0].name][0])),
    )
    html_uri, json_uri = storage.join(folder, "report.html"), storage.join(folder, "report.json")
    storage.write_atomic(html_uri, render_generator(report, drawn).encode())
    storage.write_atomic(json_uri, (report.model_dump_json(indent=1) + "\n").encode())
    add_evaluation(package, generator_metrics(report), render_generator_card(report))
    return MakerResult(report, html_uri, json_uri, package.ref, len(openings))


def _makers(job: _Evaluation, predictor: Predictor) -> Iterator[_Maker]:
    """Every way of the package, then the first way of those beside it."""
    for way in predictor.ways:
        yield _Maker(way, predictor, way, own=True)
    for uri in job.spec.evaluate.beside:
        beside = Predictor(storage.absolute(uri), "auto", job.task)
        way = beside.ways[0]
        if beside.package.digest == predictor.package.digest:
            raise PackageError(
                f"{beside.package.ref} stands beside itself", remedy="see `evaluate.beside`"
            )
        yield _Maker(f"{beside.package.name} ({way})", beside, way, own=False)


def _references(job: _Evaluation, dataset: MoleculesDataset) -> dict[str, Profile]:
    """Held-out molecules by source, in the order of the spec that they were ingested by."""
    present = compute.unique(dataset.rows("held_out")["source"]).to_pylist()
    if not present:
        raise DataError(
            "the held_out split is empty: there is nothing to compare with",
            remedy="give a source `split: held_out`, or `split.fractions.held_out` a share above 0",
        )
    listed = [one.name for one in dataset.meta.molecules.sources]
    order = sorted(present, key=lambda name: (listed.index(name) if name in listed else 99, name))
    return {
        name: job.profile(name, strings(dataset.smiles("held_out", name)), "reference")
        for name in order
    }


def _sampled(job: _Evaluation, maker: _Maker) -> list[Profile]:
    """A profile per sampling: of draws that lie in report/samples, or are made now."""
    found: list[Profile] = []
    asked, package = job.spec.evaluate, maker.predictor.package
    for number in range(asked.samplings):
        name = f"{package.digest[:12]}-{maker.way}-{job.spec.seed}-{number}-{asked.samples}"
        place = storage.join(job.folder, "samples", f"{name}.parquet")
        if not storage.exists(place):
            staging = storage.join(job.folder, "samples", name)
            device = maker.predictor.device.type
            seed = int(np.random.SeedSequence([job.spec.seed, number]).generate_state(1)[0] >> 1)
            texts = draw_texts(
                TextJob(package.uri, device, maker.way, seed, job.task),
                asked.samples,
                staging,
                gpus=1.0 if device == "cuda" else 0.0,
                progress=job.stage(f"draw {maker.name}", "draws", CHUNK),
            )
            table = pa.table([list(range(len(texts))), texts], schema=TEXTS)
            storage.write_parquet(place, table)
            storage.remove_tree(staging)
        texts = storage.read_parquet([place], TEXTS)["text"].to_pylist()
        found.append(job.profile(f"measure {maker.name}", texts, "generated"))
    return found


def _row(
    maker: _Maker,
    made: Sequence[Profile],
    references: Mapping[str, Profile],
    known: pa.ChunkedArray,
) -> MakerRow:
    each = [moses_metrics(one, references, known).to_dict() for one in made]
    return MakerRow(
        name=maker.name,
        kind="way" if maker.own else "beside",
        package=maker.predictor.package.ref,
        measures={name: measured([row[name] for row in each]) for name in each[0] if name != "n"},
    )


def _published(spec: RunSpec, references: Sequence[str]) -> list[MakerRow]:
    """Rows of the benchmark that the spec names."""
    if spec.evaluate.published is None:
        return []
    return [
        MakerRow(
            name=name,
            kind="published",
            measures={
                column: Measured(values=(value,), mean=value, deviation=None)
                for column, value in row.items()
            },
        )
        for name, row in published_rows(references).items()
    ]


def _sets(dataset: MoleculesDataset) -> tuple[SetRow, ...]:
    rows: list[SetRow] = []
    for split in SPLITS:
        counted = compute.value_counts(dataset.rows(split)["source"]).to_pylist()
        for one in sorted(counted, key=lambda each: each["values"]):
            rows.append(SetRow(split=split, source=one["values"], molecules=one["counts"]))
    return tuple(rows)


# ---------------------------------------------------------------- what is drawn


def _distributions(
    references: Mapping[str, Profile], made: Mapping[str, Sequence[Profile]]
) -> Iterator[tuple[str, str]]:
    """Title and SVG of every property: held-out, then the first sampling of each maker."""
    first, reference = next(iter(references.items()))
    for name in PROPERTIES:
        sets = {first: reference.values(name)}
        sets |= {maker: each[0].values(name) for maker, each in made.items()}
        if all(len(values) for values in sets.values()):
            yield name, distribution_svg(name, sets, AXES[name])


def _latents(
    predictor: Predictor, dataset: MoleculesDataset, seed: int
) -> tuple[str, tuple[float, float] | None]:
    """Latents of held-out and of every way on the first two components of the former."""
    smiles = strings(dataset.smiles("held_out"))
    chosen = np.random.default_rng(seed).permutation(len(smiles))[:_LATENTS]
    some = as_bytes([smiles[at] for at in np.sort(chosen)])
    found = predictor.latents({"smiles": some}, seed)
    data_ND = found.get("data")
    if data_ND is None or min(data_ND.shape) < 2:
        return "", None
    centre_D = data_ND.mean(axis=0)
    _, scale, axes_DD = np.linalg.svd(data_ND - centre_D, full_matrices=False)
    shares = scale**2 / max(float((scale**2).sum()), 1e-12)
    explained = (float(shares[0]), float(shares[1]))
    names = {"data": "held-out"}
    points = {
        names.get(way, way): (each_ND - centre_D) @ axes_DD[:2].T for way, each_ND in found.items()
    }
    return latents_svg(points, explained), explained


def _cards(profile: Profile) -> Iterator[Card]:
    """The first distinct valid molecules, unselected."""
    valid = profile.molecules.filter(profile.molecules["smiles"].is_valid())
    seen = set[str]()
    for row in valid.slice(0, 10 * _SHOWN).to_pylist():
        if row["smiles"] not in seen and len(seen) < _SHOWN:
            seen.add(row["smiles"])
            yield card_of({**row, "rank": len(seen)}, PROPERTIES)

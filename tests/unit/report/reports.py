"""Reports of made-up results, for tests of what renders them."""

import numpy as np

from medray.calibration import Calibration, TargetCalibration
from medray.evaluate.cohort import cohort_of
from medray.evaluate.mistakes import binary_mistakes
from medray.evaluate.multiclass import multiclass_result
from medray.evaluate.results import Scored, Settings, binary_result
from medray.explain.heatmap import heatmap_png
from medray.report.document import History, Opening, Provenance, Report
from medray.spec.models import EvaluateSpec, RunSpec
from medray.workload import Target

CLASSES = ("one", "two", "three")
N = 120


def objects(values):
    return np.array(list(values), dtype=object)


def make_report(binary=("finding",), multiclass=(), one_outcome=(), name="demo", images=1):
    """A report on N held-out items; `images` of each patient."""
    rng = np.random.default_rng(0)
    subjects = objects(f"patient{i // images:04d}" for i in range(N))
    items = objects(f"item{i:04d}" for i in range(N))
    settings = Settings(EvaluateSpec(replicates=100, prevalence=0.05), seed=0)
    groups = {
        "PatientSex": objects("F" if i % 2 else "M" for i in range(N)),
        "Manufacturer": objects("Tiny <Devices>" if i < 7 else "Acme" for i in range(N)),
    }
    results, targets, truths = [], [], {}
    for target in (*binary, *one_outcome):
        truth = (rng.random(N) < 0.4).astype(float) * (target not in one_outcome)
        logits = rng.normal(size=N) + 1.5 * truth - 0.7
        entry = TargetCalibration(kind="binary", temperature=1.4, threshold=0.4, rule="youden")
        calibration = Calibration(targets={target: entry})
        scored = Scored(items, subjects, truth, logits)
        result = binary_result(target, scored, None, calibration, groups, settings)
        found = [] if result.undefined else binary_mistakes(target, scored, calibration, 2)
        named = [m.model_copy(update={"picture": f"{target}{i}"}) for i, (_, m) in enumerate(found)]
        results.append(result.model_copy(update={"mistakes": tuple(named)}))
        targets.append(Target(target, "binary"))
        truths[target] = truth
    for target in multiclass:
        truth = rng.integers(0, 3, N).astype(float)
        logits = rng.normal(size=(N, 3)) + 2 * np.eye(3)[truth.astype(int)]
        entry = TargetCalibration(kind="multiclass", classes=CLASSES)
        results.append(
            multiclass_result(
                target,
                CLASSES,
                Scored(items, subjects, truth, logits),
                None,
                Calibration(targets={target: entry}),
                groups,
                settings,
            )
        )
        targets.append(Target(target, "multiclass", CLASSES))
        truths[target] = truth
    spec = RunSpec.model_validate({"name": name, "ingest": {"archive": "s3://bucket/archive"}})
    return Report(
        name=name,
        version="1",
        workload="imaging",
        dataset=name,
        notes=("Mind the <gap>.",),
        min_patients=10,
        replicates=100,
        cohort=cohort_of(targets, truths, objects(["held_out"] * N), subjects, subjects),
        targets=tuple(results),
        history=History(
            epochs=(1, 2, 3),
            best_epoch=2,
            series={"training loss": (0.7, 0.5, 0.4), "tuning auroc": (None, 0.8, 0.7)},
        ),
        openings=(Opening(time="2026-01-01T00:00:00+00:00", package="a" * 64),),
        provenance=Provenance(
            created="2026-01-01T00:00:00+00:00",
            package=f"{name}@1#aaaaaaaaaaaa",
            package_digest="a" * 64,
            data_fingerprint="b" * 64,
            spec_sha256="c" * 64,
            software={"medray": "0", "libraries": {"torch": "2"}},
            lineage={"dataset": "b" * 64},
        ),
        spec=spec.model_dump(mode="json"),
    )


def pictures_of(report):
    """A picture with a heat map for every mistake that names one."""
    picture = np.arange(256, dtype=np.uint8).reshape(16, 16)
    png = heatmap_png(picture, np.linspace(0, 1, 256).reshape(16, 16))
    return {m.picture: png for r in report.targets for m in r.mistakes if m.picture}

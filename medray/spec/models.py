"""The sections of a run's YAML file. Every default a user can rely on stands here."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from medray.spec.base import Section
from medray.spec.molecules import MoleculeSource, MoleculesSpec
from medray.spec.pixels import PixelSpec
from medray.spec.records import RecordSource, RecordsSpec
from medray.spec.reinforce import ReinforceSpec

SPLITS = ("train", "tuning", "held_out")

JoinKey = Literal[
    "sop_instance_uid",
    "series_instance_uid",
    "study_instance_uid",
    "accession_number",
    "patient_id",
    "path",
    "class_folder",
]


class TableSpec(Section):
    """A CSV or Parquet table joined to the archive: labels, or facts about patients.

    on        what of the archive the key column is compared with.
    key       the table's key column; absent: the column named as `on`.
    columns   the columns to take; absent: all but the key.
    required  an item that no row matches is rejected (`no_label`) instead of left unlabelled.
    """

    path: str
    on: JoinKey
    key: str | None = None
    columns: tuple[str, ...] | None = None
    required: bool = False


class SelectSpec(Section):
    """Which images of the archive to take; what is left out is counted as `not_selected`."""

    modality: tuple[str, ...] | None = None
    sop_class_uid: tuple[str, ...] | None = None


class IngestSpec(Section):
    """From an archive to a dataset.

    archive       folders, ZIPs or files; local paths, s3:// or gs:// (one or several).
    columns       DICOM keywords kept beside the pixels (e.g. PatientSex, Manufacturer).
    subject       what makes two items the same patient.
    reject_limit  rejected share of the readable files above which the run ends with exit code 3.
    """

    archive: tuple[str, ...]
    pixels: PixelSpec = PixelSpec()
    columns: tuple[str, ...] = ("Modality", "PatientSex", "PatientAge", "Manufacturer")
    tables: tuple[TableSpec, ...] = ()
    select: SelectSpec = SelectSpec()
    subject: Literal["patient_id", "study_instance_uid", "file"] = "patient_id"
    reject_limit: float = Field(default=0.05, ge=0, le=1)
    files_per_task: int = Field(default=64, ge=1)

    @field_validator("archive", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class SplitSpec(Section):
    """Who is learned from, tuned on and held out: by a column of a joined table, or by subject.

    column            a joined column holding train, tuning or held_out.
    fractions         shares of subjects, when no column is given; assignment is a keyed hash of
                      the subject, so that it never moves when the archive grows.
    folds, fold       cross-validation: the patients in `folds` parts, of which number `fold`
                      (from 0) is held out, whatever the dataset's own split; `medray crossval`
                      goes through all of them.
    by, seed          molecules: drawn one by one (`subject`) or by whole scaffolds (`scaffold`,
                      balanced as in chemprop): what is held out is unlike what was learned from.
                      The same draw everywhere, as structures are nobody's secret. Folds follow it.
    identical_images  bit-identical pictures in two splits `fail` the run, or `drop` leaves out
                      those outside the first split they stand in (held_out, tuning, train).
    """

    column: str | None = None
    fractions: dict[Literal["train", "tuning", "held_out"], float] = Field(
        default={"train": 0.7, "tuning": 0.1, "held_out": 0.2}
    )
    folds: int | None = Field(default=None, ge=2, le=100)
    fold: int | None = Field(default=None, ge=0)
    by: Literal["subject", "scaffold"] = "subject"
    seed: int = Field(default=0, ge=0)
    identical_images: Literal["fail", "drop"] = "fail"

    @model_validator(mode="after")
    def _fold_is_one_of_them(self) -> Self:
        if self.fold is not None and (self.folds is None or self.fold >= self.folds):
            raise ValueError("`fold` is a number from 0, below `folds`")
        return self

    @property
    def tuning_share(self) -> float:
        """Share of those not held out that tune."""
        train, tuning = self.fractions.get("train", 0.0), self.fractions.get("tuning", 0.0)
        return tuning / (train + tuning) if train + tuning > 0 else 0.0

    @model_validator(mode="after")
    def _fractions_sum_to_one(self) -> Self:
        if abs(sum(self.fractions.values()) - 1) > 1e-6 or min(self.fractions.values()) < 0:
            raise ValueError("fractions must be non-negative and sum to 1")
        return self


class OptimizerSpec(Section):
    """The optimizer of every objective. weight_decay is L2 (decoupled for adamw)."""

    name: Literal["adamw", "adam", "rmsprop", "sgd"] = "adamw"
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)


class ScheduleSpec(Section):
    """Learning rate over the run: linear warm-up, then constant or cosine to `floor` × lr."""

    warmup_epochs: float = Field(default=0, ge=0)
    decay: Literal["constant", "cosine"] = "cosine"
    floor: float = Field(default=0.01, ge=0, le=1)


class EarlyStoppingSpec(Section):
    """Stop when the monitored tuning metric has not improved for `patience` epochs."""

    patience: int = Field(default=10, ge=1)
    min_delta: float = Field(default=0.0, ge=0)


class TrainSpec(Section):
    """The loop.

    batch_size  items per update over all workers together.
    average     share of the exponential moving average of weights kept per step (0: off);
                the averaged weights are what is tuned on, checkpointed as best and packaged.
    keep        which epoch is packaged: the `best` on the monitored tuning metric, or the `last`.
                The better choice for a full cosine schedule on a small tuning split, where the
                best of many epochs is the luckiest one.
    cache       `memory`: the split is held in memory; `stream`: it is read again in each epoch,
                images by Ray Data, timelines shard by shard; `auto`: memory when it fits in a
                quarter of the machine's.
    workers     0: in this process, no cluster; n: Ray Train with n workers.
    precision   `auto`: bfloat16 autocast on GPUs that support it, else float32.
    """

    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=64, ge=1)
    epoch_steps: int | None = Field(default=None, ge=1)
    optimizer: OptimizerSpec = OptimizerSpec()
    schedule: ScheduleSpec = ScheduleSpec()
    l1: float = Field(default=0.0, ge=0)
    clip_norm: float | None = Field(default=1.0, gt=0)
    average: float = Field(default=0.0, ge=0, lt=1)
    keep: Literal["best", "last"] = "best"
    early_stopping: EarlyStoppingSpec | None = None
    cache: Literal["auto", "memory", "stream"] = "auto"
    workers: int = Field(default=0, ge=0)
    gpus_per_worker: float = Field(default=0, ge=0)
    cpus_per_worker: float = Field(default=1, gt=0)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    @model_validator(mode="after")
    def _stopping_needs_the_best(self) -> Self:
        if self.keep == "last" and self.early_stopping is not None:
            raise ValueError("early_stopping goes with `keep: best`; the last epoch is all of them")
        return self


class WantedSensitivity(Section):
    """The highest threshold that reaches this sensitivity on `tuning`."""

    sensitivity: float = Field(gt=0, le=1)


class EvaluateSpec(Section):
    """The report.

    operating_point  how the decision threshold is chosen on `tuning`.
    prevalence       where the model will be used; PPV and NPV are given there too.
    subgroups        columns of the dataset to break results down by.
    min_patients     groups smaller than this are suppressed.
    baselines        simple models on the same items stand beside the network (records,
                     molecules).
    samples          of a package that makes molecules: how many are drawn in each sampling, invalid
                     ones among them. Distances of sets depend on it: compare like with like.
    samplings        how often: from their spread the report says whether a difference is one.
    beside           folders of packages to measure in the same way, such as a language model.
    published        rows of a benchmark to show beside, where the data is its own.
    """

    operating_point: Literal["youden"] | WantedSensitivity = "youden"
    prevalence: float | None = Field(default=None, gt=0, lt=1)
    replicates: int = Field(default=1000, ge=100)
    subgroups: tuple[str, ...] = ("PatientSex", "PatientAge", "Manufacturer", "Modality")
    min_patients: int = Field(default=10, ge=1)
    mistakes: int = Field(default=6, ge=0)
    baselines: bool = True
    samples: int = Field(default=30_000, ge=2)
    samplings: int = Field(default=1, ge=1, le=20)
    beside: tuple[str, ...] = ()
    published: Literal["moses"] | None = None


class RecordsScoreSpec(Section):
    """A night's work on records.

    sources  tables to score; absent: those of `records`. Codes, units and what is left out are
             the package's own.
    at       `latest`: what one asks today, of visits at the last one; `all`: at every moment that
             the task learns from.
    """

    sources: tuple[RecordSource, ...] | None = Field(default=None, min_length=1)
    at: Literal["latest", "all"] = "latest"


class ScoreSpec(Section):
    """A night's work.

    archive       what to score; absent: the archive of `ingest`.
    records       the same for a package of records.
    molecules     files of molecules, for a package of these; absent: those of `molecules`. How
                  structures are brought into standard form is the package's own.
    package       the package's folder; absent: the one this spec's `train` makes.
    actors        model replicas, each loading the model once.
    """

    archive: tuple[str, ...] | None = None
    records: RecordsScoreSpec = RecordsScoreSpec()
    molecules: tuple[MoleculeSource, ...] | None = Field(default=None, min_length=1)
    package: str | None = None
    actors: int = Field(default=1, ge=1)
    gpus_per_actor: float = Field(default=0, ge=0)
    batch_size: int = Field(default=64, ge=1)
    files_per_task: int = Field(default=64, ge=1)
    reject_limit: float = Field(default=0.05, ge=0, le=1)

    @field_validator("archive", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class RunSpec(Section):
    """One run, in one file; each verb reads its own section.

    Relative paths start at the current folder.

    dataset   a dataset that another run made; absent: the one in `output`.
    output    the folder everything of this run goes to; absent: runs/<name>.
    ingest    an archive of images; `records`: patients' tables; `molecules`: structures. A run has
              one of them.
    workload  which prediction task; its own settings stand under `params`.
    reinforce how a package that makes molecules becomes another, which makes wanted ones.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")
    version: str = Field(default="1", pattern=r"^[A-Za-z0-9_.-]{1,32}$")
    output: str | None = None
    dataset: str | None = None
    seed: int = Field(default=0, ge=0, lt=2**31)
    workload: str = "imaging"
    params: dict[str, Any] = Field(default={})
    ingest: IngestSpec | None = None
    records: RecordsSpec | None = None
    molecules: MoleculesSpec | None = None
    split: SplitSpec = SplitSpec()
    train: TrainSpec | None = None
    reinforce: ReinforceSpec | None = None
    evaluate: EvaluateSpec = EvaluateSpec()
    score: ScoreSpec | None = None

    @model_validator(mode="after")
    def _one_kind_of_data(self) -> Self:
        given = [part for part in (self.ingest, self.records, self.molecules) if part is not None]
        if len(given) > 1:
            raise ValueError("a run has one of `ingest`, `records` and `molecules`")
        return self

    @property
    def output_uri(self) -> str:
        """Where this run's artefacts go."""
        return self.output or f"runs/{self.name}"

    @property
    def dataset_uri(self) -> str:
        """Where the dataset that is learned from lies."""
        return self.dataset or f"{self.output_uri.rstrip('/')}/dataset"

"""A package that stands somewhere: opened after every byte of it was checked."""

import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from medray.calibration import Calibration
from medray.errors import PackageError
from medray.manifest import EVALUATION_FILES, MANIFEST, Manifest, read_manifest, verify_folder
from medray.package_store import fetch, local_folder, read_file
from medray.spec.load import parse_spec
from medray.spec.models import RunSpec
from medray.spec.molecules import MoleculesSpec
from medray.spec.pixels import PixelSpec
from medray.spec.records import RecordsSpec

_METRICS, _ = EVALUATION_FILES


@dataclass(frozen=True)
class Package:
    """A verified package. `folder` is where its files lie on this machine."""

    uri: str
    folder: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """The run's name."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """The run's version, as the spec states it."""
        return self.manifest.version

    @property
    def digest(self) -> str:
        """sha256 over everything that decides a prediction."""
        return self.manifest.digest

    @property
    def ref(self) -> str:
        """`name@version#sha256[:12]`: the `package` column of every prediction."""
        return f"{self.name}@{self.version}#{self.digest[:12]}"

    @property
    def workload(self) -> str:
        """Name of the workload, a key of WORKLOADS."""
        return self.manifest.workload

    @property
    def reads(self) -> Literal["images", "records", "molecules"]:
        """What predictions are made from."""
        if self.records is not None:
            return "records"
        return "images" if self.molecules is None else "molecules"

    @property
    def pixels(self) -> PixelSpec:
        """How files must be decoded. Raises PackageError for a model of something else."""
        if self.manifest.pixels is None:
            what = "patients' records" if self.reads == "records" else "molecules"
            raise PackageError(
                f"{self.ref} is a model of {what}, not of images",
                remedy="give it tables: see `medray predict --help`",
            )
        return self.manifest.pixels

    @property
    def records(self) -> RecordsSpec | None:
        """How rows of tables become events; None for a model of images."""
        return self.manifest.records

    @property
    def molecules(self) -> MoleculesSpec | None:
        """How structures were brought into standard form; None for a model of something else."""
        return self.manifest.molecules

    @property
    def names(self) -> dict[str, str]:
        """64-bit name (as text) → the code or text it stands for."""
        return self.manifest.names

    @property
    def columns(self) -> tuple[str, ...]:
        """DICOM keywords that stood beside the pixels in training."""
        return self.manifest.columns

    @property
    def lineage(self) -> dict[str, Any]:
        """Where it comes from: data fingerprint, split, training run."""
        return self.manifest.lineage

    @cached_property
    def spec(self) -> RunSpec:
        """The run's spec."""
        return parse_spec(self._text("spec.yaml"), "spec.yaml")

    @cached_property
    def calibration(self) -> Calibration:
        """Temperatures and thresholds."""
        return Calibration.model_validate_json(self._text("calibration.json"))

    @property
    def metrics(self) -> dict[str, Any]:
        """metrics.json: `history` of the training; `evaluation`, null before an evaluation."""
        return json.loads(self._text(_METRICS))

    def _text(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")


def open_package(uri: str) -> Package:
    """Open a package after checking every byte of it.

    Raises PackageError that names each missing, altered or unexpected file.
    """
    data = read_file(uri, MANIFEST)
    if data is None:
        raise PackageError(
            f"there is no package at {uri}",
            remedy="give the folder that holds package.json; `medray train` makes one",
        )
    manifest = read_manifest(data, uri)
    folder = local_folder(uri) or fetch(uri, data)
    try:
        verify_folder(folder, manifest, uri)
    except PackageError:
        if local_folder(uri) is None:  # the copy made here: fetched again next time
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return Package(uri=uri, folder=folder, manifest=manifest)

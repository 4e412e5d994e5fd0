"""package.json: what a package consists of, and whether it still does.

Owns the list of files with their sha256, the digest that names a package, and the checks against
a folder. Knows nothing of models. The digest covers what decides a prediction: the identity files,
the name and how pixels are decoded. metrics.json and MODEL_CARD.md may be rewritten by an
evaluation; their hashes are listed and checked as well, but do not change the digest.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from medray.errors import PackageError
from medray.provenance import canonical_sha256
from medray.spec.base import Section
from medray.spec.molecules import MoleculesSpec
from medray.spec.pixels import PixelSpec
from medray.spec.records import RecordsSpec

MANIFEST = "package.json"
EVALUATION_FILES = ("metrics.json", "MODEL_CARD.md")

_REMEDY = "copy the package again from where it was made, or train it again"


class Manifest(Section):
    """The content of package.json.

    pixels, columns  how scoring must decode files, and the DICOM keywords kept beside the pixels.
    records, names   instead, for a model of patients' records: how rows become events, and what the
                     64-bit names of codes and texts stand for.
    molecules        instead, for a model of molecules: the standard form it was trained on.
    files            identity files → sha256; `digest` is taken over them.
    evaluation       metrics.json and MODEL_CARD.md → sha256.
    pending          the same two while an evaluation is being written: either hash is good, so
                     that a kill between the writes leaves a package that opens.
    seal             sha256 of all the fields above; a changed byte of package.json breaks it.
    """

    format: Literal[1] = 1
    name: str
    version: str
    workload: str
    digest: str
    created: str
    pixels: PixelSpec | None
    columns: tuple[str, ...]
    records: RecordsSpec | None = None
    names: dict[str, str] = Field(default={})
    molecules: MoleculesSpec | None = None
    lineage: dict[str, Any]
    provenance: dict[str, Any]
    files: dict[str, str]
    evaluation: dict[str, str]
    pending: dict[str, str] = Field(default={})
    seal: str = ""

    def to_bytes(self) -> bytes:
        """UTF-8 JSON with the seal set; the only form that `read_manifest` accepts."""
        content = self.model_dump(mode="json", exclude={"seal"})
        content["seal"] = canonical_sha256(content)
        return (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()

    def expected(self, name: str) -> tuple[str, ...]:
        """List the sha256 values that a file of the package may have."""
        listed = (self.files.get(name), self.evaluation.get(name), self.pending.get(name))
        return tuple(sha for sha in listed if sha)


def package_digest(
    name: str,
    version: str,
    workload: str,
    pixels: PixelSpec | None,
    columns: tuple[str, ...],
    records: RecordsSpec | None,
    molecules: MoleculesSpec | None,
    files: Mapping[str, str],
) -> str:
    """sha256 over everything that decides a prediction; names the package in every table."""
    return canonical_sha256(
        {
            "format": 1,
            "name": name,
            "version": version,
            "workload": workload,
            "pixels": pixels and pixels.model_dump(mode="json"),
            "columns": list(columns),
            **({"records": records.model_dump(mode="json")} if records else {}),
            **({"molecules": molecules.model_dump(mode="json")} if molecules else {}),
            "files": dict(files),
        }
    )


def read_manifest(data: bytes, uri: str) -> Manifest:
    """package.json as a model; PackageError when it was altered, or is none."""
    try:
        manifest = Manifest.model_validate(json.loads(data))
    except (ValueError, ValidationError):
        raise PackageError(
            f"{MANIFEST} of the package at {uri} cannot be read", remedy=_REMEDY
        ) from None
    digest = package_digest(
        manifest.name,
        manifest.version,
        manifest.workload,
        manifest.pixels,
        manifest.columns,
        manifest.records,
        manifest.molecules,
        manifest.files,
    )
    if manifest.to_bytes() != data or digest != manifest.digest:
        raise PackageError(f"{MANIFEST} of the package at {uri} was altered", remedy=_REMEDY)
    return manifest


def verify_folder(folder: Path, manifest: Manifest, uri: str) -> None:
    """Every listed file is there with its hash, and nothing else is.

    Raises PackageError that names each file which is missing, altered or unexpected.
    """
    found = set(_files_under(folder)) - {MANIFEST}
    required = set(manifest.files) | set(manifest.evaluation)
    wrong = [f"{name}: missing" for name in sorted(required - found)]
    for name in sorted(found):
        expected = manifest.expected(name)
        if not expected:
            wrong.append(f"{name}: unexpected, not part of the package")
        elif sha256_of_file(folder / name) not in expected:
            wrong.append(f"{name}: altered, its sha256 is not the one in {MANIFEST}")
    if wrong:
        listing = "\n".join(f"  {line}" for line in wrong)
        raise PackageError(f"the package at {uri} is not intact:\n{listing}", remedy=_REMEDY)


def sha256_of_file(path: Path) -> str:
    """Hexadecimal sha256 of a local file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files_under(folder: Path) -> list[str]:
    """Relative POSIX names of everything in a folder that is not a plain folder itself."""
    names: list[str] = []
    for root, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        names.extend((Path(root) / name).relative_to(folder).as_posix() for name in files + links)
    return names

"""A small package that makes molecules, and a dataset of molecules: real ones, in seconds.

The networks are not trained. In SELFIES every sequence is a molecule, so that nearly all draws are
valid, and odd.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from deltalake import write_deltalake

from medray.calibration import Calibration, TargetCalibration
from medray.dataset import MoleculesDataset, open_any
from medray.molecules.text import as_bytes
from medray.package import Package, write_package
from medray.schema import MOLECULES
from medray.spec.models import RunSpec, SplitSpec
from medray.spec.molecules import MoleculeSource, MoleculesSpec
from medray.workloads import WORKLOADS

SOURCES = MoleculesSpec(sources=(MoleculeSource(path=("molecules.csv",), name="train"),))
SMILES = (
    *("CCO", "CC(C)O", "CCN", "CC(=O)O", "c1ccccc1", "Cc1ccccc1", "Oc1ccccc1", "Nc1ccccc1"),
    *("CC(=O)Nc1ccc(O)cc1", "CC(=O)Oc1ccccc1C(=O)O", "c1ccc2ncccc2c1", "C1CCNCC1", "C1CCOCC1"),
    *("CN1CCCC1c1cccnc1", "CC(C)Cc1ccc(C(C)C(=O)O)cc1", "Cn1cnc2c1c(=O)n(C)c(=O)n2C"),
    *("O=C(O)c1ccccc1", "NS(=O)(=O)c1ccccc1", "Clc1ccccc1", "FC(F)(F)c1ccccc1", "CCOC(C)=O"),
    *("CCCCCC", "OCC(O)CO", "NCC(=O)O", "CC(N)C(=O)O", "c1ccsc1", "c1ccoc1", "c1cc[nH]c1"),
    *("O=C1CCCN1", "CN(C)C=O", "CS(C)=O", "N#Cc1ccccc1"),
)
_SPLITS = ("train", "train", "train", "tuning", "held_out")


def spec(name: str = "maker", **params: Any) -> RunSpec:
    """A run that makes molecules, small."""
    small: dict[str, Any] = {
        "notation": "selfies",
        "hidden": 24,
        "embedding": 8,
        "min_molecules": 1,
        "latent": {"dim": 4, "encoder": 8},
        **({} if params.get("latent", {}).get("dim") == 0 else {"gan": {"hidden": 16}}),
    }
    return RunSpec(
        name=name,
        workload="molecule",
        molecules=SOURCES,
        split=SplitSpec(),
        params={**small, **params},
    )


def write_molecules(output: Path, smiles: tuple[str, ...] = SMILES) -> MoleculesDataset:
    """dataset/ under `output`: each molecule once, splits in turn, held_out of two sources."""
    rows: list[dict[str, Any]] = []
    for at, one in enumerate(smiles):
        name = hashlib.sha256(one.encode()).hexdigest()[:24]
        split = _SPLITS[at % len(_SPLITS)]
        rows.append(
            {
                "item_id": name,
                "subject_id": name,
                "study_id": name,
                "smiles": one,
                "scaffold": "",
                "source": ("test", "test_scaffolds")[at % 2] if split == "held_out" else "train",
                "heavy_atoms": len(one),
                **dict.fromkeys(("split", "split_random", "split_scaffold"), split),
            }
        )
    folder = output / "dataset"
    write_deltalake(str(folder / "molecules"), pa.Table.from_pylist(rows, schema=MOLECULES))
    meta = {
        "kind": "molecules",
        "name": "tiny",
        "molecules": SOURCES.model_dump(mode="json"),
        "sources_sha256": "0" * 64,
    }
    (folder / "dataset.json").write_text(json.dumps(meta))
    dataset = open_any(str(folder))
    assert isinstance(dataset, MoleculesDataset)
    return dataset


def make_maker(
    uri: str,
    dataset: MoleculesDataset | None = None,
    *,
    seed: int = 0,
    smiles: tuple[str, ...] = SMILES,
    run: RunSpec | None = None,
) -> Package:
    """A package of fixed random weights at `uri`, as if trained on `dataset`."""
    task: Any = WORKLOADS["molecule"]
    run = run or spec()
    params = task.params_model.model_validate(run.params)
    columns = {"smiles": as_bytes(smiles)}
    fitted = task.fit(task.summarize(columns, params), params)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        modules = task.build_modules(params, fitted)
    return write_package(
        uri,
        spec=run,
        workload=task,
        params=params,
        fitted=fitted,
        modules={name: module.eval() for name, module in modules.items()},
        calibration=Calibration(targets={}),
        lineage={"dataset": dataset.fingerprint() if dataset else "0" * 64},
        history=[{"epoch": 1, "loss": 3.0}],
        molecules=SOURCES,
    )


def make_judge(uri: str, name: str = "tox") -> Package:
    """A package of fixed random weights that predicts two targets of a molecule."""
    task: Any = WORKLOADS["toxicity"]
    asked = {"targets": ["NR-AR", "SR-p53"], "network": "mlp", "hidden": 16, "domain": 50}
    asked |= {"fingerprint": {"places": 128}}
    params = task.params_model.model_validate(asked)
    labels = np.arange(len(SMILES)) % 2.0
    columns = {"smiles": as_bytes(SMILES), "NR-AR": labels, "SR-p53": 1 - labels}
    fitted = task.fit(task.summarize(columns, params), params)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        modules = task.build_modules(params, fitted)
    kinds = {target.name: target.kind for target in task.targets(params, fitted)}
    return write_package(
        uri,
        spec=RunSpec(name=name, workload="toxicity", molecules=SOURCES, params=asked),
        workload=task,
        params=params,
        fitted=fitted,
        modules={name: module.eval() for name, module in modules.items()},
        calibration=Calibration(
            targets={name: TargetCalibration(kind=kind) for name, kind in kinds.items()}
        ),
        lineage={"dataset": "0" * 64},
        history=[],
        molecules=SOURCES,
    )

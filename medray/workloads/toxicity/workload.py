"""The workload of molecules' properties: binds labels, features, networks and losses.

Imports RDKit only when something is computed of a structure: a spec is checked without it.
Shapes: B molecules.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from torch import Tensor, nn

from medray.extras import require
from medray.molecules.text import as_bytes, as_codes
from medray.workload import (
    AtomCredits,
    Batch,
    Columns,
    Modules,
    Monitor,
    Objective,
    Rivals,
    Target,
    Unit,
)
from medray.workloads.toxicity import labels, learning
from medray.workloads.toxicity.params import (
    SIMILARITY,
    ToxicityFitted,
    ToxicityParams,
    targets_of,
)

Array = np.ndarray[Any, Any]

# Rings, charges, chirality, halogens: something of every part of the features.
_EXAMPLES = ("CC(=O)Oc1ccccc1C(=O)O", "C[C@H](N)C(=O)N1CCC[C@@H]1C#N", "Clc1ccc(Br)cc1[N+](=O)[O-]")


class Toxicity:
    """Properties of molecules; see `ToxicityParams` for what can be asked for."""

    name: ClassVar[str] = "toxicity"
    summary: ClassVar[str] = "molecules → toxicity, efficacy or any property, from their structure"
    inputs: ClassVar[tuple[str, ...]] = ("smiles",)
    unit: ClassVar[Unit] = "molecules"
    params_model = ToxicityParams
    fitted_model = ToxicityFitted

    def targets(self, params: ToxicityParams, fitted: ToxicityFitted) -> tuple[Target, ...]:
        """One per column, and the similarity to what was learned from."""
        return targets_of(params, fitted)

    def label_columns(self, params: ToxicityParams) -> tuple[str, ...]:
        """The columns that are learned."""
        return params.targets

    def items(self, columns: Columns, params: ToxicityParams) -> Columns:
        """Molecules are items as they are."""
        return columns

    def summarize(self, columns: Columns, params: ToxicityParams) -> pa.Table:
        """Structure, fingerprint and labels of every molecule."""
        require("molecules")
        from medray.workloads.toxicity import inputs

        return inputs.summarize(columns, params)

    def fit(self, summaries: pa.Table, params: ToxicityParams) -> ToxicityFitted:
        """See `inputs.fit`."""
        from medray.workloads.toxicity import inputs

        return inputs.fit(summaries, params)

    def collate(self, columns: Columns, params: ToxicityParams, fitted: ToxicityFitted) -> Batch:
        """See `inputs.collate`."""
        require("molecules")
        from medray.workloads.toxicity import inputs

        return inputs.collate(columns, params, fitted)

    def sizes(self, columns: Columns) -> Array | None:
        """Characters of each SMILES, which batches of like length are made by."""
        return np.char.str_len(columns["smiles"]).astype(np.int64)

    def trim(self, batch: Batch) -> Batch:
        """Leave off the padding."""
        from medray.workloads.toxicity import inputs

        return inputs.trim(batch)

    def framed(self, batch: Batch) -> Batch:
        """See `inputs.framed`."""
        from medray.workloads.toxicity import inputs

        return inputs.framed(batch)

    def build_modules(self, params: ToxicityParams, fitted: ToxicityFitted) -> dict[str, nn.Module]:
        """A network per member of the ensemble."""
        require("molecules")
        from medray.molecules.graphs import ATOM_SIZES, BOND_SIZES

        return learning.build_modules(params, fitted, ATOM_SIZES, BOND_SIZES)

    def objectives(self, params: ToxicityParams, fitted: ToxicityFitted) -> tuple[Objective, ...]:
        """One update per member: members learn independently."""
        return tuple(
            Objective(
                one.name,
                (one.name,),
                partial(learning.loss, member=one.name, params=params, fitted=fitted),
            )
            for one in params.ensemble
        )

    def predict(
        self, modules: Modules, batch: Batch, params: ToxicityParams
    ) -> Mapping[str, Tensor]:
        """Target → logits."""
        return learning.predict(modules, batch, params)

    def truth(self, columns: Columns, params: ToxicityParams) -> Mapping[str, Array]:
        """Column → observed values; of the similarity nothing is."""
        found = labels.truth_of(columns, params)
        rows = len(next(iter(found.values())))
        return found | {SIMILARITY: np.full(rows, np.nan)}

    def monitor(self, params: ToxicityParams) -> Monitor:
        """The tuning metric `params.monitor` names."""
        name = params.monitor
        if name == "auto":
            name = "auroc" if params.task == "binary" else "rmse"
        return Monitor(name, "max" if name == "auroc" else "min")

    def measure(
        self,
        logits: Mapping[str, Array],
        columns: Columns,
        params: ToxicityParams,
        fitted: ToxicityFitted,
    ) -> Mapping[str, float]:
        """See `learning.measure`."""
        return learning.measure(logits, columns, params, fitted)

    def baselines(
        self,
        train: Columns,
        held_out: Columns,
        params: ToxicityParams,
        fitted: ToxicityFitted,
        seed: int,
    ) -> Rivals:
        """A random forest on count fingerprints per target."""
        from medray.workloads.toxicity.baselines import forests

        return forests(train, held_out, params, seed)

    def unseen(
        self, columns: Columns, params: ToxicityParams, fitted: ToxicityFitted
    ) -> Array | None:
        """None: how strange a molecule is, its similarity says."""
        return None

    def explain(
        self,
        modules: Modules,
        columns: Columns,
        target: str,
        class_index: int,
        params: ToxicityParams,
        fitted: ToxicityFitted,
    ) -> AtomCredits:
        """Integrated gradients of the target's logit, handed to the atoms."""
        from medray.workloads.toxicity.attribution import explain_molecules

        return explain_molecules(modules, columns, target, params, fitted)

    def example(self, params: ToxicityParams, fitted: ToxicityFitted, rows: int) -> Columns:
        """A few molecules, as character codes."""
        chosen = [_EXAMPLES[row % len(_EXAMPLES)] for row in range(rows)]
        return {"smiles": as_codes(as_bytes(chosen))}

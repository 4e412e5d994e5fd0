"""The workload that makes molecules: a language model over latents, and a GAN that makes these.

Three objectives in the shared loop: the encoder and the decoder learn to write a molecule from its
latent, the critic to tell latents of molecules from made ones, the generator to make them.
Shapes: B molecules, T tokens, V ids, D latent.
"""

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from medray.errors import DataError, PackageError, UsageError
from medray.models import molecule as networks
from medray.molecules import tokens
from medray.molecules.text import as_bytes, as_codes, strings
from medray.workload import (
    Batch,
    Columns,
    Explained,
    Modules,
    Monitor,
    Objective,
    Rivals,
    Target,
    Unit,
)
from medray.workloads.molecule.params import MoleculeFitted, MoleculeParams

Array = np.ndarray[Any, Any]

_AT_ONCE = 512  # molecules sampled together
_BETAS = (0.5, 0.9)  # Adam's, of WGAN-GP
_SUMMARY = pa.schema(
    [
        pa.field("token", pa.string()),
        pa.field("molecules", pa.int64()),
        pa.field("longest", pa.int64()),
        pa.field("rows", pa.int64()),
    ]
)
_LM, _GAN, _NORMAL = "lm", "gan", "normal"


class Molecule:
    """New molecules like those of a dataset; see `MoleculeParams` for what can be asked for."""

    name: ClassVar[str] = "molecule"
    summary: ClassVar[str] = "molecules → new ones like them, with a GAN on latents"
    inputs: ClassVar[tuple[str, ...]] = ("smiles",)
    unit: ClassVar[Unit] = "molecules"
    steers: ClassVar[tuple[str, ...]] = ("decoder",)
    params_model = MoleculeParams
    fitted_model = MoleculeFitted

    def targets(self, params: MoleculeParams, fitted: MoleculeFitted) -> tuple[Target, ...]:
        """Nothing is predicted of a molecule."""
        return ()

    def label_columns(self, params: MoleculeParams) -> tuple[str, ...]:
        """Structures alone are learned from."""
        return ()

    def items(self, columns: Columns, params: MoleculeParams) -> Columns:
        """Molecules as they are, without what is known of them."""
        return {name: columns[name] for name in ("item_id", "smiles")}

    def sizes(self, columns: Columns) -> Array | None:
        """Characters of each molecule, which batches of like length are made by."""
        return np.char.str_len(columns["smiles"]).astype(np.int64)

    def trim(self, batch: Batch) -> Batch:
        """Leave off the tokens that no molecule of the batch has."""
        ids_BT = batch["ids"]
        longest = int((ids_BT != tokens.PAD).sum(1).max())
        return {"ids": ids_BT[:, :longest]}

    def summarize(self, columns: Columns, params: MoleculeParams) -> pa.Table:
        """Molecules of one batch by token."""
        smiles = strings(columns["smiles"])
        counts, longest = tokens.count(smiles, params.notation)
        others = len(counts)  # how many molecules there were stands in a row of no token
        values = [
            [*counts, None],
            [*counts.values(), 0],
            [longest] * (others + 1),
            [0] * others + [len(smiles)],
        ]
        return pa.table(values, schema=_SUMMARY)

    def fit(self, summaries: pa.Table, params: MoleculeParams) -> MoleculeFitted:
        """Tokens to write with. Raises DataError when there is none."""
        counts: Counter[str] = Counter()
        grouped = summaries.group_by("token").aggregate([("molecules", "sum")])
        for row in grouped.to_pylist():
            if row["token"] is not None:
                counts[row["token"]] = row["molecules_sum"]
        longest = max(summaries["longest"].to_pylist())
        words = tokens.learn(dict(counts), longest, params.notation, params.min_molecules)
        if not words.tokens:
            raise DataError(
                f"no token stands in {params.min_molecules} molecules of `train`",
                remedy="lower `params.min_molecules`, or ingest more molecules",
            )
        return MoleculeFitted(vocabulary=words, molecules=sum(summaries["rows"].to_pylist()))

    def collate(self, columns: Columns, params: MoleculeParams, fitted: MoleculeFitted) -> Batch:
        """`ids` (B, T) int16."""
        return {"ids": torch.from_numpy(fitted.vocabulary.encode(strings(columns["smiles"])))}

    def build_modules(self, params: MoleculeParams, fitted: MoleculeFitted) -> dict[str, nn.Module]:
        """`decoder`; and, with latents, `encoder`, `generator` and `critic`."""
        size, latent, gan = fitted.vocabulary.size, params.latent, params.gan
        decoder = networks.Decoder(
            size, params.embedding, params.hidden, params.layers, params.dropout, latent.dim
        )
        if not latent.dim:
            return {"decoder": decoder}
        return {
            "decoder": decoder,
            "encoder": networks.Encoder(size, params.embedding, latent.encoder, latent.dim),
            "generator": networks.LatentGenerator(
                gan.noise_dim, gan.hidden, gan.layers, latent.dim
            ),
            "critic": networks.Critic(latent.dim, gan.hidden, gan.layers, 1),
        }

    def objectives(self, params: MoleculeParams, fitted: MoleculeFitted) -> tuple[Objective, ...]:
        """Writing; and, with latents, critic and generator."""
        if not params.latent.dim:
            return (Objective("write", ("decoder",), partial(_write, params=params)),)
        share = params.gan.lr_share
        return (
            Objective("write", ("encoder", "decoder"), partial(_write, params=params)),
            Objective(
                "critic",
                ("critic",),
                partial(_criticise, params=params),
                lr_share=share,
                betas=_BETAS,
            ),
            Objective(
                "generator",
                ("generator",),
                partial(_generate, params=params),
                every=params.gan.critic_steps,
                lr_share=share,
                betas=_BETAS,
            ),
        )

    def predict(
        self, modules: Modules, batch: Batch, params: MoleculeParams
    ) -> Mapping[str, Tensor]:
        """`nats` (B,) that writing each molecule from its own latent costs, and its `tokens`."""
        ids_BT = batch["ids"].long()
        z_BD = modules["encoder"](ids_BT) if params.latent.dim else ids_BT.new_zeros(len(ids_BT), 0)
        nats_BT, known_BT = _nats(modules["decoder"](ids_BT, z_BD), ids_BT)
        return {"nats": nats_BT.sum(1), "tokens": known_BT.sum(1).float()}

    def truth(self, columns: Columns, params: MoleculeParams) -> Mapping[str, Array]:
        """Nothing is observed."""
        return {}

    def monitor(self, params: MoleculeParams) -> Monitor:
        """Nats per token."""
        return Monitor("loss", "min")

    def measure(
        self,
        logits: Mapping[str, Array],
        columns: Columns,
        params: MoleculeParams,
        fitted: MoleculeFitted,
    ) -> Mapping[str, float]:
        """`loss`: nats per token, and `nats_per_molecule`."""
        nats = logits["nats"].astype(np.float64)
        total = float(nats.sum()) / max(1.0, float(logits["tokens"].sum()))
        return {"loss": total, "nats_per_molecule": float(nats.mean())}

    def baselines(
        self,
        train: Columns,
        held_out: Columns,
        params: MoleculeParams,
        fitted: MoleculeFitted,
        seed: int,
    ) -> Rivals:
        """None on given molecules: what a generator is measured by is the ways to draw."""
        return {}

    def unseen(
        self, columns: Columns, params: MoleculeParams, fitted: MoleculeFitted
    ) -> Array | None:
        """Tokens of each molecule that are not in the vocabulary."""
        ids_BT = fitted.vocabulary.encode(strings(columns["smiles"]))
        return (ids_BT == tokens.UNKNOWN).sum(axis=1)

    def explain(
        self,
        modules: Modules,
        columns: Columns,
        target: str,
        class_index: int,
        params: MoleculeParams,
        fitted: MoleculeFitted,
    ) -> Explained:
        """Raise PackageError: nothing is predicted, so there is nothing to explain."""
        raise PackageError("a package that makes molecules predicts nothing to explain")

    def example(self, params: MoleculeParams, fitted: MoleculeFitted, rows: int) -> Columns:
        """Made-up sequences of the vocabulary's tokens, as character codes."""
        words = fitted.vocabulary.tokens
        plain = [one for one in words if params.notation == "smiles"] or ["C", "O", "N"]
        made = [
            "".join(plain[(row + step) % len(plain)] for step in range(8)) for row in range(rows)
        ]
        return {"smiles": as_codes(as_bytes(made))}

    def ways(self, params: MoleculeParams) -> tuple[str, ...]:
        """`gan`, and `normal`: latents drawn without it; of a language model `lm` alone."""
        return (_GAN, _NORMAL) if params.latent.dim else (_LM,)

    @torch.no_grad()
    def sample(
        self,
        modules: Modules,
        count: int,
        rng: Generator,
        params: MoleculeParams,
        fitted: MoleculeFitted,
        *,
        way: str,
        temperature: float = 1.0,
    ) -> list[str]:
        """SMILES as they were drawn: some are no molecule. `rng` lies where the modules do."""
        made: list[str] = []
        while len(made) < count:
            at_once = min(_AT_ONCE, count - len(made))
            made += self._rolled(modules, at_once, rng, params, fitted, way, temperature)[0]
        return made

    @torch.no_grad()
    def rollout(
        self,
        modules: Modules,
        count: int,
        rng: Generator,
        params: MoleculeParams,
        fitted: MoleculeFitted,
        *,
        way: str,
    ) -> tuple[list[str], Batch]:
        """SMILES as they were drawn; their `ids` (B, T) and the latents `z` (B, D) behind them."""
        return self._rolled(modules, count, rng, params, fitted, way, 1.0)

    def log_likelihood(self, modules: Modules, rollout: Batch, params: MoleculeParams) -> Tensor:
        """Log-probability (B,) of writing each molecule from its latent."""
        nats_BT, _ = _nats(modules["decoder"](rollout["ids"], rollout["z"]), rollout["ids"])
        return -nats_BT.sum(1)

    def _rolled(
        self,
        modules: Modules,
        count: int,
        rng: Generator,
        params: MoleculeParams,
        fitted: MoleculeFitted,
        way: str,
        temperature: float,
    ) -> tuple[list[str], Batch]:
        words, decoder = fitted.vocabulary, modules["decoder"]
        if not isinstance(decoder, networks.Decoder):
            raise PackageError("the decoder is of another kind than this workload's")
        longest = 2 * words.longest + 2  # of notation's tokens; what is longer is cut
        z_BD = self._drawn(modules, count, rng, params, way)
        z_BD = z_BD + params.latent.noise * _normal(z_BD.shape, rng)
        ids_BT = networks.sample(decoder, z_BD, longest, rng, temperature)
        return words.decode(ids_BT.cpu().numpy()), {"ids": ids_BT, "z": z_BD}

    def _drawn(
        self, modules: Modules, count: int, rng: Generator, params: MoleculeParams, way: str
    ) -> Tensor:
        """Latents (B, D) of one way. Raises UsageError for a way that the package has not."""
        if way not in self.ways(params):
            raise UsageError(
                f"the package cannot draw by {way!r}",
                remedy=f"one of {', '.join(self.ways(params))}",
            )
        if way == _GAN:
            return modules["generator"](_normal((count, params.gan.noise_dim), rng))
        return _normal((count, params.latent.dim), rng)

    @torch.no_grad()
    def latents(
        self,
        modules: Modules,
        batch: Batch,
        rng: Generator,
        params: MoleculeParams,
        fitted: MoleculeFitted,
    ) -> Mapping[str, Tensor]:
        """Latents before noise: of the batch's molecules as `data`, and of every way."""
        if not params.latent.dim:
            return {}
        count = len(batch["ids"])
        drawn = {way: self._drawn(modules, count, rng, params, way) for way in self.ways(params)}
        return {"data": modules["encoder"](batch["ids"].long()), **drawn}


def _normal(shape: tuple[int, ...], rng: Generator) -> Tensor:
    return torch.randn(shape, generator=rng, device=rng.device)


def _nats(logits_BTV: Tensor, ids_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Cost of every token (B, T), 0 where it is not counted; and which are."""
    known_BT = (ids_BT != tokens.PAD) & (ids_BT != tokens.UNKNOWN)
    nats_BT = functional.cross_entropy(logits_BTV.float().transpose(1, 2), ids_BT, reduction="none")
    return nats_BT * known_BT, known_BT


def _write(modules: Modules, batch: Batch, rng: Generator, params: MoleculeParams) -> Tensor:
    """Nats per token of writing the molecules from their latents, with noise."""
    ids_BT = batch["ids"].long()
    z_BD = torch.zeros(len(ids_BT), 0, device=ids_BT.device)
    if params.latent.dim:
        z_BD = modules["encoder"](ids_BT)
        z_BD = z_BD + params.latent.noise * _normal(tuple(z_BD.shape), rng)
    nats_BT, known_BT = _nats(modules["decoder"](ids_BT, z_BD), ids_BT)
    return nats_BT.sum() / known_BT.sum().clamp_min(1)


def _criticise(modules: Modules, batch: Batch, rng: Generator, params: MoleculeParams) -> Tensor:
    """Wasserstein critic: high on latents of molecules, low on made ones, slope 1 between."""
    gan = params.gan
    ids_BT = batch["ids"][: gan.batch_size].long()
    with torch.no_grad():
        real_BD = modules["encoder"](ids_BT)
    with torch.autocast(ids_BT.device.type, enabled=False):
        fake_BD = modules["generator"](_normal((len(ids_BT), gan.noise_dim), rng)).detach()
        critic = modules["critic"]
        gap = critic(fake_BD).mean() - critic(real_BD).mean()
        penalty = networks.gradient_penalty(critic, real_BD, fake_BD, rng)
        return gap + gan.gradient_penalty * penalty


def _generate(modules: Modules, batch: Batch, rng: Generator, params: MoleculeParams) -> Tensor:
    """What the critic holds against latents that the generator makes."""
    count = min(len(batch["ids"]), params.gan.batch_size)
    with torch.autocast(rng.device.type, enabled=False):
        noise_BN = _normal((count, params.gan.noise_dim), rng)
        return -modules["critic"](modules["generator"](noise_BN)).mean()

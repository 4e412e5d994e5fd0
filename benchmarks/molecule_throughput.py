"""Tokens per second of the molecule workload beside a bare loop over its decoder alone.

Bare: an LSTM of the same size over 38 tokens, batch 128, bfloat16 autocast, forward, backward,
AdamW: the decoder and nothing else. Ours is the whole step of the GAN in the shared loop: encoder,
decoder, critic, generator, averages, batches of like length. Updates alternate in one process; what
is compared is the mean of each one's fastest quarter.
"""

import time
from collections.abc import Iterator
from statistics import mean
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.figures import Figure
from medray.spec.models import OptimizerSpec, TrainSpec
from medray.train import loop
from medray.train.feed import MemoryFeed, Place
from medray.train.state import TrainState, new_state
from medray.workloads.molecule import Molecule
from medray.workloads.molecule.params import MoleculeFitted, MoleculeParams

BATCH, TOKENS, STEPS, EPOCHS = 128, 38, 20, 4
CPU = torch.device("cpu")


def bare(vocabulary: int, params: MoleculeParams) -> Iterator[int]:
    """Tokens of one update per turn, for ever."""
    width = params.embedding + params.latent.dim
    modules = nn.ModuleDict(
        {
            "embedding": nn.Embedding(vocabulary, width),
            "rnn": nn.LSTM(width, params.hidden, params.layers, batch_first=True),
            "out": nn.Linear(params.hidden, vocabulary),
        }
    )
    optimizer = torch.optim.AdamW(modules.parameters(), lr=1e-3)
    ids_BT = torch.randint(4, vocabulary, (BATCH, TOKENS))
    while True:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden_BTH, _ = modules["rnn"](modules["embedding"](ids_BT))
            logits_BTV = modules["out"](hidden_BTH)
        functional.cross_entropy(logits_BTV.float().flatten(0, 1), ids_BT.flatten()).backward()
        optimizer.step()
        yield BATCH * TOKENS


def measure(smiles: Any, params: MoleculeParams) -> tuple[float, float]:
    """Tokens per second of ours (without padding) and of the bare loop."""
    task = Molecule()
    columns = {"item_id": np.arange(len(smiles)), "smiles": smiles}
    fitted = task.fit(task.summarize(columns, params), params)
    plan, state, counts = _plan(task, columns, params, fitted)
    other = bare(fitted.vocabulary.size, params)
    ours: list[float] = []
    theirs: list[float] = []
    since = time.perf_counter()

    def after_step(progress: dict[str, Any]) -> None:
        nonlocal since
        between = time.perf_counter()
        tokens = next(other)
        done = time.perf_counter()
        ours.append((between - since) / counts[len(ours)])
        theirs.append((done - between) / tokens)
        since = time.perf_counter()

    def after_epoch(state: TrainState, record: dict[str, Any], improved: bool) -> None:
        nonlocal since
        since = time.perf_counter()

    loop.run(plan, state, after_epoch=after_epoch, after_step=after_step)
    return 1 / _fastest(ours[STEPS:]), 1 / _fastest(theirs[STEPS:])


def _fastest(seconds: list[float]) -> float:
    return mean(sorted(seconds)[: max(1, len(seconds) // 4)])


def _plan(
    task: Molecule, columns: dict[str, Any], params: MoleculeParams, fitted: MoleculeFitted
) -> tuple[loop.Plan, TrainState, list[int]]:
    """The loop's plan and state, and the tokens of every batch it will see."""
    spec = TrainSpec(
        epochs=EPOCHS,
        epoch_steps=STEPS,
        batch_size=BATCH,
        precision="bfloat16",
        average=0.99,
        optimizer=OptimizerSpec(lr=1e-3),
    )
    batch = task.collate(columns, params, fitted)
    sizes = task.sizes(columns)

    def feed() -> MemoryFeed:
        return MemoryFeed(
            batch, {}, BATCH, 0, Place(), CPU, sizes=sizes, trim=task.trim, epoch_steps=STEPS
        )

    few = {name: values[:64] for name, values in batch.items()}
    counts = [
        int((one["ids"] != 0).sum())
        for epoch in range(1, EPOCHS + 1)
        for one in feed().epoch(epoch)
    ]
    objectives = task.objectives(params, fitted)
    torch.manual_seed(0)
    plan = loop.Plan(
        spec=spec,
        seed=0,
        objectives=objectives,
        monitor=task.monitor(params),
        predict=lambda modules, one: task.predict(modules, one, params),
        measure=lambda logits, rest: task.measure(logits, rest, params, fitted),
        train=feed(),
        tuning=MemoryFeed(few, {}, 64, 0, Place(), CPU, trim=task.trim),
        device=CPU,
    )
    return plan, new_state(task.build_modules(params, fitted), objectives, spec), counts


def figure(smiles: Any, params: MoleculeParams) -> Figure:
    """Ours beside the bare loop, one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ours, theirs = measure(smiles, params)
    finally:
        torch.set_num_threads(threads)
    return Figure(
        name="training tokens/s, of a bare loop over the decoder",
        value=f"{ours / theirs:.3f}",
        bar=".8",
        ok=ours / theirs >= 0.8,
        note=f"{ours:,.0f} and {theirs:,.0f} tokens/s, LSTM of {params.hidden}, one thread, bf16",
    )

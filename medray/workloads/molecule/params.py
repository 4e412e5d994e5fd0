"""What a maker of molecules can be asked for, and what it learns before the networks do."""

from typing import Self

from pydantic import Field, model_validator

from medray.molecules.tokens import Notation, Vocabulary
from medray.spec.base import Section


class LatentSpec(Section):
    """What the decoder is told of a molecule beside its tokens.

    dim      numbers; 0: nothing, and there is no GAN: a language model.
    noise    standard deviation of what is added to a latent (whose own is 1) before the decoder
             sees it, in training and in sampling: it bounds what a latent can say
             (dim/2 · ln(1 + 1/noise²) nats), and forgives a generator that is a little off.
    encoder  hidden units of the network that reads a molecule into its latent.
    """

    dim: int = Field(default=32, ge=0, le=1024)
    noise: float = Field(default=1.0, ge=0)
    encoder: int = Field(default=128, ge=8)


class GanSpec(Section):
    """Generator and critic on the latents (WGAN-GP).

    noise_dim         numbers that the generator starts from.
    hidden, layers    of both networks.
    critic_steps      updates of the critic for each of the generator.
    batch_size        molecules of a batch whose latents the critic looks at, at most.
    gradient_penalty  weight of the penalty.
    lr_share          their learning rate, as a share of `train.optimizer.lr`.
    """

    noise_dim: int = Field(default=32, ge=1)
    hidden: int = Field(default=256, ge=8)
    layers: int = Field(default=3, ge=1, le=8)
    critic_steps: int = Field(default=2, ge=1)
    batch_size: int = Field(default=64, ge=2)
    gradient_penalty: float = Field(default=10.0, ge=0)
    lr_share: float = Field(default=0.25, gt=0)


class MoleculeParams(Section):
    """The `params:` of a run that makes molecules.

    notation       smiles, or selfies: every sequence is a molecule, many of them odd ones.
    hidden, layers, embedding, dropout   of the decoder, an LSTM.
    min_molecules  tokens of fewer molecules of `train` are not learned.
    """

    notation: Notation = "smiles"
    embedding: int = Field(default=64, ge=4)
    hidden: int = Field(default=512, ge=8)
    layers: int = Field(default=1, ge=1, le=4)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    latent: LatentSpec = LatentSpec()
    gan: GanSpec = GanSpec()
    min_molecules: int = Field(default=5, ge=1)

    @model_validator(mode="after")
    def _gan_needs_latents(self) -> Self:
        if not self.latent.dim and self.gan != GanSpec():
            raise ValueError("`gan` makes latents: give `latent.dim`, or leave `gan` out")
        return self


class MoleculeFitted(Section):
    """What was learned from `train`: its tokens, and how many molecules it had."""

    vocabulary: Vocabulary
    molecules: int = Field(ge=1)

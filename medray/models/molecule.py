"""Networks of a latent GAN over sequences: encoder, decoder, generator, critic.

The decoder is a language model that also sees a latent; the generator and the critic only ever
see latents (LatentGAN: Prykhodko et al. 2019, J. Cheminform. 11:74; WGAN-GP: Gulrajani et al. 2017,
arXiv 1704.00028). Ids 0 and 2 are the padding and the end of a sequence (medray.molecules.tokens).
Shapes: B sequences, T tokens, V ids, D latent, H hidden, N noise.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn

PAD, START, END, UNKNOWN = range(4)
_NEVER = (PAD, START, UNKNOWN)  # ids that no sampled sequence holds

State = tuple[Tensor, Tensor]


class Encoder(nn.Module):
    """Sequences → latents (B, D), each dimension of mean 0 and variance 1 over a batch."""

    def __init__(self, vocabulary: int, embedding: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding, padding_idx=PAD)
        self.rnn = nn.LSTM(embedding, hidden, batch_first=True)
        self.out = nn.Linear(hidden, latent)
        self.norm = nn.BatchNorm1d(latent, affine=False)

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Latents (B, D) of sequences that end with END; what follows it is not looked at."""
        hidden_BTH, _ = self.rnn(self.embedding(ids_BT))
        last_B = (ids_BT != PAD).sum(1) - 1
        rows_B = torch.arange(len(ids_BT), device=ids_BT.device)
        return self.norm(self.out(hidden_BTH[rows_B, last_B]).float())


class Decoder(nn.Module):
    """A language model over sequences; latent: numbers it sees at every step, none for D = 0."""

    def __init__(
        self, vocabulary: int, embedding: int, hidden: int, layers: int, dropout: float, latent: int
    ) -> None:
        super().__init__()
        self.latent = latent
        self.embedding = nn.Embedding(vocabulary, embedding)
        between = dropout if layers > 1 else 0.0
        self.rnn = nn.LSTM(embedding + latent, hidden, layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden, vocabulary)

    def forward(self, ids_BT: Tensor, z_BD: Tensor) -> Tensor:
        """Logits (B, T, V) of every token, from those before it: teacher forcing."""
        start_B1 = torch.full_like(ids_BT[:, :1], START)
        hidden_BTH, _ = self.rnn(self._inputs(torch.cat([start_B1, ids_BT[:, :-1]], 1), z_BD))
        return self.out(self.dropout(hidden_BTH))

    def step(self, ids_B: Tensor, z_BD: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Logits (B, V) of the next token after `ids_B`, and the state after it."""
        hidden_B1H, after = self.rnn(self._inputs(ids_B[:, None], z_BD), state)
        return self.out(hidden_B1H[:, 0]).float(), (after[0], after[1])

    def _inputs(self, ids_BT: Tensor, z_BD: Tensor) -> Tensor:
        embedded_BTE = self.embedding(ids_BT)
        if not self.latent:
            return embedded_BTE
        z_BTD = z_BD[:, None].expand(-1, ids_BT.shape[1], -1)
        return torch.cat([embedded_BTE, z_BTD.to(embedded_BTE.dtype)], 2)


class Perceptron(nn.Module):
    """Fully connected layers with leaky ReLU between: the generator and the critic."""

    def __init__(self, inputs: int, hidden: int, layers: int, outputs: int) -> None:
        super().__init__()
        widths = [inputs, *[hidden] * layers]
        body: list[nn.Module] = []
        for before, after in pairwise(widths):
            body += [nn.Linear(before, after), nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*body, nn.Linear(widths[-1], outputs))

    def forward(self, x_BN: Tensor) -> Tensor:
        """(B, inputs) → (B, outputs)."""
        return self.body(x_BN)


class LatentGenerator(nn.Module):
    """Noise (B, N) → latents (B, D).

    It starts as noise of variance 1, which latents of molecules have too, and learns what to
    change.
    """

    def __init__(self, noise: int, hidden: int, layers: int, latent: int) -> None:
        super().__init__()
        self.skip = nn.Linear(noise, latent, bias=False)
        nn.init.orthogonal_(self.skip.weight)
        self.change = Perceptron(noise, hidden, layers, latent)

    def forward(self, noise_BN: Tensor) -> Tensor:
        """(B, N) → (B, D)."""
        return self.skip(noise_BN) + self.change(noise_BN)


class Critic(Perceptron):
    """Latents (B, D) → how much they look like those of real molecules (B, 1)."""


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], real_BD: Tensor, fake_BD: Tensor, rng: Generator
) -> Tensor:
    """Mean of (|gradient| - 1)² of the critic between real and made latents (WGAN-GP)."""
    share_B1 = torch.rand(len(real_BD), 1, generator=rng, device=real_BD.device)
    between_BD = (share_B1 * real_BD + (1 - share_B1) * fake_BD).requires_grad_(True)
    (gradient_BD,) = torch.autograd.grad(critic(between_BD).sum(), between_BD, create_graph=True)
    return ((gradient_BD.norm(dim=1) - 1) ** 2).mean()


@torch.no_grad()
def sample(
    decoder: Decoder, z_BD: Tensor, longest: int, rng: Generator, temperature: float = 1.0
) -> Tensor:
    """Sequences (B, T) drawn token by token, PAD after END; those that do not end have T tokens."""
    count, device = len(z_BD), z_BD.device
    ids_B = torch.full((count,), START, device=device)
    done_B = torch.zeros(count, dtype=torch.bool, device=device)
    state: State | None = None
    drawn: list[Tensor] = []
    for _ in range(longest):
        logits_BV, state = decoder.step(ids_B, z_BD, state)
        logits_BV[:, _NEVER] = -torch.inf
        share_BV = torch.softmax(logits_BV / temperature, 1)
        ids_B = torch.multinomial(share_BV, 1, generator=rng)[:, 0].masked_fill(done_B, PAD)
        drawn.append(ids_B)
        done_B |= ids_B == END
        if bool(done_B.all()):
            break
    return torch.stack(drawn, 1)

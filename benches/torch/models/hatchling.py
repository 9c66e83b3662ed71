"""BDH, the Baby Dragon Hatchling: one set of weights for all layers, attention without a softmax, sparse neurons."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Config:
    n_layer: int = 6
    n_embd: int = 256
    n_head: int = 4
    mlp_internal_dim_multiplier: int = 128
    vocab_size: int = 256
    dropout: float = 0.1
    context: int = 512

    @property
    def neurons(self):
        """Neurons of one head."""
        return self.n_embd * self.mlp_internal_dim_multiplier // self.n_head


def norm(x):
    return F.layer_norm(x, (x.shape[-1],))


class Model(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        heads, width, neurons = config.n_head, config.n_embd, config.neurons
        normal = lambda *shape: nn.Parameter(torch.empty(shape).normal_(std=0.02))
        self.decoder = normal(heads * neurons, width)
        self.encoder = normal(heads, width, neurons)
        self.encoder_v = normal(heads, width, neurons)
        self.lm_head = normal(width, config.vocab_size)
        self.embed = nn.Embedding(config.vocab_size, width)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.dropout = nn.Dropout(config.dropout)
        pairs = torch.arange(0, neurons, 2, dtype=torch.float32) / neurons
        turns = 1.0 / 65536**pairs / math.tau
        turned = torch.arange(config.context, dtype=torch.float32)[:, None] * turns % 1 * math.tau
        self.register_buffer("angles", torch.polar(torch.ones_like(turned), turned), persistent=False)
        before = torch.ones(config.context, config.context).tril(-1)
        self.register_buffer("before", before, persistent=False)

    def turn(self, x):
        """Turns neurons 2i and 2i + 1 by the angle of the position, as complex numbers, of which bf16 has none."""
        angles = self.angles[: x.shape[-2]]
        if x.dtype == torch.bfloat16:
            even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
            turned = [even * angles.real - odd * angles.imag, even * angles.imag + odd * angles.real]
            return torch.stack(turned, -1).flatten(-2).to(x.dtype)
        pairs = torch.view_as_complex(x.view(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * angles).flatten(-2)

    def layer(self, x):
        """The residual stream, [rows, length, width], after one more layer."""
        rows, length, width = x.shape
        heads, neurons = self.config.n_head, self.config.neurons
        flat = x.view(1, rows * length, width).expand(heads, -1, -1)
        firing = F.relu(torch.bmm(flat, self.encoder))  # [heads, rows * length, neurons]
        turned = self.turn(firing.view(heads * rows, length, neurons))
        scores = torch.bmm(turned, turned.mT)
        scores = scores * self.before[:length, :length].to(scores.dtype)
        read = norm(scores.view(heads, rows, length, length) @ x)
        read_firing = F.relu(torch.bmm(read.view(heads, rows * length, width), self.encoder_v))
        both = self.dropout(firing * read_firing)
        y = torch.bmm(both, self.decoder.view(heads, neurons, width)).sum(0)
        return norm(x + norm(y.view(rows, length, width)))

    def logits(self, tokens):
        x = norm(self.embed(tokens))
        for _ in range(self.config.n_layer):
            x = self.layer(x)
        return x @ self.lm_head

    def forward(self, tokens, targets):
        """The mean cross-entropy, in nats; a target of -1 does not count."""
        return F.cross_entropy(self.logits(tokens).flatten(0, 1), targets.flatten(), ignore_index=-1)

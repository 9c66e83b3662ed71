"""nanochat's GPT: rotary positions, normed queries and keys, squared ReLU, value embeddings, smear and backout."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

GATE_CHANNELS = 12
SMEAR_CHANNELS = 24
SOFT_CAP = 15.0


@dataclass
class Config:
    sequence_len: int = 2048
    vocab_size: int = 32768
    n_layer: int = 12
    n_head: int = 6
    n_kv_head: int = 6
    n_embd: int = 768
    window_pattern: str = "SSSL"

    @property
    def padded_vocab(self):
        return -(-self.vocab_size // 64) * 64

    @property
    def head_size(self):
        return self.n_embd // self.n_head

    def window(self, layer):
        """How many tokens back a query sees, itself not counted; None for all."""
        if layer == self.n_layer - 1 or self.window_pattern[layer % len(self.window_pattern)] in "Ll":
            return None
        short = -(-self.sequence_len // 4 // 128) * 128
        return short if short < self.sequence_len else None

    def has_value_embedding(self, layer):
        return layer % 2 == (self.n_layer - 1) % 2


def norm(x):
    return F.rms_norm(x, (x.shape[-1],))


def linear(inputs, outputs):
    return nn.Linear(inputs, outputs, bias=False)


class Attention(nn.Module):
    def __init__(self, config: Config, layer: int):
        super().__init__()
        self.config = config
        kv_width = config.n_kv_head * config.head_size
        self.c_q = linear(config.n_embd, config.n_embd)
        self.c_k = linear(config.n_embd, kv_width)
        self.c_v = linear(config.n_embd, kv_width)
        self.c_proj = linear(config.n_embd, config.n_embd)
        if config.has_value_embedding(layer):
            self.ve_gate = linear(GATE_CHANNELS, config.n_kv_head)

    def forward(self, x, value_embedding, rope, mask):
        rows, length, width = x.shape
        heads = lambda x: x.view(rows, length, -1, self.config.head_size)
        q, k, v = heads(self.c_q(x)), heads(self.c_k(x)), heads(self.c_v(x))
        if value_embedding is not None:
            gate = 3 * torch.sigmoid(self.ve_gate(x[..., :GATE_CHANNELS]))
            v = v + gate.unsqueeze(-1) * heads(value_embedding)
        # Queries and keys are both sharpened by 1.2; the scale of the softmax is the cheaper place for it.
        q, k = norm(turn(q, rope)), norm(turn(k, rope))
        scale = 1.44 / math.sqrt(self.config.head_size)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        read = F.scaled_dot_product_attention(
            q, k, v, attn_mask=None if mask is None else mask.to(q.dtype), is_causal=mask is None, scale=scale,
            enable_gqa=self.config.n_kv_head != self.config.n_head,
        )
        return self.c_proj(read.transpose(1, 2).reshape(rows, length, width))


def turn(x, rope):
    """Turns channel j and j + half backwards by the angle of the position."""
    cos, sin = (part.to(x.dtype) for part in rope)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos + second * sin, second * cos - first * sin], dim=-1)


class Mlp(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.c_fc = linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = linear(4 * config.n_embd, config.n_embd)

    def forward(self, x):
        return self.c_proj(F.relu(self.c_fc(x)).square())


class Block(nn.Module):
    def __init__(self, config: Config, layer: int):
        super().__init__()
        self.attn = Attention(config, layer)
        self.mlp = Mlp(config)

    def forward(self, x, value_embedding, rope, mask):
        x = x + self.attn(norm(x), value_embedding, rope, mask)
        return x + self.mlp(norm(x))


class Model(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        kv_width = config.n_kv_head * config.head_size
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(config.padded_vocab, config.n_embd),
                "h": nn.ModuleList(Block(config, layer) for layer in range(config.n_layer)),
            }
        )
        self.lm_head = linear(config.n_embd, config.padded_vocab)
        self.resid_lambdas = nn.Parameter(torch.linspace(1.15, 1.05, config.n_layer))
        self.x0_lambdas = nn.Parameter(torch.linspace(0.20, 0.05, config.n_layer))
        self.smear_gate = linear(SMEAR_CHANNELS, 1)
        self.smear_lambda = nn.Parameter(torch.zeros(1))
        self.backout_lambda = nn.Parameter(torch.full((1,), 0.2))
        self.value_embeds = nn.ModuleDict(
            {
                str(layer): nn.Embedding(config.padded_vocab, kv_width)
                for layer in range(config.n_layer)
                if config.has_value_embedding(layer)
            }
        )
        self.make_tables()
        self.reset()

    def make_tables(self):
        length, size = self.config.sequence_len, self.config.head_size
        turns = 1.0 / 100000 ** (torch.arange(0, size, 2, dtype=torch.float32) / size)
        angles = torch.outer(torch.arange(length, dtype=torch.float32), turns)[:, None, :]
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        windows = {self.config.window(layer) for layer in range(self.config.n_layer)} - {None}
        if windows:
            place = torch.arange(length)
            back = place[:, None] - place[None, :]
            within = (back >= 0) & (back <= windows.pop())
            mask = torch.zeros(length, length).masked_fill_(~within, float("-inf"))
            self.register_buffer("mask", mask, persistent=False)

    @torch.no_grad()
    def reset(self):
        spread = math.sqrt(3 / self.config.n_embd)
        for name, param in self.named_parameters():
            if name.endswith("c_proj.weight"):
                param.zero_()
            elif name == "transformer.wte.weight":
                param.normal_(std=0.8)
            elif name == "lm_head.weight":
                param.normal_(std=0.001)
            elif name.endswith("c_fc.weight"):
                param.uniform_(-0.4 * spread, 0.4 * spread)
            elif name.endswith("_gate.weight"):
                param.uniform_(0, 0.02)
            elif param.dim() == 2:
                param.uniform_(-spread, spread)

    def smear(self, x):
        gate = self.smear_lambda * torch.sigmoid(self.smear_gate(x[:, 1:, :SMEAR_CHANNELS]))
        return torch.cat([x[:, :1], x[:, 1:] + gate * x[:, :-1]], dim=1)

    def logits(self, tokens):
        length = tokens.shape[1]
        rope = self.cos[:length], self.sin[:length]
        x0 = x = self.smear(norm(self.transformer.wte(tokens)))
        for layer, block in enumerate(self.transformer.h):
            x = self.resid_lambdas[layer] * x + self.x0_lambdas[layer] * x0
            key = str(layer)
            value_embedding = self.value_embeds[key](tokens) if key in self.value_embeds else None
            is_long = self.config.window(layer) is None
            x = block(x, value_embedding, rope, None if is_long else self.mask[:length, :length])
            if layer == self.config.n_layer // 2:
                middle = x
        x = norm(x - self.backout_lambda * middle)
        logits = self.lm_head(x)[..., : self.config.vocab_size]
        return SOFT_CAP * torch.tanh(logits / SOFT_CAP)

    def forward(self, tokens, targets):
        """The mean cross-entropy, in nats; a target of -1 does not count."""
        return F.cross_entropy(self.logits(tokens).flatten(0, 1), targets.flatten(), ignore_index=-1)

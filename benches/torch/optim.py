"""Optimizers: AdamW with parameter groups, and nanochat's Muon with AdamW."""

import math
from collections import defaultdict

import torch

POLAR_EXPRESS = [
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7098827382687081, 0.42323551169305323),
]


class Optimizer:
    """AdamW and Muon, with the schedules of their settings over a run."""

    def __init__(self, adamw=None, muon=None, lr=lambda step: 1.0, clip=None):
        self.adamw, self.muon, self.lr, self.clip = adamw, muon, lr, clip
        self.steps = 0
        if adamw:
            self.peaks = [group["lr"] for group in adamw.param_groups]
            self.params = [param for group in adamw.param_groups for param in group["params"]]

    def step(self):
        if self.clip:
            torch.nn.utils.clip_grad_norm_(self.params, self.clip, foreach=True)
        multiplier = self.lr(self.steps)
        for group, peak in zip(self.adamw.param_groups, self.peaks):
            group["lr"] = peak * multiplier
        self.adamw.step()
        if self.muon:
            self.muon.step(multiplier)
        self.steps += 1

    def zero_grad(self):
        self.adamw.zero_grad(set_to_none=True)
        if self.muon:
            self.muon.zero_grad()


def adamw(groups):
    """Returns the fused implementation, which has one kernel a group."""
    return torch.optim.AdamW(groups, fused=True)


def adamw_of(model, lr, betas, weight_decay, only_matrices):
    """Returns groups of all parameters, with decay on all, or only on those of two or more dimensions."""
    params = list(model.parameters())
    decays = [param for param in params if param.dim() >= 2 or not only_matrices]
    rest = [param for param in params if param.dim() < 2 and only_matrices]
    common = {"lr": lr, "betas": betas, "eps": 1e-8}
    groups = [{"params": decays, "weight_decay": weight_decay, **common}]
    if rest:
        groups.append({"params": rest, "weight_decay": 0.0, **common})
    return groups


def gpt2(model, horizon, **_):
    """Returns AdamW with 100 steps of linear warm-up, then half a cosine to a tenth, and clipping to a norm of 1."""

    def lr(step):
        if step < 100:
            return (step + 1) / 100
        done = min((step - 100) / max(horizon - 101, 1), 1.0)
        return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done))

    groups = adamw_of(model, 1e-3, (0.9, 0.95), 0.1, only_matrices=True)
    return Optimizer(adamw(groups), lr=lr, clip=1.0)


def hatchling(model, **_):
    return Optimizer(adamw(adamw_of(model, 1e-3, (0.9, 0.999), 0.1, only_matrices=False)))


def nanochat(model, horizon, tokens, compile=False, dtype=torch.float32):
    scale = math.sqrt(tokens / 2**19)
    rates = {"embedding": 0.3, "unembedding": 0.008, "matrix": 0.02, "scalar": 0.5}
    rates = {name: rate * scale for name, rate in rates.items()}
    schedule = Schedule(horizon)
    return muon_and_adamw(model, rates, 0.1, schedule.lr, schedule, compile, dtype)


def muon_and_adamw(model, rates, weight_decay, lr, schedule, compile=False, dtype=torch.float32):
    """Returns nanochat's optimizer: Muon for the matrices of the blocks, a group of AdamW for each other kind."""
    by_width = (model.config.n_embd / 768) ** -0.5
    embedding, head = rates["embedding"] * by_width, rates["unembedding"] * by_width
    settings = {
        "lm_head": (head, (0.8, 0.96), 0.01),
        "transformer.wte": (embedding, (0.8, 0.995), 0.001),
        "value_embeds": (embedding * 0.5, (0.8, 0.995), 0.01),
        "resid_lambdas": (rates["scalar"] * 0.01, (0.8, 0.95), 0.05),
        "x0_lambdas": (rates["scalar"], (0.96, 0.95), 0.0),
        "smear": (0.2, (0.8, 0.95), 0.0),
        "backout_lambda": (0.2, (0.8, 0.95), 0.0),
    }
    matrices, groups = [], defaultdict(list)
    for name, param in model.named_parameters():
        if name.startswith("transformer.h."):
            matrices.append(param)
        else:
            groups[next(prefix for prefix in settings if name.startswith(prefix))].append(param)
    groups = [
        {"params": params, "lr": settings[key][0], "betas": settings[key][1], "eps": 1e-10,
         "weight_decay": settings[key][2]}
        for key, params in groups.items()
    ]
    muon = Muon(matrices, rates["matrix"], weight_decay, schedule, compile, dtype)
    return Optimizer(adamw(groups), muon, lr)


class Schedule:
    """Learning rate, Muon's momentum and Muon's weight decay by step, in a run of `horizon` steps."""

    def __init__(self, horizon):
        self.horizon = horizon
        self.warmdown = round(0.65 * horizon)

    def lr(self, step):
        if step < 40:
            return (step + 1) / 40
        left = min((self.horizon - step) / self.warmdown, 1.0)
        return left + (1 - left) * 0.05

    def momentum(self, step):
        if step < 400:
            return 0.85 + (0.97 - 0.85) * step / 400
        done = max(step - (self.horizon - self.warmdown), 0) / self.warmdown
        return 0.97 + (0.90 - 0.97) * min(done, 1.0)

    def decay(self, step):
        return 0.5 * (1 + math.cos(math.pi * step / self.horizon))


class Constant:
    """Settings that do not change during a run."""

    def momentum(self, step):
        return 0.95

    def decay(self, step):
        return 1.0


class Muon:
    """Orthogonal updates of matrices, [out, in]. Matrices of one shape are stacked and updated together.

    `dtype` is the data type of the products; nanochat uses bf16 on a GPU.
    """

    def __init__(self, params, lr, weight_decay, schedule, compile=False, dtype=torch.float32):
        self.lr, self.weight_decay, self.schedule, self.steps = lr, weight_decay, schedule, 0
        self.dtype = dtype
        by_shape = defaultdict(list)
        for param in params:
            by_shape[param.shape].append(param)
        self.stacks = [Stack(params) for params in by_shape.values()]
        self.update, self.scalar = update, float
        if compile:
            # Tensors, because a number would be a constant, and the function would compile again at each step.
            self.update, self.scalar = torch.compile(update, fullgraph=True, dynamic=False), torch.tensor

    @torch.no_grad()
    def step(self, multiplier):
        for stack in self.stacks:
            lr = self.lr * multiplier * max(1.0, stack.rows / stack.columns) ** 0.5
            mu = self.scalar(self.schedule.momentum(self.steps))
            decay = self.scalar(lr * self.weight_decay * self.schedule.decay(self.steps))
            weights = torch.stack(stack.params)
            grads = torch.stack([param.grad for param in stack.params])
            lr = self.scalar(lr)
            moved = self.update(weights, grads, stack.momentum, stack.variance, mu, lr, decay, self.dtype)
            torch._foreach_copy_(stack.params, list(moved.unbind(0)))
        self.steps += 1

    def zero_grad(self):
        for stack in self.stacks:
            for param in stack.params:
                param.grad = None


class Stack:
    """Matrices of one shape, and their state in Muon."""

    def __init__(self, params):
        self.params = params
        self.rows, self.columns = params[0].shape
        self.momentum = torch.zeros(len(params), self.rows, self.columns, device=params[0].device)
        shape = (self.rows, 1) if self.rows >= self.columns else (1, self.columns)
        self.variance = torch.zeros(len(params), *shape, device=params[0].device)


def update(weights, grads, momentum, variance, mu, lr, decay, dtype=torch.float32):
    """Returns the weights, [matrices, out, in], after one step."""
    momentum.lerp_(grads, 1 - mu)
    x = reduce_variance(orthogonalize(equalize(grads.lerp(momentum, mu)), dtype), variance)
    shrinks = x * weights >= 0
    return weights - lr * x - decay * weights * shrinks


def size(x):
    """Returns the Frobenius norm of each matrix."""
    return x.square().sum(dim=(-2, -1), keepdim=True).sqrt()


def equalize(x):
    """Scales every row of a matrix to the root mean square of the rows' norms."""
    norms = x.square().sum(dim=-1, keepdim=True).sqrt().clamp_min(1e-6)
    return x * (size(x) / math.sqrt(x.shape[-2]) / norms)


def orthogonalize(x, dtype=torch.float32):
    """Returns an approximation of the nearest orthogonal matrix, with a norm of the root of its shorter side."""
    x = (x / (1.01 * size(x) + 1e-6)).to(dtype)
    for a, b, c in POLAR_EXPRESS:
        if x.shape[-2] > x.shape[-1]:
            gram = torch.bmm(x.mT, x)
            x = torch.baddbmm(x, x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), beta=a)
        else:
            gram = torch.bmm(x, x.mT)
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    x = x.float()
    return x * (math.sqrt(min(x.shape[-2:])) / size(x).clamp_min(1e-6))


def reduce_variance(x, variance):
    """Divides each line along the longer side by its usual size, and keeps the norm of the matrix."""
    along = -1 if x.shape[-2] >= x.shape[-1] else -2
    count = x.shape[along]
    now = x.square().mean(dim=along, keepdim=True)
    variance.lerp_(now, 0.1)
    factors = variance.clamp_min(1e-10).rsqrt()
    before = (now.sum(dim=(-2, -1), keepdim=True) * count).sqrt()
    after = ((now * factors.square()).sum(dim=(-2, -1), keepdim=True) * count).sqrt().clamp_min(1e-10)
    return x * (factors * (before / after))

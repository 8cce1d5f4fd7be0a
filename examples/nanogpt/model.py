"""The model, its artifact and its budget. Protected: every candidate is judged by it.

Invariant: a training run sees `BUDGET` tokens at most, in a model of at most `MAX_PARAMETERS`; what
a run leaves behind is weights and a configuration, never code.

The model is a small GPT over bytes: learned positions, pre-norm blocks of causal attention and a
feed-forward layer four times as wide, no weight tying.
"""

import json
import math
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

VOCABULARY = 256
ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu}
WEIGHTS = "model.pt"
CONFIG = "config.json"

#: Bytes that training may predict, repeats counted. Never seconds: a faster machine learns no more.
BUDGET = 800_000
MAX_PARAMETERS = 500_000


class Refused(Exception):
    """An artifact or a configuration that cannot be judged: says the value and the limit."""


@dataclass(frozen=True)
class Config:
    """What decides the shapes. ``context`` is in bytes."""

    context: int
    width: int
    layers: int
    heads: int
    activation: str = "gelu"

    def __post_init__(self) -> None:
        limits = {"context": 512, "width": 512, "layers": 12, "heads": 16}
        for name, most in limits.items():
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= most:
                raise Refused(f"{name} is {value!r}; it must be an integer from 1 to {most}")
        if self.width % self.heads:
            raise Refused(f"width {self.width} does not divide into {self.heads} heads")
        if self.activation not in ACTIVATIONS:
            raise Refused(f"activation is {self.activation!r}; know {', '.join(ACTIVATIONS)}")
        count = parameter_count(self)
        if count > MAX_PARAMETERS:
            raise Refused(f"{count} parameters; the limit is {MAX_PARAMETERS}")


def parameter_count(config: Config) -> int:
    width = config.width
    block = 12 * width * width + 13 * width
    ends = (2 * VOCABULARY + config.context) * width + 2 * width + VOCABULARY
    return config.layers * block + ends


class Block(nn.Module):
    def __init__(self, config: Config, dropout: float) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.activate = ACTIVATIONS[config.activation]
        self.before_attention = nn.LayerNorm(width)
        self.attention_in = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.before_feed = nn.LayerNorm(width)
        self.feed_in = nn.Linear(width, 4 * width)
        self.feed_out = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        parts = self.attention_in(self.before_attention(x))
        query, key, value = parts.view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        mixed = mixed.transpose(1, 2).reshape(batch, length, width)
        x = x + self.dropout(self.attention_out(mixed))
        fed = self.feed_out(self.activate(self.feed_in(self.before_feed(x))))
        return x + self.dropout(fed)


class GPT(nn.Module):
    """Logits (batch, length, 256) of the byte after each of ``tokens`` (int64, batch × length)."""

    def __init__(self, config: Config, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.bytes = nn.Embedding(VOCABULARY, config.width)
        self.positions = nn.Embedding(config.context, config.width)
        self.blocks = nn.ModuleList(Block(config, dropout) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.output = nn.Linear(config.width, VOCABULARY)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        at = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.bytes(tokens) + self.positions(at)
        for block in self.blocks:
            x = block(x)
        return self.output(self.norm(x))


class Meter:
    """Counts tokens and ends it: a step that the budget does not cover is refused."""

    def __init__(self, budget: int = BUDGET) -> None:
        self.budget = min(budget, BUDGET)
        self.used = 0

    def charge(self, tokens: int) -> None:
        if self.used + tokens > self.budget:
            raise Refused(f"the budget of {self.budget} tokens is spent: {self.used} used")
        self.used += tokens


def loss(model: GPT, windows: torch.Tensor, meter: Meter) -> torch.Tensor:
    """Mean nats per byte over ``windows`` (int64, batch × (length + 1)); charges ``meter``."""
    inputs, targets = windows[:, :-1], windows[:, 1:]
    meter.charge(targets.numel())
    return F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())


@torch.no_grad()
def bits_per_byte(model: GPT, data: torch.Tensor) -> float:
    """Bits that the model needs for a byte of ``data`` (uint8), on average; always in float32.

    Windows of the model's context overlap by half, and but for the first only their second halves
    count: every byte but the first few has at least half a context before it.
    """
    model.eval()
    context = model.config.context
    fresh = max(1, context // 2)
    tokens = torch.cat((torch.zeros(1, dtype=torch.uint8), data)).long()
    starts = range(0, max(1, len(data) - context + fresh), fresh)
    nats = 0.0
    for group in [starts[at : at + 64] for at in range(0, len(starts), 64)]:
        # The last window is moved back to end with the data; what overlaps more is not counted.
        firsts = [max(0, min(start, len(data) - context)) for start in group]
        windows = torch.stack([tokens[first : first + context + 1] for first in firsts])
        logits = model(windows[:, :-1]).transpose(1, 2)
        losses = F.cross_entropy(logits, windows[:, 1:], reduction="none")
        for start, first, row in zip(group, firsts, losses):
            counted = start + context - fresh if start else 0
            nats += float(row[counted - first :].double().sum())
    return nats / len(data) / math.log(2)


# --- the artifact ---------------------------------------------------------------------------------


def save(folder: Path, model: GPT, meter: Meter) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().float().cpu() for name, value in model.state_dict().items()}
    torch.save(weights, folder / WEIGHTS)
    text = json.dumps({"model": asdict(model.config), "tokens": meter.used}, indent=2)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")


def load(folder: Path) -> GPT:
    """Reads an artifact as data, never as code. Raises `Refused` for whatever is not one:

    missing or linked files, other shapes than the configuration's, numbers that are not finite
    float32, more tokens claimed than the budget.
    """
    for name in (WEIGHTS, CONFIG):
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise Refused(
                f"there is no file {name} in the artifact; train.py writes it with save()"
            )
    model = GPT(_read_config(folder / CONFIG))
    weights = _read_weights(folder / WEIGHTS, model.state_dict())
    model.load_state_dict(weights)
    return model


def _read_config(path: Path) -> Config:
    if path.stat().st_size > 10_000:
        raise Refused(f"{CONFIG} has {path.stat().st_size} bytes; the limit is 10000")
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        config, used = Config(**stored["model"]), stored["tokens"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Refused(f"{CONFIG} is not what save() writes: {error!r}") from error
    if type(used) is not int or not 0 <= used <= BUDGET:
        raise Refused(f"the artifact took {used!r} tokens; the budget is {BUDGET}")
    return config


def _read_weights(path: Path, expected: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    limit = sum(4 * value.numel() + 1024 for value in expected.values()) + 100_000
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > limit:
            raise Refused(f"{WEIGHTS} unpacks to {size} bytes; the model needs less than {limit}")
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Refused:
        raise
    except Exception as error:  # whatever a hostile archive makes its readers raise
        raise Refused(f"{WEIGHTS} cannot be read as weights: {error!r}") from error
    if not isinstance(weights, dict) or weights.keys() != expected.keys():
        raise Refused(f"{WEIGHTS} does not hold the parameters of its configuration")
    for name, value in weights.items():
        if not isinstance(value, torch.Tensor) or value.is_sparse or value.dtype != torch.float32:
            raise Refused(f"{WEIGHTS}: {name} is not a dense float32 tensor")
        if value.shape != expected[name].shape:
            raise Refused(f"{WEIGHTS}: {name} is {tuple(value.shape)}, not {expected[name].shape}")
        if not torch.isfinite(value).all():
            raise Refused(f"{WEIGHTS}: {name} holds numbers that are not finite")
    return weights

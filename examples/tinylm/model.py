"""The model, its gradient, its artifact and its budget. Protected: every candidate is judged by it.

Invariant: what `loss_and_gradients` computes for a `Config` is a function of its arguments alone,
bit for bit, and no budget buys more of it than `BUDGET` units of work, whatever the settings.

The model (Bengio et al., 2003, "A Neural Probabilistic Language Model", over bytes): the embeddings
of the `context` bytes before the next one, side by side, go through `depth` layers of `width` units
(from the second layer on with a residual connection) to the logits of 256 bytes; with `shortcut`,
the embeddings reach the logits by a direct linear map too. Everything is float32.
"""

import json
import math
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

VOCABULARY = 256
ACTIVATIONS = ("tanh", "sigmoid", "relu", "gelu", "silu")
WEIGHTS = "model.npz"
CONFIG = "config.json"

# One unit is one floating-point operation of a matrix product. Element-wise work waits for memory
# and costs more per number; the weights below make equal work take about equal time.
BUDGET = 140_000_000_000
PER_STEP = 6_000_000
PER_PARAMETER = 100
PER_ACTIVATION = 100
MAX_PARAMETERS = 2_000_000

Parameters = dict[str, np.ndarray]


class Refused(Exception):
    """An artifact or a configuration that cannot be judged: says the value and the limit."""


@dataclass(frozen=True)
class Config:
    """What decides the shapes. ``context`` is in bytes; the others count units."""

    context: int
    embedding: int
    width: int
    depth: int = 1
    activation: str = "tanh"
    shortcut: bool = False

    def __post_init__(self) -> None:
        limits = {"context": 64, "embedding": 256, "width": 2048, "depth": 8}
        for name, most in limits.items():
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= most:
                raise Refused(f"{name} is {value!r}; it must be an integer from 1 to {most}")
        if self.activation not in ACTIVATIONS:
            raise Refused(f"activation is {self.activation!r}; know {', '.join(ACTIVATIONS)}")
        if type(self.shortcut) is not bool:
            raise Refused(f"shortcut is {self.shortcut!r}; it must be true or false")
        if parameter_count(self) > MAX_PARAMETERS:
            raise Refused(f"{parameter_count(self)} parameters; the limit is {MAX_PARAMETERS}")


def shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter, in the order in which they lie in memory."""
    inputs = config.context * config.embedding
    found: dict[str, tuple[int, ...]] = {"embedding": (VOCABULARY, config.embedding)}
    for layer in range(config.depth):
        found[f"hidden{layer}.weight"] = (inputs if layer == 0 else config.width, config.width)
        found[f"hidden{layer}.bias"] = (config.width,)
    found["output.weight"] = (config.width, VOCABULARY)
    found["output.bias"] = (VOCABULARY,)
    if config.shortcut:
        found["shortcut.weight"] = (inputs, VOCABULARY)
    return found


def parameter_count(config: Config) -> int:
    return sum(math.prod(shape) for shape in shapes(config).values())


def allocate(config: Config) -> tuple[np.ndarray, Parameters]:
    """A flat float32 vector of zeros and, by name, views into it: one update moves them all."""
    flat = np.zeros(parameter_count(config), np.float32)
    views: Parameters = {}
    start = 0
    for name, shape in shapes(config).items():
        views[name] = flat[start : start + math.prod(shape)].reshape(shape)
        start += math.prod(shape)
    return flat, views


# --- the budget -----------------------------------------------------------------------------------


def step_work(config: Config, batch: int) -> int:
    """Units of work of one training step on ``batch`` examples: forward, backward and update."""
    matrices = sum(
        math.prod(shape) for name, shape in shapes(config).items() if name.endswith("weight")
    )
    numbers = VOCABULARY + config.depth * config.width + 2 * config.context * config.embedding
    per_example = 6 * matrices + PER_ACTIVATION * numbers
    return PER_STEP + PER_PARAMETER * parameter_count(config) + per_example * batch


class Meter:
    """Counts work and ends it: a step that the budget does not cover is refused before it runs."""

    def __init__(self, budget: int = BUDGET) -> None:
        self.budget = min(budget, BUDGET)
        self.used = 0

    def steps(self, config: Config, batch: int) -> int:
        """How many steps of this size are left."""
        return (self.budget - self.used) // step_work(config, batch)

    def charge(self, config: Config, batch: int) -> None:
        work = step_work(config, batch)
        if self.used + work > self.budget:
            raise Refused(f"the budget of {self.budget} units is spent: {self.used} used")
        self.used += work


# --- forward and backward -------------------------------------------------------------------------


def _activate(name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The activation of ``x`` and its derivative at ``x``, both of the shape of ``x``."""
    if name == "tanh":
        y = np.tanh(x)
        return y, 1 - y * y
    if name == "relu":
        return np.maximum(x, 0), (x > 0).astype(x.dtype)
    # sigmoid(x) = (1 + tanh(x / 2)) / 2 never overflows; gelu is x sigmoid(1.702 x).
    slope = np.float32(1.702 if name == "gelu" else 1.0)
    gate = np.tanh(x * (slope / 2))
    gate += 1
    gate *= 0.5
    d_gate = gate * (1 - gate) * slope
    if name == "sigmoid":
        return gate, d_gate
    return x * gate, gate + x * d_gate


@dataclass(frozen=True)
class _Forward:
    inputs: np.ndarray  # (batch, context * embedding)
    outputs: list[np.ndarray]  # of each layer, (batch, width)
    slopes: list[np.ndarray]  # derivative of each layer's activation, (batch, width)
    logits: np.ndarray  # (batch, 256)


def _forward(config: Config, parameters: Parameters, contexts: np.ndarray) -> _Forward:
    inputs = parameters["embedding"][contexts].reshape(len(contexts), -1)
    x, outputs, slopes = inputs, [], []
    for layer in range(config.depth):
        before = x @ parameters[f"hidden{layer}.weight"]
        before += parameters[f"hidden{layer}.bias"]
        y, slope = _activate(config.activation, before)
        x = y if layer == 0 else x + y
        outputs.append(x)
        slopes.append(slope)
    logits = x @ parameters["output.weight"]
    logits += parameters["output.bias"]
    if config.shortcut:
        logits += inputs @ parameters["shortcut.weight"]
    return _Forward(inputs, outputs, slopes, logits)


def _softmax_loss(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (batch, 256), computed in place of ``logits``, and nats per example (batch)."""
    rows = np.arange(len(targets))
    logits -= logits.max(axis=1, keepdims=True)
    of_target = logits[rows, targets]
    np.exp(logits, out=logits)
    total = logits.sum(axis=1, keepdims=True)
    losses = np.log(total[:, 0]) - of_target
    logits /= total
    return logits, losses


def _scatter(contexts: np.ndarray, d_inputs: np.ndarray, d_embedding: np.ndarray) -> None:
    """Sums the gradient of each byte's occurrences, in a fixed order, into its embedding row."""
    tokens = contexts.reshape(-1)
    order = np.argsort(tokens, kind="stable")
    ordered = tokens[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    rows = d_inputs.reshape(len(tokens), -1)[order]
    d_embedding[:] = 0
    d_embedding[ordered[starts]] = np.add.reduceat(rows, starts, axis=0)


def loss_and_gradients(
    config: Config,
    parameters: Parameters,
    contexts: np.ndarray,
    targets: np.ndarray,
    gradients: Parameters,
    meter: Meter,
) -> float:
    """Mean loss in nats per byte; fills ``gradients`` (as made by `allocate`); charges ``meter``.

    ``contexts``: uint8 (batch, context), oldest byte first. ``targets``: uint8 (batch).
    Raises `Refused` when the meter's budget does not cover the step.
    """
    meter.charge(config, len(targets))
    forward = _forward(config, parameters, contexts)
    d_logits, losses = _softmax_loss(forward.logits, targets)
    d_logits[np.arange(len(targets)), targets] -= 1
    d_logits /= len(targets)

    def linear(name: str, inputs: np.ndarray, d_out: np.ndarray) -> np.ndarray:
        np.matmul(inputs.T, d_out, out=gradients[f"{name}.weight"])
        if f"{name}.bias" in gradients:
            np.sum(d_out, axis=0, out=gradients[f"{name}.bias"])
        return d_out @ parameters[f"{name}.weight"].T

    d_x = linear("output", forward.outputs[-1], d_logits)
    for layer in reversed(range(config.depth)):
        below = forward.outputs[layer - 1] if layer else forward.inputs
        d_below = linear(f"hidden{layer}", below, d_x * forward.slopes[layer])
        d_x = d_x + d_below if layer else d_below
    if config.shortcut:
        d_x += linear("shortcut", forward.inputs, d_logits)
    _scatter(contexts, d_x, gradients["embedding"])
    return float(losses.mean())


# --- evaluation -----------------------------------------------------------------------------------


def windows(data: np.ndarray, context: int) -> np.ndarray:
    """Row i: the ``context`` bytes before byte i of ``data``; zeros before the first. A view."""
    padded = np.concatenate((np.zeros(context, np.uint8), data))
    return np.lib.stride_tricks.sliding_window_view(padded, context)[:-1]


def bits_per_byte(config: Config, parameters: Parameters, data: np.ndarray) -> float:
    """Bits that the model needs for a byte of ``data`` (uint8, one dimension), on average."""
    contexts = windows(data, config.context)
    nats = 0.0
    for start in range(0, len(data), 2048):
        part = slice(start, start + 2048)
        _, losses = _softmax_loss(_forward(config, parameters, contexts[part]).logits, data[part])
        nats += float(losses.sum(dtype=np.float64))
    return nats / len(data) / math.log(2)


# --- the artifact ---------------------------------------------------------------------------------


def save(folder: Path, config: Config, parameters: Parameters, work: dict[str, int]) -> None:
    """Writes `WEIGHTS` and `CONFIG`. ``work`` holds ``steps``, ``batch`` and ``used`` (units)."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / WEIGHTS, **parameters)
    text = json.dumps({"model": asdict(config), "work": work}, indent=2)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")


def load(folder: Path) -> tuple[Config, Parameters]:
    """Reads an artifact as data, never as code. Raises `Refused` for whatever is not one:

    missing or linked files, other shapes than the configuration's, numbers that are not finite
    float32, more work claimed than the budget.
    """
    for name in (WEIGHTS, CONFIG):
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise Refused(
                f"there is no file {name} in the artifact; train.py writes it with save()"
            )
    config = _read_config(folder / CONFIG)
    return config, _read_weights(folder / WEIGHTS, config)


def _read_config(path: Path) -> Config:
    if path.stat().st_size > 10_000:
        raise Refused(f"{CONFIG} has {path.stat().st_size} bytes; the limit is 10000")
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        config = Config(**stored["model"])
        work = {name: stored["work"][name] for name in ("steps", "batch", "used")}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Refused(f"{CONFIG} is not what save() writes: {error!r}") from error
    if any(type(value) is not int or value < 0 for value in work.values()):
        raise Refused(f"{CONFIG}: work is {work}; each must be a non-negative integer")
    used = max(work["used"], work["steps"] * step_work(config, work["batch"]))
    if used > BUDGET:
        raise Refused(f"the artifact took {used} units of work; the budget is {BUDGET}")
    return config


def _read_weights(path: Path, config: Config) -> Parameters:
    expected = shapes(config)
    try:
        parameters = _unpack(path, expected)
    except Refused:
        raise
    except Exception as error:  # whatever a hostile archive makes its readers raise
        raise Refused(f"{WEIGHTS} cannot be read as arrays: {error!r}") from error
    for name, value in parameters.items():
        if value.shape != expected[name] or value.dtype != np.float32:
            raise Refused(f"{WEIGHTS}: {name} is {value.dtype} {value.shape}, not {expected[name]}")
        if not np.isfinite(value).all():
            raise Refused(f"{WEIGHTS}: {name} holds numbers that are not finite")
    return parameters


def _unpack(path: Path, expected: dict[str, tuple[int, ...]]) -> Parameters:
    """Sizes are checked before anything is unpacked: a small archive can hold a huge array."""
    with zipfile.ZipFile(path) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    for name, shape in expected.items():
        header = sizes.pop(f"{name}.npy", 0) - 4 * math.prod(shape)
        if not 0 < header < 1024:
            raise Refused(f"{WEIGHTS}: {name} is missing or not float32 of shape {shape}")
    if sizes:
        raise Refused(f"{WEIGHTS} holds {', '.join(sorted(sizes))} besides the parameters")
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in expected}

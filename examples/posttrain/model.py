"""The model, its gradient, its artifact and its budget. Protected: every candidate is judged by it.

Invariant: what a `Pass` computes is a function of its arguments alone, bit for bit, and no budget
buys more of it than `BUDGET` units of work, whatever the settings.

The model is a decoder with two blocks over whole words: learned positions, RMS norms without
weights before attention, before the feed-forward layer and before the output (Zhang and Sennrich,
2019), and an output matrix that is the embedding's transpose. Everything is float32.
"""

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

WIDTH, LAYERS, HEADS, HIDDEN = 48, 2, 4, 192
CONTEXT = 32
WEIGHTS = "model.npz"
#: The matrices of a block, which a low-rank update may stand for.
MATRICES = ("query", "key", "value", "mixed", "up", "down")

# One unit is one floating-point operation of a matrix product. Element-wise work waits for memory
# and costs more per number; the weights below make equal work take about equal time.
BUDGET = 200_000_000_000
PER_PASS = 4_000_000
PER_PARAMETER = 60
PER_NUMBER = 60

Parameters = dict[str, np.ndarray]


class Refused(Exception):
    """An artifact, data or an order that cannot be judged: says the value and the limit."""


def shapes(vocabulary: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter, in the order in which they lie in memory."""
    found: dict[str, tuple[int, ...]] = {
        "embedding": (vocabulary, WIDTH),
        "position": (CONTEXT, WIDTH),
    }
    for layer in range(LAYERS):
        for name in MATRICES:
            rows = HIDDEN if name == "down" else WIDTH
            found[f"{layer}.{name}"] = (rows, HIDDEN if name == "up" else WIDTH)
    return found


def parameter_count(vocabulary: int) -> int:
    return sum(math.prod(shape) for shape in shapes(vocabulary).values())


def allocate(vocabulary: int) -> tuple[np.ndarray, Parameters]:
    """A flat float32 vector of zeros and, by name, views into it: one update moves them all."""
    flat = np.zeros(parameter_count(vocabulary), np.float32)
    views: Parameters = {}
    start = 0
    for name, shape in shapes(vocabulary).items():
        views[name] = flat[start : start + math.prod(shape)].reshape(shape)
        start += math.prod(shape)
    return flat, views


# --- the budget -----------------------------------------------------------------------------------


def pass_work(vocabulary: int, rows: int, length: int, *, backward: bool) -> int:
    """Units of work of one pass over ``rows`` texts of ``length`` words, and of an update."""
    matrices = LAYERS * (4 * WIDTH * WIDTH + 2 * WIDTH * HIDDEN) + vocabulary * WIDTH
    numbers = vocabulary + LAYERS * (2 * HIDDEN + 8 * WIDTH + HEADS * length)
    per_word = 2 * matrices + PER_NUMBER * numbers
    forward = PER_PASS + per_word * rows * length
    if not backward:
        return forward
    return 3 * forward + PER_PARAMETER * parameter_count(vocabulary)


class Meter:
    """Counts work and ends it: a pass that the budget does not cover is refused before it runs."""

    def __init__(self, budget: int = BUDGET) -> None:
        self.budget = min(budget, BUDGET)
        self.used = 0

    def charge(self, work: int) -> None:
        if self.used + work > self.budget:
            raise Refused(f"the budget of {self.budget} units is spent: {self.used} used")
        self.used += work


# --- forward and backward -------------------------------------------------------------------------


def _normed(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``x`` at length one per number, and the factor that did it."""
    scale = 1 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(1e-6))
    return x * scale, scale


def _d_normed(d_y: np.ndarray, y: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return scale * (d_y - y * np.mean(d_y * y, axis=-1, keepdims=True))


def _softmax(x: np.ndarray) -> np.ndarray:
    """Over the last axis, in place of ``x``."""
    x -= x.max(axis=-1, keepdims=True)
    np.exp(x, out=x)
    x /= x.sum(axis=-1, keepdims=True)
    return x


def _heads(x: np.ndarray) -> np.ndarray:
    rows, length, _ = x.shape
    return x.reshape(rows, length, HEADS, -1).transpose(0, 2, 1, 3)


def _joined(x: np.ndarray) -> np.ndarray:
    rows, _, length, _ = x.shape
    return x.transpose(0, 2, 1, 3).reshape(rows, length, WIDTH)


@dataclass(frozen=True)
class _Block:
    """What a block's backward pass needs of its forward pass."""

    before: np.ndarray
    before_scale: np.ndarray
    query: np.ndarray
    key: np.ndarray
    value: np.ndarray
    attention: np.ndarray
    mixed: np.ndarray
    middle: np.ndarray
    middle_scale: np.ndarray
    up: np.ndarray


class Pass:
    """One forward pass over ``words`` (int, rows by length), charged to ``meter``.

    ``logp``: for each position but the last, the logarithm of the probability of the word that
    comes next. ``backward`` may be called once, if the pass was charged for it (``training``).
    """

    def __init__(
        self, parameters: Parameters, words: np.ndarray, meter: Meter, *, training: bool = False
    ) -> None:
        vocabulary, (rows, length) = len(parameters["embedding"]), words.shape
        meter.charge(pass_work(vocabulary, rows, length, backward=training))
        self._parameters, self._words = parameters, words
        x, self._blocks = _forward(parameters, words)
        self._last, self._scale = _normed(x[:, :-1])
        flat = self._last.reshape(-1, WIDTH)
        self.probabilities = _softmax(flat @ parameters["embedding"].T)
        self._next = words[:, 1:].reshape(-1)
        picked = self.probabilities[np.arange(len(flat)), self._next]
        self.logp = np.log(np.maximum(picked, 1e-30)).reshape(rows, length - 1)

    def backward(
        self, weights: np.ndarray, gradients: Parameters, towards: np.ndarray | None = None
    ) -> None:
        """Fill ``gradients`` with those of ``-sum(weights * logp)``.

        ``towards``: probabilities (as `probabilities` has them) to match in place of the next word,
        which makes it the gradient of the cross entropy with them. Weights may be negative.
        """
        p, w = self._parameters, weights.reshape(-1, 1).astype(np.float32)
        d_logits = self.probabilities
        if towards is None:
            d_logits[np.arange(len(self._next)), self._next] -= 1
        else:
            d_logits -= towards
        d_logits *= w
        last = self._last.reshape(-1, WIDTH)
        np.matmul(d_logits.T, last, out=gradients["embedding"])
        rows, length = self._words.shape
        d_x = np.zeros((rows, length, WIDTH), np.float32)
        d_last = (d_logits @ p["embedding"]).reshape(rows, length - 1, WIDTH)
        d_x[:, :-1] = _d_normed(d_last, self._last, self._scale)
        for layer in reversed(range(LAYERS)):
            d_x = _d_block(p, layer, self._blocks[layer], d_x, gradients)
        gradients["position"][:] = 0
        gradients["position"][:length] = d_x.sum(axis=0)
        _scatter(self._words, d_x, gradients["embedding"])


def _forward(p: Parameters, words: np.ndarray) -> tuple[np.ndarray, list[_Block]]:
    x = p["embedding"][words] + p["position"][: words.shape[1]]
    blocks: list[_Block] = []
    hidden = np.triu(np.full((words.shape[1], words.shape[1]), -1e9, np.float32), 1)
    for layer in range(LAYERS):
        before, before_scale = _normed(x)
        query, key, value = (_heads(before @ p[f"{layer}.{n}"]) for n in MATRICES[:3])
        scores = query @ key.transpose(0, 1, 3, 2)
        scores *= np.float32((HEADS / WIDTH) ** 0.5)
        scores += hidden
        attention = _softmax(scores)
        mixed = _joined(attention @ value)
        x = x + mixed @ p[f"{layer}.mixed"]
        middle, middle_scale = _normed(x)
        up = np.maximum(middle @ p[f"{layer}.up"], 0)
        x = x + up @ p[f"{layer}.down"]
        blocks.append(
            _Block(
                *(before, before_scale, query, key, value, attention, mixed),
                *(middle, middle_scale, up),
            )
        )
    return x, blocks


def _product(x: np.ndarray, d_out: np.ndarray, out: np.ndarray) -> None:
    np.matmul(x.reshape(-1, x.shape[-1]).T, d_out.reshape(-1, d_out.shape[-1]), out=out)


def _d_block(
    p: Parameters, layer: int, b: _Block, d_x: np.ndarray, gradients: Parameters
) -> np.ndarray:
    """The gradient before block ``layer``, from the one behind it; fills the block's own."""
    _product(b.up, d_x, gradients[f"{layer}.down"])
    d_up = (d_x @ p[f"{layer}.down"].T) * (b.up > 0)
    _product(b.middle, d_up, gradients[f"{layer}.up"])
    d_x = d_x + _d_normed(d_up @ p[f"{layer}.up"].T, b.middle, b.middle_scale)
    _product(b.mixed, d_x, gradients[f"{layer}.mixed"])
    d_mixed = _heads(d_x @ p[f"{layer}.mixed"].T)
    d_value = b.attention.transpose(0, 1, 3, 2) @ d_mixed
    d_scores = d_mixed @ b.value.transpose(0, 1, 3, 2)
    d_scores -= np.sum(d_scores * b.attention, axis=-1, keepdims=True)
    d_scores *= b.attention
    d_scores *= np.float32((HEADS / WIDTH) ** 0.5)
    d_query, d_key = d_scores @ b.key, d_scores.transpose(0, 1, 3, 2) @ b.query
    d_before = np.zeros_like(d_x)
    for name, d_head in zip(MATRICES[:3], (d_query, d_key, d_value)):
        d_flat = _joined(d_head)
        _product(b.before, d_flat, gradients[f"{layer}.{name}"])
        d_before += d_flat @ p[f"{layer}.{name}"].T
    return d_x + _d_normed(d_before, b.before, b.before_scale)


def _scatter(words: np.ndarray, d_x: np.ndarray, d_embedding: np.ndarray) -> None:
    """Adds the gradient of each word's occurrences, in a fixed order, to its embedding's row."""
    flat = words.reshape(-1)
    order = np.argsort(flat, kind="stable")
    ordered = flat[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    rows = d_x.reshape(len(flat), -1)[order]
    d_embedding[ordered[starts]] += np.add.reduceat(rows, starts, axis=0)


# --- answering ------------------------------------------------------------------------------------


def continuations(parameters: Parameters, prompts: np.ndarray, most: int) -> np.ndarray:
    """The ``most`` likeliest next words of each prompt (equally long ones), one after the other."""
    words = prompts
    for _ in range(min(most, CONTEXT - prompts.shape[1])):
        x, _ = _forward(parameters, words)
        last, _ = _normed(x[:, -1])
        best = np.argmax(last @ parameters["embedding"].T, axis=1)
        words = np.concatenate((words, best[:, None].astype(words.dtype)), axis=1)
    return words[:, prompts.shape[1] :]


# --- the artifact ---------------------------------------------------------------------------------


def save(folder: Path, parameters: Parameters) -> None:
    """Writes `WEIGHTS`."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / WEIGHTS, **parameters)


def load(folder: Path, vocabulary: int) -> Parameters:
    """Reads an artifact as data, never as code. Raises `Refused` for whatever is not one: missing
    or linked files, other shapes than the base model's, numbers that are not finite float32."""
    path = folder / WEIGHTS
    if path.is_symlink() or not path.is_file():
        raise Refused(f"there is no file {WEIGHTS} in the artifact; train.py writes it with save()")
    expected = shapes(vocabulary)
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

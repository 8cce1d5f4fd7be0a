"""Trains the model and leaves an artifact. The one file to edit: settings here, or the code below.

Invariant to keep: on a CPU equal seeds give equal bytes; every token goes through the meter.
"""

import os

# cuBLAS repeats its sums in equal order only with a workspace that is set before it starts.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import argparse
import math
from contextlib import nullcontext
from pathlib import Path

import model
import torch
from torch import nn

# --- settings -------------------------------------------------------------------------------------

CONTEXT = 64  # bytes that the model sees at once
WIDTH = 64  # numbers per position
LAYERS = 2  # blocks
HEADS = 2  # attention heads per block; they divide the width
ACTIVATION = "relu"  # gelu, relu, silu
DROPOUT = 0.1  # share of each block's outputs set to zero
INIT_SCALE = 0.02  # standard deviation of the weights
BATCH = 32  # windows per step; more windows, fewer steps
LEARNING_RATE = 0.0005  # of AdamW
SCHEDULE = "constant"  # constant, linear, cosine
WARMUP = 0.0  # share of the steps in which the learning rate rises from zero
BETA2 = 0.999  # AdamW's memory of squared gradients
WEIGHT_DECAY = 0.1  # AdamW's, on matrices
CLIP = 1.0  # largest norm of the gradient

# --- training -------------------------------------------------------------------------------------


def initialise(gpt: model.GPT) -> None:
    for name, value in gpt.named_parameters():
        if value.dim() > 1:
            nn.init.normal_(value, std=INIT_SCALE)
        elif name.endswith("bias"):
            nn.init.zeros_(value)


def rate_at(step: int, steps: int) -> float:
    """The learning rate of ``step``, from 0 to ``steps`` - 1."""
    done = step / steps
    if done < WARMUP:
        return LEARNING_RATE * (done + 1 / steps) / WARMUP
    left = (1 - done) / (1 - WARMUP)
    if SCHEDULE == "linear":
        return LEARNING_RATE * left
    if SCHEDULE == "cosine":
        return LEARNING_RATE * 0.5 * (1 - math.cos(math.pi * left))
    return LEARNING_RATE


def optimiser_of(gpt: model.GPT) -> torch.optim.Optimizer:
    matrices = [value for value in gpt.parameters() if value.dim() > 1]
    vectors = [value for value in gpt.parameters() if value.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": WEIGHT_DECAY},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, BETA2))


def train(data: torch.Tensor, seed: int, meter: model.Meter, device: str) -> model.GPT:
    torch.manual_seed(seed)
    chooser = torch.Generator().manual_seed(seed)
    gpt = model.GPT(model.Config(CONTEXT, WIDTH, LAYERS, HEADS, ACTIVATION), DROPOUT)
    initialise(gpt)
    gpt = gpt.to(device).train()
    optimiser = optimiser_of(gpt)
    steps = meter.budget // (BATCH * CONTEXT)
    windows = data.unfold(0, CONTEXT + 1, 1)
    lower = torch.autocast("cuda", torch.bfloat16) if device == "cuda" else nullcontext()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate_at(step, steps)
        chosen = torch.randint(len(windows), (BATCH,), generator=chooser)
        with lower:
            value = model.loss(gpt, windows[chosen].long().to(device), meter)
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(gpt.parameters(), CLIP)
        optimiser.step()
        if (step + 1) % max(1, steps // 10) == 0:
            bits = value.item() / math.log(2)
            print(f"step {step + 1}/{steps} train_bpb: {bits:.4f}", flush=True)
    return gpt.cpu()


def read(path: Path) -> torch.Tensor:
    return torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train, and leave an artifact in --out.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, required=True, help="folder that data.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the artifact")
    parser.add_argument("--tokens", type=int, default=model.BUDGET, help="fewer, for trials")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # several threads would split the sums otherwise from run to run
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
    meter = model.Meter(arguments.tokens)
    print(f"on {device}, {meter.budget} tokens", flush=True)
    gpt = train(read(arguments.data / "train.bin"), arguments.seed, meter, device)
    model.save(arguments.out, gpt, meter)
    print(f"val_bpb: {model.bits_per_byte(gpt, read(arguments.data / 'val.bin')):.6f}")


if __name__ == "__main__":
    main()

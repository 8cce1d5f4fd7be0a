"""Trains the model and leaves an artifact. The one file to edit: settings here, or the code below.

Invariant to keep: on a CPU equal seeds give equal bytes; every token goes through the meter.
"""

import os

# cuBLAS repeats its sums in equal order only with a workspace that is set before it starts.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import argparse
import json
import math
import time
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


def multiplier(step: int, steps: int) -> float:
    """Of the learning rate at ``step``, from 0 to ``steps`` - 1."""
    done = step / steps
    if done < WARMUP:
        return (done + 1 / steps) / WARMUP
    left = (1 - done) / (1 - WARMUP)
    if SCHEDULE == "linear":
        return left
    if SCHEDULE == "cosine":
        return 0.5 * (1 - math.cos(math.pi * left))
    return 1.0


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
    began = time.perf_counter()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * multiplier(step, steps)
        chosen = torch.randint(len(windows), (BATCH,), generator=chooser)
        with lower:
            value = model.loss(gpt, windows[chosen].long().to(device), meter)
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(gpt.parameters(), CLIP)
        optimiser.step()
        if (step + 1) % max(1, steps // 20) == 0:
            loss = value.item()  # waits for the device, and so the time is that of the steps
            seconds = (time.perf_counter() - began) / (step + 1)
            tell(gpt, step + 1, steps, loss, len(data), seconds, device)
    return gpt.cpu()


#: Of these devices, floating-point operations a second in bfloat16, without sparsity.
PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "A10G": 70e12, "L4": 121e12}


def tell(
    gpt: model.GPT, step: int, steps: int, loss: float, size: int, seconds: float, device: str
) -> None:
    """A line of progress, as trackers read it. ``seconds``: of a step, on average so far.

    The share of the device's peak (MFU) counts six operations for each parameter and token, and
    twelve for each layer, number and token that attention sees (Chowdhery et al., 2022)."""
    told = {
        "step": step,
        "loss": round(loss, 5),
        "train_bpb": round(loss / math.log(2), 5),
        "lr_multiplier": round(multiplier(step - 1, steps), 4),
        "step_seconds": round(seconds, 6),
        "tokens_per_second": round(BATCH * CONTEXT / seconds, 1),
        "epoch": round(step * BATCH * CONTEXT / size, 4),
        "remaining_steps": steps - step,
        "remaining_seconds": round((steps - step) * seconds, 3),
    }
    named = torch.cuda.get_device_name() if device == "cuda" else ""
    peak = next((PEAK[word] for word in named.replace("-", " ").split() if word in PEAK), 0.0)
    if peak:
        operations = 6 * sum(p.numel() for p in gpt.parameters()) + 12 * LAYERS * WIDTH * CONTEXT
        told["mfu_percent"] = round(100 * operations * told["tokens_per_second"] / peak, 4)
    print(json.dumps(told), flush=True)


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

"""What a run has spent, in a few words."""

from __future__ import annotations


def spent_told(spent: dict[str, int]) -> str:
    told = f"{spent.get('tokens', 0):,} tokens in {spent.get('requests', 0)} requests"
    money = spent.get("micro_usd", 0)
    return f"{told}, ${money / 1e6:.4f}" if money else told

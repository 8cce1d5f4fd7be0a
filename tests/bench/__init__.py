"""Ratios against peers, measured in one run: `python -m tests.bench` from the repository root.

Invariant: every figure is a ratio of (or a difference between) things measured in turn, A B A B, in
the same run and on the same disk. A figure from another run or another machine is never used.
"""

#!/bin/bash
# Writes the reward: 1 where every check holds, else 0.
mkdir -p /logs/verifier
cd /app || exit 1
if python3 -I /tests/check.py; then reward=1; else reward=0; fi
echo "$reward" > /logs/verifier/reward.txt

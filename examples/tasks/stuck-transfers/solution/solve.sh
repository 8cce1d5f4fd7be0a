#!/bin/bash
set -euo pipefail
cd /app
cp /solution/bank.py bank.py

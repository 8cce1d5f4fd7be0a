#!/bin/bash
set -euo pipefail
cd /app
cp /solution/expr.py expr.py

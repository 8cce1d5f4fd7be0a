#!/bin/bash
set -euo pipefail
cd /app
cp /solution/notes.py notes.py

#!/bin/bash
set -euo pipefail
cd /app
cp /solution/migrate.py migrate.py

#!/bin/bash
set -euo pipefail
cd /app
cp /solution/app/*.py .

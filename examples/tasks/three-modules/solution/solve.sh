#!/bin/bash
set -euo pipefail
cd /app
cp /solution/stock/*.py stock/

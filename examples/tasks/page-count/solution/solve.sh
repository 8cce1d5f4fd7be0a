#!/bin/bash
set -euo pipefail
cd /app
sed -i \
  -e 's|return total // size|return -(-total // size)|' \
  -e 's|start + size - 1|start + size|' \
  -e 's|range(1, count(len(items), size))|range(1, count(len(items), size) + 1)|' \
  pager/pages.py

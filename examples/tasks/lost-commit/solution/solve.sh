#!/bin/bash
set -euo pipefail
cd /app
git config user.name Ada
git config user.email ada@example.org
lost=$(git reflog --format=%H --grep-reflog='commit: Note what the parser does' | head -1)
git cherry-pick "$lost~1" "$lost"

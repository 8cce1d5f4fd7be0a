#!/bin/bash
# Makes the repository as the task finds it.
set -euo pipefail
export GIT_AUTHOR_NAME=Ada GIT_AUTHOR_EMAIL=ada@example.org
export GIT_COMMITTER_NAME=Ada GIT_COMMITTER_EMAIL=ada@example.org
commit() {
  export GIT_AUTHOR_DATE="$2" GIT_COMMITTER_DATE="$2"
  git add -A
  git commit -q -m "$1"
}
git init -q -b main
echo make_history.sh >> .git/info/exclude
printf 'first note\n' > notes.txt
commit "Begin the notes" "2024-01-01T10:00:00Z"
printf 'def parse(line):\n    return [part.strip() for part in line.split("|")]\n' > parser.py
commit "Add a parser" "2024-01-02T10:00:00Z"
export GIT_AUTHOR_NAME=Grace GIT_AUTHOR_EMAIL=grace@example.org
printf 'first note\nthe parser splits at bars\n' > notes.txt
commit "Note what the parser does" "2024-01-03T10:00:00Z"
git reset -q --hard HEAD~2
export GIT_AUTHOR_NAME=Ada GIT_AUTHOR_EMAIL=ada@example.org
printf 'MIT\n' > LICENSE
commit "Add a license" "2024-01-04T10:00:00Z"

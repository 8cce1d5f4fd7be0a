"""What `CopiedSandbox` runs where its copies lie: POSIX shell, with the tools of GNU.

Each prints its result to standard output, data in base64, for some environments pass text only. The
first line of those that may refuse is a word.
"""

from __future__ import annotations

#: Which of these tools are missing.
MISSING = r"""
for tool; do command -v "$tool" >/dev/null || printf '%s ' "$tool"; done
find / -maxdepth 0 -printf '' 2>/dev/null || printf 'find with -printf '
"""

#: $1 the workspace, $2 a path in it, $3 offset, $4 how many bytes (-1: all).
READ = r"""
[ "${#2}" -lt 4096 ] || { echo refused; exit 0; }
p=$(realpath -m -- "$1/$2" 2>/dev/null) || { echo refused; exit 0; }
case $p/ in "$1"/*) ;; *) echo refused; exit 0 ;; esac
[ -f "$p" ] && [ ! -L "$p" ] || { echo missing; exit 0; }
echo "ok $(stat -c '%s %a' -- "$p")"
if [ "$4" = -1 ]; then tail -c "+$(($3 + 1))" -- "$p" | base64 -w0
else tail -c "+$(($3 + 1))" -- "$p" | head -c "$4" | base64 -w0; fi
"""

#: $1 the workspace, $2 a path, $3 a file beside it that becomes this one, $4 its mode or nothing.
WRITE = r"""
[ "${#2}" -lt 4096 ] || { echo refused; exit 0; }
p=$(realpath -m -- "$1/$2" 2>/dev/null) || { echo refused; exit 0; }
case $p in "$1"/*) ;; *) echo refused; exit 0 ;; esac
{ [ -e "$p" ] || [ -L "$p" ]; } && { [ -f "$p" ] && [ ! -L "$p" ] || { echo refused; exit 0; }; }
mkdir -p -- "$(dirname -- "$p")" 2>/dev/null || { echo refused; exit 0; }
mode=$4; [ -n "$mode" ] || mode=$(stat -c %a -- "$p" 2>/dev/null || echo 644)
beside=$(dirname -- "$p")/.manyhands-$$.new
cp --remove-destination -- "$3" "$beside" && chmod "$mode" -- "$beside" \
  && mv -fT -- "$beside" "$p" && echo ok || { rm -f -- "$beside"; echo failed; }
rm -f -- "$3"
"""

#: $1 the workspace, $2 a path: its last part is not followed.
DELETE = r"""
[ "${#2}" -lt 4096 ] || { echo refused; exit 0; }
p=$(realpath -m -- "$1/$(dirname -- "$2")" 2>/dev/null) || { echo refused; exit 0; }
case $p/ in "$1"/*) ;; *) echo refused; exit 0 ;; esac
name=$(basename -- "$2")
case $name in .|..|/) echo missing; exit 0 ;; esac
p=$p/$name
{ [ -e "$p" ] || [ -L "$p" ]; } || { echo missing; exit 0; }
[ -d "$p" ] && [ ! -L "$p" ] && { echo missing; exit 0; }
rm -f -- "$p" && echo ok
"""

#: $1 a folder: kind, mode, size, path and link of all in it, then the hashes of its files.
MANIFEST = r"""
cd -- "$1" || exit 1
find . -mindepth 1 -printf '%y\0%m\0%s\0%P\0%l\0' | base64 -w0; echo
find . -type f -print0 | xargs -0 -r sha256sum -z -- | base64 -w0; echo
"""

#: As `MANIFEST`, without the hashes.
LISTING = r"""
cd -- "$1" || exit 1
find . -mindepth 1 -printf '%y\0%m\0%s\0%P\0%l\0' | base64 -w0; echo; echo
"""

#: $1 from, $2 to: a folder with all that is in it.
COPY = r"""
mkdir -p -- "$2" && cp -a --reflink=auto -- "$1/." "$2" && echo ok
"""

"""What `HarborSandbox` runs in an environment: POSIX shell, with the tools of GNU.

Each prints its result to standard output, data in base64: Harbor passes text only. Those for files
and states are the adapters' (`inside_scripts`).
"""

from __future__ import annotations

#: Whether a folder can be mounted over another for one command, or at least be put in the place of
#: another. $2: the working folder.
PROBE = r"""
mkdir -p "$1/a" "$1/b"
for how in --mount "--user --map-root-user --mount"; do
  if unshare $how sh -c 'mount --bind -- "$1/a" "$1/b"' sh "$1" 2>/dev/null; then
    echo "mounts $how"; exit 0
  fi
done
if mv -T -- "$2" "$2.manyhands-away" 2>/dev/null; then
  mv -T -- "$2.manyhands-away" "$2" && { echo renames; exit 0; }
fi
echo plain
"""

#: $1 a copy, $2 the working folder: the copy takes its place, until OUT.
IN = r'mv -T -- "$2" "$2.manyhands-away" && mv -T -- "$1" "$2"'
OUT = r'mv -T -- "$2" "$1" && mv -T -- "$2.manyhands-away" "$2"'

#: $1 folder of this command, $2 where it begins, $3 seconds, $4 whether what it leaves goes on,
#: $5 bytes of output that are shown; then the command. Prints code, size, left, late, milliseconds.
EXEC = r"""
d=$1; seconds=$3; keep=$4; shown=$5
mkdir -p "$d" && cd -- "$2" || { echo "refused"; exit 0; }
shift 5
[ -e "$d/in" ] || : > "$d/in"
start=$(date +%s%N)
setsid "$@" < "$d/in" > "$d/out" 2>&1 &
pid=$!
echo "$pid" > "$d/pid.new"; mv "$d/pid.new" "$d/pid"
setsid sh -c 'sleep "$1"; : > "$3/late"; kill -15 "-$2"; sleep 0.5; kill -9 "-$2"' \
  sh "$seconds" "$pid" "$d" > /dev/null 2>&1 &
watch=$!
wait "$pid" 2>/dev/null
code=$?
took=$(( ($(date +%s%N) - start) / 1000000 ))
left=$(sed -n 's/^[0-9]* .*) [A-Y] [0-9]* \([0-9]*\) .*/\1/p' /proc/[0-9]*/stat 2>/dev/null \
  | grep -cx "$pid")
[ "$keep" = 1 ] || kill -9 "-$pid" 2>/dev/null
kill -9 "-$watch" 2>/dev/null
[ -e "$d/late" ] && late=1 || late=0
size=$(wc -c < "$d/out")
echo "$code $size $left $late $took $pid"
if [ "$size" -le $((2 * shown)) ]; then
  base64 -w0 < "$d/out"; echo; echo
else
  head -c "$shown" "$d/out" | base64 -w0; echo; tail -c "$shown" "$d/out" | base64 -w0; echo
fi
rm -rf "$d"
"""

#: $1 folder of a command: ends it, once it has begun.
KILL = r"""
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  [ -e "$1/pid" ] && break; [ -d "$1" ] || exit 0; sleep 0.1
done
kill -9 "-$(cat "$1/pid" 2>/dev/null)" 2>/dev/null; true
"""

#: Groups of processes: ends them, and prints how many processes they had.
END = r"""
for pid; do
  sed -n 's/^[0-9]* .*) [A-Y] [0-9]* \([0-9]*\) .*/\1/p' /proc/[0-9]*/stat 2>/dev/null \
    | grep -x "$pid"
  [ "$MANYHANDS_LOOK" = 1 ] || kill -9 "-$pid" 2>/dev/null
done | wc -l
"""

#: The same, and only counts them.
COUNT = f"MANYHANDS_LOOK=1\n{END}"

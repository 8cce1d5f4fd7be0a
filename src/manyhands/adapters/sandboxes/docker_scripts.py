"""What `DockerSandbox` runs in its container: POSIX shell, with the tools of GNU.

Each begins by reading one line, a word that only the reader of its output knows. What follows this
word on the output is said by the script, and not by the command. That it waits for the line also
means that nothing is printed before somebody listens.
"""

from __future__ import annotations

#: Around a script whose output is wanted as a whole: says its exit status last.
ASKED = r"""
IFS= read -r word || exit 1
(
%s
)
code=$?
printf '\000%%s done %%s\n' "$word" "$code"
"""

#: $1 user:group, then folders, which become theirs.
OWN = 'owner=$1; shift; chown -- "$owner" "$@"'

#: $1 a folder, $2 an archive of what shall be in it.
UNPACK = 'tar -C "$1" -xpf "$2" && rm -f -- "$2"'

#: $1 a folder, $2 the archive that is made of it.
PACK = 'tar -C "$1" -cf "$2" .'

#: Counts and ends the processes of a command: $1 its group (without a new process, for which there
#: may be no room before they are gone), and $2 its mark, for those that left the group.
_MINE = r"""
in_group() {
  count=0; all=0
  for each in /proc/[0-9]*/stat; do
    IFS= read -r line 2>/dev/null < "$each" || continue
    set -- "$1" ${line##*) }
    [ "$4" = "$1" ] || continue
    all=$((all + 1))
    [ "$2" = Z ] || count=$((count + 1))
  done 2>/dev/null
}
marked() {
  grep -lzsx "MANYHANDS_COMMAND=$1" /proc/[0-9]*/environ 2>/dev/null | sed 's/[^0-9]//g'
}
end_all() {
  in_group "$1"
  # A few that have just begun may be about to start more; of many there is no room to wait for it.
  if [ "$count" != 0 ] && [ "$count" -lt 8 ]; then sleep 0.05; in_group "$1"; fi
  left=$count
  kill -9 "-$1" 2>/dev/null
  for round in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    in_group "$1"
    [ "$all" != 0 ] || break
  done
  count=$left
  for round in 1 2 3 4 5 6 7 8 9 10; do
    found=$(marked "$2")
    [ -n "$found" ] || break
    if [ "$round" = 1 ]; then
      more=$(echo "$found" | wc -l)
      [ "$more" -le "$count" ] || count=$more
    fi
    kill -9 $found 2>/dev/null
    sleep 0.02
  done
}
"""

#: $1 the command's mark, $2 a folder for it, $3 where it begins, $4 seconds, $5 whether what it
#: leaves goes on, $6 its input; then the command. Says: done, code, how many were left, whether it
#: was late, how many were ended for memory, its group.
COMMAND = (
    _MINE
    + r"""
IFS= read -r word || exit 1
say() { printf '\000%s %s\n' "$word" "$*"; exit 0; }
mark=$1; d=$2; seconds=$4; keep=$5; input=$6
mkdir -p -- "$d" || say failed
cd -- "$3" 2>/dev/null || say folder
shift 6
case $1 in
  */*) [ -f "$1" ] && [ -x "$1" ] || say program ;;
  *) command -v -- "$1" >/dev/null || say program ;;
esac
spent() {
  spent=0
  for each in /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control; do
    [ -r "$each" ] || continue
    while read -r name value; do [ "$name" != oom_kill ] || spent=$value; done < "$each"
  done
}
spent; before=$spent
setsid sh -c '
  (sleep "$1"; : > "$2/late"; read -r pid < "$2/pid"; kill -15 "-$pid") &
  sleep "$1" "$3"; read -r pid < "$2/pid"; kill -9 "-$pid"
' sh "$seconds" "$d" 0.5 > /dev/null 2>&1 < /dev/null &
watch=$!
MANYHANDS_COMMAND=$mark setsid "$@" < "$input" 2>&1 &
pid=$!
echo "$pid" > "$d/pid.new" && mv "$d/pid.new" "$d/pid"
wait "$pid" 2>/dev/null
code=$?
kill -9 "-$watch" 2>/dev/null
[ -e "$d/late" ] && late=1 || late=0
if [ "$keep" = 1 ] && [ "$late" = 0 ]; then
  in_group "$pid"
  [ "$count" -gt 0 ] || count=$(marked "$mark" | wc -l)
else
  end_all "$pid" "$mark"
fi
spent
rm -rf -- "$d"
say "done $code $count $late $((spent - before)) $pid"
"""
)

#: $1 a command's mark, $2 its folder: ends it, once it has begun.
KILL = (
    _MINE
    + r"""
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  [ -e "$2/pid" ] && break; [ -d "$2" ] || exit 0; sleep 0.1
done
read -r pid < "$2/pid" && end_all "$pid" "$1"
true
"""
)

#: Pairs of a group and a mark: how many processes they have.
COUNT = (
    _MINE
    + r"""
sum=0
while [ $# -gt 1 ]; do
  in_group "$1"
  [ "$count" -gt 0 ] || count=$(marked "$2" | wc -l)
  sum=$((sum + count)); shift 2
done
echo "$sum"
"""
)

#: The same, and ends them.
END = (
    _MINE
    + r"""
sum=0
while [ $# -gt 1 ]; do end_all "$1" "$2"; sum=$((sum + count)); shift 2; done
echo "$sum"
"""
)

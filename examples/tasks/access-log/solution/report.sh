#!/bin/bash
# A summary of the access log on standard input.
export LC_ALL=C
awk '
function well_formed() {
  return $0 ~ /^[^ ]+ [^ ]+ [^ ]+ \[[^]]+\] "[^ "]+ [^ ]+ [^ ]+" [0-9][0-9][0-9] ([0-9]+|-) [0-9]+(\.[0-9]+)?$/
}
!well_formed() { malformed++; next }
{
  requests++
  rest = $0
  sub(/^[^"]*"/, "", rest)
  split(rest, part, " ")
  path = part[2]
  sub(/\?.*/, "", path)
  status = $(NF - 2); size = $(NF - 1); took = $NF + 0
  if (size != "-") bytes += size
  class = substr(status, 1, 1)
  classes[class]++
  paths[path]++
  seen[$1]++
  if (class == "4" || class == "5") bad[$1]++
  if (requests == 1 || took > slowest) { slowest = took; slowest_path = path }
}
END {
  printf "requests %d\nmalformed %d\nbytes %.0f\n", requests, malformed, bytes
  if (!requests) exit
  for (c = 0; c <= 9; c++) if (c in classes) printf "%dxx %d\n", c, classes[c]
  fflush()
  order = "sort -k1,1nr -k2,2 | head -n 3 | while read -r n p; do echo \"path $p $n\"; done"
  for (p in paths) print paths[p], p | order
  close(order)
  printf "slowest %.3f %s\n", slowest, slowest_path
  fflush()
  for (a in seen)
    if (seen[a] >= 4 && bad[a] * 2 > seen[a]) print "suspect", a, bad[a] "/" seen[a] | "sort -k2,2"
}
'

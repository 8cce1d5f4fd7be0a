"""The script's summaries of logs that it has not seen."""

import random
import re
import subprocess
import time
from collections import Counter, defaultdict
from pathlib import Path

FORM = re.compile(r'(\S+) \S+ \S+ \[[^\]]+\] "(\S+) (\S+) (\S+)" (\d{3}) (\d+|-) (\d+(?:\.\d+)?)')


def summary(text):
    done = subprocess.run(
        ["bash", "/app/report.sh"], input=text.encode(), capture_output=True, timeout=20, cwd="/"
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def expected(text):
    lines = text.splitlines()
    found = [m for m in map(FORM.fullmatch, lines) if m]
    out = [f"requests {len(found)}", f"malformed {len(lines) - len(found)}"]
    out.append(f"bytes {sum(int(m[6]) for m in found if m[6] != '-')}")
    if not found:
        return "\n".join(out) + "\n"
    classes = Counter(m[5][0] for m in found)
    out += [f"{name}xx {classes[name]}" for name in sorted(classes)]
    paths = Counter(m[3].split("?")[0] for m in found)
    for path in sorted(paths, key=lambda p: (-paths[p], p.encode()))[:3]:
        out.append(f"path {path} {paths[path]}")
    slowest = max(found, key=lambda m: float(m[7]))
    out.append(f"slowest {float(slowest[7]):.3f} {slowest[3].split('?')[0]}")
    of = defaultdict(list)
    for m in found:
        of[m[1]].append(m[5][0] in "45")
    for address in sorted(of, key=str.encode):
        bad, all_ = sum(of[address]), len(of[address])
        if all_ >= 4 and bad * 2 > all_:
            out.append(f"suspect {address} {bad}/{all_}")
    return "\n".join(out) + "\n"


def log(seed, size):
    dice = random.Random(seed)
    for _ in range(size):
        if dice.random() < 0.05:
            yield dice.choice(["", "garbage", '1.2.3.4 - - [x] "GET / HTTP/1.1" abc 1 0.1'])
            continue
        address = f"10.0.{dice.randint(0, 3)}.{dice.randint(1, 12)}"
        path = dice.choice(["/", "/a", "/A", "/b/c", "/long-path", "/z?q=1", "/z?q=2&r=[x]"])
        status = dice.choice([200, 200, 201, 301, 404, 500])
        size = dice.choice(["-", "0", "17", "100000000"])
        took = dice.choice(["0", "0.5", "1.25", "12", "0.001"])
        yield (
            f"{address} - - [10/Oct/2024:13:55:36 +0000]"
            f' "{dice.choice(["GET", "POST"])} {path} HTTP/1.1" {status} {size} {took}'
        )


text = Path("/app/report.sh").read_text()
assert not re.search(r"\b(python3?|perl|ruby|node|php|lua)\b", text), "another language is used"
example = Path("/tests/access.log").read_text()
assert summary(example) == expected(example)
assert summary("") == "requests 0\nmalformed 0\nbytes 0\n"
assert summary("x\ny\n") == "requests 0\nmalformed 2\nbytes 0\n"
for seed, size in enumerate((1, 3, 10, 200, 200, 2000)):
    text = "".join(f"{line}\n" for line in log(seed, size))
    got, want = summary(text), expected(text)
    assert got == want, f"seed {seed}\n--- got\n{got}--- want\n{want}"
big = "".join(f"{line}\n" for line in log(99, 60_000))
began = time.monotonic()
assert summary(big) == expected(big)
assert time.monotonic() - began < 15
print("ok")

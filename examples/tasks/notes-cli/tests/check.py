"""The program against its specification."""

import os
import subprocess
import tempfile
from pathlib import Path

folder = Path(tempfile.mkdtemp())
FILE = folder / "my notes.json"


def notes(*arguments, code=0, env=None, cwd=folder):
    env = {**os.environ, "NOTES_FILE": str(FILE)} if env is None else env
    done = subprocess.run(
        ["python3", "/app/notes.py", *arguments],
        capture_output=True,
        text=True,
        timeout=20,
        env=env,
        cwd=cwd,
    )
    assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
    assert bool(done.stderr) == bool(code), (arguments, done.stderr)
    return done.stdout


assert notes("list") == ""
assert notes("add", "buy", "milk") == "1\n"
assert notes("add", "Write  the report", "--tag", "work", "--tag", "now") == "2\n"
assert notes("add", "call Ada", "--tag", "work") == "3\n"
assert notes("list") == "1 buy milk\n2 Write  the report [now,work]\n3 call Ada [work]\n"
assert notes("list", "--tag", "now") == "2 Write  the report [now,work]\n"
assert notes("tag", "1", "home") == ""
assert notes("tag", "1", "home") == ""
assert notes("search", "MILK") == "1 buy milk [home]\n"
assert notes("search", "home") == ""
assert notes("remove", "3") == ""
assert notes("add", "last") == "4\n"
assert notes("remove", "4") == ""
assert notes("add", "once more, ünïcode") == "5\n"
assert notes("list").splitlines()[-1] == "5 once more, ünïcode"
for number in range(6, 13):
    assert notes("add", f"n{number}") == f"{number}\n"
numbers = [int(line.split()[0]) for line in notes("list").splitlines()]
assert numbers == sorted(numbers), numbers

before = FILE.read_bytes()
for wrong in (["remove", "99"], ["tag", "3", "x"]):
    assert notes(*wrong, code=1) == ""
for wrong in (["fly"], [], ["add"], ["remove", "one"], ["tag", "1"]):
    notes(*wrong, code=2)
assert FILE.read_bytes() == before
assert os.listdir(folder) == [FILE.name], os.listdir(folder)

inode = FILE.stat().st_ino
notes("add", "replaced")
assert FILE.stat().st_ino != inode, "the file is written in place"

FILE.write_text("{ broken")
for call in (["list"], ["add", "x"], ["remove", "1"]):
    assert notes(*call, code=3) == ""
assert FILE.read_text() == "{ broken"
assert os.listdir(folder) == [FILE.name], os.listdir(folder)

with tempfile.TemporaryDirectory() as other:
    bare = {name: value for name, value in os.environ.items() if name != "NOTES_FILE"}
    assert notes("add", "here", env=bare, cwd=other) == "1\n"
    assert os.listdir(other) == ["notes.json"]
print("ok")

"""The script's output for files that it has not seen."""

import subprocess
import tempfile
from pathlib import Path


def report(text):
    with tempfile.NamedTemporaryFile("w", suffix=".csv", newline="") as file:
        file.write(text)
        file.flush()
        done = subprocess.run(
            ["python3", "/app/report.py", file.name], capture_output=True, text=True, timeout=20
        )
    assert done.returncode == 0, done.stderr
    return done.stdout


example = report(Path("/app/sales.csv").read_text())
assert example == "north 11 191.00\nsouth 2 49.90\nskipped 2\n", example

cents = "region,item,units,price\n" + "west,a,1,0.10\n" * 3000 + "east,b,3,0.10\n"
assert report(cents) == "west 3000 300.00\neast 3 0.30\nskipped 0\n", report(cents)

mixed = (
    "price,note,region,units,item\r\n"
    '2.50,"a ""quoted"", note", EAST , 4 ,"x, y"\r\n'
    "\r\n"
    '"1.25",,"west",8,z\r\n'
    "abc,,west,1,z\r\n"
    "1.00,,west,,z\r\n"
    '1.00,,"  ",1,z\r\n'
)
assert report(mixed) == "east 4 10.00\nwest 8 10.00\nskipped 3\n", report(mixed)
assert report("region,item,units,price\n") == "skipped 0\n"
print("ok")

"""What a cluster's node runs of ours: the far end, told of in a file that the cluster shares."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

#: Of the job's environment, what programs need to run at all.
KEPT = ("HOME", "PATH", "USER", "TMPDIR", "CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID")


def run(root: str) -> int:
    """Once, whatever the cluster does: a job that it has begun anew does nothing."""
    folder = Path(root)
    try:
        (folder / "started").touch(exist_ok=False)
    except FileExistsError:
        return 1
    env = {name: os.environ[name] for name in KEPT if name in os.environ}
    code = [sys.executable, "-m", "manyhands.adapters.jobs.far_end", root]
    with (folder / "frames").open("ab") as frames:
        done = subprocess.run(
            code,
            env=env | {"PYTHONPATH": str(folder / "code")},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=frames,
            stderr=frames,
            check=False,
        )
    return done.returncode

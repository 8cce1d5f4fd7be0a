"""A real Slurm cluster of one node: this machine, with daemons and keys of its own in one folder.

``with SlurmCluster(folder): …`` sets ``SLURM_CONF``, by which the cluster's commands find it. It
runs as this user, without cgroups, and keeps no accounts, as many small clusters do not.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

_PATH = os.pathsep.join([os.defpath, "/usr/sbin"])
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "srun")
_CONF = """
ClusterName=played
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,defer_batch
KillWait=2
MinJobAge=600
InactiveLimit=0
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def missing() -> list[str]:
    """The programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class SlurmCluster:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "slurm.conf"
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._before: str | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        told = {
            "host": socket.gethostname().partition(".")[0],
            "controller": _free_port(),
            "daemon": _free_port(),
            "folder": self.folder,
            "user": getpass.getuser(),
        }
        self.config.write_text(_CONF.format(**told))
        self._before = os.environ.get("SLURM_CONF")
        os.environ["SLURM_CONF"] = str(self.config)
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in reversed(self._daemons):
            try:
                daemon.wait(5)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self._daemons.clear()
        if self._before is None:
            os.environ.pop("SLURM_CONF", None)
        else:
            os.environ["SLURM_CONF"] = self._before

    def _start(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        self._run(
            "munged",
            "--foreground",
            "--force",
            f"--key-file={key}",
            f"--socket={self.folder}/munge.socket",
            f"--pid-file={self.folder}/munge.pid",
            f"--log-file={self.folder}/munge.log",
            f"--seed-file={self.folder}/munge.seed",
        )
        self._until(lambda: (self.folder / "munge.socket").exists())
        self._run("slurmctld", "-D", "-c", "-f", str(self.config))
        self._run("slurmd", "-D", "-f", str(self.config))
        self._until(lambda: "idle" in self.ask("sinfo", "-h", "-o", "%T"))

    def _run(self, name: str, *words: str) -> None:
        program = shutil.which(name, path=_PATH)
        assert program is not None
        with (self.folder / f"{name}.out").open("ab") as log:
            self._daemons.append(
                subprocess.Popen(
                    (program, *words), stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            )

    def ask(self, *command: str) -> str:
        """What one of the cluster's commands prints."""
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout

    def _until(self, holds: Callable[[], bool]) -> None:
        for _ in range(600):
            if holds():
                return
            ended = [d for d in self._daemons if d.poll() is not None]
            assert not ended, self._told()
            time.sleep(0.05)
        raise AssertionError(self._told())

    def _told(self) -> str:
        return "\n".join(f"{p.name}: {p.read_text()[-800:]}" for p in self.folder.glob("*.out"))

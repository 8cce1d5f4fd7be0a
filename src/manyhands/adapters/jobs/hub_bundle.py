"""A bundle as one command for the Hub: it travels in the environment of the job."""

from __future__ import annotations

import base64
import hashlib
import lzma
from dataclasses import dataclass

from manyhands.adapters.jobs import bundle
from manyhands.errors import JobError
from manyhands.ports import JobSpec

#: Bytes of a bundle, packed: the kernel limits a job's environment.
MOST_SENT = 1_000_000
#: Bytes that come back, packed: they travel in the job's log.
MOST_RETURNED = 64_000_000
_PIECE = 100_000
_VARIABLE = "MANYHANDS_BUNDLE_{:03}"
#: Unpacks the bundle, and becomes what it holds: nothing of the bundle stays in the environment.
_BOOT = (
    "import base64,io,os,sys,tarfile,tempfile;"
    "names=sorted(n for n in os.environ if n.startswith('MANYHANDS_BUNDLE_'));"
    "data=base64.b64decode(''.join(os.environ.pop(n) for n in names));"
    "root=tempfile.mkdtemp(prefix='manyhands-hub-');"
    "tarfile.open(fileobj=io.BytesIO(data),mode='r:xz').extractall(root,filter='tar');"
    "os.environ['PYTHONPATH']=os.path.join(root,'code');"
    "os.execv(sys.executable,[sys.executable,'-m','manyhands.adapters.jobs.far_end',root])"
)


@dataclass(frozen=True, slots=True)
class HubBundle:
    """``command`` runs in a machine that has ``uv``; ``digest`` names job and contents."""

    command: tuple[str, ...]
    env: dict[str, str]
    digest: str


def pack(spec: JobSpec, packages: tuple[str, ...] = (), python: str = "") -> HubBundle:
    """Raises `JobError` for what cannot be sent."""
    packed = bundle.pack(spec, most_returned=MOST_RETURNED)
    sent = base64.b64encode(lzma.compress(packed.tar, preset=6)).decode()
    if len(sent) > MOST_SENT:
        raise JobError(
            f"job {spec.key!r}: its files are {len(sent) / 1e6:.1f} MB packed, and "
            f"{MOST_SENT / 1e6:g} MB can be sent to the Hub: {bundle.sizes_of(spec)}",
            next="let training fetch its data itself, or keep less in what the study prepares",
        )
    pieces = [sent[at : at + _PIECE] for at in range(0, len(sent), _PIECE)]
    needed = [word for each in packages for word in ("--with", each)]
    version = ["--python", python] if python else []
    return HubBundle(
        command=("uv", "run", "--no-project", *version, *needed, "python", "-c", _BOOT),
        env={_VARIABLE.format(n): piece for n, piece in enumerate(pieces)},
        digest=hashlib.sha256("\0".join([sent, *needed, *version]).encode()).hexdigest()[:32],
    )

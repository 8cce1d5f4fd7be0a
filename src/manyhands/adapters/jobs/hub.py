"""Jobs on the Hugging Face Hub's machines.

Invariants: one piece of work (a key, and the same contents) has one job at a time: a runner that
comes after one that was killed finds what that one launched, and takes it up where it is. What an
agent may have written is sent no secret, and nothing is launched that could cost more than it may.
What ends a job by its own fault ends it; only a machine's fault is a reason for another attempt.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from manyhands.adapters.jobs import hub_costs
from manyhands.adapters.jobs.heard import Heard
from manyhands.adapters.jobs.hub_bundle import MOST_RETURNED, HubBundle, pack
from manyhands.adapters.jobs.hub_costs import ENDED, WORST, Caps
from manyhands.adapters.jobs.local import check
from manyhands.errors import JobError, JobsHalted
from manyhands.hub import (
    FOR_A_PERSON,
    PASSING,
    UNSURE,
    Hub,
    HubFailure,
    HubTrouble,
    api,
    bounded,
    explained,
)
from manyhands.isolation.endings import finish, to_its_end
from manyhands.ports import Isolation, JobExit, JobLimits, JobResult, JobRunner, JobSpec

T = TypeVar("T")

IMAGE = "ghcr.io/astral-sh/uv:python3.12-bookworm"
_LABEL = re.compile(r"[^A-Za-z0-9_-]+")
_OWN_FAULT = re.compile(r"exit code:?\s*(\d+)", re.IGNORECASE)
#: Bytes of one job's log, however often it is read again.
_MOST_LOG = 1 << 32
#: Seconds without a line after which a log whose end is not seen is taken for ended.
_GRACE = 60.0
#: How often a log that ended without a word of ours is read again.
_REREADS = 2
#: Exit codes of a machine that takes itself away: killed, told to end.
_TAKEN = ("137", "143")


@dataclass(frozen=True, slots=True)
class HubSettings:
    """``packages``: what ``uv`` installs for training, beside the image; ``python``: its version
    ('': the image's). ``setup_seconds``: beside a job's own limit, to fetch image and packages.
    ``silence_seconds``: a job that prints nothing for so long is stuck. ``queue_seconds``: to wait
    for a machine. ``attempts``: of one job, where machines fail. ``outage_seconds``: how long the
    Hub may fail to answer while a job runs."""

    flavor: str = "cpu-basic"
    image: str = IMAGE
    packages: tuple[str, ...] = ()
    python: str = ""
    namespace: str = ""
    caps: Caps = Caps()  # noqa: RUF009 - frozen
    setup_seconds: float = 300.0
    silence_seconds: float = 1800.0
    queue_seconds: float = 3600.0
    outage_seconds: float = 900.0
    attempts: int = 3
    poll_seconds: float = 5.0


class HubJobRunner:
    """Implements ``ports.JobRunner``. ``home`` runs what is trusted, where the sealed data are."""

    def __init__(
        self, home: JobRunner, settings: HubSettings | None = None, hub: Hub | None = None
    ):
        self._home = home
        self._settings = settings or HubSettings()
        self._hub = hub or Hub()
        self._launching = asyncio.Lock()
        self._unseen: dict[str, dict[str, float]] = {}
        self._prices: dict[str, float] = {}
        self._price: float | None = None
        self._namespace = self._settings.namespace

    @property
    def isolation(self) -> Isolation:
        return Isolation(
            level=f"hub {self._settings.flavor}",
            writes_confined=True,
            reads_confined=True,
            hides_paths=True,
            network_blocked=False,
            tree_killed=True,
            notes=(
                f"training runs on the Hub ({self._settings.flavor}); the evaluator runs here, in "
                f"isolation {self._home.isolation.level!r}",
                "a job of the Hub may reach the network where its machine cannot isolate it",
                "limits are enforced on the Hub's machine by the runner that is used here",
            ),
            shares_files=False,
        )

    async def run(
        self, spec: JobSpec, on_output: Callable[[bytes], None] | None = None
    ) -> JobResult:
        """See ``ports.JobRunner``. Cancelled: the job on the Hub is cancelled, too."""
        if spec.trusted:
            return await self._home.run(spec, on_output)
        check(spec)
        settings = self._settings
        bundle = await asyncio.to_thread(pack, spec, settings.packages, settings.python)
        work = _Work(self, spec, bundle, on_output)
        task = asyncio.create_task(work.drive(), name=f"hub job {spec.key}")
        return await to_its_end(task, work.stop)

    async def reap(self, key_prefix: str) -> int:
        """What a killed process left on the Hub is not ended: `run` finds it and takes it up."""
        return await self._home.reap(key_prefix)

    # ---------------------------------------------------------------- the Hub

    @property
    def settings(self) -> HubSettings:
        return self._settings

    async def ask(self, what: str, call: Callable[[Any, str], T], *, again: bool = True) -> T:
        """Raises `JobError`, whose cause is the `HubFailure`."""
        try:
            if not self._namespace:
                found = await self._hub.ask("whose token it is", lambda hub: hub.whoami())
                self._namespace = str(found["name"])
            return await self._hub.ask(what, lambda hub: call(hub, self._namespace), again=again)
        except HubFailure as failure:
            lasting = failure.trouble in PASSING | FOR_A_PERSON
            kind = JobsHalted if lasting else JobError
            raise kind(failure.what, next=failure.next) from failure

    async def jobs(self, label: str, value: str) -> list[Any]:
        """Those with this label, oldest first."""

        def listed(hub: Any, namespace: str) -> list[Any]:
            return list(hub.list_jobs(labels={label: value}, namespace=namespace))

        found = await self.ask("the list of jobs", listed)
        # A Hub that does not know the filter would give all of them.
        kept = [job for job in found if hub_costs.labels(job).get(label) == value]
        return sorted(kept, key=lambda job: (str(job.created_at or ""), job.id))

    async def price(self) -> float:
        """Of a minute."""
        if self._price is None:
            table = await self.ask("the prices of jobs", lambda hub, _: hub.list_jobs_hardware())
            self._price = hub_costs.per_minute(table, self._settings.flavor, self._settings.caps)
            self._prices = {self._settings.flavor: self._price}
        return self._price

    async def launch(self, spec: JobSpec, bundle: HubBundle, labels: dict[str, str]) -> Any:
        """One job, if it may be paid. Raises `JobError`."""
        settings = self._settings
        seconds = int(spec.limits.seconds + settings.setup_seconds) + 1
        price = await self.price()
        worst = price * seconds / 60
        label, payer = hub_costs.payer(labels)
        labels = labels | {WORST: str(int(worst * 1e6) + 1)}

        def run(hub: Any, namespace: str) -> Any:
            return hub.run_job(
                image=settings.image,
                command=list(bundle.command),
                env=bundle.env,
                flavor=settings.flavor,
                timeout=seconds,
                name=_label(f"manyhands-{spec.key}")[:60],
                labels=labels,
                namespace=namespace,
            )

        async with self._launching:
            known = {job.id: job for job in await self.jobs(label, payer)}
            unseen = self._unseen.setdefault(f"{label}={payer}", {})
            so_far = hub_costs.spent(known, unseen, self._prices)
            hub_costs.check(worst, price, labels, so_far, settings.caps)
            job = await self.ask(f"the launch of job {spec.key!r}", run, again=False)
            unseen[job.id] = worst
            return job

    async def inspect(self, id: str) -> Any:
        return await self.ask(
            f"the state of job {id}",
            lambda hub, namespace: hub.inspect_job(job_id=id, namespace=namespace),
        )

    async def cancel(self, id: str) -> None:
        """One that has ended, or is gone, is cancelled already."""
        try:
            await self.ask(
                f"the end of job {id}",
                lambda hub, namespace: hub.cancel_job(job_id=id, namespace=namespace),
            )
        except JobError as error:
            cause = error.__cause__
            if not (
                isinstance(cause, HubFailure)
                and cause.trouble in (HubTrouble.MISSING, HubTrouble.REFUSED)
            ):
                raise

    def stream(self, id: str, skip: int, seconds: float) -> Stream:
        return Stream(id, self._namespace, skip, seconds)


# -------------------------------------------------------------------- one job


class Stream:
    """The lines of a job's log from line ``skip`` on, read in a thread. ``None`` ends them, a
    `HubFailure` says that they broke off."""

    def __init__(self, id: str, namespace: str, skip: int, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._done = asyncio.Event()
        self.lines: asyncio.Queue[str | HubFailure | None] = asyncio.Queue()
        asked = (id, namespace, skip, seconds)
        threading.Thread(target=self._read, args=asked, name=f"log {id}", daemon=True).start()

    def _read(self, id: str, namespace: str, skip: int, seconds: float) -> None:
        end: HubFailure | None = None
        try:
            with bounded(seconds, _MOST_LOG, self._stop):
                found = api().fetch_job_logs(job_id=id, namespace=namespace, follow=True)
                for number, line in enumerate(found):
                    if self._stop.is_set():
                        found.close()
                        break
                    if number >= skip:
                        self._put(line)
        except Exception as error:
            failed = explained(f"the log of job {id}", error)
            known = isinstance(failed, HubFailure)
            end = failed if known else HubFailure(HubTrouble.MALFORMED, str(failed))
        self._put(end)
        self._tell(self._done.set)

    def _put(self, item: str | HubFailure | None) -> None:
        self._tell(lambda: self.lines.put_nowait(item))

    def _tell(self, act: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(act)
        except RuntimeError:  # the loop is over
            self._stop.set()

    async def close(self) -> None:
        """The thread ends with the next thing that it hears; it is not waited for very long."""
        self._stop.set()
        try:
            await asyncio.wait_for(self._done.wait(), 2.0)
        except TimeoutError:
            return


class _Work:
    """One `run`, from the search for a job of its own to the result."""

    def __init__(
        self,
        runner: HubJobRunner,
        spec: JobSpec,
        bundle: HubBundle,
        on_output: Callable[[bytes], None] | None,
    ) -> None:
        self._runner = runner
        self._settings = runner.settings
        self._spec = spec
        self._bundle = bundle
        self._on_output = on_output
        self._stopped = asyncio.Event()
        self._labels = labels_of(spec, bundle.digest)

    def stop(self) -> None:
        self._stopped.set()

    async def drive(self) -> JobResult:
        faults = ""
        job, before = await self._find()
        for attempt in range(before + 1, before + self._settings.attempts + 1):
            if self._stopped.is_set():
                raise asyncio.CancelledError
            job = job or await self._launch(attempt)
            found = await self._follow(job)
            if isinstance(found, JobResult):
                return found
            job, faults = None, found
        raise JobsHalted(
            f"job {self._spec.key!r}: {self._settings.attempts} machines of the Hub have failed"
            + (f"; the last: {faults}" if faults else ""),
            next="see https://huggingface.co/settings/jobs; a run that is resumed tries again",
        )

    # ---------------------------------------------------------------- launch

    async def _find(self) -> tuple[Any | None, int]:
        """The job that an earlier process launched for this, if it can still be used; and how many
        were launched for it so far."""
        jobs = await self._runner.jobs("mh-key", self._labels["mh-key"])
        mine = [job for job in jobs if job.labels.get("mh-bundle") == self._bundle.digest]
        if not mine:
            return None, 0
        usable = _stage(mine[-1]) not in ("CANCELED", "DELETED")
        return (mine[-1] if usable else None), len(mine)

    async def _launch(self, attempt: int) -> Any:
        """Where it is not known whether the Hub has launched it, it is looked for first."""
        labels = self._labels | {"mh-attempt": str(attempt)}
        for last in (False, False, True):
            try:
                return await self._runner.launch(self._spec, self._bundle, labels)
            except JobError as error:
                cause = error.__cause__
                passing = isinstance(cause, HubFailure) and (
                    cause.trouble in UNSURE or cause.trouble is HubTrouble.BUSY
                )
                if last or not passing or self._stopped.is_set():
                    raise
                await asyncio.sleep(getattr(cause, "wait", None) or self._settings.poll_seconds)
                for job in await self._runner.jobs("mh-key", self._labels["mh-key"]):
                    if labels.items() <= job.labels.items() and _stage(job) not in ENDED:
                        return job
        raise AssertionError("the last time launches or raises")

    # ---------------------------------------------------------------- follow

    async def _follow(self, job: Any) -> JobResult | str:
        """The result; a text says how the machine failed."""
        heard = Heard(self._spec, self._on_output, MOST_RETURNED)
        watch = _Watch(self._runner, self._spec, job, heard, self._stopped)
        try:
            why = await watch.to_the_end()
            return await self._result(watch.job, heard, why)
        finally:
            await watch.close()
            heard.close()

    async def _result(self, job: Any, heard: Heard, why: str) -> JobResult | str:
        if self._stopped.is_set() or heard.error is not None or why in ("stuck", "queue"):
            await finish(asyncio.create_task(self._runner.cancel(job.id)))
        if heard.error is not None:
            raise heard.error
        if self._stopped.is_set():
            raise asyncio.CancelledError
        if why == "queue":
            raise JobsHalted(
                f"job {self._spec.key!r}: no machine within {self._settings.queue_seconds:g} s",
                next=f"wait, and resume; or begin anew on another flavor than "
                f"{self._settings.flavor}",
            )
        if heard.ended and heard.whole:
            try:
                return await self._told(job, heard)
            except (KeyError, TypeError, ValueError) as error:
                return f"the end that it told is none: {error!r} (job {job.id})"
        if why == "stuck":
            told = f"no output for {self._settings.silence_seconds:g} s; it was ended"
            return await self._ended(job, heard, JobExit.TIMED_OUT, told)
        if why == "gone":
            return f"job {job.id} was deleted"
        return await self._fault(job, heard)

    async def _told(self, job: Any, heard: Heard) -> JobResult:
        """As the runner at the other end has it."""
        result = await asyncio.to_thread(heard.result)
        cost = await self._cost(await self._runner.inspect(job.id), result.seconds)
        return replace(result, cost_usd=cost)

    async def _fault(self, info: Any, heard: Heard) -> JobResult | str:
        """It ended without a word of ours: the job's, a person's or a machine's fault."""
        stage, message = _stage(info), str(info.status.message or "")
        told = f"{stage}: {message}" if message else stage
        if stage == "CANCELED":
            return await self._ended(info, heard, JobExit.FAILED, f"cancelled on the Hub: {told}")
        if re.search(r"time(d)?[ -]?out|deadline", message, re.IGNORECASE):
            return await self._ended(info, heard, JobExit.TIMED_OUT, told)
        if re.search(r"oom|out of memory", message, re.IGNORECASE):
            return await self._ended(info, heard, JobExit.OUT_OF_MEMORY, told)
        code = _OWN_FAULT.search(message)
        if code and code[1] not in _TAKEN and "begun" not in heard.facts:
            raise JobError(
                f"job {self._spec.key!r} could not be started on the Hub ({told}): "
                f"{heard.noise.strip()[-600:] or 'it said nothing'}",
                next="are --image and the packages (--with) right?",
            )
        return f"{told} (job {info.id})"

    async def _ended(self, info: Any, heard: Heard, exit: JobExit, detail: str) -> JobResult:
        seconds = (info.durations and info.durations.running_secs) or 0.0
        return JobResult(
            exit=exit,
            code=None,
            seconds=seconds,
            cpu_seconds=0.0,
            peak_memory_mb=0.0,
            log_tail=heard.tail,
            detail=detail,
            cost_usd=await self._cost(info, seconds),
        )

    async def _cost(self, info: Any, seconds: float) -> float:
        price = await self._runner.price()
        return max(hub_costs.cost(info, price), seconds / 60 * price)


class _Watch:
    """Hears a job until it has said how it ended, or will say no more."""

    def __init__(
        self, runner: HubJobRunner, spec: JobSpec, job: Any, heard: Heard, stopped: asyncio.Event
    ) -> None:
        self._runner = runner
        self._settings = runner.settings
        self._limits: JobLimits = spec.limits
        self.job = job
        self._id: str = job.id
        self._drained = False
        self._rereads = 0
        self._ended_at = 0.0
        self._heard = heard
        self._stopped = stopped
        self._seen = 0
        self._stream: Stream | None = None
        self._stage = _stage(job)
        now = time.monotonic()
        self._launched = self._last_output = self._polled = self._answered = self._heard_at = now

    async def close(self) -> None:
        if self._stream is not None:
            await self._stream.close()
            self._stream = None

    async def to_the_end(self) -> str:
        """'' (it has ended), "stuck", "queue" (it has not begun), or "gone"."""
        while True:
            if self._heard.ended or self._heard.error is not None or self._stopped.is_set():
                return ""
            if self._stage == "DELETED" and self._drained:
                return "gone"
            if self._stage in ENDED and (self._drained or self._quiet() > _GRACE):
                if self._rereads >= _REREADS:
                    return ""
                # The library takes a log that broke off after the job's end for a whole one.
                self._rereads += 1
                self._drained = False
            if why := self._overdue():
                return why
            came = await self._hear()
            if not came or time.monotonic() - self._polled > self._settings.poll_seconds:
                await self._poll()

    def _quiet(self) -> float:
        """Seconds since the last line, after the end."""
        return time.monotonic() - max(self._ended_at, self._heard_at)

    def _overdue(self) -> str:
        now = time.monotonic()
        if self._stage == "SCHEDULING":
            self._last_output = now
            return "queue" if now - self._launched > self._settings.queue_seconds else ""
        return "stuck" if now - self._last_output > self._settings.silence_seconds else ""

    async def _hear(self) -> bool:
        """Whether something came. A stream that broke off is taken up behind its last line."""
        if self._stream is None:
            seconds = self._limits.seconds + self._settings.queue_seconds + 86_400
            self._stream = self._runner.stream(self._id, self._seen, seconds)
        waiting = asyncio.create_task(self._stream.lines.get())
        stopping = asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait(
                (waiting, stopping),
                timeout=self._settings.poll_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            stopping.cancel()
            if not waiting.done():
                waiting.cancel()
        if not waiting.done() or waiting.cancelled():
            return False
        return await self._take(waiting.result())

    async def _take(self, line: str | HubFailure | None) -> bool:
        if isinstance(line, str):
            self._seen += 1
            self._rereads = 0
            self._answered = self._heard_at = time.monotonic()
            if self._heard.take(line):
                self._last_output = self._answered
            return True
        await self.close()
        if line is None or line.trouble is HubTrouble.MISSING:
            # The library ends a log when the job has ended, and one of a deleted job is not there.
            self._drained = True
            return False
        self._bear(line)
        await asyncio.sleep(min(self._settings.poll_seconds, line.wait or 1.0))
        return False

    async def _poll(self) -> None:
        self._polled = time.monotonic()
        try:
            info = await self._runner.inspect(self._id)
        except JobError as error:
            cause = error.__cause__
            if not isinstance(cause, HubFailure):
                raise
            if cause.trouble is HubTrouble.MISSING:
                self._stage, self._drained = "DELETED", True
                return
            self._bear(cause)
            return
        self._answered = time.monotonic()
        self.job, self._stage = info, _stage(info)
        if self._stage in ENDED and not self._ended_at:
            self._ended_at = self._answered
        if self._drained and self._stage not in ENDED:
            self._drained = False  # the log ended before the job: it is asked for again
            await asyncio.sleep(self._settings.poll_seconds)

    def _bear(self, failure: HubFailure) -> None:
        """A Hub that fails to answer is no reason to give up a job that runs, for a while."""
        lasting = failure.trouble in FOR_A_PERSON
        over = time.monotonic() - self._answered > self._settings.outage_seconds
        if lasting or over:
            raise JobsHalted(
                f"{failure.what} (job {self._id} may go on; a run that is resumed finds it)",
                next=failure.next,
            ) from failure


def _stage(job: Any) -> str:
    stage = job.status.stage
    return str(getattr(stage, "value", stage))


def labels_of(spec: JobSpec, digest: str) -> dict[str, str]:
    """``mh-key`` is the same for the same work in every process."""
    key = hashlib.sha256(spec.key.encode()).hexdigest()[:32]
    told = {f"mh-{_label(name)}": _label(value) for name, value in spec.labels.items() if value}
    return {"mh-campaign": "none"} | told | {"mh-key": key, "mh-bundle": digest}


def _label(text: str) -> str:
    """As the Hub wants them: letters, digits, ``-`` and ``_``, 100 at most."""
    return _LABEL.sub("-", text).strip("-")[:100] or "none"

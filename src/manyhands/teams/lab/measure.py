"""One run: train in a sandbox, then evaluate what it left behind. The only source of a metric.

Invariant: the number comes from the study's own evaluator, started by the harness from a pristine
export of the protected files, on the artifact alone; never from what the training code printed.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from manyhands import published
from manyhands.errors import DiskFull, Halted, StepFailed, StudyError
from manyhands.ports import JobExit, JobLimits, JobResult, JobSpec
from manyhands.runtime import Run
from manyhands.teams.lab.hosts import Curves
from manyhands.teams.lab.pruning import Ended, Watcher
from manyhands.teams.lab.records import Measurement, Phase
from manyhands.teams.lab.state import NOT_RUN, OUTLIVED, Lab
from manyhands.teams.lab.study import Study

#: How a step fails that a person has interrupted.
INTERRUPTED = "Interrupted"


async def measure(
    run: Run,
    lab: Lab,
    commit: str,
    seed: int,
    phase: Phase,
    *,
    holdout: bool = False,
    slot: int | None = None,
    known: Curves | None = None,
) -> Measurement:
    """Train and evaluate ``commit`` with ``seed``, once, whatever happens in between. The caller
    counts it (`Lab.count`).

    ``holdout``: also evaluate the sealed split (reported, never selected on). ``slot``: in this one
    (None: in any that is free). ``known``: the curves that it may be ended by (None: it is not
    ended early).
    """
    key = f"{phase}/{commit[:12]}/{seed}"
    job = _Job(run.key(key), slot, known or Curves())
    work = partial(_train_and_evaluate, run, lab, job)
    try:
        found: Measurement = await run.step(
            key, work, commit, seed, phase, holdout, returns=Measurement
        )
    except StepFailed as error:
        if error.kind != INTERRUPTED:
            raise
        found = Measurement(
            key=run.key(key),
            candidate=commit,
            seed=seed,
            phase=phase,
            exit="interrupted",
            metric=None,
            detail=error.message,
        )
    await run.record(
        f"{key}/measured",
        "lab:run",
        found.model_dump(mode="json", exclude={"log"}),
    )
    return found


@dataclass(frozen=True, slots=True)
class _Job:
    key: str
    slot: int | None
    known: Curves


async def _train_and_evaluate(
    run: Run,
    lab: Lab,
    job: _Job,
    commit: str,
    seed: int,
    phase: Phase,
    holdout: bool,
) -> Measurement:
    folder = lab.places.job(job.key)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        return await _in_slot(lab, job, folder, commit, seed, phase, holdout)
    except Halted as halted:
        if not run.stop_asked:
            raise
        # Asked to wrap up, the study does not wait for what it would need to go on.
        return Measurement(
            key=job.key,
            candidate=commit,
            seed=seed,
            phase=phase,
            exit=NOT_RUN,
            metric=None,
            detail=halted.what,
        )


async def _in_slot(
    lab: Lab,
    job: _Job,
    folder: Path,
    commit: str,
    seed: int,
    phase: Phase,
    holdout: bool,
) -> Measurement:
    key = job.key
    # Screenings fill what the tests, for which all wait, leave free.
    async with lab.slots.take(job.slot, patient=phase is Phase.SCREEN) as slot:
        await lab.jobs.reap(f"{lab.run_id}/{key}")
        started = time.time()
        await lab.repository.export(commit, folder / "src")
        (folder / "out").mkdir(parents=True)
        watcher = job.known.watcher()
        spec = _training(lab, key, folder, commit, seed, slot, phase)
        trained, ended_by = await _watched(lab, spec, watcher, job.known.host)
        values: dict[str, float | None] = {"metric": None, "holdout": None}
        exit, detail = trained.exit.value, trained.detail or _last_line(trained)
        if ended_by is not None:
            exit, detail = ended_by.exit, ended_by.why
        elif trained.survivors:
            exit = OUTLIVED
            detail = f"{trained.survivors} left-over processes outlived the run and were ended"
        elif trained.exit is JobExit.OK:
            values["metric"], detail = await _evaluate(lab, key, folder, seed, slot, "evaluate")
            if values["metric"] is None:
                exit = "no_metric"
            elif holdout and lab.study.config.metric.holdout:
                values["holdout"], _ = await _evaluate(lab, key, folder, seed, slot, "holdout")
        ended = time.time()
    log = await asyncio.to_thread(_tidy, folder)
    return Measurement(
        key=key,
        candidate=commit,
        seed=seed,
        phase=phase,
        exit=exit,
        metric=values["metric"],
        holdout=values["holdout"],
        duration=ended - started,
        cpu_seconds=trained.cpu_seconds,
        peak_memory_mb=trained.peak_memory_mb,
        slot=slot,
        started_at=started,
        detail=detail,
        log=log,
        cost_usd=trained.cost_usd,
        host=trained.host,
        rungs=watcher.rungs,
    )


async def _watched(
    lab: Lab, spec: JobSpec, watcher: Watcher, host: str
) -> tuple[JobResult, Ended | None]:
    """How it ended; what has ended it early, if something has. ``host``: of one that was ended."""
    began = time.monotonic()
    try:
        return await _run_job(lab, spec, watcher), None
    except Ended as ended:
        seconds = time.monotonic() - began
        return JobResult(JobExit.FAILED, None, seconds, 0.0, 0.0, "", host=host), ended


async def _run_job(lab: Lab, spec: JobSpec, watcher: Watcher | None = None) -> JobResult:
    """Raises `DiskFull` for one that failed for want of room that it was to have: by its own words,
    and as the disk shows. It says nothing of the program."""
    result = await lab.jobs.run(spec, watcher)
    said = result.exit is JobExit.FAILED and os.strerror(errno.ENOSPC) in result.log_tail
    if said and shutil.disk_usage(spec.out).free < spec.limits.disk_mb * 1e6:
        raise DiskFull(f"{spec.out}: {_last_line(result)}")
    return result


def _training(
    lab: Lab, key: str, folder: Path, commit: str, seed: int, slot: int, phase: Phase
) -> JobSpec:
    study, places, out = lab.study, lab.places, folder / "out"
    env = {
        "MANYHANDS_SEED": str(seed),
        "MANYHANDS_DATA": str(places.data),
        "MANYHANDS_OUT": str(out),
        "MANYHANDS_SLOT": str(slot),
    }
    return JobSpec(
        key=f"{lab.run_id}/{key}",
        command=study.train_argv(seed, places.data, out),
        cwd=folder / "src",
        out=out,
        log=folder / "train.log",
        limits=limits(lab),
        read=(places.data, *study.read_paths),
        hidden=study.hidden_paths(places.sealed),
        env=env | study.train_env(seed, places.data, out),
        slot=slot,
        labels=_labels(lab, commit, seed, phase),
    )


def _labels(lab: Lab, commit: str, seed: int, phase: Phase) -> dict[str, str]:
    """What a person sees of a job on somebody else's machine."""
    experiment, hypothesis, parent = lab.made.get(commit, ("", "", commit))
    return {
        "campaign": lab.campaign,
        "race": lab.order.race,
        "run": lab.run_id,
        "experiment": experiment or "baseline",
        "hypothesis": hypothesis,
        "worker": f"worker-{experiment}" if experiment else "",
        "master": parent[:12],
        "candidate": commit[:12],
        "phase": phase.value,
        "seed": str(seed),
    }


def limits(lab: Lab) -> JobLimits:
    return JobLimits(**lab.study.config.limits.model_dump())


async def _evaluate(
    lab: Lab, key: str, folder: Path, seed: int, slot: int, which: str
) -> tuple[float | None, str]:
    """The metric, or None and why there is none."""
    study, places = lab.study, lab.places
    sealed = which == "holdout"
    place = folder / which
    await lab.repository.export(lab.base, place / "src")
    (place / "out").mkdir()
    out = folder / "out"
    command = (
        study.holdout_argv(out, places.data, places.sealed)
        if sealed
        else study.evaluate_argv(out, places.data)
    )
    assert command is not None
    spec = JobSpec(
        key=f"{lab.run_id}/{key}/{which}",
        command=command,
        cwd=place / "src",
        out=place / "out",
        log=folder / f"{which}.log",
        limits=limits(lab),
        read=(places.data, out, *study.read_paths, *((places.sealed,) if sealed else ())),
        hidden=() if sealed else (places.sealed,),
        env={"MANYHANDS_SLOT": str(slot)},
        slot=slot,
        trusted=True,
    )
    result = await _run_job(lab, spec)
    if result.exit is not JobExit.OK:
        return None, f"evaluator {result.exit}: {result.detail or _last_line(result)}"
    return read_metric(result.log_tail, study)


def read_metric(output: str, study: Study) -> tuple[float | None, str]:
    """The metric in the last JSON line; None, and why, unless it is finite and plausible."""
    for line in reversed(output.strip().splitlines()):
        if line.lstrip().startswith("{"):
            return _checked(line, study)
    return None, "the evaluator printed no JSON line"


def _checked(line: str, study: Study) -> tuple[float | None, str]:
    name = study.config.metric.name
    try:
        found: Any = json.loads(line)
    except ValueError:
        return None, f"the evaluator's last line is not JSON: {line[:200]}"
    value = cast(dict[str, Any], found).get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None, f"the evaluator's last line has no number {name!r}: {line[:200]}"
    why = study.implausible(value)
    return (None, f"{name}: {why}") if why else (float(value), "")


def _last_line(result: JobResult) -> str:
    lines = result.log_tail.strip().splitlines()
    return lines[-1][:300] if lines else ""


def _tidy(folder: Path) -> str:
    """Keep the logs, drop the rest; returns the training log's path."""
    for child in folder.iterdir():
        if child.is_dir():
            shutil.rmtree(child, ignore_errors=True)
    return str(folder / "train.log")


async def prepare(run: Run, lab: Lab) -> None:
    """Run the study's ``prepare`` once per content of its protected files, whoever comes first.

    What was prepared is published by a manifest of checksums, and compared with it whenever a
    process takes it into use: what is not whole is prepared anew. Raises `StudyError` where that
    gives other data than the run began with.
    """
    places = lab.places
    if lab.study.config.prepare is None:
        for folder in (places.data, places.sealed):
            folder.mkdir(parents=True, exist_ok=True)
        return
    known: list[str] = []

    async def prime() -> dict[str, str]:
        digest, why = await _primed(lab)
        known.append(digest)
        return {"digest": digest, "prepared": why}

    began: Any = await run.step("prepare", prime)
    now = known[0] if known else (await _primed(lab))[0]
    if isinstance(began, dict) and began["digest"] != now:
        raise StudyError(
            f"{places.prepared}: what was prepared there has changed since run {run.id} began",
            next="put it back as it was, or start a new run: results would not be comparable",
        )


async def _primed(lab: Lab) -> tuple[str, str]:
    """The digest of what is prepared, which is whole when this returns; and why it was prepared now
    ('': it was there)."""
    place = lab.places.prepared
    place.parent.mkdir(parents=True, exist_ok=True)
    while True:  # another process may be preparing it
        if (lock := published.try_lock(f"{place}.lock")) is not None:
            break
        await asyncio.sleep(0.2)
    try:
        digest, wrong = await asyncio.to_thread(published.published, str(place))
        if wrong:
            await _prepare(lab)
            digest = await asyncio.to_thread(published.publish, str(place))
    finally:
        os.close(lock)
    return digest, wrong


async def _prepare(lab: Lab) -> None:
    shutil.rmtree(lab.places.prepared, ignore_errors=True)
    for made in (lab.places.data, lab.places.sealed):
        made.mkdir(parents=True)
    command = lab.study.prepare_argv(lab.places.data, lab.places.sealed)
    assert command is not None
    folder = lab.places.job("prepare")
    shutil.rmtree(folder, ignore_errors=True)
    await lab.repository.export(lab.base, folder / "src")
    spec = JobSpec(
        key=f"{lab.run_id}/prepare",
        command=command,
        cwd=folder / "src",
        out=lab.places.prepared,
        log=folder / "prepare.log",
        limits=JobLimits(seconds=3600, memory_mb=16384, output_mb=64, disk_mb=65536),
        read=lab.study.read_paths,
        network=True,
        trusted=True,
    )
    result = await _run_job(lab, spec)
    if result.exit is not JobExit.OK:
        raise StudyError(
            f"prepare {result.exit} (code {result.code}): {_last_line(result)}",
            next=f"see {spec.log}, mend the study's prepare command, and run again",
        )

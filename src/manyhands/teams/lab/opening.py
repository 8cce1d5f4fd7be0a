"""How a study begins: its repository, its data, its baseline. All of it journaled, so a resumed
study starts from the commit, the protected files and the noise that it began with."""

from __future__ import annotations

import platform
from functools import partial
from hashlib import sha256

from manyhands.errors import StudyError
from manyhands.ports import JobRunner
from manyhands.runtime import Effect, Run
from manyhands.teams.lab.cast import Cast
from manyhands.teams.lab.experiment import rows_of_master
from manyhands.teams.lab.gate import estimate_noise
from manyhands.teams.lab.measure import measure, prepare
from manyhands.teams.lab.preflight import grounds, program
from manyhands.teams.lab.promotion import master_ref
from manyhands.teams.lab.records import Master, Phase
from manyhands.teams.lab.repository import Repository
from manyhands.teams.lab.state import Lab, Order, Places, Pool, Slots, gate_of
from manyhands.teams.lab.study import Study

#: Documents of a study that the researcher reads, next to its own files.
DOCUMENTS = ("*.md", "papers/*.md", "papers/*.txt", "notes/*.md")


async def open_lab(
    run: Run,
    order: Order,
    study: Study,
    jobs: JobRunner,
    cast: Cast,
    pool: Pool | None = None,
) -> Lab:
    """Take the study as it is at its repository's HEAD and prepare its data."""
    check_order(study, order)
    repository = await Repository.open(study.dir)
    base = await run.step("base", partial(_base, repository))
    await _same_study(run, study)
    files = await run.step("files", partial(_editable, repository, study, base))
    places = Places.of(study, run.id, order.cache)
    places.make()
    lab = Lab(
        order=order,
        study=study,
        repository=repository,
        jobs=jobs,
        cast=cast,
        slots=Slots(order.slots or study.slot_count, pool, run.id),
        places=places,
        base=base,
        master=Master(
            commit=base,
            experiment="baseline",
            version=0,
            reference={},
            noise_sd=0.0,
            **grounds(study, files),
        ),
        master_files=files,
        campaign=order.campaign or study.config.study.name,
        run_id=run.id,
        documents=await run.step("documents", partial(_documents, study), effect=Effect.PURE),
        seen={program(study, files): "the baseline"},
    )
    await prepare(run, lab)
    lab.environment = await run.step("environment", partial(_environment, lab))
    await run.record("study", "lab:study", lab.manifest(), value=study.config)
    return lab


def check_order(study: Study, order: Order) -> None:
    """Raises `StudyError` for a budget with which nothing could ever be promoted."""
    promotion = study.config.promotion
    runs = order.runs if order.runs is not None else study.config.budget.runs
    gate = gate_of(study).first
    least = promotion.baseline_seeds + promotion.screen_seeds + 2 * gate
    if runs < least:
        raise StudyError(
            f"{runs} runs cannot promote anything: {promotion.baseline_seeds} for the baseline, "
            f"{promotion.screen_seeds} to screen and {2 * gate} to confirm make {least}",
            next=f"give --runs {least} or more",
        )


async def check_clean(study: Study) -> None:
    """Raises `RepositoryError` where the study is not what its repository's last commit holds."""
    study.check_paths()
    await (await Repository.open(study.dir)).check_clean()


async def _base(repository: Repository) -> str:
    await repository.check_clean()
    return await repository.head()


async def _same_study(run: Run, study: Study) -> None:
    began = await run.step("fingerprint", lambda: study.fingerprint, effect=Effect.PURE)
    if began != study.fingerprint:
        raise StudyError(
            f"{study.dir}: study.toml or a protected file has changed since run {run.id} began",
            next="put it back (git stash), or start a new run: results would not be comparable",
        )


async def _editable(repository: Repository, study: Study, commit: str) -> dict[str, str]:
    paths = [p for p in await repository.files(commit) if study.editable(p)]
    return await repository.texts(commit, paths)


def _documents(study: Study) -> dict[str, str]:
    found: dict[str, str] = {}
    for pattern in DOCUMENTS:
        for path in sorted(study.dir.glob(pattern)):
            found[str(path.relative_to(study.dir))] = path.read_text(errors="replace")[:100_000]
    return found


def _environment(lab: Lab) -> str:
    """Python and the data, so that results of different machines are not mixed unawares."""
    manifest = lab.places.data / "manifest.json"
    data = sha256(manifest.read_bytes()).hexdigest()[:16] if manifest.is_file() else "none"
    return f"python {platform.python_version()}, data {data}, jobs {lab.jobs.isolation.level}"


async def measure_baseline(run: Run, lab: Lab) -> None:
    """Several seeds of the study as it stands: the first master, and how noisy it is."""
    found = await run.map(
        "baseline",
        lambda scope, seed: measure(scope, lab, lab.base, seed, Phase.BASELINE, holdout=True),
        lab.baseline_seeds(),
        key_of=str,
    )
    lab.count(found)
    values = {m.seed: m.metric for m in found if m.metric is not None}
    if len(values) < len(found):
        bad = next(m for m in found if m.metric is None)
        raise StudyError(
            f"the study as it stands fails with seed {bad.seed}: {bad.exit}: {bad.detail}",
            next=f"see {bad.log}; the baseline has to run before anything can be compared with it",
        )
    noise = estimate_noise(list(values.values()))
    if noise == 0:
        raise StudyError(
            f"{lab.study.config.metric.name} is {found[0].metric} for every one of "
            f"{len(found)} seeds",
            next="make the training depend on {seed}: without noise there is nothing to test "
            "a gain against",
        )
    lab.hosts.see(found, lab.base)
    lab.master = lab.master.model_copy(update={"reference": values, "noise_sd": noise})
    lab.masters.append(lab.master)
    await _first_master(run, lab)
    await rows_of_master(run, lab, "baseline", found)


async def _first_master(run: Run, lab: Lab) -> None:
    async def place(commit: str) -> bool:
        return await lab.repository.advance(master_ref(lab), commit, None)

    # The run's id is in the key: a fork has refs of its own to set.
    await run.step(f"first-master/{run.id}", place, lab.base)
    await run.record("master-0", "lab:master", lab.master.model_dump(mode="json"))

"""The checks by name, and what runs them over steps as they come.

Invariant: what is checked is what was handed in: there is no registry to fill at import. A check is
a function of a trace and a step; it returns a flag or nothing, changes neither, and its cost does
not grow with the trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from manyhands.agents.stepcheck import claims, course, form
from manyhands.agents.stepcheck.norms import Norms
from manyhands.agents.stepcheck.records import Flag, Read, Source, Step
from manyhands.agents.stepcheck.trace import Trace
from manyhands.errors import ConfigError

#: What a flag is called that a check raised in place of giving: it is noted, whatever the policy.
BROKEN = "broken-check"

StepCheck = Callable[[Trace, Step], Flag | None]

#: Name -> check, in the order in which a step's flags are told.
STANDARD: Mapping[str, StepCheck] = {
    "schema": form.schema,
    "format": form.format,
    "empty": form.empty,
    "truncated": form.truncated,
    "repeated": form.repeated,
    "cycle": course.cycle,
    "ignored-error": course.ignored_error,
    "mismatch": course.mismatch,
    "no-progress": course.no_progress,
    "after-end": course.after_end,
    "outlier": course.outlier,
    "claimed-edit": claims.claimed_edit,
    "claimed-test": claims.claimed_test,
    "omitted-failure": claims.omitted_failure,
    "unverified": claims.unverified,
    "ungrounded-number": claims.ungrounded_number,
    "ungrounded-path": claims.ungrounded_path,
    "ungrounded-quote": claims.ungrounded_quote,
}


def chosen(
    names: Iterable[str], checks: Mapping[str, StepCheck] = STANDARD
) -> dict[str, StepCheck]:
    """The checks of these names (none named: all). Raises `ConfigError`."""
    wanted = list(names)
    for name in wanted:
        if name not in checks:
            raise ConfigError(
                f"there is no check {name!r}; there are {', '.join(checks)}",
                next="correct the name; `manyhands check --list` says what each sees",
            )
    return {name: checks[name] for name in wanted or checks}


@dataclass
class Checker:
    """Runs ``checks`` over the steps of any number of agents, each in the order of its steps.

    ``sources``: what is known of agents beforehand. Agents of one role share what is usual for it.
    """

    checks: Mapping[str, StepCheck] = field(default_factory=lambda: STANDARD)
    sources: Mapping[str, Source] = field(default_factory=dict[str, Source])
    _traces: dict[str, Trace] = field(default_factory=dict[str, Trace], init=False)
    _norms: dict[str, Norms] = field(default_factory=dict[str, Norms], init=False)

    def see(self, step: Step) -> tuple[Flag, ...]:
        """Take one step in, and say what is plausibly broken about it."""
        trace = self._traces.get(step.agent)
        if trace is None:
            source = self.sources.get(step.agent, Source())
            norms = self._norms.setdefault(step.role or source.role, Norms())
            trace = self._traces[step.agent] = Trace(step.agent, source, norms)
        trace.begin(step)
        found = [_run(name, check, trace, step) for name, check in self.checks.items()]
        trace.end(step)
        return tuple(flag for flag in found if flag is not None)


def _run(name: str, check: StepCheck, trace: Trace, step: Step) -> Flag | None:
    """A check that fails says nothing of the step; it is told, and ends nothing."""
    try:
        return check(trace, step)
    except Exception as error:
        reason = f"the check {name!r} failed itself: {type(error).__name__}: {error}"
        return form.flag(BROKEN, step, reason[:300], severity="low")


def check_all(read: Read, checks: Mapping[str, StepCheck] = STANDARD) -> tuple[Flag, ...]:
    """The flags of all steps that a reader found, in the order of the steps."""
    checker = Checker(checks, read.sources)
    return tuple(flag for step in read.steps for flag in checker.see(step))

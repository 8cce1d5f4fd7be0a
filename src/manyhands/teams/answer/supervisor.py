"""Splitting a question into subtasks.

Invariant: a plan that is worked on has subtasks with distinct ids and questions, whose needs are of
the plan and go in no circle. What a supervisor says otherwise is shown back to it; where that does
not help, the plan is one subtask, the whole question.
"""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import combinations

from manyhands.runtime import Run
from manyhands.teams.answer.case import Case
from manyhands.teams.answer.records import LEAST, MOST, Plan, PlanAnswer, Subtask, Way
from manyhands.teams.answer.wording import content_of

#: Shared words over all words (Jaccard) from which two subtasks ask the same.
SAME = 0.8
#: Words of a subtask's question below which it is not specific.
SPECIFIC = 3


async def split(run: Run, case: Case) -> Plan:
    """The plan: one subtask on the single route, the supervisor's on the other."""
    if case.route is None or case.route.way is Way.SINGLE:
        return whole(case.question, "route")
    report = await case.ask(
        run,
        "supervisor",
        f"The question:\n{case.question}",
        PlanAnswer,
        items=case.recalled,
        checks={"plan": lambda answer: "; ".join(faults(answer.subtasks))},
    )
    if report.value is None or faults(report.value.subtasks):
        why = f"the supervisor's plan could not be used ({report.ending}: {report.detail})"
        return whole(case.question, "rule:degraded", why)
    return Plan(subtasks=in_order(report.value.subtasks), by=report.author)


def whole(question: str, by: str, why: str = "") -> Plan:
    task = Subtask(id="whole", title="The whole question", question=question[:2000])
    return Plan(subtasks=(task,), by=by, fallback=why)


def faults(subtasks: Sequence[Subtask]) -> list[str]:
    """What is wrong with a plan, each as a line that its author can act on."""
    found: list[str] = []
    if not LEAST <= len(subtasks) <= MOST:
        found.append(f"{len(subtasks)} subtasks; allowed: {LEAST} to {MOST}")
    ids = [task.id for task in subtasks]
    found += [
        f"the id {id!r} is given twice" for id in sorted({i for i in ids if ids.count(i) > 1})
    ]
    for task in subtasks:
        found += [
            f"{task.id} needs {need!r}, which is not in the plan"
            for need in task.needs
            if need not in ids
        ]
        if len(content_of(task.question)) < SPECIFIC:
            found.append(f"{task.id} is not specific: {task.question!r}")
    found += _twins(subtasks)
    try:
        _sorted(subtasks)
    except CycleError as error:
        found.append(f"the needs go in a circle: {' → '.join(error.args[1])}")
    return found


def _twins(subtasks: Sequence[Subtask]) -> list[str]:
    words = {task.id: content_of(task.question) for task in subtasks}
    return [
        f"{a.id} and {b.id} ask the same"
        for a, b in combinations(subtasks, 2)
        if _same(words[a.id], words[b.id])
    ]


def _same(one: set[str], other: set[str]) -> bool:
    """The same of two things is not the same: each has a word then that the other has not."""
    return (one <= other or other <= one) and len(one & other) >= SAME * len(one | other)


def _sorted(subtasks: Sequence[Subtask]) -> list[str]:
    return list(TopologicalSorter({t.id: t.needs for t in subtasks}).static_order())


def in_order(subtasks: Sequence[Subtask]) -> tuple[Subtask, ...]:
    """Every subtask after those that it needs; otherwise as they were."""
    done: dict[str, Subtask] = {}
    waiting = list(subtasks)
    while waiting:
        at = next(i for i, t in enumerate(waiting) if all(need in done for need in t.needs))
        task = waiting.pop(at)
        done[task.id] = task
    return tuple(done.values())

"""Events -> finished spans, one event at a time: the whole of what is exported is this fold.

Invariants. What comes out depends on the events alone, so an export that begins again at the first
event gives the same spans, each by the same event. An attempt at a step is one span, and ends with
one. Nothing is kept of what is finished; what is kept grows with what goes on at once, and not with
the journal.

A reply's span comes when its turn is over, for what checks say of it belongs to it. A scope's span
comes when the turn that opened it is over, or the run.
"""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from manyhands.agents.context import RECORD
from manyhands.agents.request import Attempt
from manyhands.agents.stepcheck.replies import kind_of
from manyhands.agents.stepcheck.watch import FLAG
from manyhands.runtime import Event, Status, Type
from manyhands.runtime.codec import object_of
from manyhands.telemetry import facts
from manyhands.telemetry import names as n
from manyhands.telemetry.content import Content, Told
from manyhands.telemetry.scopes import Agent, Chat, Open, Scope, Scopes
from manyhands.telemetry.spans import Facts, Ids, Link, Mark, Span, shown

#: An agent's requests for its turns; others (a summary, a judge) are made on the side.
_REPLY = re.compile(r"(?:turn/\d+|final)(?:/again-\d+)?/request/\d+")
_CHECK = re.compile(r"turn/\d+/check/(.+)")
_TOOL = re.compile(r"(.+)/turn/\d+/(?:retry/)?tool/(\d+)(?:/act)?")
#: Steps by which the loop of turns keeps what it has decided: no spans, unless they fail.
_LOOP = re.compile(
    r"begin|time|left|turn/\d+/(?:stopping|killed|steers|inbox|time|flags)|final/flags"
)

INTERRUPTED, IN_DOUBT, UNFINISHED = "interrupted", "in_doubt", "unfinished"
_RESUMABLE = frozenset({Status.KILLED, Status.FAILED})


class Fold:
    """The spans of one run. ``read``: gives a blob by its name; ``content``: what was said is told,
    too (None: only where it is kept)."""

    def __init__(
        self, run_id: str, read: Callable[[str], bytes], content: Content | None = None
    ) -> None:
        self.run_id = run_id
        self.seq = 0
        self._read = read
        self._content = content
        self._ids = Ids(run_id, 0.0)
        self._scopes = Scopes(Scope("", "", "", 0.0, 0.0))
        self._steps: dict[str, Open] = {}
        self._doubts: dict[str, Open] = {}
        self._waits: dict[str, Open] = {}
        self._timers: list[tuple[float, str, float]] = []
        self._links: list[Link] = []
        self._about: Facts = {}
        self._epoch = 0
        self._status = ""
        self._done: list[Span] = []
        self._takers: dict[str, Callable[[Event], None]] = {
            Type.RUN_CREATED: self._create,
            Type.RUN_OPENED: self._reopen,
            Type.RUN_FORKED: self._fork,
            Type.RUN_BLOCKED: self._stop,
            Type.RUN_ENDED: self._stop,
            Type.SCOPE_OPENED: self._open_scope,
            Type.STEP_STARTED: self._start,
            Type.STEP_DONE: self._finish,
            Type.STEP_FAILED: self._finish,
            Type.STEP_IN_DOUBT: self._settle,
            Type.STEP_SETTLED: self._settle,
            Type.TIMER_SET: self._set_timer,
            Type.WAIT_SET: self._set_wait,
            Type.COMMAND: self._command,
        }

    @property
    def trace(self) -> str:
        return self._ids.trace

    def take(self, event: Event) -> list[Span]:
        """Fold one event in; the spans that are finished by it, inner ones first."""
        self.seq, self._epoch = event.seq, event.epoch
        self._wake(event.ts)
        self._takers.get(event.type, self._record)(event)
        self._scopes.root.last = max(self._scopes.root.last, event.ts)
        while path := self._scopes.quiet():
            self._close(path)
        done, self._done = self._done, []
        return done

    def rest(self, *, running: bool) -> list[Span]:
        """What is not finished, as of the last event: of a run that goes on (``running``), or of
        one that nobody holds. Ends the fold."""
        at = self._scopes.root.last
        error = "" if running else INTERRUPTED
        for step in self._doubts.values():
            self._step(step, at, IN_DOUBT)
        for step in self._steps.values():
            self._step(step, at, IN_DOUBT if error and step.effect == "once" else error)
        for wait in self._waits.values():
            self._wait(wait, at, "" if running else UNFINISHED)
        self._wake(at, all_=True)
        for scope in self._scopes:
            if scope.agent is not None:
                self._flush(scope.agent)
        if not self._status:
            self._status = "running" if running else INTERRUPTED
            self._scopes.root.error = error
        self._close("", error=error)
        done, self._done = self._done, []
        return [replace(span, final=True) for span in done]

    # ---------------------------------------------------------------- the run

    def _create(self, event: Event) -> None:
        self._ids = Ids(self.run_id, event.ts)
        root = Scope("", self._ids.root, "", event.ts, event.ts)
        root.name = str(event.data["workflow"])
        self._about = {f"{n.OURS}workflow.version": event.data["version"]}
        self._scopes = Scopes(root)

    def _reopen(self, event: Event) -> None:
        """A process took hold of the run. What had begun and not ended is lost, and ends where the
        journal last heard of anything; or it is in doubt."""
        root = self._scopes.root
        for step in self._steps.values():
            step.end = root.last
            if step.effect == "once":
                self._doubts[step.key] = step
            else:
                self._step(step, step.end, INTERRUPTED)
        self._steps.clear()
        self._status, root.error, root.message = "", "", ""
        root.mark("run.opened", event.ts, facts.where(event, epoch=event.epoch))

    def _fork(self, event: Event) -> None:
        other, before = str(event.data["run_id"]), event.data["before"]
        origin = self._ids.origin(other)
        about: Facts = {f"{n.OURS}run.id": shown(other), f"{n.OURS}before": before}
        self._status = ""
        self._links.append(Link(origin.trace, origin.root, about))
        self._about[f"{n.OURS}forked_from"] = f"{shown(other)}@{before}"
        self._scopes.root.mark("run.forked", event.ts, facts.where(event) | about)

    def _stop(self, event: Event) -> None:
        root = self._scopes.root
        root.last = max(root.last, event.ts)
        root.mark(str(event.type), event.ts, facts.where(event))
        if event.type == Type.RUN_BLOCKED:
            self._status, root.error = "blocked", IN_DOUBT
            return
        status = str(event.data["status"])
        error = object_of(event.data.get("error"))
        self._status = status
        if status in _RESUMABLE:
            root.error = shown(error.get("kind") or status)
            root.message = shown(error.get("message", ""))
        for step in [*self._steps.values()]:
            self._step(step, event.ts, INTERRUPTED)
        self._steps.clear()
        for scope in self._scopes:
            if scope.agent is not None:
                self._flush(scope.agent)
        if status in _RESUMABLE:
            self._snapshot()
            return
        for doubt in self._doubts.values():
            self._step(doubt, doubt.end or event.ts, IN_DOUBT)
        for wait in self._waits.values():
            self._wait(wait, event.ts, UNFINISHED)
        self._doubts, self._waits = {}, {}
        self._wake(event.ts, all_=True)
        self._close("")

    def _snapshot(self) -> None:
        """The open scopes as they are now: whoever resumes the run makes them longer."""
        for scope in self._scopes:
            self._done.append(replace(self._span_of(scope), final=False))

    def _command(self, event: Event) -> None:
        """Commands are marks of the run; what was said in them is content."""
        verb, target = str(event.data["verb"]), str(event.data["target"])
        about = facts.where(event, verb=verb, target=shown(target))
        self._scopes.root.mark("command", event.ts, about)
        if verb == "answer" and target in self._waits:
            self._wait(self._waits.pop(target), event.ts, "")
        elif verb == "stop":
            self._wake(event.ts, all_=True)
            for wait in self._waits.values():
                self._wait(wait, event.ts, "stopped")
            self._waits.clear()

    # ---------------------------------------------------------------- scopes

    def _open_scope(self, event: Event) -> None:
        self._scope(event.key, event.ts)

    def _scope(self, path: str, at: float) -> Scope:
        """The scope of this path, which begins now if it was not there."""
        found = self._scopes.get(path)
        if found is None:
            for call, caller, index in self._scopes.calls(path):
                agent = self._scopes.agent(caller)
                if call not in self._scopes and agent is not None:
                    about = facts.of_call(caller, agent, index, self._content)
                    self._add(call, at, about, index)
            found = self._scopes.get(path) or self._add(path, at)
        self._scopes.touch(path, at)
        return found

    def _add(
        self, path: str, at: float, about: Facts | None = None, call: int | None = None
    ) -> Scope:
        parent = self._scopes.around(path).path
        scope = Scope(path, self._ids.of("scope", path), parent, at, at, call=call)
        scope.facts = about or {}
        self._scopes.add(scope)
        return scope

    def _close(self, path: str, error: str = UNFINISHED) -> None:
        """``error``: of an agent that has not said how it ended."""
        for scope in self._scopes.take(path):
            if scope.agent is not None:
                self._flush(scope.agent)
                self._rise(scope)
                scope.error = scope.error or error
            final = bool(scope.path)  # a run is final where nobody can go on with it: at `rest`
            self._done.append(replace(self._span_of(scope), final=final))

    def _end_turn(self, path: str) -> None:
        """An agent goes on to its next request, or ends: what its turn opened is over."""
        scope = self._scopes.get(path)
        for inner in sorted(scope.inner) if scope is not None else ():
            self._close(inner)
        if scope is not None and scope.agent is not None:
            self._flush(scope.agent)
            self._rise(scope)

    def _span_of(self, scope: Scope) -> Span:
        about: Facts = {f"{n.OURS}run.id": shown(self.run_id), **scope.facts}
        if not scope.path:
            about |= self._run_facts()
            name = f"{n.INVOKE_WORKFLOW} {shown(scope.name)}"
        elif scope.agent is not None:
            name = f"{n.INVOKE_AGENT} {shown(scope.agent.role)}"
        elif scope.call is not None:
            name = f"{n.EXECUTE_TOOL} {scope.facts.get(n.TOOL_NAME, '')}".rstrip()
        else:
            name = shown(scope.path.removeprefix(f"{scope.parent}/"))
        if scope.path:
            about[f"{n.OURS}scope"] = shown(scope.path)
        return Span(
            self.trace,
            scope.id,
            self._parent(scope.parent) if scope.path else "",
            name,
            scope.start,
            max(scope.start, scope.last),
            about,
            tuple(scope.marks),
            tuple(self._links) if not scope.path else (),
            scope.error,
            scope.message,
            dropped=scope.dropped,
        )

    def _run_facts(self) -> Facts:
        return {
            n.OPERATION: n.INVOKE_WORKFLOW,
            n.WORKFLOW: shown(self._scopes.root.name),
            f"{n.OURS}status": self._status,
            f"{n.OURS}epochs": self._epoch,
            f"{n.OURS}events": self.seq,
            **self._about,
        }

    # ---------------------------------------------------------------- steps

    def _start(self, event: Event) -> None:
        path = str(event.data.get("scope", ""))
        found = _TOOL.fullmatch(event.key)
        if event.key.endswith("/act") and found and self._scopes.agent(found[1]) is not None:
            path = found[1]  # the call of a tool, and not a step inside of it
        self._steps[event.key] = Open.of(event, path)
        if path:
            self._scope(path, event.ts)

    def _finish(self, event: Event) -> None:
        step = self._steps.pop(event.key, None)
        if step is None:  # refused before it began
            step = Open.of(event, str(event.data.get("scope", "")))
        if step.scope:
            self._scope(step.scope, event.ts)
        used = event.data.get("used", step.cost)
        if event.type == Type.STEP_FAILED:
            kind, message = shown(event.data["kind"]), shown(event.data["message"])
            self._step(step, event.ts, kind, message, used=used, event=event)
            return
        agent = self._scopes.agent(step.scope)
        rest = step.rest
        if agent is None and rest == "begin" and step.scope:
            self._begin(step, event)
        if "requests" in step.cost and self._model(step, event, agent, used):
            return
        if agent is None:
            pass
        elif check := _CHECK.fullmatch(rest):
            self._judged(agent, check[1], event)
        elif _LOOP.fullmatch(rest):
            return
        self._step(step, event.ts, used=used, event=event)

    def _begin(self, step: Open, event: Event) -> None:
        """The scope is an agent's: the first of its steps says so."""
        about = object_of(self._value(event))
        scope = self._scopes.get(step.scope)
        if scope is None or "role" not in about or "completion" not in about:
            return
        agent = scope.agent = Agent(str(about["role"]), str(about.get("model", "")))
        scope.facts |= facts.of_agent(self.run_id, scope.path, agent)

    def _step(
        self,
        step: Open,
        at: float,
        error: str = "",
        message: str = "",
        *,
        used: Any = None,
        event: Event | None = None,
        more: Facts | None = None,
    ) -> None:
        """A span of an attempt that is over: of a call of a tool, a request, or any other step."""
        agent = self._scopes.agent(step.scope)
        rest, client = step.rest, False
        used = step.cost if used is None else used
        about = facts.of_step(self.run_id, step, used, event)
        tool = _TOOL.fullmatch(step.key)
        if agent is not None and tool is not None and tool[1] == step.scope:
            about |= facts.of_call(step.scope, agent, int(tool[2]), self._content)
            name = f"{n.EXECUTE_TOOL} {about[n.TOOL_NAME]}"
            if event is not None and event.type == Type.STEP_DONE:
                value, place = self._value(event), facts.place(event)
                told, error = facts.of_result(value, self._content, place)
                about |= told
        elif agent is not None and ("requests" in step.cost or _REPLY.fullmatch(rest)):
            model = agent.model if _REPLY.fullmatch(rest) else "unknown"
            about |= facts.of_request(self.run_id, step.scope, agent, model) | facts.ASIDE
            name, client = f"{n.CHAT} {shown(model)}", True
        elif _LOOP.fullmatch(rest) and self._keeps(step, agent, error, event):
            return
        else:
            check = _CHECK.fullmatch(rest) if agent is not None else None
            name = f"check {shown(check[1])}" if check else shown(rest)
        about |= more or {}
        self._done.append(self._span(step, name, at, about, error, message, client))

    def _keeps(self, step: Open, agent: Agent | None, error: str, event: Event | None) -> bool:
        """A step of a loop of turns that has not failed; of an agent's first, it is not known yet
        that there is an agent."""
        if error not in ("", INTERRUPTED):
            return False
        begins = step.key == f"{step.scope}/begin" and step.effect == "pure"
        return agent is not None or (begins and event is None)

    def _span(
        self,
        step: Open,
        name: str,
        at: float,
        about: Facts,
        error: str = "",
        message: str = "",
        client: bool = False,
        kind: str = "step",
    ) -> Span:
        return Span(
            self.trace,
            self._ids.of(kind, step.key, step.attempt),
            self._parent(step.scope),
            name,
            step.start,
            max(step.start, at if step.end is None else step.end),
            about,
            error=error,
            message=message,
            client=client,
        )

    def _parent(self, path: str) -> str:
        return self._ids.of("scope", path) if path else self._ids.root

    def _settle(self, event: Event) -> None:
        """A person or a probe has to say, or has said, what became of a step without an end."""
        step = self._doubts.pop(event.key, None)
        if event.type == Type.STEP_IN_DOUBT:
            if step is not None:
                self._step(step, event.ts, IN_DOUBT, shown(event.data.get("why", "")))
            return
        action, by = str(event.data["action"]), str(event.data.get("by", ""))
        settled: Facts = {f"{n.OURS}settled": action, f"{n.OURS}settled.by": by}
        error = {"retry": INTERRUPTED, "fail": shown(event.data.get("kind", "failed"))}
        if step is not None:
            self._step(step, event.ts, error.get(action, ""), event=event, more=settled)
            return
        around = self._scopes.around(event.key).path  # its span was told as in doubt
        decided = Open.of(event, around)
        about = facts.of_step(self.run_id, decided, {}, event) | settled
        name = f"settle {shown(event.key.removeprefix(f'{around}/'))}"
        span = self._span(decided, name, event.ts, about, kind=f"settled.{event.seq}")
        self._done.append(span)

    # ---------------------------------------------------------------- models and tools

    def _model(self, step: Open, event: Event, agent: Agent | None, used: Any) -> bool:
        """The span of a request that has come back; False: the step is none."""
        try:
            attempt = Attempt.model_validate(self._value(event))
        except ValidationError:
            return False
        about = facts.of_step(self.run_id, step, used, event)
        about |= facts.of_request(self.run_id, step.scope, agent, attempt.model)
        about |= facts.of_reply(attempt)
        name = f"{n.CHAT} {shown(attempt.model)}"
        if attempt.error:
            error, told = shown(attempt.error), shown(attempt.message)
            about |= facts.ASIDE
            self._done.append(self._span(step, name, event.ts, about, error, told, client=True))
            return True
        if agent is not None and not _REPLY.fullmatch(step.rest):
            agent = None
            about |= facts.ASIDE
        if agent is not None:
            told, agent.told = agent.told, Told()
            about |= told.facts()
        if self._content is not None:
            about[n.OUTPUT] = self._content.said(attempt, facts.place(event))
        span = self._span(step, name, event.ts, about, client=True)
        if agent is None:
            self._done.append(span)
            return True
        self._flush(agent)
        agent.attempt, agent.where, agent.chat = attempt, facts.place(event), Chat(span, attempt)
        return True

    # ---------------------------------------------------------------- what checks say

    def _judged(self, agent: Agent, check: str, event: Event) -> None:
        if agent.chat is not None:
            told = facts.of_judgement(check, self._value(event), event, self._content)
            agent.chat.marks.append(Mark(n.EVALUATION, event.ts, told))

    def _flagged(self, event: Event) -> None:
        scope = self._scopes.around(event.key)
        for flag in event.data.get("flags", ()):
            told = facts.of_flag(flag, event, self._content)
            if scope.agent is not None and scope.agent.chat is not None:
                scope.agent.chat.marks.append(Mark(n.EVALUATION, event.ts, told))
            else:
                scope.mark(n.EVALUATION, event.ts, told)

    def _flush(self, agent: Agent) -> None:
        chat, agent.chat = agent.chat, None
        if chat is None:
            return
        about = chat.span.facts | {f"{n.OURS}kind": str(kind_of(chat.attempt, chat.fault))}
        about |= {f"{n.OURS}fault": chat.fault} if chat.fault else {}
        self._done.append(replace(chat.span, facts=about, marks=tuple(chat.marks)))

    # ---------------------------------------------------------------- records

    def _record(self, event: Event) -> None:
        """Records and artifacts: where they stand is a mark of the scope around them."""
        if event.type == RECORD:
            self._context(event)
            return
        scope = self._scopes.around(event.key)
        if event.type == "agent:end":
            self._end_agent(event)
        elif event.type == FLAG:
            self._flagged(event)
        else:
            if event.type in ("scope:rest", "scope:order") and scope.agent is not None:
                self._rest(event, scope.path, scope.agent)
            if event.type == "agent:nudge" and scope.agent is not None and scope.agent.chat:
                scope.agent.chat.fault = shown(event.data.get("ending", ""))
            about = facts.where(event, key=shown(event.key))
            if event.type == Type.ARTIFACT_PUT:
                about |= facts.of_artifact(event.data)
            scope.mark(shown(event.type), event.ts, about)
        if scope.path:
            found = self._scopes.get(scope.path)
            if found is not None:
                self._scopes.touch(scope.path, event.ts)

    def _context(self, event: Event) -> None:
        """What the next request will be given: a turn begins, and the one before is over."""
        path = str(event.data["agent"])
        agent = self._scopes.agent(path)
        if agent is None:
            return
        changes: list[dict[str, Any]] = event.data["changes"]
        told = self._content.told(changes) if self._content is not None else Told()
        rest = agent.rest
        if rest is None or not event.key.startswith(f"{rest.key}/"):
            self._results(path, told)
            self._end_turn(path)  # and it is not what a person is shown in the middle of one
            agent.model = str(event.data.get("model", agent.model))
        agent.told = agent.told.then(told)
        agent.context = facts.of_context(event)
        self._scopes.touch(path, event.ts)

    def _results(self, path: str, told: Told) -> None:
        """What delegated calls of the turn came to stands in the history alone."""
        scope = self._scopes.get(path)
        for inner in scope.inner if scope is not None else ():
            call = self._scopes.get(inner)
            if call is not None and call.call is not None and call.call < len(told.results):
                call.facts[n.TOOL_RESULT] = told.results[call.call]

    def _end_agent(self, event: Event) -> None:
        path = event.key.removesuffix("/end")
        scope = self._scopes.get(path)
        if scope is None or scope.agent is None:
            return
        self._scopes.touch(path, event.ts)
        self._end_turn(path)
        data = event.data
        scope.facts |= facts.of_end(data)
        scope.error = shown(data.get("ending", "failed")) if data.get("status") == "failed" else ""
        for ended in self._scopes.take(path):
            self._done.append(self._span_of(ended))

    # ---------------------------------------------------------------- waits and sleeps

    def _set_wait(self, event: Event) -> None:
        self._waits[event.key] = Open.of(event, self._scopes.around(event.key).path)

    def _set_timer(self, event: Event) -> None:
        heapq.heappush(self._timers, (event.data["wake_at"], event.key, event.ts))

    def _rest(self, event: Event, path: str, agent: Agent) -> None:
        """An agent stays where it is: it is paused, or a person drives in its place."""
        if event.type == "scope:rest":
            agent.rest = agent.rest or Open.of(event, path)
        elif agent.rest is not None:
            agent.driver = str(event.data.get("owner", "")) or agent.driver
            over = event.data.get("verb") in ("hand_back", "free")
            agent.rest.end = event.ts if over else None  # it may rest on after a hand-back

    def _rise(self, scope: Scope) -> None:
        agent = scope.agent
        if agent is None or agent.rest is None:
            return
        rest, driver = agent.rest, agent.driver
        agent.rest, agent.driver = None, ""
        about = facts.of_step(self.run_id, rest, {}, None)
        about |= {f"{n.OURS}driver": shown(driver)} if driver else {}
        name = f"rest {shown(rest.rest.removesuffix('/rest'))}"
        self._done.append(self._span(rest, name, scope.last, about, kind="rest"))

    def _wait(self, wait: Open, at: float, error: str) -> None:
        about = facts.of_step(self.run_id, wait, {}, None)
        self._done.append(
            self._span(wait, f"wait {shown(wait.rest)}", at, about, error, kind="wait")
        )

    def _wake(self, at: float, *, all_: bool = False) -> None:
        """The sleeps that are over by now; a stop, or the end, is the end of all."""
        while self._timers and (all_ or self._timers[0][0] <= at):
            wake_at, key, start = heapq.heappop(self._timers)
            around = self._scopes.around(key).path
            nap = Open(key, around, 1, start, self.seq, "", {}, end=max(start, min(at, wake_at)))
            name = f"sleep {shown(key.removeprefix(f'{around}/'))}"
            about: Facts = {f"{n.OURS}run.id": shown(self.run_id), f"{n.OURS}step": shown(key)}
            self._done.append(self._span(nap, name, at, about, kind="sleep"))

    # ---------------------------------------------------------------- places

    def _value(self, event: Event) -> Any:
        text = event.value
        if text is None and event.ref is not None:
            text = self._read(event.ref).decode()
        return None if text is None else json.loads(text)

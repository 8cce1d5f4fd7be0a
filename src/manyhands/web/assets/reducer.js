// The one reducer: events -> view. The live page, a replay and an exported file all use it.
//
// Invariants: the view after n events depends on those n events alone; its sums (spent, reserved,
// steps and their outcomes, artifacts) are those of the journal's own fold, to the token.

import { KIND, STATE, below, parentPath, sum } from "./keys.js";

/**
 * @typedef {import("./view.js").View} View
 * @typedef {import("./view.js").Event} Event
 * @typedef {import("./view.js").Artifact} Artifact
 */

/** Records that a view of the team is made of. */
const WRITTEN = /^(?:lab|answer|code):/;
const QUIET = new Set(["agent:context", "agent:end", "scope:rest", "scope:order"]);

/**
 * Fold one event in. Events come in order; one that was seen before is left out.
 * @param {View} view @param {Event} event
 */
export function apply(view, event) {
  if (event.seq <= view.seq) return;
  const opened = event.type === "run.opened" || event.type === "run.forked";
  const gone = view.updatedAt ? Math.max(0, event.ts - view.updatedAt) : 0;
  if (opened) view.gaps += gone;
  else view.time += gone;
  view.seq = event.seq;
  view.epoch = event.epoch;
  view.updatedAt = event.ts;
  view.change++;
  const reduce = REDUCERS[event.type];
  if (reduce) reduce(view, event, event.data ?? {});
  else if (event.type.includes(":")) record(view, event, event.data ?? {});
  else view.unknown++;
}

/** @type {Record<string, (view: View, event: Event, data: any) => void>} */
const REDUCERS = {
  "run.created": (view, event, data) => {
    view.workflow = data.workflow;
    view.version = data.version;
    view.createdAt = event.ts;
    view.budget = data.budget ?? {};
  },
  "run.forked": (view, event, data) => {
    view.forkedFrom = `${data.run_id}@${data.before}`;
    view.status = "interrupted";
    view.error = null;
    view.paused = false;
    note(view, event, "forked");
  },
  "run.opened": (view, event, data) => {
    view.status = "running";
    view.error = null;
    if (data.budget !== undefined && data.budget !== null) view.budget = data.budget;
    if (event.epoch > 1) note(view, event, "resumed");
    reopen(view, event, new Set(data.retry ?? []));
  },
  "run.blocked": (view, event, data) => {
    view.status = "blocked";
    view.error = data;
    note(view, event, "blocked");
  },
  "run.ended": (view, event, data) => {
    view.status = data.status;
    view.error = data.error ?? null;
    for (const lane of view.lanes) view.closeGroups(lane);
    note(view, event, `run ${data.status}`);
  },
  "scope.opened": (view, event, data) => {
    view.scopes.set(event.key, { budget: data, time: view.time });
  },
  "step.started": (view, event, data) => {
    const at = view.stepOf(event);
    if (view.kind.get(at) === KIND.REQUEST) view.lanes[view.lane.get(at)].requests++;
    view.end.set(at, NaN);
    view.setState(at, STATE.STARTED);
    view.lasts.set(at, event.seq);
    view.book(at, data.cost ?? null, view.used[at], view.lost[at]);
    view.extend(view.lanes[view.lane.get(at)], event.seq);
  },
  "step.done": (view, event) => {
    const at = view.stepOf(event);
    view.endStep(at, event, STATE.DONE);
    if (event.head) learn(view, at, event.head);
  },
  "step.failed": (view, event, data) => {
    const at = view.stepOf(event);
    view.about[at] = { ...view.about[at], error: data.kind, message: data.message };
    view.endStep(at, event, STATE.FAILED);
  },
  "step.in_doubt": (view, event) => {
    const at = view.stepOf(event);
    view.setState(at, STATE.IN_DOUBT);
    view.lasts.set(at, event.seq);
  },
  "step.settled": (view, event, data) => {
    const at = view.stepOf(event);
    if (data.action === "retry") view.setState(at, STATE.RETRYING);
    else {
      view.setState(at, data.action === "result" ? STATE.DONE : STATE.FAILED);
      view.close(at, event.seq);
    }
  },
  "timer.set": (view, event, data) => {
    const lane = view.laneOf(parentPath(event.key));
    const seconds = Math.max(0, Number(data.wake_at) - event.ts) || 0;
    view.addSpan(lane, event.key, KIND.WAIT, event.seq, view.time + seconds);
    view.extend(lane, event.seq);
  },
  "wait.set": (view, event) => {
    const lane = view.laneOf(parentPath(event.key));
    const at = view.addSpan(lane, event.key, KIND.WAIT, event.seq);
    view.waits.set(event.key, at);
  },
  command: (view, event, data) => {
    view.commands.push({ seq: event.seq, ts: event.ts, ...data });
    if (data.verb === "pause" && !data.target) view.paused = true;
    if (["continue", "hand_back"].includes(data.verb) && !data.target) view.paused = false;
    if (data.verb === "stop" && !data.target) view.paused = false;
    if (data.verb === "budget") rebudget(view, data.target, data.message);
    const waiting = data.verb === "answer" ? view.waits.get(data.target) : undefined;
    if (waiting !== undefined) {
      view.state.set(waiting, STATE.DONE);
      view.close(waiting, event.seq);
    }
    note(view, event, `${data.verb} by a person`);
  },
  "artifact.put": (view, event, data) => {
    const versions = view.artifacts.get(data.name) ?? new Map();
    view.artifacts.set(data.name, versions);
    if (data.status === "accepted") supersede(versions);
    versions.set(data.version, { ...data, seq: event.seq });
    note(view, event, `artifact ${data.name} v${data.version}`);
  },
  "artifact.marked": (view, event, data) => {
    const versions = view.artifacts.get(data.name);
    if (!versions) return;
    if (data.status === "accepted") supersede(versions);
    const marked = versions.get(data.version);
    if (!marked) return;
    versions.set(data.version, { ...marked, status: data.status, reason: data.reason });
    note(view, event, `${data.name} v${data.version} ${data.status}`);
  },
};

/** Limits that a command names take the place of the old ones. @param {View} view @param {string} target @param {any} limits */
function rebudget(view, target, limits) {
  if (!limits || typeof limits !== "object") return;
  const scope = view.scopes.get(target);
  if (!target) view.budget = { ...view.budget, ...limits };
  else if (scope) view.scopes.set(target, { ...scope, budget: { ...scope.budget, ...limits } });
}

/** An agent rests, or is driven: spans that end when it goes on. @param {View} view @param {Event} event @param {any} data */
function rest(view, event, data) {
  const key = event.type === "scope:rest" ? event.key : parentPath(event.key);
  const before = view.rests.get(key);
  if (before !== undefined) {
    if (data.verb === "act" || data.verb === view.about[before]?.verb) return;
    view.state.set(before, STATE.DONE);
    view.close(before, event.seq);
    view.rests.delete(key);
  }
  if (data.verb === "hand_back" || data.verb === "free") return;
  const lane = view.laneOf(parentPath(key));
  const at = view.addSpan(lane, event.key, KIND.WAIT, event.seq);
  const title = data.verb === "take" ? `driven by ${data.owner}` : "paused";
  view.about[at] = { ...view.about[at], title, verb: data.verb ?? "rest" };
  view.rests.set(key, at);
}

/** @param {View} view @param {Event} event @param {Set<string>} retry */
function reopen(view, event, retry) {
  for (const [key, at] of view.steps) {
    if (view.state.get(at) === STATE.STARTED) {
      view.book(at, null, view.used[at], sum(view.lost[at], view.cost[at]));
      view.setState(at, view.effects.get(key) === "once" ? STATE.IN_DOUBT : STATE.RETRYING);
      view.close(at, event.seq);
    }
    if (retry.has(key)) {
      view.book(at, view.cost[at], null, sum(view.lost[at], view.used[at]));
      view.setState(at, STATE.RETRYING);
    }
  }
}

/** @param {Map<number, Artifact>} versions */
function supersede(versions) {
  for (const each of versions.values()) if (each.status === "accepted") each.status = "superseded";
}

/** What a step's value says of an agent, or of a model's attempt. @param {View} view @param {number} at @param {any} head */
function learn(view, at, head) {
  const lane = view.lanes[view.lane.get(at)];
  if (head.role) {
    lane.role = head.role;
    lane.model = head.model ?? "";
    view.shape++;
    return;
  }
  view.about[at] = { ...view.about[at], ...head };
  if (head.calls) {
    const turn = /^(.*?turn\/\d+\/)/.exec(below(lane, view.keys[at]));
    if (turn) lane.calls = { turn: turn[1], names: head.calls };
  }
  if (head.error || head.ok === false) view.bad.set(at, 1);
}

/** @param {View} view @param {Event} event @param {any} data */
function record(view, event, data) {
  if (event.type === "agent:context") {
    const lane = view.byPath.get(data.agent) ?? view.addLane(data.agent);
    view.closeGroups(lane);
    lane.contexts.push({ seq: event.seq, key: event.key, ...data });
  }
  if (event.type === "scope:rest" || event.type === "scope:order") rest(view, event, data);
  if (event.type === "agent:end") {
    const lane = view.byPath.get(data.agent) ?? view.addLane(data.agent);
    Object.assign(lane, { status: data.status, ending: data.ending, endSeq: event.seq });
    lane.to = view.time;
    view.closeGroups(lane);
    const parent = lane.parent;
    if (parent) {
      view.arrows.push({ from: lane.index, to: parent.index, time: view.time, kind: "return" });
    }
  }
  if (WRITTEN.test(event.type)) {
    const before = view.written.get(event.type);
    if (before) before.push({ ...event, time: view.time });
    else view.written.set(event.type, [{ ...event, time: view.time }]);
    view.records++;
    if (event.type.startsWith("lab:")) study(view, event, data);
  }
  if (!QUIET.has(event.type)) note(view, event, event.type);
}

/** What a study's records say of its experiments. @param {View} view @param {Event} event @param {any} data */
function study(view, event, data) {
  if (event.type === "lab:experiment" && data.id) {
    const lane = view.experiment(data.id);
    Object.assign(lane, { status: data.verdict, endSeq: event.seq });
    lane.to = view.time;
  }
  if (event.type === "lab:master" && data.version === 0) view.experiment("baseline").status = "measured";
  if (event.type === "lab:row" && data.experiment && !["baseline", "ablate", "factorial"].includes(data.phase)) {
    view.experiment(data.experiment).title = data.title ?? "";
  }
}

/** @param {View} view @param {Event} event @param {string} title */
function note(view, event, title) {
  const lane = event.key ? view.homeOf(view.laneOf(parentPath(event.key)), event.key) : view.root;
  const at = view.addSpan(lane, event.key || event.type, KIND.NOTE, event.seq, view.time);
  view.about[at] = { title, type: event.type };
}

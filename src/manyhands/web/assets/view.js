// The state of a run as it is drawn: lanes of agents, spans in columns, sums.
//
// Invariants: what is many is a column and not an object each; a sum is changed where a step's
// amounts change (`book`) and nowhere else. Nothing here knows of a document or of a network.

import { Column } from "./columns.js";
import { KIND, STATE, below, experimentOf, kindOf, parentPath, sum, within } from "./keys.js";

/**
 * @typedef {Record<string, number>} Amounts
 * @typedef {{seq: number, epoch: number, ts: number, type: string, key: string,
 *   data?: any, size?: number, ref?: string, head?: any, cut?: number}} Event
 * @typedef {{name: string, version: number, kind: string, blob: string, producer: string,
 *   seq: number, status: string, evidence: any[], reason: string}} Artifact
 * @typedef {{seq: number, key: string, agent: string, model: string, before: string,
 *   hash: string, length: number, changes: any[]}} ContextRecord
 */

/** So many spans of one agent stand below each other; more than that overlap. */
const ROWS = 6;

/** One swim lane: an agent, an experiment of a study, or (path "") the run itself. */
export class Lane {
  /** @param {number} index @param {string} path @param {Lane | null} parent @param {number} depth */
  constructor(index, path, parent, depth) {
    this.index = index;
    this.path = path;
    /** @type {Lane | null} */
    this.parent = parent;
    /** @type {number} */
    this.depth = depth;
    /** @type {Lane[]} */
    this.children = [];
    this.spans = new Column();
    this.latest = new Column(); // the latest end among the spans up to this one
    this.dirty = false; // `latest` is to be made anew
    /** @type {number[]} the span that stands last in each row */
    this.rows = [];
    /** @type {Amounts} */
    this.spent = {};
    this.requests = 0;
    this.role = "";
    this.model = "";
    this.title = ""; // in words, where somebody gave it some
    this.gathered = false; // an experiment: its steps are those whose keys name it, and not its path
    this.status = "";
    this.ending = "";
    this.from = NaN;
    this.to = NaN;
    this.endSeq = 0;
    /** @type {{turn: string, names: string[]}} what its latest request called */
    this.calls = { turn: "", names: [] };
    this.group = -1;
    /** @type {Set<number>} */
    this.openGroups = new Set();
    /** @type {ContextRecord[]} */
    this.contexts = [];
  }
}

/** Everything that is known of a run. Times are seconds during which a process held it. */
export class View {
  constructor() {
    this.workflow = "";
    this.version = 0;
    this.status = "running";
    this.held = true;
    this.epoch = 0;
    this.seq = 0;
    this.createdAt = 0;
    this.updatedAt = 0;
    this.gaps = 0;
    this.time = 0;
    this.paused = false;
    this.forkedFrom = "";
    /** @type {any} */
    this.error = null;
    /** @type {any} */
    this.budget = {};
    /** @type {Map<string, {budget: any, time: number}>} */
    this.scopes = new Map();
    /** @type {Amounts} */
    this.spent = {};
    /** @type {Amounts} */
    this.reserved = {};
    /** @type {Map<string, number>} */
    this.steps = new Map();
    /** @type {Map<string, number>} */
    this.waits = new Map();
    /** @type {Map<string, number>} */
    this.rests = new Map();
    /** @type {Map<string, number>} */
    this.groups = new Map();
    /** Grows with every event; what is drawn from the view is drawn anew when it has. */
    this.change = 0;
    this.shape = 0;
    this.outcomes = [0, 0, 0, 0, 0];
    /** @type {Map<string, Map<number, Artifact>>} */
    this.artifacts = new Map();
    /** What a team has written down, by the type of the event; `records` counts them. */
    /** @type {Map<string, (Event & {time: number})[]>} */
    this.written = new Map();
    this.records = 0;
    /** @type {any[]} */
    this.commands = [];
    this.unknown = 0;

    /** @type {string[]} */
    this.keys = [];
    this.start = new Column();
    this.end = new Column(); // NaN: it has none yet
    this.lane = new Column();
    this.row = new Column();
    this.kind = new Column();
    this.state = new Column();
    this.bad = new Column(); // 1: it ended well, and what it returned is an error
    this.seqs = new Column(); // its first event
    this.lasts = new Column(); // its latest event
    /** @type {(Amounts | null)[]} */
    this.cost = [];
    /** @type {(Amounts | null)[]} */
    this.used = [];
    /** @type {(Amounts | null)[]} */
    this.lost = [];
    /** @type {any[]} */
    this.about = [];
    /** @type {string[]} the hash of what each step was given ('': it is not known) */
    this.args = [];
    /** @type {Map<string, string>} */
    this.effects = new Map();

    /** Changes of what is spent and reserved: what a burn-down is drawn from. */
    /** @type {string[]} */
    this.units = [];
    this.ledger = {
      time: new Column(), span: new Column(), unit: new Column(),
      spent: new Column(), reserved: new Column(),
    };
    /** @type {{from: number, to: number, time: number, kind: "delegation" | "return"}[]} */
    this.arrows = [];
    /** @type {Map<string, Lane>} */
    this.byPath = new Map();
    /** @type {Map<string, Lane>} */
    this.found = new Map();
    /** @type {Lane[]} */
    this.lanes = [];
    this.root = this.addLane("");
  }

  /** @param {string} path */
  addLane(path) {
    const parent = path ? this.homeOf(this.laneOf(parentPath(path)), path) : null;
    const lane = new Lane(this.lanes.length, path, parent, parent ? parent.depth + 1 : 0);
    this.lanes.push(lane);
    this.byPath.set(path, lane);
    this.found.clear();
    this.shape++;
    if (parent) {
      parent.children.push(lane);
      const tool = /^(.*?tool\/\d+)(?:\/|$)/.exec(below(parent, path));
      if (tool) lane.group = this.groupOf(parent, within(parent, tool[1]));
      this.arrows.push({ from: parent.index, to: lane.index, time: this.time, kind: "delegation" });
    }
    return lane;
  }

  /** In a study, what belongs to no agent is gathered by experiment. @param {Lane} lane @param {string} key @returns {Lane} */
  homeOf(lane, key) {
    if (this.workflow !== "lab" || lane.path) return lane;
    const name = experimentOf(key);
    return name ? this.experiment(name) : lane;
  }

  /** @param {string} name @returns {Lane} */
  experiment(name) {
    const path = `experiment ${name}`;
    const known = this.byPath.get(path);
    if (known) return known;
    const lane = new Lane(this.lanes.length, path, this.root, 1);
    Object.assign(lane, { role: name, gathered: true });
    this.lanes.push(lane);
    this.byPath.set(path, lane);
    this.root.children.push(lane);
    this.shape++;
    return lane;
  }

  /** The innermost agent that a scope belongs to. @param {string} scope @returns {Lane} */
  laneOf(scope) {
    const known = this.found.get(scope);
    if (known) return known;
    let path = scope;
    while (!this.byPath.has(path)) path = parentPath(path);
    const lane = /** @type {Lane} */ (this.byPath.get(path));
    this.found.set(scope, lane);
    return lane;
  }

  /**
   * @param {Lane} lane @param {string} key @param {number} kind @param {number} seq
   * @param {number} [end]
   */
  addSpan(lane, key, kind, seq, end = NaN) {
    const at = this.keys.length;
    this.keys.push(key);
    this.start.push(this.time);
    this.end.push(end);
    this.lane.push(lane.index);
    this.kind.push(kind);
    this.state.push(Number.isNaN(end) ? STATE.STARTED : STATE.DONE);
    this.bad.push(0);
    this.seqs.push(seq);
    this.lasts.push(seq);
    this.row.push(kind === KIND.NOTE ? 0 : this.rowFor(lane, at));
    this.cost.push(null);
    this.used.push(null);
    this.lost.push(null);
    this.about.push(null);
    this.args.push("");
    if (Number.isNaN(lane.from)) lane.from = this.time;
    lane.spans.push(at);
    lane.dirty = true;
    return at;
  }

  /** @param {Lane} lane @param {number} at */
  rowFor(lane, at) {
    let row = lane.rows.findIndex((last) => !Number.isNaN(this.end.get(last)) &&
      this.end.get(last) <= this.time);
    if (row < 0) {
      row = Math.min(lane.rows.length, ROWS - 1);
      if (row === lane.rows.length) this.shape++;
    }
    lane.rows[row] = at;
    return row;
  }

  /** The span of a tool that has steps of its own below it. @param {Lane} lane @param {string} key */
  groupOf(lane, key) {
    const known = this.groups.get(key);
    if (known !== undefined) return known;
    const at = this.addSpan(lane, key, KIND.TOOL, this.seq);
    this.groups.set(key, at);
    this.about[at] = { group: true, tool: this.calledAs(lane, below(lane, key)) };
    lane.openGroups.add(at);
    return at;
  }

  /** The name of the tool that a turn's request has called. @param {Lane} lane @param {string} rest */
  calledAs(lane, rest) {
    const called = /^(.*?)tool\/(\d+)/.exec(rest);
    return called && called[1] === lane.calls.turn ? lane.calls.names[Number(called[2])] : undefined;
  }

  /** @param {Lane} lane */
  closeGroups(lane) {
    for (const at of lane.openGroups) {
      this.end.set(at, Math.max(this.start.get(at), this.about[at].until ?? this.time));
      this.state.set(at, STATE.DONE);
    }
    lane.openGroups.clear();
    lane.dirty = true;
  }

  /** What is below a group has gone on until now. @param {Lane} lane @param {number} seq */
  extend(lane, seq) {
    lane.to = this.time;
    for (let each = lane; each.group >= 0 && each.parent; each = each.parent) {
      this.about[each.group].until = this.time;
      this.lasts.set(each.group, seq);
    }
  }

  /** The span of a step, which is added if it is new. @param {Event} event */
  stepOf(event) {
    const known = this.steps.get(event.key);
    if (known !== undefined) return known;
    const scope = event.data?.scope ?? "";
    if (event.key === `${scope}/begin` && !this.byPath.has(scope)) this.addLane(scope);
    const lane = this.homeOf(this.laneOf(scope), event.key);
    const rest = below(lane, event.key);
    const tool = /^(.*?tool\/\d+)\/(?!act$)/.exec(rest);
    if (tool) this.groupOf(lane, within(lane, tool[1]));
    const at = this.addSpan(lane, event.key, kindOf(rest), event.seq);
    if (this.kind.get(at) === KIND.TOOL) this.about[at] = { tool: this.calledAs(lane, rest) };
    this.steps.set(event.key, at);
    this.args[at] = event.data?.args ?? "";
    this.effects.set(event.key, event.data?.effect ?? "idempotent"); // of its first event
    this.outcomes[STATE.STARTED]++;
    return at;
  }

  /** @param {number} at @param {number} state */
  setState(at, state) {
    this.outcomes[this.state.get(at)]--;
    this.outcomes[state]++;
    this.state.set(at, state);
  }

  /**
   * Book what changed for a step; `reserved` counts only while it is started.
   * @param {number} at @param {Amounts | null} cost @param {Amounts | null} used
   * @param {Amounts | null} lost
   */
  book(at, cost, used, lost) {
    const lane = this.lanes[this.lane.get(at)];
    const old = [this.cost[at], this.used[at], this.lost[at]];
    const named = new Set();
    for (const each of [...old, cost, used, lost]) for (const unit in each) named.add(unit);
    for (const unit of named) {
      const spent = (used?.[unit] ?? 0) + (lost?.[unit] ?? 0) -
        (old[1]?.[unit] ?? 0) - (old[2]?.[unit] ?? 0);
      const reserved = (cost?.[unit] ?? 0) - (old[0]?.[unit] ?? 0);
      if (!spent && !reserved) continue;
      this.spent[unit] = (this.spent[unit] ?? 0) + spent;
      this.reserved[unit] = (this.reserved[unit] ?? 0) + reserved;
      lane.spent[unit] = (lane.spent[unit] ?? 0) + spent;
      let index = this.units.indexOf(unit);
      if (index < 0) index = this.units.push(unit) - 1;
      const ledger = this.ledger;
      ledger.time.push(this.time);
      ledger.span.push(at);
      ledger.unit.push(index);
      ledger.spent.push(spent);
      ledger.reserved.push(reserved);
    }
    this.cost[at] = cost;
    this.used[at] = used;
    this.lost[at] = lost;
  }

  /** @param {number} at @param {Event} event @param {number} state */
  endStep(at, event, state) {
    const data = event.data ?? {};
    const used = data.used ?? this.cost[at] ?? null;
    if (state === STATE.DONE || (data.final ?? true)) {
      this.setState(at, state);
      this.book(at, null, used, this.lost[at]);
    } else {
      this.setState(at, STATE.RETRYING);
      this.book(at, null, this.used[at], sum(this.lost[at], used));
    }
    this.close(at, event.seq);
  }

  /** @param {number} at @param {number} seq */
  close(at, seq) {
    const lane = this.lanes[this.lane.get(at)];
    this.end.set(at, Math.max(this.time, this.start.get(at)));
    this.lasts.set(at, seq);
    lane.dirty = true;
    this.extend(lane, seq);
  }

  /** As the journal's reader says it: nobody holds the run, so it does not run. */
  get shownStatus() {
    return this.status === "running" && !this.held ? "interrupted" : this.status;
  }
}

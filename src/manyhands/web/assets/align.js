// Runs side by side: which step of the one is which of the others.
//
// Invariant: steps are paired within the same agent, in order, by what was done and by the hash of
// what it was given; each step is in one row. What the journal does not tell apart (a hash that
// is not there) is not called the same.

import { KIND } from "./keys.js";
import { titleOf } from "./layout.js";

/**
 * @typedef {import("./view.js").View} View
 * @typedef {{at: number, action: string, args: string}} Step
 * @typedef {{at: number[], how: ("" | "same" | "given other" | "ended other" | "not here")[]}} Row one place a run; -1 is none
 */

/** Steps of one agent of both runs up to which every pairing is looked at: their product. */
const CELLS = 1_000_000;

/** Steps of an agent that somebody would compare. @param {View} view @param {string} path */
function stepsIn(view, path) {
  const lane = view.byPath.get(path);
  /** @type {Step[]} */
  const found = [];
  for (let i = 0; lane && i < lane.spans.length; i++) {
    const at = lane.spans.get(i);
    const kind = view.kind.get(at);
    if (kind === KIND.NOTE || kind === KIND.HARNESS || view.about[at]?.group) continue;
    found.push({ at, action: `${kind} ${titleOf(view, at).replace(/\d+/g, "#")}`, args: view.args[at] });
  }
  return found;
}

/** Steps that are one another in several runs, in order. @param {View[]} views @param {string} path @returns {Row[]} */
export function alignAgent(views, path) {
  return rowsOf(views.map((view) => stepsIn(view, path))).map((steps) => {
    const first = steps.findIndex((step) => step !== null);
    const how = steps.map((step, v) => (step === null ? "not here" : v === first ? "" : told(views[first], steps[first], views[v], step)));
    return { at: steps.map((step) => step?.at ?? -1), how: /** @type {Row["how"]} */ (how) };
  });
}

/**
 * The first run that has any is the one that the others are held against; what only they have is
 * held against one another, between its steps.
 * @param {Step[][]} lists one a run @returns {(Step | null)[][]}
 */
function rowsOf(lists) {
  const first = lists.findIndex((list) => list.length);
  if (first < 0) return [];
  const pairs = lists.map((list, v) => new Map(v > first ? matched(lists[first], list) : []));
  /** @type {(Step | null)[][]} */
  const rows = [];
  const done = lists.map(() => 0);
  const upTo = (/** @type {(v: number) => number} */ end) => {
    rows.push(...rowsOf(lists.map((list, v) => (v > first ? list.slice(done[v], end(v)) : []))));
    for (let v = first + 1; v < lists.length; v++) done[v] = Math.max(done[v], end(v));
  };
  lists[first].forEach((step, i) => {
    upTo((v) => pairs[v].get(i) ?? done[v]);
    rows.push(lists.map((list, v) => {
      const j = v > first ? pairs[v].get(i) : undefined;
      if (j !== undefined) done[v] = j + 1;
      return v === first ? step : j === undefined ? null : list[j];
    }));
  });
  upTo((v) => lists[v].length);
  return rows;
}

/** @param {View} left @param {any} one @param {View} right @param {Step} other */
function told(left, one, right, other) {
  if (one.args !== other.args) return "given other";
  const alike = left.state.get(one.at) === right.state.get(other.at) && left.bad.get(one.at) === right.bad.get(other.at);
  return alike ? "same" : "ended other";
}

/**
 * Places of pairs, in order: as many alike as there can be, and those with equal arguments first.
 * @param {{action: string, args: string}[]} a @param {{action: string, args: string}[]} b
 * @returns {[number, number][]}
 */
function matched(a, b) {
  let head = 0;
  const alike = (/** @type {number} */ i, /** @type {number} */ j) => a[i].action === b[j].action && a[i].args === b[j].args;
  while (head < a.length && head < b.length && alike(head, head)) head++;
  /** @type {[number, number][]} */
  const found = Array.from({ length: head }, (_, i) => [i, i]);
  const rows = a.length - head;
  const columns = b.length - head;
  if (rows * columns > CELLS) return [...found, ...inTurn(a, b, head)];
  const width = columns + 1;
  const best = new Int32Array((rows + 1) * width);
  for (let i = rows - 1; i >= 0; i--) {
    for (let j = columns - 1; j >= 0; j--) {
      const worth = a[head + i].action === b[head + j].action ? (a[head + i].args === b[head + j].args ? 3 : 2) : 0;
      const pair = worth ? worth + best[(i + 1) * width + j + 1] : 0;
      best[i * width + j] = Math.max(pair, best[(i + 1) * width + j], best[i * width + j + 1]);
    }
  }
  for (let i = 0, j = 0; i < rows && j < columns;) {
    const here = best[i * width + j];
    if (here === best[(i + 1) * width + j]) i++;
    else if (here === best[i * width + j + 1]) j++;
    else found.push([head + i++, head + j++]);
  }
  return found;
}

/** Of very many steps: each with the next of the same action. @param {{action: string}[]} a @param {{action: string}[]} b @param {number} head @returns {[number, number][]} */
function inTurn(a, b, head) {
  /** @type {Map<string, number[]>} */
  const places = new Map();
  for (let j = head; j < b.length; j++) {
    const before = places.get(b[j].action);
    if (before) before.push(j);
    else places.set(b[j].action, [j]);
  }
  /** @type {[number, number][]} */
  const found = [];
  let last = head - 1;
  for (let i = head; i < a.length; i++) {
    const next = (places.get(a[i].action) ?? []).find((j) => j > last);
    if (next === undefined) continue;
    found.push([i, next]);
    last = next;
  }
  return found;
}

/** Agents of all runs, in the order of the first. @param {View[]} views */
export function agentsOf(views) {
  return [...new Set(views.flatMap((view) => view.lanes.map((lane) => lane.path)))];
}

/** Whether all runs have the step, and have it alike. @param {Row} row */
export function isSame(row) {
  return row.how.every((how) => how === "same" || how === "");
}

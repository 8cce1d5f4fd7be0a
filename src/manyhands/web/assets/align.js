// Two runs side by side: which step of the one is which of the other.
//
// Invariant: steps are paired within the same agent, in order, by what was done and by the hash of
// what it was given; a step is in one pair at most. What the journal does not tell apart (a hash that
// is not there) is not called the same.

import { KIND } from "./keys.js";
import { titleOf } from "./layout.js";

/**
 * @typedef {import("./view.js").View} View
 * @typedef {{left: number, right: number, how: "same" | "given other" | "ended other" | "only left" | "only right"}} Pair
 */

/** Steps of one agent of both runs up to which every pairing is looked at: their product. */
const CELLS = 1_000_000;

/** Steps of an agent that somebody would compare. @param {View} view @param {string} path */
function stepsIn(view, path) {
  const lane = view.byPath.get(path);
  /** @type {{at: number, action: string, args: string}[]} */
  const found = [];
  for (let i = 0; lane && i < lane.spans.length; i++) {
    const at = lane.spans.get(i);
    const kind = view.kind.get(at);
    if (kind === KIND.NOTE || kind === KIND.HARNESS || view.about[at]?.group) continue;
    found.push({ at, action: `${kind} ${titleOf(view, at).replace(/\d+/g, "#")}`, args: view.args[at] });
  }
  return found;
}

/** @param {View} left @param {View} right @param {string} path @returns {Pair[]} */
export function alignAgent(left, right, path) {
  const a = stepsIn(left, path);
  const b = stepsIn(right, path);
  /** @type {Pair[]} */
  const pairs = [];
  const how = (/** @type {typeof a[0]} */ one, /** @type {typeof a[0]} */ other) => {
    if (!one.args || one.args !== other.args) return one.args || other.args ? "given other" : ended(left, one.at, right, other.at);
    return ended(left, one.at, right, other.at);
  };
  let i = 0;
  let j = 0;
  for (const [x, y] of matched(a, b)) {
    while (i < x) pairs.push({ left: a[i++].at, right: -1, how: "only left" });
    while (j < y) pairs.push({ left: -1, right: b[j++].at, how: "only right" });
    pairs.push({ left: a[x].at, right: b[y].at, how: how(a[x], b[y]) });
    i = x + 1;
    j = y + 1;
  }
  while (i < a.length) pairs.push({ left: a[i++].at, right: -1, how: "only left" });
  while (j < b.length) pairs.push({ left: -1, right: b[j++].at, how: "only right" });
  return pairs;
}

/** @param {View} left @param {number} one @param {View} right @param {number} other */
function ended(left, one, right, other) {
  const alike = left.state.get(one) === right.state.get(other) && left.bad.get(one) === right.bad.get(other);
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

/** Agents of both runs, in the order of the left one. @param {View} left @param {View} right */
export function agentsOf(left, right) {
  return [...new Set([...left.lanes, ...right.lanes].map((lane) => lane.path))];
}

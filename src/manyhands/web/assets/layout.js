// Where lanes are, and what of them is in a window: geometry, and nothing that draws.

import { firstWhere } from "./columns.js";
import { parentPath } from "./keys.js";

/**
 * @typedef {import("./view.js").View} View
 * @typedef {import("./view.js").Lane} Lane
 * @typedef {{lane: Lane, top: number, height: number}} Strip
 */

export const ROW = 18;
export const PAD = 7;
/** Room for a lane's name and its figures. */
const LEAST = 40;

/** Strips from top to bottom, each agent below its parent. @param {View} view @returns {Strip[]} */
export function stripsOf(view) {
  /** @type {Strip[]} */
  const strips = [];
  let top = 0;
  /** @param {Lane} lane */
  const add = (lane) => {
    const height = Math.max(LEAST, Math.max(1, lane.rows.length) * ROW + 2 * PAD);
    strips.push({ lane, top, height });
    top += height;
    for (const child of lane.children) add(child);
  };
  add(view.root);
  return strips;
}

/** The strips that are to be seen from `top` to `bottom`. @param {Strip[]} strips @param {number} top @param {number} bottom */
export function visible(strips, top, bottom) {
  const first = firstWhere(strips.length, (i) => strips[i].top + strips[i].height > top);
  const last = firstWhere(strips.length, (i) => strips[i].top >= bottom);
  return strips.slice(first, last);
}

/** Where to look among a lane's spans for those from one time to another. @param {View} view @param {Lane} lane @param {number} from @param {number} to */
export function rangeOf(view, lane, from, to) {
  if (lane.dirty) renewLatest(view, lane);
  const low = firstWhere(lane.spans.length, (i) => lane.latest.get(i) >= from);
  const high = firstWhere(lane.spans.length, (i) => view.start.get(lane.spans.get(i)) > to);
  return [low, high];
}

/** @param {View} view @param {Lane} lane */
function renewLatest(view, lane) {
  let latest = -Infinity;
  for (let i = 0; i < lane.spans.length; i++) {
    const end = view.end.get(lane.spans.get(i));
    latest = Math.max(latest, Number.isNaN(end) ? Infinity : end);
    if (i < lane.latest.length) lane.latest.set(i, latest);
    else lane.latest.push(latest);
  }
  lane.dirty = false;
}

/**
 * The span nearest to a time in a row (any row: -1), at most `slack` seconds away; -1: none.
 * @param {View} view @param {Lane} lane @param {number} time @param {number} row @param {number} slack
 */
export function nearest(view, lane, time, row, slack) {
  const [low, high] = rangeOf(view, lane, time - slack, time + slack);
  let best = -1;
  let least = Infinity;
  for (let i = low; i < high; i++) {
    const at = lane.spans.get(i);
    if (row >= 0 && view.row.get(at) !== row) continue;
    const start = view.start.get(at);
    const end = endOf(view, at);
    const away = time < start ? start - time : time > end ? time - end : 0;
    const score = away * 1e6 + (end - start);
    if (away <= slack && score <= least) {
      best = at;
      least = score;
    }
  }
  return best;
}

/** A span without an end goes on until now. @param {View} view @param {number} at */
export function endOf(view, at) {
  const end = view.end.get(at);
  return Number.isNaN(end) ? Math.max(view.time, view.start.get(at)) : end;
}

/** What a span is called in its own bar. @param {View} view @param {number} at */
export function titleOf(view, at) {
  const about = view.about[at];
  if (about?.title) return about.title;
  const key = view.keys[at];
  const lane = view.lanes[view.lane.get(at)];
  const rest = lane.path && key.startsWith(`${lane.path}/`) ? key.slice(lane.path.length + 1) : key;
  if (about?.tool) return about.tool;
  if (/\/request\/\d+$/.test(rest)) return parentPath(parentPath(rest)).replace(/^turn\//, "turn ");
  const job = /(baseline|screen|confirm|holdout)\/([0-9a-f]{6})[0-9a-f]*\/(\d+)$/.exec(rest);
  if (job) return `${job[1]} ${job[3]} · ${job[2]}`;
  if (lane.gathered) return rest.replace(/^.*?e\d{4,}\//, "");
  const check = /(?:^|\/)check\/([^/]+)$/.exec(rest);
  return check ? `check ${check[1]}` : rest.replace(/^turn\/(\d+)\//, "$1 · ");
}

/** Whole steps of 1, 2 or 5 for the time axis. @param {number} seconds of the window @param {number} most ticks */
export function tickOf(seconds, most) {
  const least = seconds / Math.max(1, most);
  const ten = 10 ** Math.floor(Math.log10(least));
  for (const times of [1, 2, 5, 10]) if (ten * times >= least) return ten * times;
  return ten * 10;
}

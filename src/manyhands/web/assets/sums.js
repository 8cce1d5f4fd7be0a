// Sums over a view: of an agent with all below it, and of a unit over time.

import { Column } from "./columns.js";
import { sum } from "./keys.js";

/**
 * @typedef {import("./view.js").View} View
 * @typedef {import("./view.js").Lane} Lane
 */

/** What an agent and all below it have spent: the sum of its leaves. @param {Lane} lane @returns {Record<string, number>} */
export function spentBelow(lane) {
  /** @type {Record<string, number>} */
  let total = { ...lane.spent };
  for (const child of lane.children) total = sum(total, spentBelow(child)) ?? total;
  return total;
}

/** @param {Lane | undefined} lane @param {Set<number>} [found] */
function withAllBelow(lane, found = new Set()) {
  if (!lane) return found;
  found.add(lane.index);
  for (const child of lane.children) withAllBelow(child, found);
  return found;
}

/**
 * Spent and reserved of one unit over time, in the run or below one path.
 * @param {View} view @param {string} unit @param {string} path
 */
export function burnDown(view, unit, path = "") {
  const ledger = view.ledger;
  const wanted = view.units.indexOf(unit);
  const inside = path ? withAllBelow(view.byPath.get(path)) : null;
  const points = { time: new Column(), spent: new Column(), reserved: new Column() };
  let spent = 0;
  let reserved = 0;
  for (let i = 0; i < ledger.time.length; i++) {
    if (ledger.unit.get(i) !== wanted) continue;
    if (inside && !inside.has(view.lane.get(ledger.span.get(i)))) continue;
    spent += ledger.spent.get(i);
    reserved += ledger.reserved.get(i);
    points.time.push(ledger.time.get(i));
    points.spent.push(spent);
    points.reserved.push(reserved);
  }
  return points;
}

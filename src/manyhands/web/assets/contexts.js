// What an agent was shown, call by call, and what became of what others reported.
//
// Invariant: only what the journal says is said. A list that does not follow from the one before it
// is `unknown`, and so is what became of something that no context names.

import { parentPath } from "./keys.js";

/**
 * @typedef {import("./view.js").View} View
 * @typedef {import("./view.js").Lane} Lane
 * @typedef {import("./view.js").ContextRecord} ContextRecord
 * @typedef {{title?: string, blob: string, origin: string, agent: string, status: string}} Part
 * @typedef {{blob: string, role: string, origin: string, agent: string, status: string,
 *   since: number, parts: Part[]}} Entry
 * @typedef {{record: ContextRecord, entries: Entry[], dropped: Entry[], whole: boolean}} Shown
 * @typedef {{reader: string, seq: number, key: string, status: string, exact: boolean,
 *   blob: string, title: string}} Use
 */

/** The list of one model request, by the key of any of its attempts. @param {Lane} lane @param {string} key @returns {Shown | null} */
export function shownTo(lane, key) {
  const wanted = key.replace(/\/request\/\d+$/, "/context");
  /** @type {Entry[]} */
  const entries = [];
  let hash = "";
  let whole = true;
  for (const record of lane.contexts) {
    whole = whole && record.before === hash;
    const touched = new Set();
    /** @type {Entry[]} */
    const dropped = [];
    for (const change of record.changes ?? []) {
      if (change.status === "dropped") {
        dropped.push(...entries.splice(change.at, 1).map((e) => ({ ...e, status: "dropped" })));
        continue;
      }
      const entry = { ...change, since: record.seq, parts: change.parts ?? [] };
      touched.add(entry);
      entries.splice(change.at, change.status === "compacted" ? 1 : 0, entry);
    }
    hash = record.hash;
    whole = whole && entries.length === record.length;
    if (record.key === wanted) {
      const seen = entries.map((e) => (touched.has(e) ? e : { ...e, status: "kept" }));
      return { record, entries: seen, dropped, whole };
    }
  }
  return null;
}

/**
 * Where something that came from `origins` (keys) or from `agent` went: into which contexts, and
 * what was done to it there later. Empty: no context names it, so it is not known.
 * @param {View} view @param {{origins: string[], agent: string, after: number}} what
 * @returns {Use[]}
 */
export function usesOf(view, what) {
  /** @type {Use[]} */
  const uses = [];
  const match = matcher(view, what);
  for (const lane of view.lanes) {
    if (what.agent && lane.path === what.agent) continue;
    /** @type {(Use | null)[]} */
    const list = [];
    for (const record of lane.contexts) {
      for (const change of record.changes ?? []) {
        const there = change.status === "added" ? null : list[change.at];
        if (there) uses.push({ ...there, seq: record.seq, key: record.key, status: change.status });
        if (change.status === "dropped") {
          list.splice(change.at, 1);
          continue;
        }
        const found = record.seq > what.after ? match(change) : null;
        const use = found && {
          reader: lane.path, seq: record.seq, key: record.key, blob: found.blob,
          status: found.status ?? "added", exact: found.exact, title: found.title ?? "",
        };
        if (use && change.status === "added") uses.push(use);
        list.splice(change.at, change.status === "compacted" ? 1 : 0, use ?? there ?? null);
      }
    }
  }
  return uses.sort((a, b) => a.seq - b.seq);
}

/** @param {View} view @param {{origins: string[], agent: string}} what */
function matcher(view, what) {
  const origins = new Set(what.origins);
  /** @param {Part} part @param {boolean} message */
  const one = (part, message) => {
    if (origins.has(part.origin)) return { ...part, exact: true };
    if (!what.agent) return null;
    if (part.agent === what.agent) return { ...part, exact: true };
    const holds = what.agent.startsWith(`${part.agent}/`) && !view.byPath.has(part.agent);
    return holds && part.agent ? { ...part, exact: !message } : null;
  };
  /** @param {any} change */
  return (change) => {
    for (const part of change.parts ?? []) {
      const found = one(part, false);
      if (found) return found;
    }
    return one(change, true);
  };
}

/** The key that contexts name a step by: a request is named without its attempt. @param {string} key */
export function originOf(key) {
  if (/\/request\/\d+$/.test(key)) return parentPath(key);
  return key.replace(/(\/tool\/\d+)\/act$/, "$1");
}

/**
 * Every text of an answer that is long enough to be told apart, for a look at which of them stand
 * word for word in what another agent was shown.
 * @param {any} value @param {string} name @returns {{name: string, text: string}[]}
 */
export function spansOf(value, name = "answer") {
  if (typeof value === "string") return value.trim().length > 3 ? [{ name, text: value.trim() }] : [];
  if (Array.isArray(value)) return value.flatMap((each, i) => spansOf(each, `${name} ${i + 1}`));
  if (value && typeof value === "object") {
    return Object.entries(value).flatMap(([key, each]) => spansOf(each, `${name} › ${key}`));
  }
  return [];
}

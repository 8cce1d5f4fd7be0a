// What a key says of a step, and the words for what was found out.

/** What a span is: the order is that of the legend. */
export const KIND = { REQUEST: 0, TOOL: 1, CHECK: 2, WAIT: 3, STEP: 4, HARNESS: 5, NOTE: 6 };
export const KIND_NAMES = [
  "model request", "tool", "check", "wait", "step", "bookkeeping", "record",
];
/** A step's outcome, as the fold names it. */
export const STATE = { STARTED: 0, RETRYING: 1, DONE: 2, FAILED: 3, IN_DOUBT: 4 };
export const STATE_NAMES = ["started", "retrying", "done", "failed", "in_doubt"];

/** @param {string} rest a step's key within its agent */
export function kindOf(rest) {
  if (/(?:^|\/)(?:request|summary)\/\d+$/.test(rest)) return KIND.REQUEST;
  if (/(?:^|\/)tool\/\d+(?:\/act)?$/.test(rest)) return KIND.TOOL;
  if (/(?:^|[/-])check(?:\/|$)/.test(rest)) return KIND.CHECK;
  if (/(?:^|\/)(?:stopping|killed|steers|inbox|begin|left|time|budget-left)$/.test(rest)) {
    return KIND.HARNESS;
  }
  return KIND.STEP;
}

/** @param {string} path */
export function parentPath(path) {
  const at = path.lastIndexOf("/");
  return at < 0 ? "" : path.slice(0, at);
}

/** What a step of a study belongs to, whoever does it: an experiment, or the baseline. @param {string} key */
export function experimentOf(key) {
  const found = /(?:^|[/-])(e\d{4,})(?:-\d+)?(?:\/|$)/.exec(key);
  return found ? found[1] : key.startsWith("baseline/") ? "baseline" : "";
}

/** A key without the path of its agent. @param {{path: string, gathered: boolean}} lane @param {string} key */
export function below(lane, key) {
  return lane.path && !lane.gathered ? key.slice(lane.path.length + 1) : key;
}

/** @param {{path: string, gathered: boolean}} lane @param {string} rest */
export function within(lane, rest) {
  return lane.path && !lane.gathered ? `${lane.path}/${rest}` : rest;
}

/** @param {Record<string, number> | null} one @param {Record<string, number> | null} other @returns {Record<string, number> | null} */
export function sum(one, other) {
  if (!other) return one;
  /** @type {Record<string, number>} */
  const total = { ...one };
  for (const unit in other) total[unit] = (total[unit] ?? 0) + other[unit];
  return total;
}

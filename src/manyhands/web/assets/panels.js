// Beside the lanes: the run in figures, its budget over time, its artifacts.
//
// Invariant: a figure is the reducer's sum, written out; a line's limit and its last value stand
// beside it as numbers, so that nothing has to be read off a curve.

import { badge, byId, clock, count, duration, el, money, short } from "./dom.js";
import { burnDown, spentBelow } from "./sums.js";

/**
 * @typedef {import("./view.js").View} View
 * @typedef {import("./view.js").Artifact} Artifact
 * @typedef {import("./contents.js").Contents} Contents
 */

/** Rows of a list: a page is not made longer than it is read. */
const AGENTS = 80;
const NAMES_LISTED = 40;

/** The run in figures. @param {View} view @param {string} run */
export function summarise(view, run) {
  const tokens = view.spent.tokens ?? 0;
  const micro = view.spent.micro_usd ?? 0;
  const agents = view.lanes.filter((lane) => !lane.gathered).length - 1;
  const study = view.workflow === "lab";
  const [started, retrying, done, failed, doubt] = view.outcomes;
  const figures = [
    ...(study ? [["runs", count(view.written.get("lab:run")?.length ?? 0), ""], ["experiments", count(view.written.get("lab:experiment")?.length ?? 0), "with a verdict"]] : []),
    ["tokens", count(tokens), limitOf(view, "tokens")],
    ["requests", count(view.spent.requests ?? 0), limitOf(view, "requests")],
    ["money", money(micro), limitOf(view, "micro_usd")],
    ["agents", count(agents), ""],
    ["steps", count(done + failed), [started && `${count(started)} open`, retrying && `${count(retrying)} to retry`, failed && `${count(failed)} failed`, doubt && `${count(doubt)} in doubt`].filter(Boolean).join(", ")],
    ["active", duration(view.time), view.gaps > 1 ? `+ ${duration(view.gaps)} at rest` : ""],
  ];
  /** @type {HTMLElement} */ (byId("burn").closest("section")).hidden = study && !view.units.length;
  byId("run-title").replaceChildren(short(run, 80), " ", badge(view.paused ? "paused" : view.shownStatus));
  byId("run-about").textContent = `${short(view.workflow, 60)}, begun ${view.createdAt ? clock(view.createdAt) : "–"}, ${count(view.seq)} events${view.forkedFrom ? `, forked from ${short(view.forkedFrom, 60)}` : ""}`;
  byId("figures").replaceChildren(...figures.map(([name, value, more]) => el("div", { class: "figure" },
    el("dt", {}, String(name)), el("dd", { "data-figure": String(name), "data-value": name === "tokens" ? String(tokens) : name === "money" ? String(micro) : null }, String(value)),
    more ? el("dd", { class: "soft" }, String(more)) : null)));
}

/** @param {View} view @param {string} unit */
function limitOf(view, unit) {
  const limit = amountOf(view, unit);
  if (limit === null) return "";
  return `of ${unit === "micro_usd" ? money(limit) : count(limit)}`;
}

/** @param {View} view @param {string} unit @param {string} [path] @returns {number | null} */
function amountOf(view, unit, path = "") {
  const budget = path ? view.scopes.get(path)?.budget : view.budget;
  if (unit === "micro_usd") return budget?.usd === null || budget?.usd === undefined ? null : Math.round(budget.usd * 1e6);
  return budget?.[unit] ?? budget?.units?.[unit] ?? null;
}

/**
 * What is left of a budget over time with what is reserved; without a limit, what is spent.
 * @param {HTMLCanvasElement} canvas @param {View} view @param {Record<string, string>} colours
 * @param {{unit: string, path: string, from: number, seconds: number, whole: number,
 *   width: number}} what
 */
export function drawBurnDown(canvas, view, colours, what) {
  const ratio = Math.min(2, devicePixelRatio || 1);
  const width = what.width;
  const height = 54;
  if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
  if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
  const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  const key = `${view.change} ${what.unit} ${what.path} ${width} ${ratio} ${colours.ink} ${what.whole}`;
  const old = CURVES.get(view);
  const fresh = old && (old.key === key || (view.held && performance.now() - old.at < CURVE_MS && old.unit === what.unit));
  const curve = fresh ? old : curveOf(view, colours, what, { key, width, height, ratio });
  CURVES.set(view, curve);
  pen.drawImage(curve.canvas, 0, 0, width, height);
  const x = (/** @type {number} */ t) => (t / what.whole) * width;
  pen.fillStyle = colours.hit;
  pen.globalAlpha = 0.18;
  pen.fillRect(x(what.from), 0, Math.max(2, x(what.seconds)), height);
  pen.globalAlpha = 1;
  return curve.told;
}

/** Curves as they were last drawn: a window that moves does not draw them anew. */
const CURVES = new WeakMap();
const CURVE_MS = 200;

/**
 * @param {View} view @param {Record<string, string>} colours
 * @param {{unit: string, path: string, whole: number}} what
 * @param {{key: string, width: number, height: number, ratio: number}} at
 */
function curveOf(view, colours, what, { key, width, height, ratio }) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  pen.scale(ratio, ratio);
  const points = burnDown(view, what.unit, what.path);
  const limit = amountOf(view, what.unit, what.path);
  const n = points.time.length;
  const spent = n ? points.spent.get(n - 1) : 0;
  const reserved = n ? points.reserved.get(n - 1) : 0;
  let most = limit ?? 1;
  if (limit === null) for (let i = 0; i < n; i++) most = Math.max(most, points.spent.get(i) + points.reserved.get(i));
  const y = (/** @type {number} */ v) => 3 + (height - 6) * (1 - Math.max(0, v) / Math.max(1, most));
  const x = (/** @type {number} */ t) => (t / what.whole) * width;
  const level = (/** @type {number} */ i) => (limit === null ? points.spent.get(i) : limit - points.spent.get(i));
  const held = (/** @type {number} */ i) => level(i) + (limit === null ? 1 : -1) * points.reserved.get(i);
  const start = limit ?? 0;
  area(pen, n, width, (i) => x(points.time.get(i)), (i) => y(level(i)), y(start), y(0), colours.wait, 0.28, x(view.time));
  line(pen, n, (i) => x(points.time.get(i)), (i) => y(held(i)), y(start), colours.tool, [2, 2], x(view.time));
  line(pen, n, (i) => x(points.time.get(i)), (i) => y(level(i)), y(start), colours.request, [], x(view.time));
  const told = (/** @type {number} */ v) => (what.unit === "micro_usd" ? money(v) : count(v));
  const words = limit === null
    ? `${told(spent)} spent, ${told(reserved)} reserved, no limit`
    : `${told(limit - spent)} of ${told(limit)} left, ${told(reserved)} reserved`;
  return { key, canvas, told: words, unit: what.unit, at: performance.now() };
}

/**
 * @param {CanvasRenderingContext2D} pen @param {number} n @param {(i: number) => number} x
 * @param {(i: number) => number} y @param {number} start @param {string} colour
 * @param {number[]} dash @param {number} end
 */
function line(pen, n, x, y, start, colour, dash, end) {
  pen.setLineDash(dash);
  pen.strokeStyle = colour;
  pen.lineWidth = 1.5;
  pen.beginPath();
  path(pen, n, x, y, start, end);
  pen.stroke();
  pen.setLineDash([]);
}

/**
 * @param {CanvasRenderingContext2D} pen @param {number} n @param {number} width
 * @param {(i: number) => number} x @param {(i: number) => number} y @param {number} start
 * @param {number} base @param {string} colour @param {number} alpha @param {number} end
 */
function area(pen, n, width, x, y, start, base, colour, alpha, end) {
  pen.beginPath();
  path(pen, n, x, y, start, end);
  pen.lineTo(Math.min(width, end), base);
  pen.lineTo(0, base);
  pen.globalAlpha = alpha;
  pen.fillStyle = colour;
  pen.fill();
  pen.globalAlpha = 1;
}

/** Steps, at most two for a pixel. @param {CanvasRenderingContext2D} pen @param {number} n @param {(i: number) => number} x @param {(i: number) => number} y @param {number} start @param {number} end */
function path(pen, n, x, y, start, end) {
  pen.moveTo(0, start);
  let before = start;
  let pixel = -1;
  for (let i = 0; i < n; i++) {
    const at = x(i);
    if (Math.floor(at * 2) === pixel && i < n - 1) continue;
    pixel = Math.floor(at * 2);
    pen.lineTo(at, before);
    before = y(i);
    pen.lineTo(at, before);
  }
  pen.lineTo(end, before);
}

/** Artifacts with all their versions. @param {View} view @param {Contents} contents @param {(seq: number) => void} onSeq */
export function listArtifacts(view, contents, onSeq) {
  const names = [...view.artifacts.keys()].slice(0, NAMES_LISTED);
  if (!names.length) return [el("p", { class: "soft" }, "No artifacts yet.")];
  const left = view.artifacts.size - names.length;
  const items = names.map((name) => {
    const versions = [.../** @type {Map<number, Artifact>} */ (view.artifacts.get(name)).values()];
    return el("section", { class: "artifact", "data-artifact": short(name, 80) },
      el("h3", {}, short(name, 80), el("small", {}, ` ${short(versions[0].kind, 30)}`)),
      el("ol", { class: "items" }, versions.slice(-10).reverse().map((each) => versionOf(each, contents, onSeq))));
  });
  return left > 0 ? [...items, el("p", { class: "soft" }, `${count(left)} more are in the export.`)] : items;
}

/** @param {Artifact} each @param {Contents} contents @param {(seq: number) => void} onSeq */
function versionOf(each, contents, onSeq) {
  const title = el("span", {}, `v${each.version} `, badge(each.status), el("span", { class: "soft" }, ` by ${short(each.producer || "the run", 60)}`));
  return el("li", {}, contents.lazy(title, each.blob),
    el("p", { class: "soft" }, el("button", { type: "button", class: "seq", onclick: () => onSeq(each.seq) }, `#${each.seq}`), each.reason ? ` ${short(each.reason, 300)}` : ""),
    each.evidence?.length ? el("ul", { class: "evidence" }, each.evidence.map((e) => el("li", {},
      el("b", {}, short(e.kind, 30)), ` ${short(e.source, 120)} `, e.quote ? el("q", {}, short(e.quote, 200)) : "", e.hash ? el("code", {}, short(e.hash, 20)) : ""))) : el("p", { class: "soft" }, "Evidence: none."));
}

/** Tokens and money of every agent, each with all below it. @param {View} view @param {(path: string) => void} onLane */
export function listAgents(view, onLane) {
  const all = view.lanes.filter((lane) => !lane.gathered);
  const lanes = all.slice(0, AGENTS);
  const rows = lanes.map((lane) => {
    const whole = spentBelow(lane);
    return el("tr", { "data-agent": short(lane.path, 200) },
      el("th", { scope: "row" }, el("button", { type: "button", class: "seq", onclick: () => onLane(lane.path) }, short(lane.path || "the run", 90))),
      el("td", {}, short(lane.role || "–", 30)), el("td", {}, lane.status ? badge(lane.status) : "–"),
      el("td", { class: "number", "data-own": String(lane.spent.tokens ?? 0) }, count(lane.spent.tokens)),
      el("td", { class: "number", "data-all": String(whole.tokens ?? 0) }, count(whole.tokens)),
      el("td", { class: "number" }, money(whole.micro_usd ?? 0)));
  });
  const head = ["agent", "role", "ended", "tokens, own", "with all below", "money"];
  return [el("div", { class: "wide" }, el("table", {}, el("caption", {}, `Agents${all.length > lanes.length ? ` (the first ${lanes.length} of ${count(all.length)})` : ""}`),
    el("thead", {}, el("tr", {}, head.map((name, i) => el("th", { scope: "col", class: i > 2 ? "number" : null }, name)))), el("tbody", {}, rows)))];
}

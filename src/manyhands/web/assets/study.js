// A study of the lab: its queue, its metric against noise, its jobs, experiments, ledger and notes.
//
// Invariant: every figure is one of the ledger's or of a run's own record; the band is the noise that
// the journal gives for that master, one standard deviation to each side.

import { badge, count, duration, el, short } from "./dom.js";
import { textBox } from "./contents.js";
import { chart, figure, gantt, scatter } from "./charts.js";
import { diffBox, fold, recordOf, records, section, seqLink, soon, table } from "./parts.js";

/**
 * @typedef {import("./parts.js").Desk} Desk
 */

const LISTED = 60;
const EXPERIMENTS = 80;
const RUNS = 1500;
const NOTES = 40;

/** @param {Desk} desk @returns {(Node | string)[]} */
export function studyView(desk) {
  return [
    soon(headline(desk)),
    soon(charts(desk)),
    soon(queue(desk)),
    soon(experiments(desk)),
    soon(ending(desk)),
    soon(anomalies(desk)),
    soon(notes(desk)),
    soon(ledger(desk)),
  ];
}

/** @param {Desk} desk */
async function headline(desk) {
  const study = desk.view.written.get("lab:study")?.[0];
  const config = study ? await desk.contents.kept(study.seq, "value") : null;
  const outcome = (await records(desk, "lab:outcome")).at(-1);
  const metric = config?.metric;
  return [
    el("p", { class: "lead" }, short(outcome?.headline ?? config?.study?.objective ?? "The study has not begun its rounds.", 600)),
    metric ? el("p", { class: "soft" }, `Metric ${short(metric.name, 60)}, ${short(metric.direction, 10)} is better; promoted only past a paired test at alpha ${figure(config.promotion?.alpha)}.`) : null,
  ];
}

/** @param {Desk} desk @returns {Promise<{direction: string, name: string}>} */
async function metricOf(desk) {
  const study = desk.view.written.get("lab:study")?.[0];
  const config = study ? await desk.contents.kept(study.seq, "value") : null;
  return { direction: config?.metric?.direction ?? "lower", name: short(config?.metric?.name ?? "metric", 40) };
}

/** @param {Desk} desk */
async function charts(desk) {
  const [runs, masters, rows, metric] = await Promise.all([
    records(desk, "lab:run"), records(desk, "lab:master"), records(desk, "lab:row"), metricOf(desk)]);
  if (!runs.length) return [el("p", { class: "soft" }, "No run has ended yet.")];
  const made = [metricChart(desk, runs, masters, metric), deltaChart(desk, rows, masters, metric), jobs(desk, runs)];
  return [el("div", { class: "charts" }, made.filter((each) => each !== null))];
}

/** @param {any} run @param {Record<string, string>} colours */
function colourOf(run, colours) {
  return { baseline: colours.wait, screen: colours.tool, confirm: colours.request, holdout: colours.note, ablate: colours.check, factorial: colours.check }[String(run.phase)] ?? colours.step;
}

/** @param {any} master */
function meanOf(master) {
  const values = /** @type {number[]} */ (Object.values(master.reference ?? {})).filter(Number.isFinite);
  return values.length ? values.reduce((a, b) => a + b, 0) / values.length : NaN;
}

/** @param {Desk} desk @param {any[]} runs @param {any[]} masters @param {{name: string, direction: string}} metric */
function metricChart(desk, runs, masters, metric) {
  const { colours } = desk;
  const latest = runs.slice(-RUNS);
  const first = runs.length - latest.length;
  const marks = latest.map((run, i) => ({ ...run, x: first + i + 1 })).filter((run) => Number.isFinite(run.metric))
    .map((run) => ({ x: run.x, y: run.metric, shape: /** @type {"dot"} */ ("dot"), colour: colourOf(run, colours) }));
  const levels = masters.map((master, i) => {
    const mean = meanOf(master);
    const begin = runs.filter((run) => run.seq < master.seq).length;
    const end = masters[i + 1] ? runs.filter((run) => run.seq < masters[i + 1].seq).length : runs.length;
    return { from: i ? begin : 0, to: Math.max(end, begin + 0.5), y: mean, low: mean - master.noise_sd, high: mean + master.noise_sd };
  }).filter((level) => Number.isFinite(level.y));
  const now = masters.at(-1);
  const told = now ? `master ${figure(meanOf(now))} ± ${figure(now.noise_sd)} (version ${now.version}), ${metric.direction} is better; blue: confirming, orange: screening, grey: baseline` : "no master yet";
  return chart(metric.name, told, 200, scatter(marks, levels, colours));
}

/** @param {Desk} desk @param {any[]} rows @param {any[]} masters @param {{name: string, direction: string}} metric */
function deltaChart(desk, rows, masters, metric) {
  const { colours } = desk;
  const measured = rows.filter((row) => Number.isFinite(row.delta) && row.verdict !== "baseline" && row.phase !== "ablate").slice(-RUNS);
  if (!measured.length) return null;
  const noise = masters[0]?.noise_sd ?? 0;
  const marks = measured.map((row, i) => ({
    x: i + 1, y: row.delta, shape: row.verdict === "promoted" ? /** @type {"up"} */ ("up") : /** @type {"cross"} */ ("cross"),
    colour: row.verdict === "promoted" ? colours.check : row.verdict === "not_better" ? colours.bad : colours.wait,
  }));
  const better = metric.direction === "lower" ? "below 0 is better" : "above 0 is better";
  const level = { from: 0, to: measured.length + 0.5, y: 0, low: -noise, high: noise };
  return chart("Delta versus master", `same seed, ${better}; triangle: promoted, cross: not; band: the baseline's noise, ${figure(noise)}`, 180, scatter(marks, [level], colours));
}

/** @param {Desk} desk @param {any[]} runs */
function jobs(desk, runs) {
  const timed = runs.filter((run) => run.started_at > 0).slice(-RUNS);
  if (!timed.length) return null;
  const slots = [...new Set(timed.map((run) => Number(run.slot)))].sort((a, b) => a - b).slice(0, 32);
  const bars = timed.filter((run) => slots.includes(Number(run.slot))).map((run) => ({
    row: slots.indexOf(Number(run.slot)), from: run.started_at, to: run.started_at + run.duration, colour: colourOf(run, desk.colours),
    bad: run.exit !== "ok", text: short(`${/(e\d{4,})/.exec(run.key)?.[1] ?? "baseline"} ${run.phase}`, 40),
  }));
  const busy = timed.reduce((sum, run) => sum + run.duration, 0);
  return chart("Jobs", `${count(timed.length)} runs in ${slots.length} slots, ${duration(busy)} of running`, 22 + 30 * slots.length, gantt(bars, slots.map((slot) => `slot ${slot}`), desk.colours));
}

/** @param {Desk} desk */
async function queue(desk) {
  const events = desk.view.written.get("lab:queue") ?? [];
  const values = await Promise.all(events.slice(-40).map((event) => desk.contents.kept(event.seq, "value")));
  const tested = await tested_(desk);
  const reviews = new Map(values.flatMap((value) => value?.reviews ?? []).map((/** @type {any} */ r) => [r.hypothesis, r]));
  const waiting = values.flatMap((value) => value?.hypotheses ?? []).filter((h) => !tested.has(h.id));
  if (!waiting.length) return [section("Queue", el("p", { class: "soft" }, "Nothing waits: every proposal has a verdict."))];
  return [section("Queue", table(`${count(waiting.length)} without a verdict`, ["hypothesis", "change", "review", ">runs", "why"], waiting.slice(0, LISTED).map((h) => {
    const review = reviews.get(h.id);
    return [short(h.id, 20), short(h.title, 120), review ? badge(review.accepted ? "accepted" : "rejected") : "–", figure(h.expected_cost), short(review && !review.accepted ? review.reason : h.rationale, 160)];
  })))];
}

/** Hypotheses with a verdict. @param {Desk} desk @returns {Promise<Set<string>>} */
async function tested_(desk) {
  const rows = await records(desk, "lab:row");
  const done = new Set((desk.view.written.get("lab:experiment") ?? []).map((event) => event.data?.id));
  return new Set(rows.filter((row) => done.has(row.experiment)).map((row) => row.hypothesis));
}

/** @param {Desk} desk */
async function experiments(desk) {
  const events = (desk.view.written.get("lab:experiment") ?? []).slice(-EXPERIMENTS).reverse();
  if (!events.length) return [section("Experiments", el("p", { class: "soft" }, "None has a verdict yet."))];
  const rows = await records(desk, "lab:row");
  const titles = new Map(rows.map((row) => [row.experiment, row.title]));
  return [section("Experiments", el("div", {}, events.map((event) => {
    const { id, verdict, rule } = event.data ?? {};
    const title = el("span", {}, badge(String(verdict ?? "unknown").replaceAll("_", " ")), el("b", {}, ` ${short(id, 20)} `), short(titles.get(id) ?? "", 100), rule ? el("span", { class: "soft" }, ` · ${short(rule, 40)}`) : null);
    return fold(`experiment-${id}`, title, () => experiment(desk, event));
  })))];
}

/** What was changed, what it came to, and what was noted. @param {Desk} desk @param {import("./view.js").Event} event */
async function experiment(desk, event) {
  const value = await desk.contents.kept(event.seq, "value");
  if (!value) return [el("p", { class: "soft" }, "unknown: it cannot be read")];
  const e = value.experiment;
  const d = e.decision;
  const facts = [
    ["why", e.hypothesis.rationale], ["from", e.hypothesis.source], ["said", e.comment],
    ["screening", e.screen_gain === null ? "" : `gain ${figure(e.screen_gain)}`],
    ["test", d ? `${d.verdict.replaceAll("_", " ")}: gain ${figure(d.gain)} [${figure(d.low)}, ${figure(d.high)}] over ${d.pairs} pairs, p ${figure(d.p_value)} (alpha ${figure(d.alpha)})` : ""],
    ["not a duplicate", e.new ?? ""], ["sealed", e.holdout_gain === null ? "" : `gain ${figure(e.holdout_gain)}`], ["commit", e.candidate], ["master then", e.parent],
  ].filter(([, text]) => text);
  return [
    el("dl", { class: "facts" }, facts.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, short(text, 400))])),
    el("h4", {}, "Change"), diffBox(e.diff), el("p", {}, seqLink(desk, event.seq)),
  ];
}

/** The end of a campaign: what each promoted change is worth, and which pairs interact. @param {Desk} desk */
async function ending(desk) {
  const values = async (/** @type {string} */ type) => (await Promise.all((desk.view.written.get(type) ?? []).map((event) => desk.contents.kept(event.seq, "value")))).filter(Boolean);
  const [ablation, factorials] = [(await values("lab:ablation")).at(-1), await values("lab:factorial")];
  if (!ablation) return [];
  const mean = (/** @type {number[]} */ gains) => (gains.length ? gains.reduce((a, b) => a + b, 0) / gains.length : NaN);
  const range = (/** @type {any} */ each) => (each.low === null || each.high === null ? "–" : `[${figure(each.low)}, ${figure(each.high)}]`);
  const lines = ablation.lines.map((/** @type {any} */ line) => [short(line.experiment, 20), short(line.title, 80), badge(line.fate), figure(mean(line.gains)), range(line), String(line.gains.length), short(line.why, 160)]);
  const pairs = factorials.map((/** @type {any} */ f) => [`${short(f.first, 20)} × ${short(f.second, 20)}`, short(f.kind, 40), figure(f.interaction ?? NaN), range(f), String(f.seeds), short(f.why, 160)]);
  return [section("End of the campaign",
    lines.length ? table(`${count(ablation.runs)} runs`, ["experiment", "change", "fate", ">gain", "bounds", ">seeds", "why"], lines) : el("p", { class: "soft" }, `No ablation: ${short(ablation.skipped, 200)}.`),
    pairs.length ? table("Interactions: both - first - second + neither", ["pair", "kind", ">interaction", "bounds", ">seeds", "together"], pairs) : null)];
}

/** Runs that did not end well, and what the study's report calls odd. @param {Desk} desk */
async function anomalies(desk) {
  const runs = (await records(desk, "lab:run")).filter((run) => run.exit !== "ok");
  const outcome = (await records(desk, "lab:outcome")).at(-1);
  const told = /## Anomalies\s+([\s\S]*?)(?=\n## |$)/.exec(outcome?.text ?? "")?.[1]?.trim() ?? "";
  const said = told && !/^-\s*none$/.test(told) ? textBox(told) : null;
  const failed = runs.slice(-LISTED).map((run) => [seqLink(desk, run.seq), badge(run.exit), short(run.phase, 20), String(run.seed), short(run.detail, 200)]);
  if (!said && !failed.length) return [section("Anomalies", el("p", { class: "soft" }, outcome ? "None." : "None so far."))];
  return [section("Anomalies", said, failed.length ? table(`${count(runs.length)} runs without a result`, ["event", "exit", "phase", "seed", "detail"], failed) : null)];
}

/** @param {Desk} desk */
async function notes(desk) {
  const events = (desk.view.written.get("lab:experiment") ?? []).slice(-NOTES).reverse();
  const values = await Promise.all(events.map((event) => desk.contents.kept(event.seq, "value")));
  const found = values.flatMap((value) => value?.notes ?? []);
  if (!found.length) return [section("Notes", el("p", { class: "soft" }, "None."))];
  return [section("Notes", el("ul", { class: "items plain" }, found.slice(0, LISTED).map((note) => el("li", {},
    badge(note.kind.replaceAll("_", " ")), ` ${short(note.text, 300)} `, el("span", { class: "soft" }, short(note.experiment, 20))))))];
}

/** @param {Desk} desk */
async function ledger(desk) {
  const events = desk.view.written.get("lab:row") ?? [];
  const rows = (await Promise.all(events.slice(-LISTED).reverse().map((event) => recordOf(desk, event)))).filter(Boolean);
  if (!rows.length) return [];
  const head = [">row", "experiment", "change", "phase", ">seed", ">metric", ">delta", ">sealed", "exit", "verdict", ">took"];
  return [section("Ledger", table(`${count(events.length)} rows${events.length > rows.length ? `, the last ${rows.length}` : ""}`, head, rows.map((row) => [
    String(row.row), short(row.experiment, 20), short(row.title, 60), short(row.phase, 12), String(row.seed), figure(row.metric), figure(row.delta),
    figure(row.holdout), badge(row.exit), badge(String(row.verdict).replaceAll("_", " ")), duration(row.duration)])))];
}

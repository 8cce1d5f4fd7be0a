// An answer: how it was routed and split, its drafts beside what was said of them, and its citations
// down to the passage as a tool returned it.
//
// Invariant: a citation opens the tool's own result if one of that run holds the passage; where none
// does, that is said.

import { KIND } from "./keys.js";
import { badge, count, el, inert, short } from "./dom.js";
import { textBox } from "./contents.js";
import { fold, listed, records, section, seqLink, soon, state } from "./parts.js";

/**
 * @typedef {import("./parts.js").Desk} Desk
 */

/** Tool results that are looked into for a passage. */
const LOOKED = 400;
const AROUND = 900;

/** @param {Desk} desk @returns {(Node | string)[]} */
export function answerView(desk) {
  return [soon(opening(desk)), soon(tasks(desk)), soon(drafts(desk)), soon(sources(desk))];
}

/** @param {Desk} desk */
async function opening(desk) {
  const created = await desk.contents.kept(1, "value");
  const route = (await records(desk, "answer:route")).at(-1);
  const indexed = (await records(desk, "answer:index")).at(-1);
  return [
    created?.question ? el("p", { class: "lead" }, short(created.question, 600)) : null,
    section("Route", route ? el("p", {}, badge(route.way), ` ${short(route.reason, 300)} `, el("span", { class: "soft" }, short(route.by, 60)), " ", seqLink(desk, route.seq)) : el("p", { class: "soft" }, "Not decided yet."),
      indexed ? el("p", { class: "soft" }, `${count(indexed.files)} files, ${count(indexed.passages)} passages`) : null),
  ];
}

/** Subtasks in columns, each right of those that it needs. @param {Desk} desk */
async function tasks(desk) {
  const plan = (await records(desk, "answer:plan")).at(-1);
  if (!plan?.subtasks?.length) return [];
  const works = await records(desk, "answer:work");
  const level = levels(plan.subtasks);
  const columns = Math.max(...level.values()) + 1;
  if (columns === 1) {
    return [section("Subtasks", el("div", { class: "tasks" }, plan.subtasks.map((/** @type {any} */ t) => node(desk, t, works.filter((w) => w.subtask === t.id)))))];
  }
  const boxes = Array.from({ length: columns }, (_, i) => el("div", { class: "dag-column" }, plan.subtasks
    .filter((/** @type {any} */ t) => level.get(t.id) === i).map((/** @type {any} */ t) => node(desk, t, works.filter((w) => w.subtask === t.id)))));
  return [section("Subtasks", plan.fallback ? el("p", { class: "wrong" }, short(plan.fallback, 300)) : null, el("div", { class: "dag" }, boxes))];
}

/** How many stand before each, one after the other. @param {any[]} subtasks */
function levels(subtasks) {
  const by = new Map(subtasks.map((t) => [t.id, t]));
  /** @type {Map<string, number>} */
  const found = new Map();
  const of = (/** @type {string} */ id, /** @type {number} */ deep) => {
    const known = found.get(id);
    if (known !== undefined) return known;
    const needs = deep < 40 ? (by.get(id)?.needs ?? []).filter((/** @type {string} */ n) => by.has(n)) : [];
    const level = needs.length ? 1 + Math.max(...needs.map((/** @type {string} */ n) => of(n, deep + 1))) : 0;
    found.set(id, level);
    return level;
  };
  for (const task of subtasks) of(task.id, 0);
  return found;
}

/** @param {Desk} desk @param {any} task @param {any[]} works */
function node(desk, task, works) {
  const last = works.at(-1);
  return el("article", { class: "node", "data-task": short(task.id, 60) },
    el("h4", {}, short(task.title, 100)),
    el("p", {}, last ? state(last.status, `${count(last.findings?.length ?? 0)} findings${last.round ? `, round ${last.round}` : ""}`) : badge("waiting")),
    task.needs?.length ? el("p", { class: "soft" }, `← needs ${short(task.needs.join(", "), 120)}`) : null,
    fold(`task-${task.id}`, "question and findings", () => [
      el("p", {}, short(task.question, 1000)),
      ...works.map((work) => el("div", {}, listed(work.findings, (each) => statement(desk, each), "No findings."),
        work.not_found?.length ? el("p", { class: "soft" }, `Not found: ${short(work.not_found.join("; "), 400)}`) : null,
        work.detail ? el("p", { class: "soft" }, short(work.detail, 300)) : null, seqLink(desk, work.seq)))]));
}

/** A statement with its citations, each of which opens what it rests on. @param {Desk} desk @param {any} each */
function statement(desk, each) {
  return [short(each.text, 600), ...(each.citations ?? []).slice(0, 12).map((/** @type {any} */ c) => citation(desk, c.passage, c.quote))];
}

/** @param {Desk} desk @param {string} passage @param {string} quote */
function citation(desk, passage, quote) {
  const box = fold(`cited-${passage}-${quote}`, el("span", {}, el("code", {}, short(passage, 80)), el("q", {}, short(quote, 120))), () => rests(desk, passage, quote));
  box.classList.add("citation");
  return box;
}

/** The tool result that holds a passage, around its quote. @param {Desk} desk @param {string} passage @param {string} quote */
async function rests(desk, passage, quote) {
  const found = await holder(desk, passage);
  if (!found) return [el("p", { class: "soft" }, badge("unknown"), ` – no tool's result in this run names ${short(passage, 80)}`)];
  const begin = found.text.indexOf(`[${passage}]`);
  const next = found.text.indexOf("\n\n[", begin + 1);
  const text = found.text.slice(begin, next > 0 ? next : begin + AROUND).slice(0, 4 * AROUND);
  const at = text.indexOf(quote);
  const pieces = at < 0 ? [inert(text)] : [inert(text.slice(0, at)), el("mark", {}, inert(text.slice(at, at + quote.length))), inert(text.slice(at + quote.length))];
  return [
    el("p", { class: "soft" }, badge(at < 0 ? "unknown" : "kept"), at < 0 ? " the quote is not there word for word " : " the quote stands there word for word ",
      el("button", { type: "button", class: "seq", onclick: () => desk.onSpan(found.at) }, `the tool's step #${found.seq}`)),
    el("pre", { class: "text", tabindex: "0" }, pieces),
  ];
}

/** @param {Desk} desk @param {string} passage @returns {Promise<{text: string, at: number, seq: number} | null>} */
async function holder(desk, passage) {
  const { view, contents } = desk;
  let looked = 0;
  for (let at = 0; at < view.keys.length && looked < LOOKED; at++) {
    if (view.kind.get(at) !== KIND.TOOL || view.about[at]?.group) continue;
    looked++;
    const seq = view.lasts.get(at);
    const value = await contents.kept(seq, "value");
    const text = typeof value?.text === "string" ? value.text : "";
    if (text.includes(`[${passage}]`)) return { text, at, seq };
  }
  return null;
}

/** Each draft, and beside it what was said of it. @param {Desk} desk */
async function drafts(desk) {
  const [all, critiques, revisions] = await Promise.all([records(desk, "answer:draft"), records(desk, "answer:critique"), records(desk, "answer:revision")]);
  if (!all.length) return [section("Drafts", el("p", { class: "soft" }, "None yet."))];
  return [section("Drafts", ...all.slice(-8).reverse().flatMap((draft) => {
    const said = critiques.filter((c) => c.draft === draft.number);
    const after = revisions.find((r) => r.number === draft.number);
    return [el("div", { class: "pair", "data-draft": String(draft.number) },
      el("div", {}, el("h4", {}, `Draft ${draft.number} `, el("small", {}, short(draft.by, 60)), " ", seqLink(desk, draft.seq)),
        (draft.parts ?? []).slice(0, 20).map((/** @type {any} */ part) => el("div", {}, el("h5", {}, short(part.title, 100)), listed(part.findings, (each) => statement(desk, each), "Nothing."))),
        draft.decision ? el("p", {}, el("b", {}, "Decision. "), short(draft.decision, 600)) : null),
      el("div", {}, el("h4", {}, "Critique"), said.length ? said.map((c) => critique(desk, c)) : el("p", { class: "soft" }, "None."),
        after ? el("p", { class: "soft" }, `Revision ${after.number}: ${short(after.ran.join(", "), 200)} ran again; ${after.issues_before} → ${after.issues_after} issues`) : null))];
  }))];
}

/** @param {Desk} desk @param {any} c */
function critique(desk, c) {
  return el("div", {}, el("p", {}, badge(c.verdict), el("span", { class: "soft" }, ` by ${short(c.by || "the checks alone", 60)} `), seqLink(desk, c.seq)),
    listed(c.issues, (issue) => [badge(String(issue.kind).replaceAll("_", " ")), issue.span ? el("q", {}, short(issue.span, 200)) : null, ` ${short(issue.why ?? issue.detail ?? "", 300)}`], "No issues."),
    c.set_aside?.length ? el("p", { class: "soft" }, `Set aside: ${short(c.set_aside.join("; "), 300)}`) : null);
}

/** The answer as it was given, and the passages that it cites. @param {Desk} desk */
async function sources(desk) {
  const versions = desk.view.artifacts.get("answer");
  const last = versions ? [...versions.values()].at(-1) : undefined;
  if (!last) return [];
  const { text } = await desk.contents.read(last.blob);
  let told = text;
  try {
    const parsed = JSON.parse(text);
    told = typeof parsed === "string" ? parsed : parsed.answer ?? text;
  } catch { /* it is text */ }
  const evidence = (await desk.contents.kept(last.seq, "data"))?.evidence ?? last.evidence ?? [];
  return [section("Answer", textBox(told), el("h4", {}, "Citations"),
    listed(evidence.filter((/** @type {any} */ e) => e.kind === "passage"), (e) => citation(desk, e.source, e.quote), "No citations."))];
}

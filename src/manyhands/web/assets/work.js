// A change of a repository: its tasks and what they need, what each changed, what was found out.
//
// Invariant: what a task changed is what the journal's own records say; its words are shown as its
// words. A file that a task left is the workspace's version that was merged from it.

import { badge, count, el, short } from "./dom.js";
import { textBox } from "./contents.js";
import { diffBox, fold, listed, records, section, seqLink, soon, state, table } from "./parts.js";

/**
 * @typedef {import("./parts.js").Desk} Desk
 */

/** @param {Desk} desk @returns {(Node | string)[]} */
export function workView(desk) {
  return [soon(opening_(desk)), soon(tasksOf(desk)), soon(patch(desk)), soon(store(desk))];
}

/** @param {Desk} desk */
async function opening_(desk) {
  const order = await desk.contents.kept(1, "value");
  const plan = (await records(desk, "code:plan")).at(-1);
  const sandbox = (await records(desk, "code:sandbox")).at(-1);
  return [
    order?.instruction ? el("p", { class: "lead" }, short(order.instruction, 600)) : null,
    order?.check ? el("p", { class: "soft" }, "Check: ", el("code", {}, short(order.check, 200)), sandbox ? ` · sandbox: ${short(sandbox.backend, 40)}` : "") : null,
    plan?.steps?.length ? section("Plan", listed(plan.steps, (step) => [badge(step.status), ` ${short(step.text, 300)}`], "")) : null,
  ];
}

/** Tasks in the order in which they were handed out, as they stand now. @param {Desk} desk */
async function tasksOf(desk) {
  const [waiting, running, ended] = await Promise.all(["code:waiting", "code:running", "code:task"].map((type) => records(desk, type)));
  if (!waiting.length) return [section("Tasks", el("p", { class: "soft" }, "Nothing was delegated."))];
  const begun = new Set(running.map((each) => each.id));
  const last = new Map(ended.map((task) => [task.id, task]));
  return [section("Tasks", el("div", { class: "tasks" }, waiting.slice(-80).map((task) => {
    const done = last.get(task.id);
    const word = done ? done.state : begun.has(task.id) ? "running" : "waiting";
    return el("article", { class: "node", "data-task": short(task.id, 60) },
      el("h4", {}, short(task.title, 120), el("small", {}, ` ${short(task.role, 20)} · ${short(task.id, 40)}`)),
      el("p", {}, state(String(word).replaceAll("_", " ")), done ? [" ", state(done.merge)] : null, " ", seqLink(desk, done?.seq ?? task.seq)),
      task.depends_on?.length ? el("p", { class: "soft" }, `← needs ${short(task.depends_on.join(", "), 160)}`) : null,
      task.takes_up ? el("p", { class: "soft" }, `goes on from ${short(task.takes_up, 60)}`) : null,
      done ? outcome(desk, done) : null);
  })))];
}

/** @param {Desk} desk @param {any} task */
function outcome(desk, task) {
  return fold(`task-${task.id}`, "what came of it", async () => [
    task.summary ? el("p", {}, el("b", {}, "It says: "), short(task.summary, 600)) : null,
    task.detail ? el("p", { class: "wrong" }, short(task.detail, 400)) : null,
    ...(task.checks ?? []).map((/** @type {any} */ check) => el("div", {}, el("p", {}, badge(check.passed ? "done" : "failed"), " ", el("code", {}, short(check.command, 200))), check.output ? textBox(check.output) : null)),
    task.unsupported?.length ? el("div", {}, el("p", { class: "wrong" }, "No event bears out:"), listed(task.unsupported, (each) => short(each, 300), "")) : null,
    task.open?.length ? el("div", {}, el("p", {}, "Not done:"), listed(task.open, (each) => short(each, 300), "")) : null,
    task.held ? el("p", { class: "wrong" }, `Held back: ${short(task.held.why || task.held.conflicts?.join(", ") || "", 300)}`) : null,
    el("h4", {}, "Changed"),
    ...await changes(desk, task),
  ]);
}

/** Every file that a task changed: its part of the final patch, and the file as it left it. @param {Desk} desk @param {any} task */
async function changes(desk, task) {
  if (!task.changed?.length) return [el("p", { class: "soft" }, "Nothing.")];
  const tree = await treeOf(desk, task);
  const parts = await patchParts(desk);
  return task.changed.slice(0, 100).map((/** @type {string} */ path) => fold(`file-${task.id}-${path}`, el("code", {}, short(path, 160)), () => {
    const blob = tree?.nodes?.[path]?.blob;
    const part = parts.get(path);
    return [
      part ? diffBox(part) : el("p", { class: "soft" }, parts.size ? "It is not in the final patch." : "There is no final patch yet."),
      blob ? desk.contents.lazy("the file as this task left it", blob) : el("p", { class: "soft" }, tree ? "The task deleted it." : "unknown: it was not merged"),
    ];
  }));
}

/** The workspace that was merged from a task. @param {Desk} desk @param {any} task */
async function treeOf(desk, task) {
  const scope = String(task.key ?? "").replace(/\/task$/, "");
  const versions = [...(desk.view.artifacts.get("workspace")?.values() ?? [])];
  const merged = versions.find((version) => version.producer === scope);
  return merged ? JSON.parse((await desk.contents.read(merged.blob)).text) : null;
}

/** The final patch by file. @param {Desk} desk @returns {Promise<Map<string, string>>} */
async function patchParts(desk) {
  const text = await patchText(desk);
  const found = new Map();
  for (const part of text.split(/^(?=diff --git )/m)) {
    const name = /^\+\+\+ b\/(.*)$/m.exec(part)?.[1] ?? /^--- a\/(.*)$/m.exec(part)?.[1] ?? /^diff --git a\/(.*?) b\//.exec(part)?.[1];
    if (name) found.set(name.trim(), part);
  }
  return found;
}

/** @param {Desk} desk */
async function patchText(desk) {
  const last = [...(desk.view.artifacts.get("patch")?.values() ?? [])].at(-1);
  return last ? (await desk.contents.read(last.blob)).text : "";
}

/** @param {Desk} desk */
async function patch(desk) {
  const parts = await patchParts(desk);
  if (!parts.size) return [];
  return [section("Patch", el("div", {}, [...parts].slice(0, 100).map(([path, part]) => {
    const lines = part.split("\n");
    const plus = lines.filter((line) => line.startsWith("+") && !line.startsWith("+++")).length;
    const minus = lines.filter((line) => line.startsWith("-") && !line.startsWith("---")).length;
    const box = fold(`patch-${path}`, el("span", {}, el("code", {}, short(path, 160)), el("span", { class: "soft" }, ` +${plus} −${minus}`)), () => [diffBox(part)]);
    if (parts.size < 4) box.open = true;
    return box;
  })))];
}

/** What tasks found out: the newest version of each item, with what it rests on. @param {Desk} desk */
async function store(desk) {
  const items = [...desk.view.artifacts].filter(([name]) => name.startsWith("context/"));
  if (!items.length) return [section("Context store", el("p", { class: "soft" }, "Empty."))];
  return [section("Context store", table(`${count(items.length)} items`, ["item", "kind", "state", "from", "content", "rests on"], items.slice(-80).reverse().map(([name, versions]) => {
    const last = [...versions.values()].at(-1);
    if (!last) return [];
    const rests = (last.evidence ?? []).filter((e) => !["task", "supersedes"].includes(e.kind));
    return [
      el("b", {}, short(name.slice("context/".length), 60)), short(last.kind, 20), state(last.status, versions.size > 1 ? `v${last.version}` : null),
      short((last.evidence ?? []).find((e) => e.kind === "task")?.source ?? last.producer, 60), desk.contents.lazy("read", last.blob),
      rests.length ? short(rests.map((e) => `${e.kind} ${e.source}`).join("; "), 200) : el("span", { class: "soft" }, "asserted"),
    ];
  })))];
}

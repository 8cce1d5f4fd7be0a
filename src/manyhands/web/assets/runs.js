// The list of runs.

import { badge, byId, clock, count, el, short } from "./dom.js";

/** So many runs fit beside one another. */
const MOST = 6;
/** Runs that are chosen to be compared, in the order in which they were. @type {string[]} */
let picked = [];

/** @param {string} run @param {boolean} chosen */
function choose(run, chosen) {
  picked = [...picked.filter((each) => each !== run), ...(chosen ? [run] : [])].slice(-MOST);
  for (const box of document.querySelectorAll("#runs-body input")) {
    /** @type {HTMLInputElement} */ (box).checked = picked.includes(/** @type {HTMLInputElement} */ (box).value);
  }
  const link = /** @type {HTMLAnchorElement} */ (byId("compare-link"));
  link.hidden = picked.length < 2;
  link.textContent = `Compare the ${picked.length}`;
  link.href = `#run=${picked.map(encodeURIComponent).join("&with=")}`;
}

/** Rows of which one is drawn anew only where it has changed. @param {any[]} runs */
export function listRuns(runs) {
  const body = byId("runs-body");
  const shown = runs.slice(0, 500);
  byId("runs-empty").hidden = runs.length > 0;
  byId("runs-more").textContent = runs.length > shown.length ? `${count(runs.length - shown.length)} older runs are not listed.` : "";
  const there = new Map([...body.children].map((row) => [row.getAttribute("data-run"), row]));
  const rows = shown.map((run) => {
    const stamp = `${run.status} ${run.events} ${run.owner}`;
    const old = there.get(run.run_id);
    if (old && old.getAttribute("data-stamp") === stamp) return old;
    return el("tr", { "data-run": run.run_id, "data-stamp": stamp },
      el("td", {}, el("input", { type: "checkbox", value: run.run_id, checked: picked.includes(run.run_id), "aria-label": `compare ${short(run.run_id, 60)}`,
        onchange: (/** @type {any} */ event) => choose(run.run_id, event.target.checked) })),
      el("th", { scope: "row" }, el("a", { href: `#run=${encodeURIComponent(run.run_id)}` }, short(run.run_id, 60))),
      el("td", {}, short(run.workflow, 40)), el("td", {}, badge(run.status)),
      el("td", { class: "number" }, count(run.events)), el("td", {}, clock(run.created_at)),
      el("td", {}, clock(run.updated_at)));
  });
  if (rows.length !== body.children.length || rows.some((row, i) => body.children[i] !== row)) body.replaceChildren(...rows);
}

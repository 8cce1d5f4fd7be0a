// Several runs on one page: their sums, and where they part, agent by agent.
//
// Invariant: what is the same is counted and not listed; what is listed can be opened for every run.

import { apply } from "./reducer.js";
import { Contents } from "./contents.js";
import { View } from "./view.js";
import { agentsOf, alignAgent, isSame } from "./align.js";
import { badge, byId, count, duration, el, money, short } from "./dom.js";
import { fold, section, table } from "./parts.js";
import { endOf, titleOf } from "./layout.js";

/**
 * @typedef {import("./source.js").Source} Source
 * @typedef {import("./align.js").Row} Row
 * @typedef {{run: string, letter: string, view: View, contents: Contents}} Side
 */

const RENEW_MS = 400;
const LINES = 400;

export class ComparePage {
  /** @param {Source} source @param {string[]} runs the first is the one that the others are held against */
  constructor(source, runs) {
    /** @type {Side[]} */
    this.sides = runs.map((run, i) => ({ run, letter: String.fromCharCode(65 + i), view: new View(), contents: new Contents(source, run) }));
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.later = undefined;
    byId("compare-body").replaceChildren();
    byId("compare-body").style.setProperty("--runs", String(runs.length));
    byId("compare-about").textContent = this.sides.map((side) => `${side.letter} ${short(side.run, 80)}`).join(" · ");
    this.stops = this.sides.map((side) => source.follow(side.run, 0, {
      onBatch: (events) => {
        for (const event of events) apply(side.view, event);
        this.ask();
      },
      onHeld: (held) => {
        side.view.held = held;
        this.ask();
      },
      onLine: (word) => {
        byId("line").textContent = word === "live" ? "" : word;
      },
      onDamage: (why) => {
        byId("trouble").hidden = false;
        byId("trouble").textContent = short(`${side.run}: ${why}`, 400);
      },
    }));
  }

  close() {
    for (const stop of this.stops) stop();
    clearTimeout(this.later);
  }

  ask() {
    this.later ??= setTimeout(() => {
      this.later = undefined;
      this.draw();
    }, RENEW_MS);
  }

  draw() {
    const views = this.sides.map((side) => side.view);
    const open = new Set([...document.querySelectorAll("#compare-body details[open]")].map((box) => box.getAttribute("data-fold")));
    const agents = agentsOf(views).map((path) => ({ path, rows: alignAgent(views, path) })).filter((agent) => agent.rows.length);
    let lines = 0;
    const parts = agents.map(({ path, rows }) => {
      const part = this.agent(path, rows, LINES - lines);
      lines += rows.filter((row) => !isSame(row)).length;
      return part;
    });
    byId("compare-body").replaceChildren(this.sums(agents.flatMap((agent) => agent.rows)), ...parts.filter((part) => part !== null));
    for (const box of document.querySelectorAll("#compare-body details")) {
      if (open.has(box.getAttribute("data-fold"))) /** @type {HTMLDetailsElement} */ (box).open = true;
    }
    document.body.dataset.ready = views.map((view) => view.seq).join(" ");
  }

  /** @param {Row[]} rows */
  sums(rows) {
    /** @type {[string, (view: View) => number, (n: number) => string][]} */
    const figures = [
      ["tokens", (view) => view.spent.tokens ?? 0, count], ["requests", (view) => view.spent.requests ?? 0, count],
      ["money", (view) => view.spent.micro_usd ?? 0, money], ["active", (view) => view.time, duration],
      ["agents", (view) => view.lanes.length - 1, count], ["events", (view) => view.seq, count],
    ];
    const links = this.sides.map((side) => el("span", {}, el("a", { href: `#run=${encodeURIComponent(side.run)}` }, short(side.run, 60)), " ", badge(side.view.shownStatus)));
    const [base, ...others] = this.sides.map((side) => side.view);
    const same = rows.filter(isSame).length;
    const parted = rows.length - same;
    return table(`${count(same)} ${same === 1 ? "step is" : "steps are"} the same, ${count(parted)} ${parted === 1 ? "is" : "are"} not`, ["", ...this.sides.map((side) => `>${side.letter}`)], [
      ["run", ...links],
      ...figures.map(([name, of, told]) => [name, told(of(base)), ...others.map((view) => this.figure(of(view), of(base), told))]),
    ]);
  }

  /** A number, and how far it is from the first run's. @param {number} here @param {number} base @param {(n: number) => string} told */
  figure(here, base, told) {
    const sign = here < base ? "−" : "+";
    return el("span", {}, told(here), here === base ? null : el("span", { class: "soft" }, ` (${sign}${told(Math.abs(here - base))})`));
  }

  /** What differs in one agent, between runs of steps that do not. @param {string} path @param {Row[]} rows @param {number} most */
  agent(path, rows, most) {
    const differ = rows.filter((row) => !isSame(row)).length;
    if (!differ) return null;
    /** @type {Node[]} */
    const made = [];
    let same = 0;
    let listed = 0;
    const flush = () => {
      if (same) made.push(el("p", { class: "same" }, `= ${count(same)} the same`));
      same = 0;
    };
    for (const row of rows) {
      if (isSame(row)) {
        same++;
        continue;
      }
      if (listed++ >= most) break;
      flush();
      made.push(this.row(row));
    }
    flush();
    if (differ > listed) made.push(el("p", { class: "soft" }, `${count(differ - listed)} more differences are not listed.`));
    return section(path ? short(path, 120) : "the run", el("div", { class: "compared" }, made));
  }

  /** @param {Row} row */
  row(row) {
    return el("div", { class: "compare-row" }, this.sides.map((side, i) => el("div", { "data-how": row.how[i] },
      el("span", { class: "letter", "aria-label": `run ${side.letter}` }, side.letter),
      row.how[i] ? badge(row.how[i]) : null, this.cell(side, row.at[i]))));
  }

  /** @param {Side} side @param {number} at */
  cell({ run, view, contents }, at) {
    if (at < 0) return null;
    const tokens = view.used[at]?.tokens;
    const title = el("span", {}, el("b", {}, short(titleOf(view, at), 60)), el("span", { class: "soft" },
      ` ${duration(endOf(view, at) - view.start.get(at))}${tokens ? ` · ${count(tokens)} tok` : ""}${view.args[at] ? ` · ${short(view.args[at], 8)}` : ""}`));
    return fold(`${run} ${view.keys[at]}`, title, () => [
      el("p", { class: "card-key" }, short(view.keys[at], 400)),
      contents.lazy("returned", `${view.lasts.get(at)}/value`), contents.lazy("begun with", `${view.seqs.get(at)}/data`)]);
  }
}

// Two runs on one page: their sums, and where they part, agent by agent.
//
// Invariant: what is the same is counted and not listed; what is listed can be opened on both sides.

import { apply } from "./reducer.js";
import { Contents } from "./contents.js";
import { View } from "./view.js";
import { agentsOf, alignAgent } from "./align.js";
import { badge, byId, count, duration, el, money, short } from "./dom.js";
import { fold, section, table } from "./parts.js";
import { endOf, titleOf } from "./layout.js";

/**
 * @typedef {import("./source.js").Source} Source
 * @typedef {import("./align.js").Pair} Pair
 */

const RENEW_MS = 400;
const LINES = 400;

export class ComparePage {
  /** @param {Source} source @param {string} left @param {string} right */
  constructor(source, left, right) {
    this.sides = [left, right].map((run) => ({ run, view: new View(), contents: new Contents(source, run) }));
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.later = undefined;
    byId("compare-body").replaceChildren();
    byId("compare-about").textContent = `${short(left, 80)} and ${short(right, 80)}`;
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
    const [left, right] = this.sides;
    const open = new Set([...document.querySelectorAll("#compare-body details[open]")].map((box) => box.getAttribute("data-fold")));
    const agents = agentsOf(left.view, right.view).map((path) => ({ path, pairs: alignAgent(left.view, right.view, path) })).filter((agent) => agent.pairs.length);
    let lines = 0;
    const parts = agents.map(({ path, pairs }) => {
      const part = this.agent(path, pairs, LINES - lines);
      lines += pairs.filter((pair) => pair.how !== "same").length;
      return part;
    });
    byId("compare-body").replaceChildren(this.sums(agents.flatMap((agent) => agent.pairs)), ...parts.filter((part) => part !== null));
    for (const box of document.querySelectorAll("#compare-body details")) {
      if (open.has(box.getAttribute("data-fold"))) /** @type {HTMLDetailsElement} */ (box).open = true;
    }
    document.body.dataset.ready = `${left.view.seq} ${right.view.seq}`;
  }

  /** @param {Pair[]} pairs */
  sums(pairs) {
    const [left, right] = this.sides.map((side) => side.view);
    /** @type {[string, number, number, (n: number) => string][]} */
    const figures = [
      ["tokens", left.spent.tokens ?? 0, right.spent.tokens ?? 0, count], ["requests", left.spent.requests ?? 0, right.spent.requests ?? 0, count],
      ["money", left.spent.micro_usd ?? 0, right.spent.micro_usd ?? 0, money], ["active", left.time, right.time, duration],
      ["agents", left.lanes.length - 1, right.lanes.length - 1, count], ["events", left.seq, right.seq, count],
    ];
    const links = this.sides.map((side) => el("span", {}, el("a", { href: `#run=${encodeURIComponent(side.run)}` }, short(side.run, 60)), " ", badge(side.view.shownStatus)));
    const parted = pairs.filter((pair) => pair.how !== "same").length;
    return el("div", {},
      table(`${count(pairs.length - parted)} steps are the same, ${count(parted)} are not`, ["", ">left", ">right", ">right − left"], [
        ["run", links[0], links[1], ""],
        ...figures.map(([name, a, b, told]) => [name, told(a), told(b), a === b ? "–" : `${b < a ? "−" : "+"}${told(Math.abs(b - a))}`]),
      ]));
  }

  /** What differs in one agent, between runs of steps that do not. @param {string} path @param {Pair[]} pairs @param {number} most */
  agent(path, pairs, most) {
    const differ = pairs.filter((pair) => pair.how !== "same").length;
    if (!differ) return null;
    /** @type {Node[]} */
    const made = [];
    let same = 0;
    let listed = 0;
    const flush = () => {
      if (same) made.push(el("p", { class: "same" }, `= ${count(same)} the same`));
      same = 0;
    };
    for (const pair of pairs) {
      if (pair.how === "same") {
        same++;
        continue;
      }
      if (listed++ >= most) break;
      flush();
      made.push(this.row(pair));
    }
    flush();
    if (differ > listed) made.push(el("p", { class: "soft" }, `${count(differ - listed)} more differences are not listed.`));
    return section(path ? short(path, 120) : "the run", el("div", { class: "compared" }, made));
  }

  /** @param {Pair} pair */
  row(pair) {
    const [left, right] = this.sides;
    return el("div", { class: "compare-row", "data-how": pair.how },
      el("span", {}, this.cell(left, pair.left)), el("span", {}, badge(pair.how)), el("span", {}, this.cell(right, pair.right)));
  }

  /** @param {{run: string, view: View, contents: Contents}} side @param {number} at */
  cell({ run, view, contents }, at) {
    if (at < 0) return el("span", { class: "soft" }, "–");
    const tokens = view.used[at]?.tokens;
    const title = el("span", {}, el("b", {}, short(titleOf(view, at), 60)), el("span", { class: "soft" },
      ` ${duration(endOf(view, at) - view.start.get(at))}${tokens ? ` · ${count(tokens)} tok` : ""}${view.args[at] ? ` · ${short(view.args[at], 8)}` : ""}`));
    return fold(`${run} ${view.keys[at]}`, title, () => [
      el("p", { class: "card-key" }, short(view.keys[at], 400)),
      contents.lazy("returned", `${view.lasts.get(at)}/value`), contents.lazy("begun with", `${view.seqs.get(at)}/data`)]);
  }
}

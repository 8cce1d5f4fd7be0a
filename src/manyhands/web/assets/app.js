// The page: which run is shown, and how its parts hear of each other.

import { apply } from "./reducer.js";
import { Card } from "./card.js";
import { Contents, announce, textBox } from "./contents.js";
import { KIND_NAMES, STATE } from "./keys.js";
import { Lanes } from "./lanes.js";
import { View } from "./view.js";
import { Control } from "./control.js";
import { Live } from "./source.js";
import { byId, count, el, short } from "./dom.js";
import { drawBurnDown, listAgents, listArtifacts, summarise } from "./panels.js";
import { listRuns } from "./runs.js";
import { titleOf } from "./layout.js";
import { studyView } from "./study.js";
import { answerView } from "./answer.js";
import { workView } from "./work.js";
import { ComparePage } from "./compare.js";

/** @typedef {import("./source.js").Source} Source */

/** How often figures are written out while events arrive (ms). */
const FIGURES_MS = 250;
/** Events of a message that is followed by another at once, and how long figures wait for it. */
const FULL = 2000;
const LATE_MS = 1000;
const RUNS_MS = 1500;

/** By the first word of a team's records: what its tab is called, and what is in it. */
const TEAMS = /** @type {const} */ ({ lab: ["Study", studyView], answer: ["Answer", answerView], code: ["Work", workView] });
const TABS = ["tab-team", "tab-control", "tab-agents", "tab-artifacts"];

/** One run on the page, until it is closed. */
export class RunPage {
  /** @param {Source} source @param {string} run */
  constructor(source, run) {
    this.run = run;
    this.view = new View();
    this.contents = new Contents(source, run);
    this.path = "";
    this.chosen = false; // a tab, by a person
    this.figuresAt = performance.now();
    /** @type {number | undefined} */
    this.wide = undefined;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.later = undefined;
    this.stop = new AbortController();
    this.card = new Card(this.view, this.contents, (seq) => void this.showEvent(seq));
    this.lanes = new Lanes(this.view, {
      onChoose: (at) => void this.card.show(at),
      onLane: (path) => this.focusOn(path),
      onWindow: () => this.burn(),
    });
    this.control = source instanceof Live ? new Control(source, run) : null;
    this.listen();
    byId("tab-control").hidden = !this.control;
    this.line = "connecting";
    this.unfollow = source.follow(run, 0, {
      onBatch: (events) => this.take(events),
      onHeld: (held) => {
        this.view.held = held;
        this.figures();
      },
      onLine: (word) => {
        this.line = word;
        this.status();
      },
      onDamage: (why) => {
        this.line = "damaged after this";
        this.view.held = false;
        byId("trouble").hidden = false;
        byId("trouble").replaceChildren(textBox(`What follows event ${this.view.seq} cannot be read: ${why}`));
        this.figures();
        this.status();
      },
    });
  }

  close() {
    this.unfollow();
    this.stop.abort();
    this.control?.close();
    clearTimeout(this.later);
    this.lanes.close();
    this.card.hide();
  }

  /** @param {any[]} events */
  take(events) {
    for (const event of events) apply(this.view, event);
    document.body.dataset.seq = String(this.view.seq);
    this.lanes.ask();
    this.status();
    const gone = performance.now() - this.figuresAt;
    const more = events.length >= FULL && gone < LATE_MS; // the next ones are on their way
    if (gone > FIGURES_MS && !more) this.figures();
    else if (this.later === undefined) {
      this.later = setTimeout(() => this.figures(), more ? LATE_MS : FIGURES_MS - gone);
    }
  }

  figures() {
    clearTimeout(this.later);
    this.later = undefined;
    this.figuresAt = performance.now();
    summarise(this.view, this.run);
    this.offerTeam();
    const tab = document.querySelector('[role="tab"][aria-selected="true"]')?.id ?? "tab-agents";
    if (this.listed !== (tab === "tab-team" ? this.view.records : this.view.seq)) this.list(tab);
    document.body.dataset.ready = String(this.view.seq);
    this.lanes.ask();
  }

  status() {
    byId("line").textContent = `${this.line === "live" && !this.view.held ? "at rest" : this.line} · event ${count(this.view.seq)}`;
  }

  /** The team's own view, once there is something to see in it; it comes first. */
  offerTeam() {
    const team = TEAMS[/** @type {keyof typeof TEAMS} */ (this.view.workflow)];
    const tab = byId("tab-team");
    if (!team || !this.view.records || !tab.hidden) return;
    tab.hidden = false;
    tab.textContent = team[0];
    if (!this.chosen) this.select("tab-team");
  }

  /** @param {string} id */
  select(id) {
    for (const tab of TABS) byId(tab).setAttribute("aria-selected", String(tab === id));
    this.list(id);
  }

  /** @param {string} tab */
  list(tab) {
    this.listed = tab === "tab-team" ? this.view.records : this.view.seq;
    const panel = byId("panel");
    panel.setAttribute("aria-labelledby", tab);
    const onSeq = (/** @type {number} */ seq) => void this.showEvent(seq);
    if (tab === "tab-artifacts") panel.replaceChildren(...listArtifacts(this.view, this.contents, onSeq));
    else if (tab === "tab-control") this.listControl(panel);
    else if (tab === "tab-agents") panel.replaceChildren(...listAgents(this.view, (path) => this.focusOn(path)));
    else this.listTeam(panel, onSeq);
  }

  /** It looks by itself, and keeps what was typed. @param {HTMLElement} panel */
  listControl(panel) {
    if (!this.control || panel.contains(this.control.root)) return;
    panel.replaceChildren(this.control.root);
    void this.control.look();
  }

  /** Drawn anew, with what was open open again. @param {HTMLElement} panel @param {(seq: number) => void} onSeq */
  listTeam(panel, onSeq) {
    const team = TEAMS[/** @type {keyof typeof TEAMS} */ (this.view.workflow)];
    if (!team) return;
    const open = new Set([...panel.querySelectorAll("details[open][data-fold]")].map((box) => box.getAttribute("data-fold")));
    const reopen = (/** @type {Element} */ root) => {
      for (const box of root.querySelectorAll("details[data-fold]:not([open])")) {
        if (open.has(box.getAttribute("data-fold"))) /** @type {HTMLDetailsElement} */ (box).open = true;
      }
    };
    panel.replaceChildren(...team[1]({
      view: this.view, contents: this.contents, colours: this.lanes.colours, onSeq,
      onSpan: (at) => this.lanes.choose(at, true),
    }));
    if (!open.size) return;
    const watch = new MutationObserver(() => reopen(panel));
    watch.observe(panel, { childList: true, subtree: true });
    setTimeout(() => watch.disconnect(), 1000);
  }

  /** As wide as the lanes are without a card beside them. */
  get burnWidth() {
    this.wide ??= /** @type {HTMLElement} */ (byId("burn").parentElement).clientWidth;
    return this.wide;
  }

  burn() {
    const { from, scale } = this.lanes.window;
    const unit = /** @type {HTMLSelectElement} */ (byId("unit")).value;
    const told = drawBurnDown(/** @type {HTMLCanvasElement} */ (byId("burn")), this.view, this.lanes.colours, {
      unit, path: this.path, from, seconds: this.lanes.width / scale, whole: this.lanes.whole,
      width: Math.max(1, this.burnWidth),
    });
    const words = `${this.path ? short(this.path, 60) : "the run"}: ${told}`;
    if (byId("burn-told").textContent !== words) byId("burn-told").textContent = words;
  }

  /** The budget and the first span of one agent. @param {string} path */
  focusOn(path) {
    this.path = this.path === path ? "" : path;
    const lane = this.view.byPath.get(path);
    if (lane?.spans.length) this.lanes.choose(lane.spans.get(0));
    this.lanes.ask();
  }

  /** One event as it is journaled. @param {number} seq */
  async showEvent(seq) {
    const at = byId("event-body");
    at.replaceChildren(el("h2", {}, `Event ${seq}`),
      this.contents.lazy("data", `${seq}/data`), this.contents.lazy("value", `${seq}/value`));
    for (const box of at.querySelectorAll("details")) box.open = true;
    /** @type {HTMLDialogElement} */ (byId("event")).showModal();
  }

  /** @param {string} words */
  search(words) {
    const wanted = words.trim().toLowerCase();
    const found = byId("found");
    if (!wanted) {
      this.lanes.hits = null;
      found.replaceChildren();
      this.lanes.ask();
      return;
    }
    const hits = new Set();
    for (let at = 0; at < this.view.keys.length; at++) {
      if (this.haystack(at).includes(wanted)) hits.add(at);
    }
    this.lanes.hits = hits;
    this.hitList = [...hits];
    found.replaceChildren(`${count(hits.size)} found`);
    announce(`${hits.size} found; Enter goes to the next`);
    this.lanes.ask();
  }

  /** @param {number} at */
  haystack(at) {
    const view = this.view;
    const about = view.about[at];
    const state = view.bad.get(at) || view.state.get(at) === STATE.FAILED ? "failed" : "";
    return `${view.keys[at]} ${titleOf(view, at)} ${KIND_NAMES[view.kind.get(at)]} ${state} ${about?.error ?? ""} ${about?.model ?? ""} ${view.lanes[view.lane.get(at)].role}`.toLowerCase();
  }

  /** @param {number} along */
  nextHit(along) {
    const hits = this.hitList ?? [];
    if (!hits.length) return;
    const now = this.lanes.selected;
    const next = along > 0 ? hits.find((at) => at > now) ?? hits[0] : hits.findLast((at) => at < now) ?? hits[hits.length - 1];
    this.lanes.choose(next);
  }

  listen() {
    const { signal } = this.stop;
    const on = (/** @type {string} */ id, /** @type {string} */ name, /** @type {(event: any) => void} */ act) =>
      byId(id).addEventListener(name, act, { signal });
    on("lanes", "close-card", () => this.closeCard());
    on("unit", "change", () => this.burn());
    on("zoom-in", "click", () => this.lanes.zoom(0.6));
    on("zoom-out", "click", () => this.lanes.zoom(1 / 0.6));
    on("fit", "click", () => this.lanes.fit());
    on("search", "input", (event) => this.search(event.target.value));
    on("search", "keydown", (event) => {
      if (event.key === "Enter") this.nextHit(event.shiftKey ? -1 : 1);
      if (event.key === "Escape") byId("lanes").focus();
    });
    for (const id of TABS) {
      on(id, "click", () => {
        this.chosen = true;
        this.select(id);
      });
    }
    byId("tab-team").hidden = true;
    this.select("tab-agents");
    document.addEventListener("keydown", (event) => {
      const typing = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
      if (event.key === "/" && !typing) {
        event.preventDefault();
        byId("search").focus();
      }
      if (event.key === "Escape" && !typing && !byId("card").hidden) this.closeCard();
    }, { signal });
    addEventListener("resize", () => {
      this.wide = undefined;
      this.lanes.ask();
    }, { signal });
    const recolour = () => {
      this.lanes.recolour();
      if (byId("tab-team").getAttribute("aria-selected") === "true") this.list("tab-team");
    };
    document.addEventListener("theme", recolour, { signal });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour, { signal });
  }

  closeCard() {
    this.card.hide();
    byId("lanes").focus({ preventScroll: true });
  }
}

/** The whole page. @param {Source} source @param {string} only the one run that there is ('': many) */
export function open(source, only) {
  /** @type {RunPage | ComparePage | null} */
  let page = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const fail = (/** @type {unknown} */ error) => {
    byId("trouble").hidden = false;
    byId("trouble").replaceChildren(textBox(error instanceof Error ? error.message : String(error)));
  };
  const renew = async () => {
    try {
      listRuns(await source.runs());
      byId("trouble").hidden = true;
    } catch (error) {
      fail(error);
    }
    if (!page) timer = setTimeout(() => void renew(), RUNS_MS);
  };
  const route = () => {
    page?.close();
    page = null;
    clearTimeout(timer);
    byId("trouble").hidden = true;
    const asked = new URLSearchParams(location.hash.slice(1));
    const run = only || asked.get("run") || "";
    const others = only ? [] : asked.getAll("with").filter(Boolean);
    byId("runs").hidden = Boolean(run);
    byId("run").hidden = !run || others.length > 0;
    byId("compare").hidden = !run || !others.length;
    byId("back").hidden = !run || Boolean(only);
    delete document.body.dataset.ready;
    document.title = run ? `${short(run, 60)} – Manyhands` : "Manyhands";
    if (run && others.length) page = new ComparePage(source, [run, ...others]);
    else if (run) page = new RunPage(source, run);
    else void renew();
    const download = byId("download");
    download.hidden = !run || others.length > 0 || !source.exportUrl;
    download.onclick = () => void /** @type {any} */ (source).download(run, "html").catch(fail);
  };
  addEventListener("hashchange", route);
  route();
}

/** Light, dark, or as the system says. */
export function themes() {
  const root = document.documentElement;
  const order = ["", "light", "dark"];
  const button = byId("theme");
  let at = 0;
  const show = () => {
    if (order[at]) root.dataset.theme = order[at];
    else delete root.dataset.theme;
    button.textContent = ["◐ auto", "☀ light", "☾ dark"][at];
    document.dispatchEvent(new CustomEvent("theme"));
  };
  button.addEventListener("click", () => {
    at = (at + 1) % order.length;
    show();
  });
  show();
}

// A person's part in a run: stop and go, decisions, and the wheel of one agent.
//
// Invariant: nothing is done here; each button asks the server for one order, with a key of its own,
// and shows what came of it. While an agent is driven, its lease is renewed as long as the page lives.

import { badge, count, el, short } from "./dom.js";
import { textBox } from "./contents.js";

/**
 * @typedef {{path: string, role: string, model: string, stand: string, owner: string,
 *   ending: string, driven: any}} Standing
 * @typedef {{agent: string, wait: string, kind: string, asked: any}} Waiting
 * @typedef {{target: string, owner: string, token: string, seconds: number, alone: boolean, after: number}} Lease
 * @typedef {{ask: (path: string, headers?: Record<string, string>, signal?: AbortSignal,
 *   body?: string) => Promise<Response>}} Server
 */

const AGAIN_MS = 900;
const LOOK_MS = 250;
const LOOKS = 240;
const NAME = "manyhands-name";
const AT_WORK = new Set(["running", "pausing", "paused", "human", "resuming", "waiting"]);

export class Control {
  /** @param {Server} server @param {string} run */
  constructor(server, run) {
    this.server = server;
    this.run = run;
    this.stop = new AbortController();
    this.root = el("div", { class: "control" });
    this.agents = el("div");
    this.asked = el("div");
    this.wheel = el("div");
    this.trouble = el("p", { class: "wrong", role: "alert" });
    this.root.append(this.whole(), this.trouble, this.asked, this.wheel, this.agents);
    /** @type {Lease | null} */
    this.lease = null;
    this.shown = "";
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
  }

  close() {
    this.stop.abort();
    clearTimeout(this.timer);
    clearInterval(this.beat);
  }

  /** Look at the agents now, and again as long as the panel is on the page. */
  async look() {
    clearTimeout(this.timer);
    try {
      const answer = await this.server.ask(`${this.place}/agents`, {}, this.stop.signal);
      this.show(await answer.json());
    } catch (error) {
      this.fail(error);
    }
    if (this.root.isConnected && !this.stop.signal.aborted) {
      this.timer = setTimeout(() => void this.look(), AGAIN_MS);
    }
  }

  get place() {
    return `/api/runs/${encodeURI(this.run)}`;
  }

  /** @param {unknown} error */
  fail(error) {
    if (this.stop.signal.aborted) return;
    this.trouble.replaceChildren(short(error instanceof Error ? error.message : error, 400));
  }

  /** @param {string} path @param {any} body */
  async post(path, body) {
    this.trouble.replaceChildren();
    const headers = { "idempotency-key": crypto.randomUUID(), "content-type": "application/json" };
    const answer = await this.server.ask(`${this.place}/${path}`, headers, undefined, JSON.stringify(body));
    return answer.json();
  }

  /** A button that orders something. @param {string} words @param {() => Promise<unknown>} order @param {Record<string, any>} [about] */
  button(words, order, about = {}) {
    const made = el("button", { type: "button", class: "quiet", ...about }, words);
    made.addEventListener("click", async () => {
      made.disabled = true;
      try {
        await order();
      } catch (error) {
        this.fail(error);
      }
      made.disabled = false;
      void this.look();
    });
    return made;
  }

  /** @param {string} verb @param {string} target @param {any} [message] */
  command(verb, target = "", message = null) {
    return this.post("commands", { verb, target, message });
  }

  // ---------------------------------------------------------------- the whole run

  whole() {
    const said = el("input", { type: "text", "aria-label": "A message for all agents", placeholder: "Say to all agents", maxlength: 2000 });
    const say = this.button("Say", async () => {
      if (!said.value.trim()) return;
      await this.command("steer", "", said.value);
      said.value = "";
    });
    said.addEventListener("keydown", (event) => {
      if (event.key === "Enter") say.click();
    });
    const kill = this.killing();
    const name = el("input", { type: "text", "aria-label": "Your name, in the journal", placeholder: "Your name", maxlength: 80, class: "name" });
    name.value = sessionStorage.getItem(NAME) ?? "";
    name.addEventListener("input", () => sessionStorage.setItem(NAME, name.value.trim()));
    return el("div", { class: "orders" }, name,
      this.button("Pause all", () => this.command("pause", "", { now: false })),
      this.button("Go on", () => this.command("continue")),
      this.button("Stop and wrap up", () => this.command("stop")), kill, said, say);
  }

  /** Asks once more. @param {string} [target] @param {Record<string, any>} [about] */
  killing(target = "", about = {}) {
    const kill = this.button("Kill", async () => {
      if (kill.dataset.sure) await this.command("kill", target);
      kill.dataset.sure = kill.dataset.sure ? "" : "1";
      kill.textContent = kill.dataset.sure ? "Kill: sure?" : "Kill";
    }, about);
    return kill;
  }

  // ---------------------------------------------------------------- what is shown

  /** @param {{seq: number, agents: Standing[], waiting: Waiting[]}} found */
  show(found) {
    const key = JSON.stringify([found.agents.map((a) => [a.path, a.stand, a.owner, a.model]), found.waiting.map((w) => w.wait), this.lease?.token]);
    if (key === this.shown) return;
    this.shown = key;
    this.asked.replaceChildren(...found.waiting.map((each) => this.decision(each)));
    const working = found.agents.filter((a) => AT_WORK.has(a.stand));
    const head = ["agent", "role", "model", "state", ""];
    this.agents.replaceChildren(working.length
      ? el("div", { class: "wide" }, el("table", {}, el("caption", {}, `Agents at work (${count(working.length)})`),
        el("thead", {}, el("tr", {}, head.map((name) => el("th", { scope: "col" }, name)))),
        el("tbody", {}, working.slice(0, 60).map((a) => this.row(a)))))
      : el("p", { class: "soft" }, "No agent is at work."));
  }

  /** @param {Standing} agent */
  row(agent) {
    const mine = this.lease?.target === agent.path;
    const rests = agent.stand === "paused" || agent.stand === "pausing";
    return el("tr", { "data-stand": agent.stand, "data-agent": short(agent.path, 200) },
      el("th", { scope: "row" }, short(agent.path, 90)), el("td", {}, short(agent.role, 30)),
      el("td", {}, short(agent.model, 40)),
      el("td", {}, badge(agent.stand), agent.owner ? ` ${short(agent.owner, 40)}` : ""),
      el("td", {}, el("div", { class: "orders" },
        rests ? this.button("Go on", () => this.command("continue", agent.path))
          : this.button("Pause", () => this.command("pause", agent.path, { now: false, alone: true })),
        mine ? null : this.button("Take over", () => this.take(agent.path)),
        this.button("Stop", () => this.command("stop", agent.path), { title: "It wraps up and reports what it has" }),
        this.killing(agent.path, { title: "It ends without a report; all others go on" }))));
  }

  /** @param {Waiting} each */
  decision(each) {
    const note = el("input", { type: "text", "aria-label": "What the agent is told", placeholder: each.kind === "question" ? "Your answer" : "A note, if any", maxlength: 2000 });
    const tell = (/** @type {any} */ value) => this.post("answers", { wait: each.wait, value });
    const asked = typeof each.asked === "string" ? each.asked : JSON.stringify(each.asked, null, 1);
    return el("section", { class: "node decision", "aria-label": "Waits for you" },
      el("h4", {}, `${short(each.agent, 80)} waits for you`), textBox(asked), note,
      each.kind === "question" ? this.button("Answer", () => tell(note.value))
        : [this.button("Allow", () => tell({ decision: "approve", note: note.value })),
          this.button("Refuse", () => tell({ decision: "deny", note: note.value }))]);
  }

  // ---------------------------------------------------------------- at the wheel

  /** @param {string} path */
  async take(path) {
    const owner = sessionStorage.getItem(NAME) || "someone at the page";
    this.lease = /** @type {Lease} */ (await this.post("lease", { target: path, owner }));
    const lease = this.lease;
    clearInterval(this.beat);
    this.beat = setInterval(() => void this.post("lease/renew", { lease }).catch((error) => this.lost(error)), lease.seconds * 300);
    this.wheel.replaceChildren(el("p", { class: "soft", role: "status" }, `${short(path, 90)} ends what it is at; then it is yours.`));
    for (let looked = 0; looked < LOOKS && this.lease === lease; looked++) {
      const found = await (await this.server.ask(`${this.place}/agents`)).json();
      const agent = /** @type {Standing[]} */ (found.agents).find((a) => a.path === path);
      if (agent?.stand === "ended") throw this.lost(new Error(`${path} has ended: ${agent.ending}`));
      if (agent?.stand === "human" && agent.owner === owner && agent.driven?.value) {
        this.wheel.replaceChildren(this.seat(agent));
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  /** @param {unknown} error */
  lost(error) {
    clearInterval(this.beat);
    this.lease = null;
    this.wheel.replaceChildren();
    this.fail(error);
    return error;
  }

  /** @param {Standing} agent */
  seat(agent) {
    const { tools, calls, report } = agent.driven.value;
    const log = el("ol", { class: "items plain", "aria-label": "What you did", "aria-live": "polite" });
    const tool = el("select", { "aria-label": "Tool" }, Object.keys(tools).map((name) => el("option", { value: name }, name)));
    const given = el("textarea", { "aria-label": "Arguments, as JSON", rows: 3, spellcheck: "false" });
    const skeleton = () => {
      given.value = JSON.stringify(blank(tools[tool.value]), null, 1);
    };
    tool.addEventListener("change", skeleton);
    skeleton();
    const said = el("input", { type: "text", "aria-label": "A message that its model is shown next", placeholder: "Say to this agent", maxlength: 8000 });
    const note = el("input", { type: "text", "aria-label": "A note for the agent when you hand it back", placeholder: "Note for the hand-back", maxlength: 8000 });
    const written = el("textarea", { "aria-label": "Report, as JSON", rows: 3, spellcheck: "false" });
    written.value = report === null ? "" : JSON.stringify(report, null, 1);
    const order = (/** @type {any} */ what, /** @type {string} */ words) => this.order(what, words, log);
    return el("section", { class: "node seat", "aria-label": "You drive" },
      el("h4", {}, "You drive ", el("code", {}, short(agent.path, 90))),
      el("p", { class: "soft" }, "All others go on. What you do runs in its workspace, on its budget, and is journaled as yours."),
      calls.length ? this.pending(calls, agent.driven.waiting, order) : null,
      el("div", { class: "orders" }, tool, given,
        this.button("Do", () => order({ do: "call", tool: tool.value, arguments: JSON.parse(given.value) }, `${tool.value} ${given.value}`))),
      el("div", { class: "orders" }, said, this.button("Say", () => order({ do: "say", text: said.value }, `said: ${said.value}`))),
      log,
      el("details", { class: "content" }, el("summary", {}, "Write its report"), written,
        this.button("Finish with this report", async () => {
          if (await order({ do: "report", value: parsed(written.value) }, "wrote the report")) await this.back("finish", note.value);
        })),
      el("div", { class: "orders" }, note,
        this.button("Hand back", () => this.back("continue", note.value)),
        calls.length && !agent.driven.waiting ? this.button("Hand back, last calls again", () => this.back("retry", note.value)) : null));
  }

  /** Calls that wait, or that ran last. @param {{tool: string, arguments: string}[]} calls @param {boolean} waiting @param {(what: any, words: string) => Promise<boolean>} order */
  pending(calls, waiting, order) {
    return el("div", {}, el("h5", {}, waiting ? "These calls wait to be run" : "It called last"),
      el("ol", { class: "items plain" }, calls.map((call, at) => el("li", {}, el("code", {}, `${short(call.tool, 40)} ${short(call.arguments, 200)}`), " ",
        waiting ? this.button("Do not run", () => order({ do: "edit_call", call: at, arguments: null }, `took call ${at} out`)) : null))));
  }

  /** Whether it could be done. @param {any} what @param {string} words @param {HTMLElement} log */
  async order(what, words, log) {
    const after = this.lease?.after ?? 0;
    const { order } = await this.post("lease/act", { lease: this.lease, what });
    const line = el("li", {}, el("code", {}, short(words, 200)), " …");
    log.append(line);
    for (let looked = 0; looked < LOOKS; looked++) {
      const told = await (await this.server.ask(`${this.place}/orders/${order}?after=${after}`)).json();
      if (told.done) {
        line.replaceChildren(badge(told.ok ? "done" : "failed"), " ", el("code", {}, short(words, 200)), told.text ? textBox(told.text) : "");
        return Boolean(told.ok);
      }
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
    return false;
  }

  /** @param {string} how @param {string} note */
  async back(how, note) {
    await this.post("lease/back", { lease: this.lease, how, note });
    clearInterval(this.beat);
    this.lease = null;
    this.wheel.replaceChildren(el("p", { class: "soft", role: "status" }, "Handed back."));
  }
}

/** What is to be filled in for a tool's arguments. @param {any} schema */
function blank(schema) {
  /** @type {Record<string, any>} */
  const found = {};
  for (const name of schema?.required ?? []) {
    const kind = schema.properties?.[name]?.type;
    found[name] = kind === "integer" || kind === "number" ? 0 : kind === "boolean" ? false : kind === "array" ? [] : "";
  }
  return found;
}

/** JSON; what is none is plain text. @param {string} text */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

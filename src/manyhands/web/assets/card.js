// A step's card: Saw, Returned, Parent did, Delta.
//
// Invariant: each line says where it is from; what the journal does not say is called unknown.

import { KIND, KIND_NAMES, STATE_NAMES } from "./keys.js";
import { badge, byId, count, duration, el, inert, money, short } from "./dom.js";
import { messageText, textBox } from "./contents.js";
import { originOf, shownTo, spansOf, usesOf } from "./contexts.js";
import { endOf, titleOf } from "./layout.js";

/**
 * @typedef {import("./view.js").View} View
 * @typedef {import("./view.js").Lane} Lane
 * @typedef {import("./contents.js").Contents} Contents
 * @typedef {import("./contexts.js").Entry} Entry
 * @typedef {import("./contexts.js").Use} Use
 */

export class Card {
  /** @param {View} view @param {Contents} contents @param {(seq: number) => void} onSeq */
  constructor(view, contents, onSeq) {
    this.view = view;
    this.contents = contents;
    this.onSeq = onSeq;
    this.box = byId("card");
    this.shown = -1;
  }

  hide() {
    this.shown = -1;
    this.box.hidden = true;
    this.box.replaceChildren();
  }

  /** @param {number} at */
  async show(at) {
    this.shown = at;
    const view = this.view;
    const lane = view.lanes[view.lane.get(at)];
    const value = await this.contents.json(view.lasts.get(at));
    if (this.shown !== at) return; // another was chosen meanwhile
    const request = view.kind.get(at) === KIND.REQUEST;
    const parts = [
      this.part("Saw", request ? this.saw(lane, at) : this.sawOf(lane, at)),
      this.part("Returned", this.returned(at, value)),
      this.part(request || !lane.path ? "Parent did" : "Parent did (with the result)", await this.did(lane, at, value)),
      this.part("Delta", this.delta(lane, at)),
    ];
    if (this.shown !== at) return;
    this.box.replaceChildren(this.head(at), ...parts);
    this.box.hidden = false;
    this.box.scrollTop = 0;
    byId("card-title").focus({ preventScroll: innerWidth > 760 });
  }

  /** @param {number} at */
  head(at) {
    const view = this.view;
    const lane = view.lanes[view.lane.get(at)];
    const state = view.bad.get(at) ? "failed" : STATE_NAMES[view.state.get(at)];
    const amounts = view.used[at] ?? view.cost[at] ?? {};
    const charged = view.about[at]?.charged;
    return el("header", { class: "card-head" },
      el("div", { class: "card-top" },
        el("h2", { id: "card-title", tabindex: "-1" }, short(titleOf(view, at), 80)),
        el("button", { type: "button", class: "quiet", "aria-label": "Close the card", onclick: () => byId("lanes").dispatchEvent(new CustomEvent("close-card")) }, "✕")),
      el("p", { class: "card-key" }, inert(view.keys[at])),
      el("dl", { class: "facts" },
        ...fact("what", KIND_NAMES[view.kind.get(at)]), ...fact("state", badge(state)),
        ...fact("agent", short(lane.path || "the run", 80)),
        ...fact("took", duration(endOf(view, at) - view.start.get(at))),
        ...fact("at", duration(view.start.get(at))),
        ...(amounts.tokens ? fact(view.used[at] ? "tokens" : "reserved", count(amounts.tokens)) : []),
        ...(charged ? fact("in / out", `${count(charged.input_tokens)} / ${count(charged.output_tokens)}`) : []),
        ...(amounts.micro_usd ? fact("money", money(amounts.micro_usd)) : []),
        ...fact("events", el("span", {}, this.link(view.seqs.get(at)), " – ", this.link(view.lasts.get(at))))),
      this.forking(view.seqs.get(at)));
  }

  /** A new run that has all that was before this step. The button's key is its own: twice is once. @param {number} before */
  forking(before) {
    const { source, run } = this.contents;
    if (!source.fork || before < 3) return null;
    const key = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    const told = el("p", { class: "soft", role: "status" });
    const button = el("button", { type: "button", class: "quiet", onclick: async () => {
      button.disabled = true;
      try {
        const fork = await /** @type {NonNullable<typeof source.fork>} */ (source.fork)(run, before, this.view.seq, key);
        told.replaceChildren("New run ", el("a", { href: `#run=${encodeURIComponent(fork)}` }, short(fork, 80)), ": ",
          el("code", {}, `manyhands resume ${short(fork, 200)}`), " goes on from before this step; then ",
          el("a", { href: `#run=${encodeURIComponent(run)}&with=${encodeURIComponent(fork)}` }, "compare"));
      } catch (error) {
        told.replaceChildren(`Not forked: ${inert(error instanceof Error ? error.message : error)}`);
        button.disabled = false;
      }
    } }, "Fork before this step");
    return el("div", { class: "forking" }, button, told);
  }

  /** @param {string} title @param {(Node | string)[]} children */
  part(title, children) {
    const id = `part-${title.split(" ")[0].toLowerCase()}`;
    return el("section", { class: "part", "aria-labelledby": id, "data-part": title.split(" (")[0] },
      el("h3", { id }, title), children);
  }

  /** @param {number} seq */
  link(seq) {
    return el("button", { type: "button", class: "seq", "aria-label": `event ${seq}`, onclick: () => this.onSeq(seq) }, `#${seq}`);
  }

  // ------------------------------------------------------------------ Saw

  /** @param {Lane} lane @param {number} at */
  saw(lane, at) {
    const shown = shownTo(lane, this.view.keys[at]);
    if (!shown) return [unknown("no context of this request is in the journal")];
    return [
      el("p", { class: "soft" }, `${shown.entries.length} messages${shown.whole ? "" : " – unknown whether these are all: the records do not follow from each other"}; open one to read it`),
      el("ol", { class: "items" }, shown.entries.map((entry) => this.entry(entry))),
    ];
  }

  /** @param {Entry} entry */
  entry(entry) {
    const title = el("span", {}, badge(entry.status), el("b", {}, ` ${short(entry.role, 20)} `),
      el("span", { class: "soft" }, "from ", this.origin(entry)));
    const parts = entry.parts.map((part) => el("li", {}, this.contents.lazy(
      el("span", {}, badge(part.status), ` ${short(part.title || "untitled", 80)} `,
        el("span", { class: "soft" }, "from ", this.origin(part))), part.blob)));
    return el("li", {}, this.contents.lazy(title, entry.blob, messageText),
      parts.length ? el("ul", { class: "items" }, parts) : null);
  }

  /** @param {{origin: string, agent: string}} from */
  origin(from) {
    const by = from.agent && from.agent !== "unknown" ? short(from.agent, 60) : "";
    const origin = from.origin && from.origin !== "unknown" ? short(from.origin, 80) : "";
    if (!by && !origin) return el("span", {}, "unknown");
    return el("span", {}, [by, origin].filter(Boolean).join(" · "));
  }

  /** What a tool or a check was given. @param {Lane} lane @param {number} at */
  sawOf(lane, at) {
    const key = originOf(this.view.keys[at]);
    const tool = /^(.*\/turn\/\d+(?:\/again-\d+)?)\/tool\/(\d+)$/.exec(key) ?? /^(turn\/\d+)\/tool\/(\d+)$/.exec(key);
    if (!tool) return [unknown("only a hash of what this step was given is journaled")];
    const asked = this.requestOf(lane, tool[1]);
    if (asked < 0) return [unknown("the request that called it is not in the journal")];
    const pick = (/** @type {string} */ text) => {
      const call = JSON.parse(text).calls?.[Number(tool[2])];
      return call ? `${call.name}(${call.arguments})` : "unknown";
    };
    const box = this.contents.lazy(el("span", {}, "the call, from ", el("b", {}, short(titleOf(this.view, asked)))),
      `${this.view.lasts.get(asked)}/value`, pick);
    box.open = true;
    return [box];
  }

  /** The last attempt of a turn's request. @param {Lane} lane @param {string} turn */
  requestOf(lane, turn) {
    let found = -1;
    for (let i = 0; i < lane.spans.length; i++) {
      const at = lane.spans.get(i);
      if (this.view.kind.get(at) === KIND.REQUEST && this.view.keys[at].startsWith(`${turn}/`)) found = at;
    }
    return found;
  }

  // ------------------------------------------------------------------ Returned

  /** @param {number} at @param {any} value @returns {(Node | string)[]} */
  returned(at, value) {
    const view = this.view;
    const about = view.about[at] ?? {};
    const last = view.lasts.get(at);
    /** @type {(Node | string)[]} */
    const made = [];
    if (about.error) made.push(el("p", { class: "wrong" }, `✕ ${short(about.error, 80)}: ${short(value?.message ?? about.message ?? "", 2000)}`));
    if (value && view.kind.get(at) === KIND.REQUEST) made.push(...attempt(value));
    else if (value && typeof value === "object" && typeof value.text === "string") {
      made.push(textBox(value.text));
    } else if (value !== null) made.push(textBox(typeof value === "string" ? value : JSON.stringify(value, null, 2)));
    if (!made.length) made.push(unknown(view.state.get(at) === 0 ? "it is not over" : "no value is journaled, or it is too large to be shown at once"));
    made.push(this.contents.lazy("raw bytes of the value", `${last}/value`), this.contents.lazy("raw data of the event", `${last}/data`));
    return made;
  }

  // ------------------------------------------------------------------ Parent did

  /** @param {Lane} lane @param {number} at @param {any} value @returns {Promise<(Node | string)[]>} */
  async did(lane, at, value) {
    const view = this.view;
    const key = view.keys[at];
    const request = view.kind.get(at) === KIND.REQUEST;
    const last = request && lane.path && lane.endSeq > 0 && this.requestOf(lane, lane.path) === at;
    if (request && !last) {
      return [el("p", { class: "soft" }, lane.endSeq ? "A parent is shown an agent's report, which is its last request's answer; this one stayed with the agent." : "The agent has not reported yet.")];
    }
    const what = last
      ? { origins: [lane.path, `${lane.path}/end`, originOf(key)], agent: lane.path, after: lane.endSeq }
      : { origins: [originOf(key), key], agent: "", after: view.seqs.get(at) };
    const uses = usesOf(view, what);
    if (!uses.length) return [unknown(last ? "no later context names this agent's report" : "no context names this step")];
    /** @type {Node[]} */
    const made = [el("ul", { class: "items" }, uses.map((use) => this.use(use)))];
    if (last) made.push(await this.kept(uses, value));
    return made;
  }

  /** @param {Use} use */
  use(use) {
    const how = { added: "went in whole", compacted: "compacted", dropped: "dropped" }[use.status] ?? use.status;
    const inside = use.exact ? "" : " (inside of a message that holds it; which spans: below, word for word)";
    return el("li", {}, this.contents.lazy(el("span", {}, badge(use.status === "added" ? "kept" : use.status),
      ` ${how} in the context of `, el("b", {}, short(use.reader || "the run", 80)), ` at #${use.seq}${inside}`),
    use.blob, messageText));
  }

  /** Which texts of a report stand word for word in what the reader was shown. @param {Use[]} uses @param {any} value */
  async kept(uses, value) {
    const spans = spansOf(answerOf(value)).slice(0, 60);
    if (!spans.length) return unknown("the report has no texts to look for");
    const first = uses.find((use) => use.status === "added") ?? uses[0];
    let there = "";
    try {
      const read = await this.contents.read(first.blob);
      if (read.whole) there = plain(messageText(read.text));
    } catch { /* told below */ }
    return el("table", { class: "spans" }, el("caption", {}, "Spans of the report"),
      el("tbody", {}, spans.map(({ name, text }) => el("tr", {},
        el("td", {}, badge(!there ? "unknown" : there.includes(plain(text)) ? "kept" : "unknown")),
        el("th", { scope: "row" }, short(name, 60)), el("td", {}, short(text, 160)),
        el("td", { class: "soft" }, !there ? "cannot be read" : there.includes(plain(text)) ? "" : "not there word for word")))));
  }

  // ------------------------------------------------------------------ Delta

  /** @param {Lane} lane @param {number} at */
  delta(lane, at) {
    const key = this.view.keys[at];
    const shown = this.view.kind.get(at) === KIND.REQUEST ? shownTo(lane, key) : null;
    if (!shown) return [el("p", { class: "soft" }, "Only a model request has a context that changes.")];
    const changes = [...shown.entries.filter((e) => e.status !== "kept"), ...shown.dropped];
    if (!changes.length) return [el("p", { class: "soft" }, "Nothing has changed since the agent's last call.")];
    const before = lane.contexts[lane.contexts.indexOf(shown.record) - 1];
    return [
      el("p", { class: "soft" }, before ? `${changes.length} changes since the call at #${before.seq}; ${shown.entries.length - changes.filter((e) => e.status !== "dropped").length} messages kept` : "The agent's first call."),
      el("ul", { class: "items" }, changes.map((entry) => el("li", {}, this.contents.lazy(
        el("span", {}, badge(entry.status), ` ${short(entry.role ?? "", 20)} from `, this.origin(entry), this.event(entry.origin)), entry.blob, messageText)))),
    ];
  }

  /** The event that an origin names, if it names one. @param {string} origin @returns {Node | string} */
  event(origin) {
    const view = this.view;
    const at = view.steps.get(origin) ?? view.steps.get(`${origin}/1`) ?? view.steps.get(`${origin}/act`) ?? view.groups.get(origin);
    if (at !== undefined) return el("span", {}, " · event ", this.link(view.lasts.get(at)));
    return origin?.startsWith("role:") ? "" : " · event unknown";
  }
}

/** @param {string} name @param {Node | string} value */
function fact(name, value) {
  return [el("dt", {}, name), el("dd", {}, value)];
}

/** @param {string} why */
function unknown(why) {
  return el("p", { class: "soft" }, badge("unknown"), ` – ${why}`);
}

/** The reply of a model: text, calls, usage, latency. @param {any} value @returns {(Node | string)[]} */
function attempt(value) {
  const charged = value.charged ?? {};
  const said = value.reported;
  /** @type {(Node | string)[]} */
  const made = [el("dl", { class: "facts" },
    ...fact("model", short(value.model ?? "unknown", 60)),
    ...fact("charged", `${count(charged.input_tokens)} in, ${count(charged.output_tokens)} out, ${money(charged.micro_usd ?? 0)}`),
    ...fact("server says", said ? `${count(said.input_tokens)} in, ${count(said.output_tokens)} out` : "unknown"),
    ...fact("latency", duration(value.seconds ?? NaN)),
    ...fact("first token", value.first_token_seconds === null || value.first_token_seconds === undefined ? "unknown" : duration(value.first_token_seconds)),
    ...fact("queued", duration(value.queued_seconds ?? NaN)),
    ...fact("finish", short(value.finish_reason || "unknown", 40)))];
  if (value.dispute) made.push(el("p", { class: "wrong" }, `Disputed: ${short(value.dispute, 500)}`));
  if (value.reasoning) made.push(el("h4", {}, "Reasoning"), textBox(value.reasoning));
  if (value.text) made.push(el("h4", {}, "Text"), textBox(value.text));
  for (const call of value.calls ?? []) made.push(el("h4", {}, `Call of ${short(call.name, 80)}`), textBox(pretty(call.arguments)));
  for (const error of value.errors ?? []) made.push(el("p", { class: "wrong" }, `Not readable: ${short(error, 500)}`));
  if (!value.text && !value.calls?.length && !value.error) made.push(el("p", { class: "soft" }, "An empty reply."));
  return made;
}

/** @param {string} text */
function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return String(text);
  }
}

/** What an agent handed in: the arguments of its last call, or its text. @param {any} value */
function answerOf(value) {
  const text = value?.calls?.length ? value.calls[value.calls.length - 1].arguments : value?.text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** Text without what JSON and lines do to it. @param {string} text */
function plain(text) {
  return text.replace(/\\[nt"\\]/g, " ").replace(/[\s"]+/g, " ").trim();
}

// Contents, read when they are looked at, a piece at a time, and shown as inert text.
//
// Invariant: however large a content is, so much of it is in the page as was asked for.

import { byId, count, el, inert } from "./dom.js";

/** Bytes of a piece; what one click adds. */
export const PIECE = 16_384;
/** Bytes that are read to look into a value. */
const WHOLE = 1_048_576;

/**
 * @typedef {import("./source.js").Source} Source
 * @typedef {{text: string, total: number, whole: boolean}} Read
 */

export class Contents {
  /** @param {Source} source @param {string} run */
  constructor(source, run) {
    this.source = source;
    this.run = run;
    /** @type {Map<string, Promise<any>>} */
    this.read_ = new Map();
  }

  /** @param {string} name @param {number} [most] @returns {Promise<Read>} */
  async read(name, most = WHOLE) {
    const { bytes, total } = await this.source.content(this.run, name, 0, most);
    return { text: new TextDecoder().decode(bytes), total, whole: bytes.length >= total };
  }

  /** The value of an event; null: it has none, or is too large to be looked into. @param {number} seq @param {string} part */
  async json(seq, part = "value") {
    try {
      const { text, whole } = await this.read(`${seq}/${part}`);
      return whole ? JSON.parse(text) : null;
    } catch {
      return null;
    }
  }

  /** As `json`, read once: an event never changes. @param {number} seq @param {string} part @returns {Promise<any>} */
  kept(seq, part) {
    const name = `${seq}/${part}`;
    const known = this.read_.get(name);
    if (known) return known;
    const found = this.json(seq, part).then((value) => {
      if (value === null) this.read_.delete(name); // it may be there the next time
      return value;
    });
    this.read_.set(name, found);
    return found;
  }

  /** A content that is loaded when it is opened. @param {string | Node} title @param {string} name @param {(text: string) => string} [pick] */
  lazy(title, name, pick) {
    const body = el("div", { class: "content-body" });
    const box = el("details", { class: "content" }, el("summary", {}, title), body);
    box.addEventListener("toggle", () => {
      if (box.open && !body.childElementCount) void this.fill(body, name, pick);
    });
    return box;
  }

  /** @param {HTMLElement} body @param {string} name @param {(text: string) => string} [pick] */
  async fill(body, name, pick) {
    try {
      if (pick) {
        const { text, whole } = await this.read(name);
        if (whole) {
          body.append(textBox(pick(text)));
          return;
        }
      }
      await this.pieces(body, name);
    } catch (error) {
      body.append(el("p", { class: "soft" }, `unknown: ${inert(error instanceof Error ? error.message : error)}`));
    }
  }

  /** The first piece, and a button for the next. @param {HTMLElement} body @param {string} name */
  async pieces(body, name) {
    const decoder = new TextDecoder();
    const box = el("pre", { class: "text", tabindex: "0" });
    const more = el("button", { type: "button", class: "more" });
    let at = 0;
    const next = async () => {
      const { bytes, total } = await this.source.content(this.run, name, at, PIECE);
      at += bytes.length;
      box.append(inert(decoder.decode(bytes, { stream: at < total })));
      more.hidden = at >= total || !bytes.length;
      more.textContent = `Show more (${count(at)} of ${count(total)} bytes)`;
    };
    more.addEventListener("click", () => void next());
    body.append(box, more);
    await next();
  }
}

/** Text as it is; what is long is cut, and shown whole on demand. @param {string} text */
export function textBox(text) {
  const box = el("pre", { class: "text", tabindex: "0" }, inert(text.slice(0, PIECE)));
  if (text.length <= PIECE) return box;
  let at = PIECE;
  const more = el("button", { type: "button", class: "more" });
  const told = () => {
    more.hidden = at >= text.length;
    more.textContent = `Show more (${count(at)} of ${count(text.length)} characters)`;
  };
  more.addEventListener("click", () => {
    box.append(inert(text.slice(at, at + PIECE)));
    at += PIECE;
    told();
  });
  told();
  return el("div", {}, box, more);
}

/** What a chat message says, of its JSON. @param {string} text */
export function messageText(text) {
  try {
    const message = JSON.parse(text);
    const calls = (message.tool_calls ?? []).map((/** @type {any} */ call) =>
      `→ ${call.function?.name}(${call.function?.arguments})`);
    const said = typeof message.content === "string" ? message.content : JSON.stringify(message.content, null, 2);
    return [said, ...calls].filter(Boolean).join("\n");
  } catch {
    return text;
  }
}

/** Say something to those who do not see it. @param {string} text */
export function announce(text) {
  byId("told").textContent = text;
}

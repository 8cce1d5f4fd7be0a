// Elements, and words for figures. Text enters a page here, and only as text.

/** Controls, and marks that turn or hide the direction of writing: shown as what they are. */
const INVISIBLE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;

/** Text that cannot move a cursor, turn the writing around or hide. @param {unknown} text */
export function inert(text) {
  return String(text).replace(INVISIBLE, (mark) => `␛U+${
    mark.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}`);
}

/** One line of it, of at most `most` characters. @param {unknown} text @param {number} most */
export function short(text, most = 120) {
  const line = inert(String(text).slice(0, most * 2).replace(/\s+/g, " "));
  return line.length > most ? `${line.slice(0, most - 1)}…` : line;
}

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, any>} [about] attributes; `on…`: listeners; `class`
 * @param {...(Node | string | null | undefined | (Node | string | null | undefined)[])} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function el(tag, about = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(about)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined) made.append(child);
  }
  return made;
}

/** @template {HTMLElement} T @param {string} id @returns {T} */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return /** @type {T} */ (found);
}

const NUMBERS = new Intl.NumberFormat("en-US");

/** @param {number | undefined} value */
export function count(value) {
  return NUMBERS.format(value ?? 0);
}

/** @param {number} micro millionths of a US dollar */
export function money(micro) {
  return `$${(micro / 1e6).toFixed(micro && micro < 10_000 ? 6 : 4)}`;
}

/** @param {number} seconds */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 0.0995) return `${(seconds * 1000).toFixed(seconds < 0.00995 ? 1 : 0)} ms`;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  const whole = Math.floor(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** @param {number} ts unix seconds */
export function clock(ts) {
  return new Date(ts * 1000).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" });
}

/** A status is a sign, a word and a colour, never a colour alone. @param {string} word */
export function badge(word) {
  const sign = SIGNS[word] ?? "•";
  return el("span", { class: "badge", "data-status": word }, el("span", { "aria-hidden": "true" }, sign), ` ${short(word, 40)}`);
}

/** @type {Record<string, string>} */
const SIGNS = {
  running: "▶", started: "▶", completed: "✓", done: "✓", complete: "✓", accepted: "✓", kept: "=",
  added: "+", failed: "✕", killed: "✕", rejected: "✕", dropped: "−", interrupted: "‖", stopped: "■", damaged: "✕",
  blocked: "?", in_doubt: "?", unknown: "?", partial: "◐", compacted: "≈", retrying: "↻",
  ok: "✓", promoted: "▲", "not better": "▽", inconclusive: "?", crashed: "✕", "timed out": "✕",
  timeout: "✕", merged: "✓", ship: "✓", revise: "↻", conflict: "✕", refused: "✕", "held back": "‖",
  "given other": "≠", "ended other": "≠", "not here": "–",
  waiting: "?", pending: "·", doing: "▶", measured: "✓", paused: "‖", pausing: "‖",
  human: "☺", resuming: "▶", ended: "■",
  proposed: "○", superseded: "⤳", stale: "⌛",
};

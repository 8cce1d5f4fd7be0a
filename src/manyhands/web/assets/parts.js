// What the views of the teams are made of: records read when they are needed, lists that are as long
// as they are read, diffs, and boxes that stay open while the view is drawn anew.

import { badge, count, el, inert, short } from "./dom.js";
import { textBox } from "./contents.js";

/**
 * @typedef {import("./view.js").View} View
 * @typedef {import("./view.js").Event} Event
 * @typedef {{view: View, contents: import("./contents.js").Contents, colours: Record<string, string>,
 *   onSeq: (seq: number) => void, onSpan: (at: number) => void}} Desk
 */

/** The data of all records of a type; of those that were too long for the structure, as they are read. @param {Desk} desk @param {string} type @returns {Promise<any[]>} */
export async function records(desk, type) {
  const events = desk.view.written.get(type) ?? [];
  return (await Promise.all(events.map((event) => recordOf(desk, event)))).filter(Boolean);
}

/** @param {Desk} desk @param {Event} event @returns {Promise<any>} */
export async function recordOf(desk, event) {
  const data = event.cut ? await desk.contents.kept(event.seq, "data") : event.data;
  return data && typeof data === "object" ? { ...data, seq: event.seq, ts: event.ts, key: event.key } : null;
}

/** A part that is filled in when what it needs has been read. @param {Promise<(Node | string | null)[]>} made */
export function soon(made) {
  const box = el("div", { class: "soon" });
  const filled = (/** @type {(Node | string | null)[]} */ children) => {
    box.replaceChildren(...children.filter((child) => child !== null));
    box.dataset.filled = "true";
  };
  made.then(filled).catch((error) => filled([el("p", { class: "soft" },
    badge("unknown"), ` – ${inert(error instanceof Error ? error.message : error)}`)]));
  return box;
}

/** @param {string} title @param {...(Node | string | null)} children */
export function section(title, ...children) {
  return el("section", { class: "team-part", "data-part": title }, el("h3", {}, title), children);
}

/**
 * @param {string} caption @param {string[]} head names; those that begin with `>` are numbers
 * @param {(Node | string)[][]} rows
 */
export function table(caption, head, rows) {
  const number = head.map((name) => (name.startsWith(">") ? "number" : null));
  return el("div", { class: "wide" }, el("table", {}, el("caption", {}, caption),
    el("thead", {}, el("tr", {}, head.map((name, i) => el("th", { scope: "col", class: number[i] }, name.replace(/^>/, ""))))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell, i) => el("td", { class: number[i] }, cell)))))));
}

/** A box that is filled when it is opened. @param {string} id of its own, by which it is opened again @param {Node | string} title @param {() => Promise<(Node | string | null)[]> | (Node | string | null)[]} fill */
export function fold(id, title, fill) {
  const body = el("div", { class: "content-body" });
  const box = el("details", { class: "content", "data-fold": id }, el("summary", {}, title), body);
  box.addEventListener("toggle", () => {
    if (box.open && !body.childElementCount) body.append(soon((async () => fill())()));
  });
  return box;
}

/** @param {Desk} desk @param {number} seq */
export function seqLink(desk, seq) {
  return el("button", { type: "button", class: "seq", "aria-label": `event ${seq}`, onclick: () => desk.onSeq(seq) }, `#${seq}`);
}

/** Lines of a diff, each with its sign. @param {string} text */
export function diffBox(text) {
  if (!text) return el("p", { class: "soft" }, "No change.");
  const lines = text.split("\n");
  const shown = lines.slice(0, 400);
  const box = el("pre", { class: "text diff", tabindex: "0" }, shown.map((line) => {
    const kind = /^(?:diff|index|---|\+\+\+|@@)/.test(line) ? "at" : line[0] === "+" ? "plus" : line[0] === "-" ? "minus" : "";
    return kind ? el("span", { class: kind }, `${inert(line.slice(0, 2000))}\n`) : `${inert(line.slice(0, 2000))}\n`;
  }));
  return lines.length > shown.length ? el("div", {}, box, fold(`diff-${lines.length}`, `${count(lines.length - shown.length)} more lines`, () => [textBox(lines.slice(shown.length).join("\n"))])) : box;
}

/** @param {string} text @param {number} [most] */
export function words(text, most = 400) {
  return el("span", {}, short(text, most));
}

/** @param {any} list @param {(each: any) => (Node | string | (Node | string | null)[])} made @param {string} none */
export function listed(list, made, none) {
  const items = Array.isArray(list) ? list : [];
  if (!items.length) return el("p", { class: "soft" }, none);
  const shown = items.slice(0, 60);
  return el("ul", { class: "items plain" }, shown.map((each) => el("li", {}, made(each))),
    items.length > shown.length ? [el("li", { class: "soft" }, `${count(items.length - shown.length)} more`)] : []);
}

/** @param {string} word @param {Node | string | null} [more] */
export function state(word, more = null) {
  return el("span", {}, badge(String(word)), more ? el("span", { class: "soft" }, " ", more) : null);
}

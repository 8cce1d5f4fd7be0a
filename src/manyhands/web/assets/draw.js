// Lanes, spans and arrows on a canvas: what is many is drawn, and is no element.
//
// Invariant: what is drawn depends on the window and on the view alone; of spans that fall into the
// same pixel of the same row one is drawn, so a frame's work is bounded by the window's size. A kind
// is a height and a shape as well as a colour; so is a failure.

import { KIND, STATE } from "./keys.js";
import { PAD, ROW, endOf, rangeOf, tickOf, titleOf } from "./layout.js";

/**
 * @typedef {import("./view.js").View} View
 * @typedef {import("./layout.js").Strip} Strip
 * @typedef {{from: number, scale: number, left: number, width: number, height: number,
 *   top: number}} Window
 * @typedef {Record<string, string>} Colours
 */

export const AXIS = 22;
const ARROWS = 300;
const TEXT_FROM = 34;
/** Of a row, by kind: how high a span is. */
const HEIGHTS = [14, 14, 14, 6, 10, 4, 8];

/** The page's colours as they are now. @returns {Colours} */
export function coloursOf() {
  const style = getComputedStyle(document.documentElement);
  /** @type {Colours} */
  const found = {};
  for (const name of ["ink", "soft", "line", "paper", "panel", "request", "tool", "check", "wait",
    "step", "harness", "note", "bad", "doubt", "on", "focus", "hit"]) {
    found[name] = style.getPropertyValue(`--${name}`).trim();
  }
  return found;
}

const NAMES = ["request", "tool", "check", "wait", "step", "harness", "note"];

/**
 * Draw a window; returns how many spans were drawn.
 * @param {CanvasRenderingContext2D} pen @param {View} view @param {Strip[]} strips those to be seen
 * @param {Window} window @param {Colours} colours
 * @param {{selected: number, hits: Set<number> | null}} marked
 */
export function drawLanes(pen, view, strips, window, colours, marked) {
  pen.clearRect(0, 0, window.width, window.height);
  drawAxis(pen, window, colours);
  pen.save();
  pen.beginPath();
  pen.rect(0, AXIS, window.width, window.height - AXIS);
  pen.clip();
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "middle";
  let drawn = 0;
  for (const strip of strips) {
    const top = strip.top - window.top + AXIS;
    pen.fillStyle = colours.line;
    pen.fillRect(0, top + strip.height - 1, window.width, 1);
    drawn += drawStrip(pen, view, strip, top, window, colours, marked);
  }
  drawArrows(pen, view, strips, window, colours);
  pen.restore();
  return drawn;
}

/** @param {CanvasRenderingContext2D} pen @param {Window} window @param {Colours} colours */
function drawAxis(pen, window, colours) {
  const seconds = (window.width - window.left) / window.scale;
  const tick = tickOf(seconds, (window.width - window.left) / 90);
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "middle";
  for (let i = Math.max(0, Math.ceil(window.from / tick)); ; i++) {
    const x = Math.round(window.left + (i * tick - window.from) * window.scale);
    if (x > window.width) break;
    if (x < window.left) continue;
    pen.fillStyle = colours.line;
    pen.fillRect(x, AXIS - 5, 1, window.height);
    pen.fillStyle = colours.soft;
    pen.fillText(tickText(i * tick, tick), x + 4, AXIS / 2);
  }
}

/** @param {number} time @param {number} tick */
function tickText(time, tick) {
  if (tick < 1e-3) return `${(time * 1e3).toFixed(tick < 1e-4 ? 2 : 1)} ms`;
  if (tick < 1) return time < 1 ? `${Math.round(time * 1e3)} ms` : `${time.toFixed(tick < 0.1 ? (tick < 0.01 ? 3 : 2) : 1)} s`;
  const minutes = Math.floor(time / 60);
  const seconds = Math.round(time % 60);
  if (!minutes) return `${seconds} s`;
  const hours = Math.floor(minutes / 60);
  const rest = `${hours ? String(minutes % 60).padStart(2, "0") : minutes}:${String(seconds).padStart(2, "0")}`;
  return hours ? `${hours}:${rest}` : rest;
}

/**
 * @param {CanvasRenderingContext2D} pen @param {View} view @param {Strip} strip @param {number} top
 * @param {Window} window @param {Colours} colours
 * @param {{selected: number, hits: Set<number> | null}} marked
 */
function drawStrip(pen, view, strip, top, window, colours, marked) {
  const { from, scale, left, width } = window;
  const [low, high] = rangeOf(view, strip.lane, from, from + (width - left) / scale);
  const last = new Array(8).fill(-1);
  const lastWrong = new Array(8).fill(-1);
  const spans = strip.lane.spans.data;
  const starts = view.start.data;
  let drawn = 0;
  for (let i = low; i < high; i++) {
    const at = spans[i];
    const x = left + (starts[at] - from) * scale;
    const end = left + (endOf(view, at) - from) * scale;
    if (end < left) continue;
    const row = view.row.data[at];
    const pixel = Math.floor(Math.max(end, x + 1));
    const wrong = view.state.data[at] >= STATE.FAILED || view.bad.data[at] === 1;
    const before = wrong ? lastWrong : last;
    if (pixel <= before[row] && at !== marked.selected) continue;
    before[row] = last[row] = pixel;
    drawSpan(pen, view, at, Math.max(left, x), Math.min(width, end), top + PAD + row * ROW, colours, marked);
    drawn++;
  }
  return drawn;
}

/**
 * @param {CanvasRenderingContext2D} pen @param {View} view @param {number} at @param {number} x
 * @param {number} end @param {number} y @param {Colours} colours
 * @param {{selected: number, hits: Set<number> | null}} marked
 */
function drawSpan(pen, view, at, x, end, y, colours, marked) {
  const kind = view.kind.get(at);
  const state = view.state.get(at);
  const wide = Math.max(kind === KIND.NOTE ? 3 : 2, end - x);
  const high = HEIGHTS[kind];
  const top = y + (ROW - 4 - high) / 2;
  const wrong = state === STATE.FAILED || view.bad.get(at) === 1;
  const faded = marked.hits !== null && !marked.hits.has(at);
  pen.globalAlpha = faded ? 0.18 : 1;
  pen.fillStyle = colours[wrong ? "bad" : state === STATE.IN_DOUBT ? "doubt" : NAMES[kind]];
  if (kind === KIND.NOTE) diamond(pen, x, y + (ROW - 4) / 2);
  else pen.fillRect(x, top, wide, high);
  if (wrong || state === STATE.IN_DOUBT) pen.fillRect(x, y - 2, Math.max(3, Math.min(wide, 8)), 3);
  if (state === STATE.STARTED && wide > 4) hatch(pen, x, top, wide, high, colours.panel);
  if (wide > TEXT_FROM && high >= 10) {
    pen.fillStyle = kind === KIND.STEP && !wrong ? colours.ink : colours.on;
    const most = Math.floor((wide - 8) / 6.2);
    const title = `${wrong ? "✕ " : ""}${titleOf(view, at)}`;
    pen.fillText(title.length > most ? `${title.slice(0, Math.max(1, most - 1))}…` : title, x + 4, y + (ROW - 4) / 2 + 0.5);
  }
  pen.globalAlpha = 1;
  if (at === marked.selected) {
    pen.strokeStyle = colours.focus;
    pen.lineWidth = 2;
    pen.strokeRect(x - 2, y - 2, wide + 4, ROW);
  }
}

/** @param {CanvasRenderingContext2D} pen @param {number} x @param {number} y */
function diamond(pen, x, y) {
  pen.beginPath();
  pen.moveTo(x, y - 5);
  pen.lineTo(x + 4, y);
  pen.lineTo(x, y + 5);
  pen.lineTo(x - 4, y);
  pen.fill();
}

/** Stripes over what is not over yet. @param {CanvasRenderingContext2D} pen @param {number} x @param {number} y @param {number} wide @param {number} high @param {string} colour */
function hatch(pen, x, y, wide, high, colour) {
  pen.strokeStyle = colour;
  pen.lineWidth = 1;
  pen.beginPath();
  for (let at = Math.max(x, x + wide - 240); at < x + wide - 3; at += 6) {
    pen.moveTo(at, y + high);
    pen.lineTo(Math.min(at + high, x + wide), y);
  }
  pen.stroke();
}

/** @param {CanvasRenderingContext2D} pen @param {View} view @param {Strip[]} strips @param {Window} window @param {Colours} colours */
function drawArrows(pen, view, strips, window, colours) {
  const tops = new Map(strips.map((strip) => [strip.lane.index, strip.top - window.top + AXIS]));
  let left = ARROWS;
  pen.lineWidth = 1.25;
  for (const arrow of view.arrows) {
    const from = tops.get(arrow.from);
    const to = tops.get(arrow.to);
    if (from === undefined && to === undefined) continue;
    const x = window.left + (arrow.time - window.from) * window.scale;
    if (x < window.left || x > window.width || left-- <= 0) continue;
    const middle = PAD + 7;
    const start = from === undefined ? (arrow.kind === "return" ? window.height : 0) : from + middle;
    const end = to === undefined ? (arrow.kind === "return" ? 0 : window.height) : to + middle;
    const way = end > start ? 1 : -1;
    pen.strokeStyle = colours.soft;
    pen.fillStyle = colours.soft;
    pen.setLineDash(arrow.kind === "return" ? [3, 3] : []);
    pen.beginPath();
    pen.moveTo(x, start + way * 8);
    pen.lineTo(x, end - way * 9);
    pen.stroke();
    pen.setLineDash([]);
    pen.beginPath();
    pen.moveTo(x, end - way * 7);
    pen.lineTo(x - 3.5, end - way * 13);
    pen.lineTo(x + 3.5, end - way * 13);
    pen.fill();
  }
}

// Small charts on a canvas, with what they show in words beside them.
//
// Invariant: a mark that matters is a shape as well as a colour, and the words below a chart say its
// last value, so that nothing has to be read off it.

import { el } from "./dom.js";

/**
 * @typedef {{x: number, y: number, shape: "dot" | "cross" | "up", colour: string}} Mark
 * @typedef {{from: number, to: number, y: number, low: number, high: number}} Level
 * @typedef {{row: number, from: number, to: number, colour: string, bad: boolean, text: string}} Bar
 * @typedef {Record<string, string>} Colours
 */

const LEFT = 64;
const BOTTOM = 18;

/**
 * A figure whose canvas is drawn when it is in the page, and again when its width has changed.
 * @param {string} title @param {string} words @param {number} height
 * @param {(pen: CanvasRenderingContext2D, width: number, height: number) => void} draw
 */
export function chart(title, words, height, draw) {
  const canvas = el("canvas", { role: "img", "aria-label": `${title}: ${words}` });
  const box = el("div", { class: "chart-box" }, canvas);
  box.style.height = `${height}px`;
  const paint = () => {
    const width = box.clientWidth;
    if (!width) return;
    const ratio = Math.min(2, devicePixelRatio || 1);
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    pen.scale(ratio, ratio);
    pen.font = "11px system-ui, sans-serif";
    pen.textBaseline = "middle";
    draw(pen, width, height);
  };
  new ResizeObserver(paint).observe(box);
  return el("figure", { class: "chart" }, el("figcaption", {}, title, el("span", { class: "soft" }, ` ${words}`)), box);
}

/**
 * Marks over levels with a band of noise around each.
 * @param {Mark[]} marks @param {Level[]} levels @param {Colours} colours
 */
export function scatter(marks, levels, colours) {
  return (/** @type {CanvasRenderingContext2D} */ pen, /** @type {number} */ width, /** @type {number} */ height) => {
    const [low, high] = rangeOf_(marks, levels);
    const last = Math.max(1, ...marks.map((m) => m.x), ...levels.map((l) => l.to));
    const x = (/** @type {number} */ v) => LEFT + ((width - LEFT - 10) * v) / last;
    const y = (/** @type {number} */ v) => 6 + (height - BOTTOM - 12) * (1 - (v - low) / (high - low));
    scale(pen, low, high, y, width, colours);
    for (const level of levels) {
      pen.globalAlpha = 0.16;
      pen.fillStyle = colours.request;
      pen.fillRect(x(level.from), y(level.high), x(level.to) - x(level.from), Math.max(1, y(level.low) - y(level.high)));
      pen.globalAlpha = 1;
      pen.fillRect(x(level.from), y(level.y) - 1, x(level.to) - x(level.from), 2);
    }
    for (const mark of marks) shape(pen, mark, x(mark.x), Math.min(height - BOTTOM, Math.max(4, y(mark.y))));
    pen.fillStyle = colours.soft;
    pen.textAlign = "left";
    pen.fillText("run 1", LEFT, height - 8);
    pen.textAlign = "right";
    pen.fillText(`run ${Math.round(last)}`, width - 8, height - 8);
  };
}

/** The middle of what there is: one run that went astray does not flatten all others. @param {Mark[]} marks @param {Level[]} levels */
function rangeOf_(marks, levels) {
  const all = [...marks.map((m) => m.y), ...levels.flatMap((l) => [l.low, l.high])].filter(Number.isFinite).sort((a, b) => a - b);
  if (!all.length) return [0, 1];
  const cut = Math.floor(all.length / 40);
  const low = all[cut];
  const high = all[all.length - 1 - cut];
  const air = (high - low || Math.abs(high) || 1) * 0.06;
  return [low - air, high + air];
}

/**
 * @param {CanvasRenderingContext2D} pen @param {number} low @param {number} high
 * @param {(v: number) => number} y @param {number} width @param {Colours} colours
 */
function scale(pen, low, high, y, width, colours) {
  pen.textAlign = "right";
  for (let i = 0; i <= 3; i++) {
    const v = low + ((high - low) * (i + 0.25)) / 3.5;
    pen.fillStyle = colours.line;
    pen.fillRect(LEFT, Math.round(y(v)), width - LEFT, 1);
    pen.fillStyle = colours.soft;
    pen.fillText(figure(v), LEFT - 8, y(v));
  }
}

/** @param {number} v */
export function figure(v) {
  if (v === null || v === undefined || !Number.isFinite(v)) return "–";
  return v && (Math.abs(v) < 1e-3 || Math.abs(v) >= 1e5) ? v.toExponential(2) : String(Number(v.toPrecision(4)));
}

/** @param {CanvasRenderingContext2D} pen @param {Mark} mark @param {number} x @param {number} y */
function shape(pen, mark, x, y) {
  pen.fillStyle = mark.colour;
  pen.strokeStyle = mark.colour;
  pen.lineWidth = 2;
  pen.beginPath();
  if (mark.shape === "dot") pen.arc(x, y, 3, 0, 7);
  else if (mark.shape === "up") {
    pen.moveTo(x, y - 5);
    pen.lineTo(x + 5, y + 4);
    pen.lineTo(x - 5, y + 4);
  } else {
    pen.moveTo(x - 3, y - 3);
    pen.lineTo(x + 3, y + 3);
    pen.moveTo(x + 3, y - 3);
    pen.lineTo(x - 3, y + 3);
    pen.stroke();
    return;
  }
  pen.fill();
}

/** Bars in rows over time. @param {Bar[]} bars @param {string[]} rows @param {Colours} colours */
export function gantt(bars, rows, colours) {
  return (/** @type {CanvasRenderingContext2D} */ pen, /** @type {number} */ width, /** @type {number} */ height) => {
    const from = Math.min(...bars.map((b) => b.from));
    const seconds = Math.max(1e-3, ...bars.map((b) => b.to)) - from;
    const high = (height - BOTTOM) / Math.max(1, rows.length);
    const x = (/** @type {number} */ t) => LEFT + ((width - LEFT - 10) * (t - from)) / seconds;
    rows.forEach((name, i) => {
      pen.fillStyle = colours.line;
      pen.fillRect(0, Math.round((i + 1) * high) - 1, width, 1);
      pen.fillStyle = colours.soft;
      pen.textAlign = "right";
      pen.fillText(name, LEFT - 8, (i + 0.5) * high);
    });
    pen.textAlign = "left";
    for (const bar of bars) {
      const left = x(bar.from);
      const wide = Math.max(1.5, x(bar.to) - left - 1);
      const top = bar.row * high + 4;
      pen.fillStyle = bar.colour;
      pen.fillRect(left, top, wide, high - 9);
      if (bar.bad) {
        pen.fillStyle = colours.bad;
        pen.fillRect(left, top, wide, 3);
      }
      const said = [bar.text, bar.text.split(" ")[0]].find((text) => pen.measureText(text).width < wide - 6);
      if (said) {
        pen.fillStyle = colours.on;
        pen.fillText(said, left + 4, top + (high - 9) / 2);
      }
    }
    pen.fillStyle = colours.soft;
    pen.fillText("0 s", LEFT, height - 8);
    pen.textAlign = "right";
    pen.fillText(`${figure(seconds)} s`, width - 8, height - 8);
  };
}

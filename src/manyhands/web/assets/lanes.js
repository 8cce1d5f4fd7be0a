// The lanes as a control: zoom, pan, choose, by mouse, touch and keyboard.
//
// Invariants: there are as many elements as lanes are to be seen, however many there are; a frame is
// drawn only after something has changed. What is chosen by sight can be chosen by keys, and is told.

import { KIND_NAMES, STATE_NAMES } from "./keys.js";
import { AXIS, coloursOf, drawLanes } from "./draw.js";
import { byId, count, duration, el, inert, short } from "./dom.js";
import { PAD, ROW, endOf, nearest, stripsOf, titleOf, visible } from "./layout.js";
import { spentBelow } from "./sums.js";

/**
 * @typedef {import("./view.js").View} View
 * @typedef {import("./view.js").Lane} Lane
 * @typedef {import("./layout.js").Strip} Strip
 */

export class Lanes {
  /** @param {View} view @param {{onChoose: (at: number) => void, onLane: (path: string) => void, onWindow: () => void}} on */
  constructor(view, on) {
    this.view = view;
    this.on = on;
    this.box = byId("lanes");
    this.room = byId("lanes-room");
    this.labels = byId("labels");
    /** @type {HTMLCanvasElement} */
    this.canvas = byId("spans");
    this.pen = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    this.colours = coloursOf();
    /** @type {Strip[]} */
    this.strips = [];
    this.shape = -1;
    this.from = 0;
    this.seconds = 0; // 0: all that there is
    this.selected = -1;
    /** @type {Set<number> | null} */
    this.hits = null;
    this.asked = false;
    this.drawn = { change: -1, labels: "" };
    /** Measured when it changes: to ask for it in a frame would lay out the page twice. */
    this.size = { width: this.box.clientWidth, height: this.box.clientHeight, top: this.box.scrollTop };
    this.stop = new AbortController();
    this.listen();
  }

  close() {
    this.stop.abort();
  }

  get left() {
    return this.size.width < 620 ? 112 : 232;
  }

  get width() {
    return Math.max(1, this.size.width - this.left);
  }

  /** All that there is, with a little air. */
  get whole() {
    let until = this.view.time;
    for (const lane of this.view.lanes) if (lane.to > until) until = lane.to;
    return Math.max(1e-4, until) * 1.02;
  }

  get window() {
    const seconds = this.seconds || this.whole;
    return {
      from: this.seconds ? this.from : 0, scale: this.width / seconds, left: this.left,
      width: this.size.width, height: this.size.height, top: this.size.top,
    };
  }

  /** Draw at the next frame. */
  ask() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      if (!this.stop.signal.aborted) this.draw();
    });
  }

  draw() {
    if (this.shape !== this.view.shape) {
      this.shape = this.view.shape;
      this.strips = stripsOf(this.view);
      const last = this.strips[this.strips.length - 1];
      const high = last.top + last.height + AXIS;
      this.room.style.height = `${high}px`;
      this.box.style.height = `${Math.max(160, high + 12)}px`;
    }
    const window = this.window;
    const ratio = Math.min(2, devicePixelRatio || 1);
    if (this.canvas.width !== Math.round(window.width * ratio) ||
        this.canvas.height !== Math.round(window.height * ratio)) {
      this.canvas.width = Math.round(window.width * ratio);
      this.canvas.height = Math.round(window.height * ratio);
      this.canvas.style.width = `${window.width}px`;
      this.canvas.style.height = `${window.height}px`;
    }
    this.pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    const seen = visible(this.strips, window.top, window.top + window.height - AXIS);
    const drawn = drawLanes(this.pen, this.view, seen, window, this.colours,
      { selected: this.selected, hits: this.hits });
    this.canvas.dataset.drawn = String(drawn);
    this.canvas.dataset.spans = String(this.view.keys.length);
    this.canvas.dataset.lanes = String(this.strips.length);
    this.label(seen);
    this.on.onWindow();
  }

  /** @param {Strip[]} seen */
  label(seen) {
    const last = seen[seen.length - 1];
    const change = this.view.change;
    const wanted = `${seen[0]?.lane.index}-${last?.lane.index}-${this.shape}-${this.left}`;
    if (wanted === this.drawn.labels && change === this.drawn.change) return;
    this.drawn = { labels: wanted, change };
    const focused = document.activeElement instanceof HTMLElement ? document.activeElement.dataset.lane : "";
    this.labels.replaceChildren(...seen.map((strip) => this.labelOf(strip)));
    if (focused) {
      const again = [...this.labels.children].find((e) => /** @type {HTMLElement} */ (e).dataset.lane === focused);
      if (again instanceof HTMLElement) again.focus({ preventScroll: true });
    }
  }

  /** @param {Strip} strip */
  labelOf({ lane, top, height }) {
    const name = lane.path ? lane.role || lane.path.slice(lane.path.lastIndexOf("/") + 1) : "run";
    const spent = spentBelow(lane);
    const place = short(lane.title || (lane.gathered ? "" : lane.path ? placeOf(lane, name) : this.view.workflow), 60);
    const narrow = this.left < 200 && lane.path && place ? `${short(place, 24)} · ` : "";
    const figures = lane.gathered && !spent.tokens ? short(lane.status || "under way", 30).replaceAll("_", " ") : `${count(spent.tokens)} tok${lane.status ? ` · ${short(lane.status, 30)}` : ""}`;
    const label = el("button", {
      class: "lane-label", type: "button", "data-lane": String(lane.index), title: inert(lane.path).slice(0, 400),
      "aria-label": `agent ${short(name, 60)}, ${place}, level ${lane.depth + 1}, ${figures}`,
      onclick: () => this.on.onLane(lane.path),
    },
    el("span", { class: "lane-name" }, short(name, 40), el("small", {}, ` ${place}`)),
    el("span", { class: "lane-figures", "data-tokens": String(spent.tokens ?? 0) }, narrow + figures));
    label.style.top = `${top + AXIS}px`;
    label.style.height = `${height - 1}px`;
    label.style.width = `${this.left}px`;
    label.style.paddingLeft = `${10 + Math.min(5, lane.depth) * (this.left < 200 ? 5 : 12)}px`;
    return label;
  }

  // ------------------------------------------------------------------ the window

  /** @param {number} factor below 1: nearer @param {number} [at] the time that stays where it is */
  zoom(factor, at) {
    const { from, scale } = this.window;
    const seconds = this.width / scale;
    const about = at ?? (this.selected >= 0 ? this.view.start.get(this.selected) : from + seconds / 2);
    const inside = Math.min(1, Math.max(0, (about - from) / seconds));
    const wanted = Math.min(this.whole, Math.max(1e-5, seconds * factor));
    if (wanted >= this.whole && factor > 1) return this.fit();
    this.seconds = wanted;
    this.look(about - inside * wanted);
  }

  /** @param {number} pixels */
  pan(pixels) {
    const { from, scale } = this.window;
    if (!this.seconds) return;
    this.look(from + pixels / scale);
  }

  /** @param {number} from */
  look(from) {
    this.from = Math.max(-this.seconds * 0.1, Math.min(this.whole - this.seconds * 0.5, from));
    this.ask();
  }

  fit() {
    this.seconds = 0;
    this.from = 0;
    this.ask();
  }

  /** Bring a span into the window. @param {number} at */
  reveal(at) {
    const { from, scale } = this.window;
    const seconds = this.width / scale;
    const start = this.view.start.get(at);
    if (this.seconds && (start < from || start > from + seconds)) this.look(start - seconds * 0.3);
    const strip = this.strips.find((s) => s.lane.index === this.view.lane.get(at));
    if (!strip) return;
    const room = this.box.clientHeight - AXIS;
    if (strip.top < this.box.scrollTop || strip.top + strip.height > this.box.scrollTop + room) {
      this.box.scrollTop = Math.max(0, strip.top - room / 3);
    }
  }

  // ------------------------------------------------------------------ choosing

  /** @param {number} at @param {boolean} [open] */
  choose(at, open = false) {
    this.selected = at;
    if (at >= 0) {
      this.reveal(at);
      byId("told").textContent = this.tell(at);
    }
    this.ask();
    if (open) this.on.onChoose(at);
  }

  /** A span in words. @param {number} at */
  tell(at) {
    const view = this.view;
    const lane = view.lanes[view.lane.get(at)];
    const tokens = view.used[at]?.tokens;
    return `${KIND_NAMES[view.kind.get(at)]} ${short(titleOf(view, at), 80)}, ${
      view.bad.get(at) ? "returned an error" : STATE_NAMES[view.state.get(at)].replace("_", " ")}, ${
      duration(endOf(view, at) - view.start.get(at))}${tokens ? `, ${count(tokens)} tokens` : ""}, agent ${short(lane.path || "run", 80)}`;
  }

  /** The next span of the same agent, or of the agent above or below. @param {number} along @param {number} across */
  step(along, across) {
    const view = this.view;
    if (this.selected < 0) return this.choose(this.strips.length ? view.root.spans.length ? view.root.spans.get(0) : 0 : -1);
    const lane = view.lanes[view.lane.get(this.selected)];
    if (along) {
      let i = 0;
      while (i < lane.spans.length && lane.spans.get(i) !== this.selected) i++;
      const next = Math.min(lane.spans.length - 1, Math.max(0, i + along));
      return this.choose(lane.spans.get(next));
    }
    let i = this.strips.findIndex((s) => s.lane === lane) + across;
    for (; i >= 0 && i < this.strips.length; i += across) {
      const at = nearest(view, this.strips[i].lane, view.start.get(this.selected), -1, Infinity);
      if (at >= 0) return this.choose(at);
    }
  }

  /** @param {number} x @param {number} y within the box */
  under(x, y) {
    const { from, scale, top, left } = this.window;
    if (x < left) return -1;
    const strip = this.strips.find((s) => s.top <= y - AXIS + top && y - AXIS + top < s.top + s.height);
    if (!strip) return -1;
    const row = Math.floor((y - AXIS + top - strip.top - PAD + 2) / ROW);
    return nearest(this.view, strip.lane, from + (x - left) / scale, row, 5 / scale);
  }

  listen() {
    const { signal } = this.stop;
    const on = this.box.addEventListener.bind(this.box);
    on("scroll", () => {
      this.size.top = this.box.scrollTop;
      this.ask();
    }, { signal, passive: true });
    on("wheel", (event) => {
      const across = Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey;
      if (!event.ctrlKey && !event.metaKey && !across) return;
      event.preventDefault();
      const { from, scale, left } = this.window;
      const x = event.clientX - this.box.getBoundingClientRect().left;
      if (across && !event.ctrlKey) this.pan(event.deltaX || event.deltaY);
      else this.zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) * 0.006), from + (x - left) / scale);
    }, { signal, passive: false });
    this.drag(signal);
    on("keydown", (event) => {
      if (event.target === this.box && this.key(event)) event.preventDefault();
    }, { signal });
    const watch = new ResizeObserver(() => {
      this.size = { width: this.box.clientWidth, height: this.box.clientHeight, top: this.box.scrollTop };
      this.ask();
    });
    watch.observe(this.box);
    signal.addEventListener("abort", () => watch.disconnect());
  }

  recolour() {
    this.colours = coloursOf();
    this.ask();
  }

  /** Drag to pan, two fingers to zoom, click to choose. @param {AbortSignal} signal */
  drag(signal) {
    /** @type {Map<number, {x: number, y: number}>} */
    const down = new Map();
    let moved = 0;
    const place = (/** @type {PointerEvent} */ event) => {
      const box = this.box.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      down.set(event.pointerId, place(event));
      moved = 0;
      this.canvas.setPointerCapture(event.pointerId);
    }, { signal });
    this.canvas.addEventListener("pointermove", (event) => {
      const before = down.get(event.pointerId);
      const now = place(event);
      if (!before) {
        const at = this.under(now.x, now.y);
        this.canvas.title = at < 0 ? "" : this.tell(at);
        this.canvas.style.cursor = at < 0 ? "grab" : "pointer";
        return;
      }
      moved += Math.abs(now.x - before.x) + Math.abs(now.y - before.y);
      if (down.size === 2) this.pinch(down, event.pointerId, now);
      else if (moved > 4) {
        this.pan(before.x - now.x);
        this.box.scrollTop += before.y - now.y;
      }
      down.set(event.pointerId, now);
    }, { signal });
    const up = (/** @type {PointerEvent} */ event) => {
      const was = down.get(event.pointerId);
      down.delete(event.pointerId);
      if (event.type === "pointercancel" || !was || moved > 4) return;
      const at = this.under(was.x, was.y);
      this.box.focus({ preventScroll: true });
      if (at >= 0) this.choose(at, true);
    };
    this.canvas.addEventListener("pointerup", up, { signal });
    this.canvas.addEventListener("pointercancel", up, { signal });
  }

  /** @param {Map<number, {x: number, y: number}>} down @param {number} id @param {{x: number, y: number}} now */
  pinch(down, id, now) {
    const other = [...down].find(([each]) => each !== id)?.[1];
    const before = down.get(id);
    if (!other || !before) return;
    const { from, scale, left } = this.window;
    const away = (/** @type {{x: number}} */ p) => Math.max(20, Math.abs(p.x - other.x));
    this.zoom(away(before) / away(now), from + ((now.x + other.x) / 2 - left) / scale);
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    const far = this.width / 5;
    /** @type {Record<string, () => void>} */
    const keys = {
      ArrowRight: () => (event.shiftKey ? this.pan(far) : this.step(1, 0)),
      ArrowLeft: () => (event.shiftKey ? this.pan(-far) : this.step(-1, 0)),
      ArrowDown: () => this.step(0, 1),
      ArrowUp: () => this.step(0, -1),
      "+": () => this.zoom(0.6),
      "=": () => this.zoom(0.6),
      "-": () => this.zoom(1 / 0.6),
      0: () => this.fit(),
      Home: () => this.choose(this.view.keys.length ? 0 : -1),
      End: () => this.choose(this.view.keys.length - 1),
      Enter: () => this.selected >= 0 && this.on.onChoose(this.selected),
    };
    const act = keys[event.key];
    if (act) act();
    return Boolean(act);
  }
}

/** What tells an agent from others of its role: its path below its parent, without turns and places. @param {Lane} lane @param {string} name */
function placeOf(lane, name) {
  const above = lane.parent?.path ?? "";
  const rest = above && lane.path.startsWith(`${above}/`) ? lane.path.slice(above.length + 1) : lane.path;
  const plain = new Set(["agent", "work", "tasks", "turn", "tool", name]);
  return rest.split("/").filter((part) => !plain.has(part) && !/^\d+$/.test(part)).slice(-3).join("/");
}

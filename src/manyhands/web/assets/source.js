// Where events and contents come from: a server, or the file that this page is.
//
// Invariants: events reach `onBatch` once each and in order, however often the line breaks; contents
// are read piece by piece, as bytes.

/**
 * @typedef {{runs: () => Promise<any[]>,
 *   follow: (run: string, after: number, on: Following) => () => void,
 *   content: (run: string, name: string, from: number, most: number) =>
 *     Promise<{bytes: Uint8Array, total: number}>,
 *   exportUrl: boolean,
 *   fork?: (run: string, before: number, seen: number, key: string) => Promise<string>}} Source
 * @typedef {{onBatch: (events: any[]) => void, onHeld: (held: boolean) => void,
 *   onLine: (word: string) => void, onDamage: (why: string) => void}} Following
 */

/** A server, with the token that it gave. @implements {Source} */
export class Live {
  /** @param {string} token */
  constructor(token) {
    this.token = token;
    this.exportUrl = true;
  }

  /** @param {string} path @param {Record<string, string>} [headers] @param {AbortSignal} [signal] @param {string} [body] */
  async ask(path, headers = {}, signal, body) {
    const answer = await fetch(path, {
      method: body === undefined ? "GET" : "POST", body,
      headers: { authorization: `Bearer ${this.token}`, ...headers }, signal, cache: "no-store",
    });
    if (!answer.ok) {
      const told = await answer.json().catch(() => ({}));
      throw new Error(`${told.error ?? `${answer.status} ${answer.statusText}`}${told.next ? ` → ${told.next}` : ""}`);
    }
    return answer;
  }

  /** @returns {Promise<any[]>} */
  async runs() {
    return (await this.ask("/api/runs")).json();
  }

  /** @param {string} run @param {string} name `SEQ/data`, `SEQ/value` or a blob's @param {number} from @param {number} most */
  async content(run, name, from, most) {
    const place = name.startsWith("sha256:")
      ? `/api/blobs/${name}` : `/api/runs/${encodeURI(run)}/events/${name}`;
    const answer = await this.ask(`${place}?from=${from}&most=${most}`);
    const bytes = new Uint8Array(await answer.arrayBuffer());
    return { bytes, total: Number(answer.headers.get("x-total")) };
  }

  /** Follow a run until the returned function is called. @param {string} run @param {number} after @param {Following} on */
  follow(run, after, on) {
    const stop = new AbortController();
    let last = after;
    const once = async () => {
      const path = `/api/runs/${encodeURI(run)}/events`;
      const answer = await this.ask(path, { "last-event-id": String(last) }, stop.signal);
      on.onLine("live");
      await readEvents(answer, (name, id, data) => {
        if (name === "held") on.onHeld(data === "true");
        if (name === "damaged") {
          on.onDamage(JSON.parse(data).filter(Boolean).join(" → "));
          stop.abort();
        }
        if (name !== "batch") return;
        last = Number(id);
        on.onBatch(JSON.parse(data));
      });
    };
    const forever = async () => {
      for (let wait = 250; !stop.signal.aborted; wait = Math.min(wait * 2, 5000)) {
        const before = last;
        try {
          await once();
        } catch (error) {
          if (stop.signal.aborted) return;
          on.onLine(`not connected: ${error instanceof Error ? error.message : error}`);
        }
        if (last !== before) wait = 125;
        await new Promise((resolve) => setTimeout(resolve, wait));
      }
    };
    void forever();
    return () => stop.abort();
  }

  /** A new run with the events before one of this run's; once, however often it is asked with this key. @param {string} run @param {number} before @param {number} seen @param {string} key @returns {Promise<string>} */
  async fork(run, before, seen, key) {
    const answer = await this.ask(`/api/runs/${encodeURI(run)}/fork`, {
      "content-type": "application/json", "if-match": `"${seen}"`, "idempotency-key": key,
    }, undefined, JSON.stringify({ before }));
    return (await answer.json()).run;
  }

  /** The file of an export, as a download. @param {string} run @param {string} form */
  async download(run, form) {
    const answer = await this.ask(`/api/runs/${encodeURI(run)}/export?form=${form}`);
    const url = URL.createObjectURL(await answer.blob());
    const link = document.createElement("a");
    link.href = url;
    link.download = `${run.replace(/[^\w.-]/g, "_")}.${form}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }
}

/** Server-sent events of one answer. @param {Response} answer @param {(name: string, id: string, data: string) => void} onMessage */
async function readEvents(answer, onMessage) {
  if (!answer.body) return;
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  /** @type {string[]} */
  let parts = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    parts.push(value);
    if (!value.includes("\n\n") && !(parts.length > 1 && value.startsWith("\n"))) continue;
    const messages = parts.join("").split("\n\n");
    parts = [/** @type {string} */ (messages.pop())];
    for (const message of messages) {
      /** @type {Record<string, string>} */
      const fields = {};
      for (const line of message.split("\n")) {
        const at = line.indexOf(": ");
        if (at > 0) fields[line.slice(0, at)] = line.slice(at + 2);
      }
      onMessage(fields.event ?? "", fields.id ?? "", fields.data ?? "");
    }
  }
}

/** The file that this page is. @implements {Source} */
export class Stored {
  constructor() {
    this.about = JSON.parse(stored("run"));
    this.exportUrl = false;
    /** @type {any[]} */
    this.events = [];
    /** @type {Record<string, [number, number]> | null} */
    this.places = null;
  }

  async runs() {
    return [];
  }

  /** @param {string} _run @param {string} name @param {number} from @param {number} most */
  async content(_run, name, from, most) {
    this.places ??= /** @type {Record<string, [number, number]>} */ (JSON.parse(stored("places")));
    const place = this.places[name];
    const bytes = place ? Uint8Array.from(
      atob(stored("contents").slice(place[0], place[0] + place[1])), (c) => c.charCodeAt(0)) : this.short(name);
    return { bytes: bytes.slice(from, from + most), total: bytes.length };
  }

  /** Data that is so short that the structure has all of it. @param {string} name */
  short(name) {
    const [seq, part] = name.split("/");
    const event = this.events[Number(seq) - 1];
    if (part !== "data" || !event) throw new Error("this is not in the file");
    return new TextEncoder().encode(JSON.stringify(event.data ?? {}));
  }

  /** @param {string} _run @param {number} after @param {Following} on */
  follow(_run, after, on) {
    this.events = JSON.parse(stored("events")).flat();
    on.onBatch(this.events.filter((/** @type {any} */ event) => event.seq > after));
    on.onHeld(this.about.held);
    on.onLine("file");
    return () => {};
  }
}

/** @param {string} name */
function stored(name) {
  return document.getElementById(`stored-${name}`)?.textContent ?? "";
}

// One trace as a waterfall, in a dialog.

import { byId, h, s, setText } from "./dom.js";
import { clock, duration } from "./format.js";

const dialog = byId("trace");
byId("trace-close").addEventListener("click", () => dialog.close());

/** A button that names a trace by the start of its id, and opens it. */
export function traceButton(traceId) {
  return h(
    "button",
    { type: "button", class: "link", title: `Open trace ${traceId}`, onclick: () => openTrace(traceId) },
    `trace ${traceId.slice(0, 8)}`,
  );
}

export async function openTrace(traceId) {
  setText(byId("trace-title"), `Trace ${traceId}`);
  byId("trace-body").replaceChildren(h("p", { class: "note" }, "Loading…"));
  if (!dialog.open) dialog.showModal();
  try {
    const answer = await fetch(`/api/v1/traces/${encodeURIComponent(traceId)}`);
    if (!answer.ok) throw new Error(answer.status === 404 ? "No span of it has ended yet." : `The dashboard answered ${answer.status}.`);
    show(await answer.json());
  } catch (error) {
    byId("trace-body").replaceChildren(h("p", { class: "empty" }, error.message));
  }
}

function show(trace) {
  const since = Math.min(...trace.spans.map((span) => span.started_at));
  const until = Math.max(...trace.spans.map((span) => span.ended_at), since + 1e-6);
  const logs = trace.logs.map((log) => h("li", {}, h("span", { class: "sub" }, clock(log.at, true)), ` ${log.body}`));
  byId("trace-body").replaceChildren(
    h("p", { class: "note" }, `${trace.spans.length} ${trace.spans.length === 1 ? "span" : "spans"}, ${duration(until - since)}, from ${clock(since, true)}`),
    h("ol", { class: "spans" }, trace.spans.map((span) => row(span, since, until))),
    ...(logs.length ? [h("h3", {}, "Logs"), h("ul", {}, logs)] : []),
  );
}

function row(span, since, until) {
  const scale = (at) => (100 * (at - since)) / (until - since);
  const kind = span.in_progress ? "open" : span.status === "error" ? "error" : "";
  const track = s(
    "svg",
    { class: "track", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("rect", { class: kind, x: scale(span.started_at), y: 0, height: 10, width: Math.max(0.4, scale(span.ended_at) - scale(span.started_at)) }),
  );
  const facts = Object.entries(span.attributes).map(([name, value]) => [name, text(value)]);
  const events = span.events.map((event) => [event.name, Object.values(event.attributes).map(text).join("\n")]);
  const links = span.links.map((link) => ["link", `${link.trace_id} ${link.span_id}`]);
  const status = span.status_message ? [["status", span.status_message]] : [];
  return h(
    "li",
    {},
    h(
      "details",
      {},
      h("summary", {}, h("span", { class: "name" }, span.name, " ", h("span", { class: "sub" }, span.service)), track, h("span", { class: "duration" }, duration(span.duration_s))),
      h("dl", { class: "attributes" }, [...status, ...facts, ...events, ...links].flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    ),
  );
}

const text = (value) => (typeof value === "string" ? value : JSON.stringify(value));

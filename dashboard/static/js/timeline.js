// Waits and holds as swimlanes on a canvas: thousands of bars draw in a few milliseconds.

import { byId, h, setText } from "./dom.js";
import { clock, duration } from "./format.js";
import { isChosen } from "./range.js";
import { openTrace } from "./trace.js";

const LANE = 26;
const AXIS = 20;
const MAX_LANES = 24;
const ORDER = ["call", "opening", "request", "lock"];

let timeline = null;
let canvas = null;
let tip = null;
let boxes = [];

const SHORTEST_S = 60;

export function showTimeline(answer) {
  // A young program's few bars get the whole width rather than a corner of it.
  const first = Math.min(...answer.lanes.flatMap((lane) => lane.bars.map((bar) => bar.started_at)));
  const since = Math.max(answer.since, Math.min(first - 1, answer.until - SHORTEST_S));
  timeline = isChosen() ? answer : { ...answer, since };
  const lanes = byId("timeline-lanes");
  if (!answer.lanes.length) {
    lanes.replaceChildren();
    canvas = null;
    setText(byId("timeline-note"), "Nothing waited and nothing was opened in this range.");
    return;
  }
  if (!canvas) {
    canvas = h("canvas", { role: "img", onpointermove: showTip, onpointerleave: hideTip, onclick: follow });
    tip = h("div", { class: "tip", hidden: "" });
    lanes.replaceChildren(canvas, tip);
  }
  const more = answer.lanes.length - MAX_LANES;
  setText(
    byId("timeline-note"),
    (more > 0 ? `${more} more sessions are not drawn. ` : "") + (answer.truncated ? "Only the latest 2,000 are drawn." : ""),
  );
  draw();
}

function draw() {
  if (!canvas) return;
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const name = (lane) => `${lane.transport || "lock"} / ${lane.conversation || "–"}`;
  // The most recent lanes, in an order that does not change with every wait.
  const lanes = timeline.lanes.slice(0, MAX_LANES).sort((a, b) => name(a).localeCompare(name(b), "en", { numeric: true }));
  const width = canvas.parentElement.clientWidth - 28;
  const height = lanes.length * LANE + AXIS;
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.height = `${height}px`;
  canvas.setAttribute("aria-label", `Waits and holds of ${lanes.length} sessions; the table above lists what waits now`);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  pen.textBaseline = "middle";
  const left = Math.min(220, width * 0.3);
  const x = (at) => left + ((width - left) * (at - timeline.since)) / (timeline.until - timeline.since);
  boxes = [];
  axis(pen, x, left, width, height, colour);
  lanes.forEach((lane, i) => {
    const top = i * LANE;
    pen.fillStyle = colour("line");
    pen.fillRect(0, top + LANE - 1, width, 1);
    pen.fillStyle = colour("text");
    pen.fillText(fit(pen, name(lane), left - 12), 0, top + LANE / 2);
    for (const kind of ORDER) {
      pen.fillStyle = colour(kind);
      const inset = kind === "lock" ? 9 : kind === "request" ? 6 : 4;
      for (const bar of lane.bars) {
        if (bar.kind !== kind) continue;
        const from = Math.max(left, x(bar.started_at));
        const box = { x: from, y: top + inset, w: Math.max(2, x(bar.ended_at) - from), h: LANE - 2 * inset - 1, bar };
        pen.globalAlpha = kind === "call" ? 0.55 : kind === "request" ? 0.8 : 1;
        pen.fillRect(box.x, box.y, box.w, box.h);
        boxes.push(box);
      }
    }
    pen.globalAlpha = 1;
  });
}

function axis(pen, x, left, width, height, colour) {
  const span = timeline.until - timeline.since;
  const steps = [5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 7 * 86400];
  const room = pen.measureText(clock(timeline.since, true)).width + 20;
  const step = steps.find((one) => (span / one) * room < width - left) ?? 30 * 86400;
  for (let at = Math.ceil(timeline.since / step) * step; at < timeline.until; at += step) {
    pen.fillStyle = colour("line");
    pen.fillRect(Math.round(x(at)), 0, 1, height - AXIS);
    const text = clock(at, step < 60);
    const half = pen.measureText(text).width / 2;
    if (x(at) - half < left || x(at) + half > width) continue;
    pen.fillStyle = colour("quiet");
    pen.fillText(text, x(at) - half, height - AXIS / 2);
  }
}

function fit(pen, text, width) {
  if (pen.measureText(text).width <= width) return text;
  let end = text.length;
  while (end > 1 && pen.measureText(`${text.slice(0, end)}…`).width > width) end -= 1;
  return `${text.slice(0, end)}…`;
}

function under(event) {
  const found = boxes.filter(
    (box) => event.offsetX >= box.x - 2 && event.offsetX <= box.x + box.w + 2 && event.offsetY >= box.y - 3 && event.offsetY <= box.y + box.h + 3,
  );
  return found.at(-1)?.bar;
}

function showTip(event) {
  const bar = under(event);
  canvas.style.cursor = bar?.trace_id ? "pointer" : "";
  if (!bar) return hideTip();
  const kind = { request: "waits for a session", lock: "waits for a lock", opening: "opening", call: "call" }[bar.kind];
  const end = bar.ongoing ? `still in progress${bar.phase ? `, phase ${bar.phase}` : ""}` : bar.outcome;
  setText(tip, [kind, duration(bar.ended_at - bar.started_at), end, `from ${clock(bar.started_at, true)}`].filter(Boolean).join(" · "));
  tip.hidden = false;
  tip.style.left = `${Math.max(0, Math.min(event.offsetX + 12, canvas.clientWidth - tip.offsetWidth))}px`;
  tip.style.top = `${event.offsetY + 24}px`;
}

function hideTip() {
  if (tip) tip.hidden = true;
}

function follow(event) {
  const bar = under(event);
  if (bar?.trace_id) openTrace(bar.trace_id);
}

addEventListener("resize", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

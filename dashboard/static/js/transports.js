// Contention of the transports side by side, all on one scale.

import { areaChart, niceTop } from "./chart.js";
import { KeyedList, byId, h } from "./dom.js";
import { age, count, duration, percent } from "./format.js";

const FAILED = { timeout: "timed out", deadlock: "deadlocked", error: "failed", refused: "refused" };

const list = new KeyedList(
  byId("transports-list"),
  (item) => item.transport.transport,
  () => h("article", { class: "card" }),
  (element, item) => fill(element, item),
);

export function showTransports(answer) {
  const highest = Math.max(
    0, ...answer.transports.flatMap((one) => one.points.map((point) => Math.max(point.waiting, point.lock_waiting))),
  );
  const top = niceTop(Math.max(1, highest));
  list.show(answer.transports.map((transport) => ({ transport, answer, top })));
  byId("transports-empty").hidden = answer.transports.length > 0;
}

function fill(card, { transport, answer, top }) {
  const key = JSON.stringify([transport, top, answer.since]);
  if (card.dataset.key === key) return;
  card.dataset.key = key;
  const waiting = transport.points.map((point) => Math.max(point.waiting, point.lock_waiting));
  const locks = transport.points.map((point) => point.lock_waiting);
  const highest = Math.max(0, ...waiting);
  card.replaceChildren(
    h("header", {}, h("h3", {}, transport.transport), transport.kind ? h("span", { class: "chip" }, transport.kind) : null),
    areaChart({
      label: `Waiting on ${transport.transport} over time, at most ${highest.toFixed(1)} at once on average`,
      since: answer.since,
      step: answer.step_s,
      top,
      layers: [{ class: "area-request", values: waiting }, { class: "area-lock", values: locks }],
    }),
    numbers(transport),
    h("p", { class: "counts" }, counts(transport)),
    ...problems(transport),
  );
}

function numbers(transport) {
  const rows = [
    ["Lock wait", transport.lock_wait],
    ["Lock held", transport.lock_hold],
    ["Session wait", transport.acquire],
    ["Opening", transport.opening],
  ].filter(([, latency]) => latency);
  if (!rows.length) return h("p", { class: "note" }, "Nobody had to wait.");
  const cell = (text, kind = "") => h("span", { class: kind }, text);
  return h(
    "div",
    { class: "numbers" },
    cell("", "label"), cell("p50", "head"), cell("p95", "head"), cell("p99", "head"),
    rows.flatMap(([label, latency]) => [
      cell(label, "label"), cell(duration(latency.p50_s)), cell(duration(latency.p95_s)), cell(duration(latency.p99_s)),
    ]),
  );
}

function counts(transport) {
  const openings = `${count(transport.openings)} opening${transport.openings === 1 ? "" : "s"}`;
  const failed = transport.openings_failed ? ` (${count(transport.openings_failed)} failed)` : "";
  const granularity = transport.locks.map((lock) => lock.granularity).find(Boolean);
  const hits = transport.requests ? `, ${percent(transport.hits, transport.requests)} warm` : "";
  return [
    `${count(transport.requests)} requests${hits}`, openings + failed, granularity ? `lock per ${granularity}` : "",
  ].filter(Boolean).join(" · ");
}

function problems(transport) {
  const chips = [];
  if (transport.waiters) {
    const oldest = transport.oldest_waiter_age_s ? `, the oldest for ${age(transport.oldest_waiter_age_s)}` : "";
    chips.push(h("span", { class: "chip bad" }, `${count(transport.waiters)} wait now${oldest}`));
  }
  for (const [outcome, word] of Object.entries(FAILED)) {
    const number = transport.by_outcome[outcome];
    if (number) chips.push(h("span", { class: "chip warn" }, `${count(number)} ${word}`));
  }
  if (transport.deadlocks && !transport.by_outcome.deadlock) {
    chips.push(h("span", { class: "chip bad" }, `${count(transport.deadlocks)} ${FAILED.deadlock}`));
  }
  return chips.length ? [h("p", { class: "counts" }, chips)] : [];
}

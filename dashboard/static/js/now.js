// The verdict, and what waits now.

import { setServerTime, tickSince } from "./clock.js";
import { KeyedList, byId, h, setText } from "./dom.js";
import { codeLine, count, duration, words } from "./format.js";
import { moreButton, setInside } from "./more.js";
import { stallEntry, updateStall } from "./stalls.js";
import { traceButton } from "./trace.js";

const BAD_AFTER_S = 5;

const PHASES = {
  queue: "waits for another's opening, for room or for a back-off",
  lock: "waits for a permit",
  connect: "connecting",
  authorize: "waits for a person to grant access",
  negotiate: "waits for the server's handshake",
  write: "the server does not take the request",
  response: "waits for the server's answer",
  close: "waits for the session to end",
};

const list = new KeyedList(
  byId("waits-list"),
  (item) => (item.cause ? `stall ${item.span_id || item.service + item.instance + item.loop}` : waitKey(item)),
  (item) => (item.cause ? stallEntry() : waitEntry()),
  (element, item) => (item.cause ? updateStall(element, item) : updateWait(element, item)),
);

const FIRST = 10;
let entries = [];
let showsAll = false;
const all = h("button", { type: "button", onclick: () => ((showsAll = !showsAll), showEntries()) });
byId("waits-list").after(all);

function showEntries() {
  list.show(showsAll ? entries : entries.slice(0, FIRST));
  all.hidden = entries.length <= FIRST;
  setText(all, showsAll ? `Show the oldest ${FIRST} only` : `Show all ${count(entries.length)}`);
}

const waitKey = (wait) => wait.trace_id + wait.span_id || [wait.service, wait.instance, wait.transport, wait.lock].join(" ");

export function showNow(now) {
  setServerTime(now.at);
  const verdict = byId("verdict");
  // Ages in the sentence change every second; read aloud is only a change for better or worse.
  if (verdict.dataset.level !== now.verdict.level) setText(byId("announcement"), now.verdict.sentence);
  verdict.dataset.level = now.verdict.level;
  setText(verdict.querySelector(".sentence"), now.verdict.sentence);
  const details = verdict.querySelector(".more");
  if (details.textContent !== now.verdict.details.join("")) {
    details.replaceChildren(...now.verdict.details.map((text) => h("li", {}, text)));
  }
  document.title = `${now.verdict.level === "ok" ? "" : "● "}MCP sessions: ${now.waits_total} waiting`;
  entries = [...now.stalls, ...now.waits];
  showEntries();
  byId("waits-empty").hidden = now.waits.length + now.stalls.length > 0;
  const hidden = now.waits_total - now.waits.reduce((sum, wait) => sum + wait.waiters, 0);
  setText(byId("waits-note"), hidden > 0 ? `oldest first; ${count(hidden)} more are not listed` : "oldest first");
  showProcesses(now.processes);
}

function waitEntry() {
  const part = (name, attributes = {}) => h("span", { "data-part": name, ...attributes });
  return h(
    "li",
    { class: "entry" },
    h(
      "div",
      { class: "facts" },
      h("div", { class: "age" }, part("age")),
      h("div", { class: "main" }, h("div", { class: "what" }, part("what")), h("div", { class: "sub" }, part("who"))),
      h("div", { class: "why" }, h("div", {}, part("chips"), part("reason")), h("div", { class: "sub code" }, part("code"))),
      h("div", { class: "trace-cell" }, part("trace"), moreButton()),
    ),
    h("div", { class: "inside", hidden: "" }),
  );
}

function updateWait(element, wait) {
  const part = (name) => element.querySelector(`[data-part="${name}"]`);
  element.dataset.kind = wait.kind;
  element.dataset.phase = wait.phase;
  element.dataset.severity = wait.waited_s >= BAD_AFTER_S ? "bad" : "warn";
  tickSince(part("age"), wait.started_at);
  const target = wait.transport ? wait.transport + (wait.conversation ? ` / ${wait.conversation}` : "") : wait.lock_name;
  setText(part("what"), (wait.waiters > 1 ? `${count(wait.waiters)} × ` : "") + (target || wait.name));
  const who = wait.task ? `task ${wait.task}` : wait.thread ? `thread ${wait.thread}` : "";
  setText(part("who"), [describe(wait), who, wait.service].filter(Boolean).join(" · "));
  setChips(part("chips"), wait);
  setReason(part("reason"), wait);
  setText(part("code"), wait.code ? `asked at ${codeLine(wait.code)}` : "");
  if (wait.trace_id && !part("trace").firstChild) part("trace").append(traceButton(wait.trace_id));
  showInside(element, wait);
}

function describe(wait) {
  if (wait.source === "gauges") return "told by gauges only";
  if (wait.kind === "call") return `call ${wait.name}`;
  return { request: "request for a session", opening: "opening", lock: "wait for a lock" }[wait.kind] ?? wait.kind;
}

function setChips(element, wait) {
  const chips = [];
  if (wait.phase) chips.push(h("span", { class: "chip", title: PHASES[wait.phase] ?? "" }, wait.phase));
  if (wait.silent_s > 20) chips.push(h("span", { class: "chip bad" }, `process silent for ${duration(wait.silent_s)}`));
  const text = chips.map((chip) => chip.textContent).join("");
  if (element.textContent !== text) element.replaceChildren(...chips);
}

/** "opening lock held for 12.3 s by X, which does Y", the age ticking. */
function setReason(element, wait) {
  const holder = wait.holder;
  const lock = wait.lock ? `${wait.lock} lock` : wait.lock_name;
  const key = JSON.stringify([holder?.name, holder?.count, wait.doing, wait.phase, lock]);
  if (element.dataset.key !== key) {
    element.dataset.key = key;
    const held = h("strong", { "data-part": "held" });
    const more = holder?.count > 1 ? ` and ${holder.count - 1} more` : "";
    const does = wait.doing ? `, which ${wait.doing}` : "";
    if (!holder) element.replaceChildren(wait.doing ?? PHASES[wait.phase] ?? "");
    else if (lock) element.replaceChildren(`${lock} held for `, held, ` by ${holder.name}${more}${does}`);
    else element.replaceChildren("for ", held, ` behind ${holder.name}${does}`);
  }
  if (holder) tickSince(element.querySelector('[data-part="held"]'), holder.held_since);
}

function showInside(element, wait) {
  const blocks = [];
  if (wait.steps.length > 1) {
    const steps = wait.steps.map((step) => `${step.name}${step.phase ? `, phase ${step.phase}` : ""}`);
    blocks.push(h("div", {}, h("h4", {}, "From the outside in"), h("div", {}, steps.join(" → "))));
  }
  if (wait.stack.length) blocks.push(h("div", {}, h("h4", {}, "The waiter's stack"), h("pre", {}, wait.stack.join("\n"))));
  if (wait.holder?.location) blocks.push(h("div", {}, h("h4", {}, "The holder asked at"), h("pre", {}, wait.holder.location)));
  if (wait.holder?.stack.length) {
    blocks.push(h("div", {}, h("h4", {}, "The holder's stack"), h("pre", {}, wait.holder.stack.join("\n"))));
  }
  setInside(element, blocks);
}

function showProcesses(processes) {
  const names = processes
    .slice(0, 8)
    .map((one) => one.service + (one.silent_s > 20 ? ` (silent for ${words(duration(one.silent_s))})` : ""));
  const more = processes.length > 8 ? ` and ${processes.length - 8} more` : "";
  setText(byId("processes"), processes.length ? `Reports from ${names.join(", ")}${more}` : "No process reports yet");
}

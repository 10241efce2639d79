// One stall of a loop: cause, culprit, stacks.

import { tickSince } from "./clock.js";
import { h, setText } from "./dom.js";
import { clock, codeLine, count, duration, words } from "./format.js";
import { moreButton, setInside } from "./more.js";
import { traceButton } from "./trace.js";

const BLAMES_CODE = ["blocking_call", "cpu", "gil"];

const MEANING = {
  blocking_call: "the thread waits: a sleep, a lock, a socket, a file",
  cpu: "the thread computes",
  gil: "native code held the interpreter's lock",
  gc: "the garbage collector ran",
  starved: "runnable, but the system did not schedule it",
  throttled: "the CPU quota was used up",
  suspended: "the process was stopped, or the machine paused",
  unknown: "evidence is missing",
};

export function stallEntry() {
  const part = (name) => h("span", { "data-part": name });
  return h(
    "li",
    { class: "entry", "data-kind": "stall" },
    h(
      "div",
      { class: "facts" },
      h("div", { class: "age" }, part("age")),
      h("div", { class: "main" }, h("div", { class: "what" }, part("what")), h("div", { class: "sub" }, part("who"))),
      h("div", { class: "why" }, h("div", {}, part("cause"), part("meaning")), h("div", { class: "code" }, part("culprit"))),
      h("div", { class: "trace-cell" }, part("trace"), moreButton()),
    ),
    h("div", { class: "inside", hidden: "" }),
  );
}

export function updateStall(element, stall) {
  const part = (name) => element.querySelector(`[data-part="${name}"]`);
  element.classList.toggle("over", !stall.ongoing);
  element.dataset.severity = stall.ongoing ? "bad" : "";
  if (stall.ongoing) tickSince(part("age"), stall.started_at);
  else {
    delete part("age").dataset.since;
    setText(part("age"), duration(stall.duration_s));
  }
  setText(part("what"), `Loop ${stall.loop} ${stall.ongoing ? "is stalled" : "stalled"}`);
  const delayed = stall.delayed ? `${count(stall.delayed)} ${stall.delayed === 1 ? "wait" : "waits"} delayed` : "";
  const when = stall.ongoing ? "" : `at ${clock(stall.started_at, true)}`;
  setText(part("who"), [when, stall.task ? `task ${stall.task}` : "", stall.service, delayed].filter(Boolean).join(" · "));
  const cause = part("cause");
  cause.className = `chip ${BLAMES_CODE.includes(stall.cause) ? "bad" : "warn"}`;
  setText(cause, words(stall.cause));
  setText(part("meaning"), MEANING[stall.cause] ?? "");
  setText(part("culprit"), codeLine(stall.culprit));
  if (stall.trace_id && !part("trace").firstChild) part("trace").append(traceButton(stall.trace_id));
  setInside(
    element,
    stall.stacks.map((stack) =>
      h("div", {}, h("h4", {}, `Seen ${count(stack.count)} ${stack.count === 1 ? "time" : "times"}`), h("pre", {}, stack.frames.join("\n"))),
    ),
  );
}

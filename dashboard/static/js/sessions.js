// Sessions by transport and state.

import { byId, h } from "./dom.js";
import { count } from "./format.js";

const STATES = ["ready", "creating", "draining", "broken", "cold", "closed"];
let shown = "";

export function showSessions(sessions) {
  const key = JSON.stringify(sessions);
  if (key === shown) return;
  shown = key;
  byId("sessions-empty").hidden = sessions.length > 0;
  const states = STATES.filter((state) => state === "ready" || sessions.some((one) => one.by_state[state]));
  byId("sessions-head").replaceChildren(
    h(
      "tr",
      {},
      h("th", { scope: "col" }, "Transport"),
      h("th", { scope: "col" }, "Kind"),
      states.map((state) => h("th", { scope: "col", class: "number" }, state)),
      h("th", { scope: "col", class: "number" }, "all"),
    ),
  );
  const number = (value) => h("td", { class: value ? "number" : "number zero" }, count(value));
  byId("sessions-rows").replaceChildren(
    ...sessions.map((one) =>
      h(
        "tr",
        {},
        h("th", { scope: "row" }, one.transport),
        h("td", {}, one.kind),
        states.map((state) => number(one.by_state[state] ?? 0)),
        number(one.total),
      ),
    ),
  );
}

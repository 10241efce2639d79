// Loops, their lag, and their stalls.

import { niceTop, sparkline } from "./chart.js";
import { KeyedList, byId, h } from "./dom.js";
import { count, duration } from "./format.js";
import { stallEntry, updateStall } from "./stalls.js";

const SLOW_S = 0.25;

const rows = new KeyedList(
  byId("loops-rows"),
  (item) => [item.loop.service, item.loop.instance, item.loop.loop].join(" "),
  () => h("tr"),
  (element, item) => fill(element, item),
);
const stalls = new KeyedList(byId("stalls"), (stall) => stall.trace_id + stall.span_id, stallEntry, updateStall);

export function showLoops(answer) {
  const highest = Math.max(0, ...answer.loops.flatMap((loop) => loop.points.map((point) => point.lag_p99_s)));
  const top = Math.max(0.05, niceTop(highest));
  rows.show(answer.loops.map((loop) => ({ loop, answer, top })));
  const ended = answer.stalls.filter((stall) => !stall.ongoing);
  stalls.show(ended);
  byId("stalls-title").hidden = !ended.length;
  byId("loops-empty").hidden = answer.loops.length > 0;
}

function fill(row, { loop, answer, top }) {
  const key = JSON.stringify([loop, top, answer.since]);
  if (row.dataset.key === key) return;
  row.dataset.key = key;
  const number = (text, isBad = false) => h("td", { class: isBad ? "number bad" : "number" }, text);
  row.replaceChildren(
    h("th", { scope: "row" }, `${loop.loop} `, loop.stalled_now ? h("span", { class: "chip bad" }, "stalled") : null),
    h("td", { title: loop.instance }, loop.service),
    number(duration(loop.lag_p50_s)),
    number(duration(loop.lag_p99_s), loop.lag_p99_s > SLOW_S),
    number(duration(loop.lag_max_s), loop.lag_max_s > SLOW_S),
    number(duration(loop.heartbeat_age_s), loop.heartbeat_age_s > 1),
    number(loop.stalls ? `${count(loop.stalls)} (${duration(loop.stalled_s)})` : "0"),
    h(
      "td",
      { class: "wide" },
      sparkline({
        label: `Lag of loop ${loop.loop} over time, p99 ${duration(loop.lag_p99_s)}`,
        since: answer.since,
        until: answer.until,
        step: answer.step_s,
        points: loop.points,
        value: (point) => point.lag_p99_s,
        top,
      }),
    ),
  );
}

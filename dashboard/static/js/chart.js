// Small charts as SVG; colours come from the style sheet, so they follow light and dark.

import { s } from "./dom.js";
import { clock } from "./format.js";

const WIDTH = 320;
const HEIGHT = 84;
const LEFT = 26;
const BOTTOM = 14;

/** A round number at or above `value`, for the top of an axis. */
export function niceTop(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((top) => top >= value * 0.999);
}

/**
 * Areas over time with one axis. `layers` are `{class, values}`, drawn in order, one value a step.
 * A given `top` puts several charts on one scale.
 */
export function areaChart({ label, since, step, layers, top }) {
  const width = WIDTH - LEFT;
  const height = HEIGHT - BOTTOM - 6;
  const steps = Math.max(...layers.map((layer) => layer.values.length));
  const x = (i) => (LEFT + (width * i) / Math.max(1, steps)).toFixed(1);
  const y = (value) => (6 + height * (1 - Math.min(value, top) / top)).toFixed(1);
  const chart = s("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label });
  for (const value of [0, top / 2, top]) {
    chart.append(s("line", { class: "grid", x1: LEFT, x2: WIDTH, y1: y(value), y2: y(value) }));
  }
  for (const value of [0, top]) {
    chart.append(s("text", { class: "tick", x: LEFT - 5, y: Number(y(value)) + 3, "text-anchor": "end" }, String(value)));
  }
  for (const layer of layers) {
    // Steps, because each value is a mean over its step, and not a line between two instants.
    const path = layer.values.flatMap((value, i) => [`L${x(i)} ${y(value)}`, `L${x(i + 1)} ${y(value)}`]);
    if (layer.values.some((value) => value > 0)) {
      chart.append(s("path", { class: layer.class, d: `M${x(0)} ${y(0)}${path.join("")}L${x(steps)} ${y(0)}Z` }));
    }
  }
  for (const [i, anchor] of [[0, "start"], [steps, "end"]]) {
    chart.append(s("text", { class: "tick", x: x(i), y: HEIGHT - 2, "text-anchor": anchor }, clock(since + i * step)));
  }
  return chart;
}

/** One quantity over time, without axes: a step for each of `points`, nothing where there is none. */
export function sparkline({ label, since, until, step, points, value, top }) {
  const height = 28;
  const x = (at) => ((WIDTH * (at - since)) / (until - since)).toFixed(1);
  const y = (v) => (2 + (height - 4) * (1 - Math.min(v, top) / top)).toFixed(1);
  const chart = s("svg", {
    class: "chart spark", viewBox: `0 0 ${WIDTH} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": label,
  });
  chart.append(s("line", { class: "grid", x1: 0, x2: WIDTH, y1: height - 1, y2: height - 1 }));
  const steps = points.map((point) => {
    const [from, to, level] = [x(point.at), x(point.at + step), y(value(point))];
    return `M${from} ${height - 1}L${from} ${level}L${to} ${level}L${to} ${height - 1}Z`;
  });
  chart.append(s("path", { class: "area-lag", d: steps.join("") }));
  return chart;
}

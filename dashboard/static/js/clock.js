// Ages that tick between two reports, by the dashboard's clock rather than the browser's.

import { setText } from "./dom.js";
import { age } from "./format.js";

let ahead = 0;

/** Learn how far the dashboard's clock is ahead of the browser's. */
export function setServerTime(at) {
  ahead = at - Date.now() / 1000;
}

export const now = () => Date.now() / 1000 + ahead;

/** Make `element` show the age of an instant, and keep it true. */
export function tickSince(element, since) {
  element.dataset.since = since;
  setText(element, age(now() - since));
}

let running = true;

/** While the connection is lost nothing is known to last, so ages stand still. */
export function setRunning(on) {
  running = on;
}

setInterval(() => {
  if (!running || document.hidden) return;
  for (const element of document.querySelectorAll("[data-since]")) {
    setText(element, age(now() - Number(element.dataset.since)));
  }
}, 200);

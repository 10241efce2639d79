// Which time the history shows: the last minutes, or the range that a link asks for with `from` and `to`.

import { byId, setText } from "./dom.js";
import { duration, instant } from "./format.js";

const LONGEST_LIVE_TIMELINE_S = 3600;

const select = byId("range");
const notice = byId("chosen");
const sentence = byId("chosen-range");
const link = new URLSearchParams(location.search);
const asked = ["from", "to"].filter((name) => link.has(name));
let chosen = asked.length ? new URLSearchParams(asked.map((name) => [name, link.get(name)])) : null;

const remembered = new URLSearchParams(location.hash.split("?")[1] ?? "").get("range");
if (remembered && [...select.options].some((option) => option.value === remembered)) select.value = remembered;
notice.hidden = !chosen;
select.parentElement.hidden = Boolean(chosen);
document.body.dataset.range = chosen ? "chosen" : "live";

export const isChosen = () => chosen !== null;

/** What to ask the API for. */
export function query(name) {
  if (chosen) return chosen;
  const seconds = name === "timeline" ? Math.min(select.value, LONGEST_LIVE_TIMELINE_S) : select.value;
  return new URLSearchParams({ range_s: seconds });
}

/** Say which range is shown, and whether anything is stored for it. */
export function showRange(isEmpty) {
  if (!chosen) return;
  const [since, until] = ["from", "to"].map((name) => Number(chosen.get(name)) / 1000);
  const range = `${instant(since)} to ${instant(until)} (${duration(until - since)})`;
  setText(
    sentence,
    isEmpty
      ? `Nothing is stored for ${range}.`
      : `Transports, timeline and loops show ${range}. Verdict, waits and sessions are those of now.`,
  );
}

/** Say what is wrong with the link's range, and go on live. */
export function refuseRange(why) {
  chosen = null;
  notice.dataset.level = "bad";
  select.parentElement.hidden = false;
  document.body.dataset.range = "live";
  setText(sentence, `The range in the link cannot be shown: ${why}. What you see is live.`);
}

export const onRange = (listener) => select.addEventListener("change", listener);

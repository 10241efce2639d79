// Starts the page: the stream tells what is true now, the rest is asked for every few seconds.

import { setRunning } from "./clock.js";
import { byId, setText } from "./dom.js";
import { showLoops } from "./loops.js";
import { showNow } from "./now.js";
import { showSessions } from "./sessions.js";
import { listen } from "./stream.js";
import { showTimeline } from "./timeline.js";
import { showTransports } from "./transports.js";

const HISTORY_MS = 5000;
const CONNECTION = { connecting: "connecting", live: "live", lost: "connection lost, trying again" };

const range = byId("range");
const remembered = new URLSearchParams(location.hash.split("?")[1] ?? "").get("range");
if (remembered && [...range.options].some((option) => option.value === remembered)) range.value = remembered;

let asking = false;
let askAgain = false;

async function askHistory() {
  if (asking) {
    askAgain = true;
    return;
  }
  asking = true;
  try {
    const parts = [["transports", showTransports], ["loops", showLoops], ["timeline", showTimeline]];
    await Promise.all(
      parts.map(async ([name, show]) => {
        const seconds = name === "timeline" ? Math.min(range.value, 3600) : range.value;
        const answer = await fetch(`/api/v1/${name}?range_s=${seconds}`);
        if (answer.ok) show(await answer.json());
      }),
    );
  } catch {
    // The stream says that the connection is lost; the next round asks again.
  } finally {
    asking = false;
    if (askAgain) {
      askAgain = false;
      askHistory();
    }
  }
}

let seenVersion = -1;
let askedVersion = -1;

listen(
  "/api/v1/stream",
  (now) => {
    showNow(now);
    showSessions(now.sessions);
    const isFirst = seenVersion < 0;
    seenVersion = now.version;
    if (isFirst) askHistory();
  },
  (state) => {
    const element = byId("connection");
    element.dataset.state = state;
    document.body.dataset.connection = state;
    setText(element, CONNECTION[state]);
    setRunning(state === "live");
  },
);

setInterval(() => {
  if (document.hidden || (seenVersion === askedVersion && Date.now() % 15000 > HISTORY_MS)) return;
  askedVersion = seenVersion;
  askHistory();
}, HISTORY_MS);
range.addEventListener("change", askHistory);
document.addEventListener("visibilitychange", () => document.hidden || askHistory());
setText(byId("address"), location.origin);

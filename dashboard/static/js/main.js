// Starts the page: the stream tells what is true now, the rest is asked for every few seconds.

import { setRunning } from "./clock.js";
import { byId, setText } from "./dom.js";
import { showLoops } from "./loops.js";
import { showNow } from "./now.js";
import { isChosen, onRange, query, refuseRange, showRange } from "./range.js";
import { showSessions } from "./sessions.js";
import { listen } from "./stream.js";
import { showTimeline } from "./timeline.js";
import { showTransports } from "./transports.js";

const HISTORY_MS = 5000;
const CONNECTION = { connecting: "connecting", live: "live", lost: "connection lost, trying again" };

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
    const answers = await Promise.all(parts.map(([name]) => fetch(`/api/v1/${name}?${query(name)}`)));
    const refused = isChosen() && answers.find((answer) => answer.status === 400);
    if (refused) {
      refuseRange((await refused.json()).detail);
      askAgain = true;
      return;
    }
    const found = await Promise.all(answers.map((answer) => (answer.ok ? answer.json() : null)));
    found.forEach((answer, i) => answer && parts[i][1](answer));
    if (found.every(Boolean)) showRange(found.every(isEmpty));
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

const isEmpty = (answer) => !(answer.transports ?? answer.loops ?? answer.lanes).length;

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
onRange(askHistory);
document.addEventListener("visibilitychange", () => document.hidden || askHistory());
setText(byId("address"), location.origin);

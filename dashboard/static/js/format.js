// Numbers as people read them. All durations are seconds.

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds <= 0) return "0";
  if (seconds < 0.0009995) return `${Math.max(1, Math.round(seconds * 1e6))} µs`;
  if (seconds < 0.9995) return `${significant(seconds * 1000)} ms`;
  if (seconds < 100) return `${significant(seconds)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

function significant(value) {
  return value < 9.95 ? value.toFixed(1) : String(Math.round(value));
}

/** An age that ticks: steady width, one decimal. */
export function age(seconds) {
  const value = Math.max(0, seconds);
  if (value < 100) return `${value.toFixed(1)} s`;
  if (value < 3600) return `${Math.floor(value / 60)}:${String(Math.floor(value % 60)).padStart(2, "0")} min`;
  return `${Math.floor(value / 3600)} h ${Math.floor((value % 3600) / 60)} min`;
}

export const count = (value) => Math.round(value).toLocaleString("en-GB");

export const percent = (part, whole) => (whole ? `${Math.floor((100 * part) / whole)} %` : "–");

export const words = (text) => text.replaceAll("_", " ");

/** A time of day, with the date when that is not today's. */
export function clock(at, withSeconds = false) {
  const when = new Date(at * 1000);
  const time = when.toLocaleTimeString([], {
    hour: "2-digit", minute: "2-digit", second: withSeconds ? "2-digit" : undefined, hourCycle: "h23",
  });
  return when.toDateString() === new Date().toDateString() ? time : `${day(when)} ${time}`;
}

const day = (when, year) => when.toLocaleDateString("en-GB", { day: "numeric", month: "short", year });

/** A date and time of day in full. */
export function instant(at) {
  const when = new Date(at * 1000);
  return `${day(when, "numeric")} ${when.toLocaleTimeString("en-GB")}`;
}

/** A line of code as `function (file:line)`, the path cut to its last two parts. */
export function codeLine(code) {
  if (!code) return "";
  const file = code.file.split("/").slice(-2).join("/");
  const where = file ? `${file}:${code.line}` : "";
  return code.function && where ? `${code.function} (${where})` : code.function || where;
}

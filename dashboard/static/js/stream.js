// The live stream: reconnects by itself, and notices a line that is open but silent.

const SILENT_MS = 5000;
const RETRY_MS = 1000;

export function listen(path, onNow, onState) {
  let source = null;
  let heardAt = Date.now();
  let state = "";

  function tell(next) {
    if (state !== next) onState((state = next));
  }

  function connect() {
    source?.close();
    heardAt = Date.now();
    source = new EventSource(path);
    source.addEventListener("now", (event) => {
      heardAt = Date.now();
      tell("live");
      onNow(JSON.parse(event.data));
    });
    source.addEventListener("error", () => {
      tell("lost");
      // The browser gives up when the answer is not a stream, such as an error page.
      if (source.readyState === EventSource.CLOSED) setTimeout(connect, RETRY_MS);
    });
  }

  setInterval(() => {
    if (Date.now() - heardAt > SILENT_MS) {
      tell("lost");
      connect();
    }
  }, 1000);
  tell("connecting");
  connect();
}

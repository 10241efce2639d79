-- Repeated texts (names, transports, words) are stored once and referred to by number.
CREATE TABLE words (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);

CREATE TABLE resources (
    id INTEGER PRIMARY KEY,
    service TEXT NOT NULL,
    instance TEXT NOT NULL,
    attributes TEXT NOT NULL UNIQUE,
    first_seen REAL NOT NULL,
    last_seen REAL NOT NULL
);

CREATE TABLE transports (word INTEGER PRIMARY KEY, kind TEXT NOT NULL);

-- Ids rise with arrival, so the oldest rows are found without an index on time.
CREATE TABLE spans (
    id INTEGER PRIMARY KEY,
    trace_id BLOB NOT NULL,
    span_id BLOB NOT NULL,
    parent_id BLOB,
    resource INTEGER NOT NULL,
    scope INTEGER NOT NULL,
    name INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    work INTEGER,
    in_progress INTEGER NOT NULL,
    transport INTEGER,
    conversation TEXT,
    outcome INTEGER,
    start_ns INTEGER NOT NULL,
    end_ns INTEGER NOT NULL,
    status INTEGER NOT NULL,
    status_message TEXT NOT NULL,
    received_at REAL NOT NULL,
    attributes TEXT NOT NULL,
    events TEXT,
    links TEXT
);
CREATE UNIQUE INDEX spans_identity ON spans (trace_id, span_id);
CREATE INDEX spans_work ON spans (work, end_ns) WHERE work IS NOT NULL;

CREATE TABLE logs (
    id INTEGER PRIMARY KEY,
    trace_id BLOB,
    span_id BLOB,
    resource INTEGER NOT NULL,
    time_ns INTEGER NOT NULL,
    severity INTEGER NOT NULL,
    event TEXT NOT NULL,
    body TEXT NOT NULL,
    attributes TEXT NOT NULL,
    received_at REAL NOT NULL
);
CREATE INDEX logs_trace ON logs (trace_id) WHERE trace_id IS NOT NULL;

-- Sums by slot of `width_s` seconds (5 and 300) that ended spans add to; `bucket` as in sketch.py.
CREATE TABLE durations (
    width_s INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    transport INTEGER NOT NULL,
    work INTEGER NOT NULL,
    lock INTEGER NOT NULL,
    granularity INTEGER NOT NULL,
    outcome INTEGER NOT NULL,
    bucket INTEGER NOT NULL,
    count INTEGER NOT NULL,
    total_s REAL NOT NULL,
    max_s REAL NOT NULL,
    PRIMARY KEY (width_s, slot, transport, work, lock, granularity, outcome, bucket)
) WITHOUT ROWID;

-- How many seconds of waiting fell into each slot, however long the wait.
CREATE TABLE occupancy (
    width_s INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    transport INTEGER NOT NULL,
    work INTEGER NOT NULL,
    busy_s REAL NOT NULL,
    PRIMARY KEY (width_s, slot, transport, work)
) WITHOUT ROWID;

-- One metric of one process with one set of attributes; `state` is its last cumulative point.
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    resource INTEGER NOT NULL,
    metric TEXT NOT NULL,
    attributes TEXT NOT NULL,
    transport TEXT,
    loop TEXT,
    start_ns INTEGER NOT NULL,
    time_ns INTEGER NOT NULL,
    state TEXT NOT NULL,
    UNIQUE (resource, metric, attributes)
);
CREATE INDEX series_metric ON series (metric);

-- What each slot added to a series: `amount` is a counter's growth, a histogram's sum, a gauge's maximum.
CREATE TABLE amounts (
    width_s INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    series INTEGER NOT NULL,
    count INTEGER NOT NULL,
    amount REAL NOT NULL,
    max REAL,
    PRIMARY KEY (width_s, slot, series)
) WITHOUT ROWID;

CREATE TABLE bucket_counts (
    width_s INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    series INTEGER NOT NULL,
    lower REAL NOT NULL,
    upper REAL NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (width_s, slot, series, lower, upper)
) WITHOUT ROWID;

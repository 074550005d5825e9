"""Holds what Weir says against DuckDB's exact answers, row by row: compare.py json|combined PERIOD WEIR.csv SERVICE FILE…

Every row that one of the two has must be in the other. Counts, least and greatest are equal; sums are equal to the exactly rounded ones
(math.fsum) and within 1e-9 of DuckDB's; quantiles are within 1 % of DuckDB's quantile_disc, which is one of the values. Where a window's values
fall into more than 1,024 buckets of 1/64 octave, all buckets are joined in pairs until they do not, and quantiles are within half a bucket."""
import csv
import math
import sys

import duckdb

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
FINDINGS_SHOWN = 10
BUCKETS_MAX = 1024


def bucket(value, level):
    """The sign of the value, and the number of its bucket among those of 2^level / 64 octaves, from 2^-1074 on."""
    if value == 0:
        return 0, 0
    fraction, octave = math.frexp(abs(value))
    return math.copysign(1, value), ((octave + 1073) * 64 + math.floor((fraction * 2 - 1) * 64)) >> level


def error(values):
    """By what share a quantile of these may be off."""
    level = 0
    while len({bucket(value, level) for value in values}) > BUCKETS_MAX:
        level += 1
    if level == 0:
        return 0.01
    # From a to b, of which 2ab / (a + b) is as near to the one as to the other; the first bucket of an octave is the widest.
    b = 1 + 2**level / 64 if level < 6 else 2.0 ** (2 ** (level - 6))
    return (b - 1) / (b + 1) + 1e-12


EVENTS = {
    "json": """
        SELECT service, epoch_ms(CAST(timestamp AS TIMESTAMPTZ)) AS ms, upper(level) AS level, status, latency_ms AS latency, bytes
        FROM read_json($files, format = 'newline_delimited', columns = {timestamp: 'VARCHAR', service: 'VARCHAR', level: 'VARCHAR',
            status: 'INTEGER', latency_ms: 'DOUBLE', bytes: 'DOUBLE'})""",
    # One column: no byte separates, quotes or escapes.
    "combined": r"""
        SELECT $service AS service, epoch_ms(strptime(regexp_extract(line, '\[([^\]]+) \+0000\]', 1), '%d/%b/%Y:%H:%M:%S')) AS ms,
            NULL AS level, CAST(regexp_extract(line, '" (\d{3}) (\d+|-)', 1) AS INTEGER) AS status, NULL AS latency,
            TRY_CAST(regexp_extract(line, '" (\d{3}) (\d+|-)', 2) AS DOUBLE) AS bytes
        FROM read_csv($files, columns = {line: 'VARCHAR'}, delim = chr(1), quote = '', escape = '', header = false, auto_detect = false)""",
}

# The built-in metrics of a log line, as the README lists them.
VALUES = """
    SELECT service, ms, 'lines' AS metric, 1.0::DOUBLE AS value FROM events
    UNION ALL SELECT service, ms, 'requests', 1 FROM events WHERE status IS NOT NULL OR latency IS NOT NULL
    UNION ALL SELECT service, ms, 'errors', 1 FROM events WHERE CASE WHEN status IS NULL THEN level IN ('ERROR', 'FATAL') ELSE status >= 500 END
    UNION ALL SELECT service, ms, 'status_' || status // 100 || 'xx', 1 FROM events WHERE status >= 200
    UNION ALL SELECT service, ms, 'level_' || lower(level), 1 FROM events WHERE level IS NOT NULL
    UNION ALL SELECT service, ms, 'latency', latency FROM events WHERE latency IS NOT NULL
    UNION ALL SELECT service, ms, 'bytes', bytes FROM events WHERE bytes IS NOT NULL"""


def duckdb_rows(kind, period, service, files):
    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'")
    parameters = {"files": files}
    if kind == "combined":
        parameters["service"] = service
    db.execute(f"CREATE TABLE events AS {EVENTS[kind]}", parameters)
    quantiles = ", ".join(f"quantile_disc(value, {q})" for q in QUANTILES.values())
    rows = db.execute(f"""
        SELECT service, metric, ms // 1000 - (ms // 1000) % {period} AS start,
            count(*), fsum(value), sum(abs(value)), min(value), max(value), list(value), {quantiles}
        FROM ({VALUES}) GROUP BY ALL""").fetchall()
    lines = db.execute("SELECT count(*) FROM events").fetchone()[0]
    return lines, {(row[0], row[1], row[2]): row[3:] for row in rows}


def weir_rows(path):
    import calendar
    import time
    rows = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            start = calendar.timegm(time.strptime(row["timestamp"], "%Y-%m-%dT%H:%M:%SZ"))
            key = (row["service"], row["metric"], start)
            assert key not in rows, f"{key} stands twice"
            assert row["namespace"] == "Weir/Logs" and row["dimensions"] == "", row
            rows[key] = row
    return rows


def findings(weir, exact):
    """What differs in one row."""
    count, sum_duckdb, size, least, greatest, values, *quantiles = exact
    said = {name: float(weir[name]) for name in ("sum", "min", "max", "average", *QUANTILES)}
    if int(weir["count"]) != count:
        yield f"count {weir['count']}, exactly {count}"
    sum_exact = math.fsum(values)
    if said["sum"] != sum_exact:
        yield f"sum {said['sum']!r}, exactly {sum_exact!r}"
    if abs(said["sum"] - sum_duckdb) > 1e-9 * size:
        yield f"sum {said['sum']!r}, DuckDB {sum_duckdb!r}"
    if (said["min"], said["max"]) != (least, greatest):
        yield f"from {said['min']!r} to {said['max']!r}, exactly from {least!r} to {greatest!r}"
    if abs(said["average"] - sum_exact / count) > 1e-12 * size / count:
        yield f"average {said['average']!r}, exactly {sum_exact / count!r}"
    share = error(values)
    for name, value in zip(QUANTILES, quantiles):
        if abs(said[name] - value) > share * abs(value) + 2**-1074 * (share > 0.01):
            yield f"{name} {said[name]!r}, exactly {value!r}, which is more than {share:.1%} off"


def main():
    kind, period, path, service, *files = sys.argv[1:]
    lines, exact = duckdb_rows(kind, int(period), service, files)
    weir = weir_rows(path)
    found = []
    for key in sorted(weir.keys() | exact.keys()):
        if key not in weir or key not in exact:
            found.append(f"{key}: only {'Weir' if key in weir else 'DuckDB'} has it")
        else:
            found += [f"{key}: {finding}" for finding in findings(weir[key], exact[key])]
    for finding in found[:FINDINGS_SHOWN]:
        print(finding)
    print(f"{lines} lines, {len(exact)} rows of {period} s compared, {len(found)} differ")
    sys.exit(bool(found))


main()

#!/usr/bin/env python3
"""Weir beside other programs: the same files, one core, the same minute. Prints CPU seconds, MB of raw text a CPU second, and ratios to Weir's.

    benches/peers.py [--lines N] [--rounds N] [--core N] [--json FILE] [--combined FILE] [--no-install] [--only NAME,...]

Makes its data (by `cargo bench --bench main_job -- generate`) and builds `weir` in release mode. DuckDB comes from the Python package index, at
the version below, into target/peers; polars and chdb take part where that environment has them, mawk where it is installed. Each peer is a
process of its own, held on one core; the best of the rounds counts, and rounds go through all peers in turn, because other programs may run
beside. The task: for each service and minute the count, the errors, the sum of latencies and its quantiles 0.5, 0.95, 0.99, kept where they can
be asked for again.

Not measured: a cold disk, several cores, waiting. What peers leave out: all but Weir keep neither the log nor the identity of its bytes, and lose
what they have when they are killed; mawk has no quantiles, and breaks on escaped quotes. Weir's CPU holds the durable append of all lines, the
dedupe, the fold, the rows, and opening and closing a folder.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "target" / "peers"
PINNED = {"duckdb": "duckdb==2.0.0"}
START, END = "2026-01-01T00:00:00Z", "2026-01-12T00:00:00Z"

DUCKDB = r'''
import os, sys, duckdb
path, kind, quantiles, out = sys.argv[1:]
db = duckdb.connect(out, config={"threads": 1})
db.execute("set preserve_insertion_order = false; set TimeZone = 'UTC'")
if kind == "json":
    lines = f"""select service, date_trunc('minute', "timestamp") as minute, level = 'ERROR' as error, latency_ms as latency
        from read_json('{path}', format = 'newline_delimited',
                       columns = {{"timestamp": 'TIMESTAMP', level: 'VARCHAR', service: 'VARCHAR', latency_ms: 'DOUBLE'}})"""
else:
    parts = r'\[([^\]]+)\] "GET /([^/]+)/[^"]*" (\d+) .* ([0-9.]+)$'
    lines = f"""select part.service, date_trunc('minute', strptime(part.time, '%d/%b/%Y:%H:%M:%S +0000')) as minute,
                       part.status[1] = '5' as error, part.seconds::double * 1000 as latency
        from (select regexp_extract(line, '{parts}', ['time', 'service', 'status', 'seconds']) as part
              from read_csv('{path}', columns = {{line: 'VARCHAR'}}, delim = '\x01', quote = '', escape = '', header = false, auto_detect = false))"""
function = {"exact": "quantile_cont", "approximate": "approx_quantile"}[quantiles]
db.execute(f"""create table result as select service, minute, count(*) as lines, count(*) filter (error) as errors, sum(latency) as total,
    {function}(latency, [0.5, 0.95, 0.99]) as quantiles from ({lines}) group by all""")
print("check", *db.execute("select sum(lines)::bigint, sum(errors)::bigint, count(*), round(sum(total)) from result").fetchone())
'''

POLARS = r'''
import os, sys
os.environ["POLARS_MAX_THREADS"] = "1"
import polars as pl
path, kind, out = sys.argv[1:]
if kind == "json":
    schema = {"timestamp": pl.String, "level": pl.String, "service": pl.String, "latency_ms": pl.Float64}
    lines = pl.scan_ndjson(path, schema=schema).select(
        service="service", minute=pl.col("timestamp").str.slice(0, 16), error=pl.col("level") == "ERROR", latency="latency_ms")
else:
    line = pl.scan_csv(path, has_header=False, new_columns=["line"], separator="\x01", quote_char=None, schema={"line": pl.String})
    part = pl.col("line").str.extract_groups(r'\[([^\]]{17})[^\]]*\] "GET /([^/]+)/[^"]*" (\d+) .* ([0-9.]+)$')
    lines = line.select(part=part).select(
        service=pl.col("part").struct[1], minute=pl.col("part").struct[0], error=pl.col("part").struct[2].str.starts_with("5"),
        latency=pl.col("part").struct[3].cast(pl.Float64) * 1000)
latency = pl.col("latency")
result = lines.group_by("service", "minute").agg(
    lines=pl.len(), errors=pl.col("error").sum(), total=latency.sum(),
    p50=latency.quantile(0.5), p95=latency.quantile(0.95), p99=latency.quantile(0.99)).collect(engine="streaming")
result.write_parquet(out)
print("check", result["lines"].sum(), result["errors"].sum(), result.height, round(result["total"].sum()))
'''

CHDB = r'''
import sys, chdb
path, kind, out = sys.argv[1:]
if kind == "json":
    lines = f"""select service, toStartOfMinute(timestamp) as minute, level = 'ERROR' as error, latency_ms as latency
        from file('{path}', 'JSONEachRow', $$timestamp DateTime64(3, 'UTC'), level LowCardinality(String), service LowCardinality(String),
                  latency_ms Float64$$)"""
else:
    parts = r'\\[([^\\]]+)\\] "GET /([^/]+)/[^"]*" (\\d+) .* ([0-9.]+)$'
    lines = f"""select part[2] as service, toStartOfMinute(parseDateTime(substring(part[1], 1, 20), '%d/%b/%Y:%H:%i:%s')) as minute,
                       part[3] like '5%' as error, toFloat64(part[4]) * 1000 as latency
        from (select extractGroups(line, '{parts}') as part from file('{path}', 'LineAsString', 'line String'))"""
chdb.query(f"""insert into function file('{out}', 'Parquet') select service, minute, count() as lines, countIf(error) as errors,
    sum(latency) as total, quantiles(0.5, 0.95, 0.99)(latency) from ({lines}) group by service, minute
    settings max_threads = 1, max_parsing_threads = 1, input_format_skip_unknown_fields = 1, date_time_input_format = 'best_effort',
             engine_file_truncate_on_insert = 1""")
print("check", str(chdb.query(f"select sum(lines), sum(errors), count(), round(sum(total)) from file('{out}', 'Parquet')")).replace(",", " "))
'''

AWK = {
    "json": r'''BEGIN { FS = "\"" } { key = $12 " " substr($4, 1, 16); lines[key]++; if ($8 == "ERROR") errors[key]++
        match($0, /"latency_ms":[0-9.]+/); total[key] += substr($0, RSTART + 13, RLENGTH - 13) }''',
    "combined": r'''{ split($7, part, "/"); key = part[2] " " substr($4, 2, 17); lines[key]++; if (substr($9, 1, 1) == "5") errors[key]++
        total[key] += $NF * 1000 }''',
}
AWK_END = r'''END { for (key in lines) { n += lines[key]; e += errors[key]; t += total[key]; rows++
        print key, lines[key], errors[key] + 0, total[key] > out } printf "check %d %d %d %.0f\n", n, e, rows, t }'''


def quietly(*command):
    subprocess.run(command, check=True, cwd=ROOT, stdout=sys.stderr)


def interpreter(install):
    """The Python that has the peers; makes it and puts DuckDB in where it may."""
    python = HOME / "venv" / "bin" / "python"
    if install and not python.exists():
        quietly(sys.executable, "-m", "venv", str(HOME / "venv"))
    python = str(python) if python.exists() else sys.executable
    if install and not has(python, "duckdb"):
        quietly(python, "-m", "pip", "install", "--quiet", PINNED["duckdb"])
    return python


def has(python, module):
    return subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode == 0


def measured(command, core):
    """Runs a command on one core: CPU and wall seconds, most memory, what it said."""
    with tempfile.TemporaryFile() as said:
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=said, stderr=said, preexec_fn=lambda: os.sched_setaffinity(0, {core}))
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read().decode(errors="replace")
    if process.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}: {text[-800:]}")
    check = next((line for line in text.splitlines() if line.startswith(("check", "accepted"))), "")
    return usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024, check


class Peers:
    def __init__(self, args, scratch):
        self.python = interpreter(not args.no_install)
        self.scratch, self.weir = scratch, ROOT / "target" / "release" / "weir"
        self.weir = Path(args.weir) if args.weir else self.weir
        self.only = set(args.only.split(",")) if args.only else None

    def commands(self, kind, path):
        """What takes part, by name; each makes its command for one run in an empty folder."""
        script = lambda text, *more: lambda out: [self.python, "-c", text, str(path), kind, *more, str(out / "result")]
        peers = {
            "wc -l": lambda out: ["wc", "-l", str(path)],
            "weir": lambda out: [str(self.weir), "ingest", str(path), "--data", str(out / "data")],
        }
        if has(self.python, "duckdb"):
            peers["duckdb, exact"] = script(DUCKDB, "exact")
            peers["duckdb, approximate"] = script(DUCKDB, "approximate")
        if has(self.python, "polars"):
            peers["polars"] = script(POLARS)
        if has(self.python, "chdb"):
            peers["chdb"] = script(CHDB)
        if shutil.which("mawk"):
            peers["mawk"] = lambda out: ["mawk", "-v", f"out={out / 'result'}", AWK[kind] + AWK_END, str(path)]
        return {name: make for name, make in peers.items() if not self.only or name.split(",")[0] in self.only | {"weir"}}

    def run(self, kind, path, rounds, core):
        megabytes = path.stat().st_size / 1e6
        peers, best = self.commands(kind, path), {}
        for _ in range(rounds):
            for name, command in peers.items():
                out = Path(tempfile.mkdtemp(dir=self.scratch))
                try:
                    found = measured(command(out), core)
                    if name == "weir":
                        found = (*found[:3], self.check(kind, out / "data"))
                finally:
                    shutil.rmtree(out)
                best[name] = min(best.get(name, found), found)
        ours = best["weir"][0]
        print(f"\n{kind}: {path} ({megabytes:.1f} MB), one core, best of {rounds}")
        print(f"{'':22}{'cpu s':>9}{'MB/cpu-s':>10}{'weir is':>10}{'wall s':>9}{'MB mem':>9}   lines, errors, rows, sum of latency")
        for name, (cpu, wall, memory, check) in sorted(best.items(), key=lambda item: item[1][0]):
            print(f"{name:22}{cpu:9.3f}{megabytes / cpu:10.0f}{cpu / ours:9.2f}x{wall:9.2f}{memory:9.0f}   {check.removeprefix('check ')}")

    def check(self, kind, data):
        """What Weir's rows say, summed; outside of what is measured."""
        def total(metric):
            command = [str(self.weir), "metrics", "--data", str(data), "--metric", metric, "--start", START, "--end", END, "-o", "json"]
            rows = [json.loads(line) for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()]
            return sum(row["count"] for row in rows), len(rows), sum(row["sum"] for row in rows)
        lines, rows, latency = total("latency")
        return f"{lines} {total('errors')[0]} {rows} {latency:.0f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=1_000_000, help="lines to generate, over one day")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, help="a file of JSON lines with the generator's fields")
    parser.add_argument("--combined", type=Path, help="an access log with the generator's fields")
    parser.add_argument("--no-install", action="store_true", help="only what is there")
    parser.add_argument("--only", help="peers to run, separated by commas; Weir always runs")
    parser.add_argument("--weir", help="a `weir` that was built before")
    args = parser.parse_args()
    if not args.weir:
        quietly("cargo", "build", "--release", "--bin", "weir")
    HOME.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOME) as scratch:
        peers = Peers(args, scratch)
        for kind, given in (("json", args.json), ("combined", args.combined)):
            path = given
            if not path and (args.json or args.combined):
                continue
            if not path:
                path = HOME / f"{kind}-{args.lines}.log"
                if not path.exists():
                    quietly("cargo", "bench", "--bench", "main_job", "--", "generate", kind, str(args.lines), "1", str(path))
            peers.run(kind, path, args.rounds, args.core)


if __name__ == "__main__":
    main()

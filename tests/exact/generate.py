"""Writes logs whose values are easy to get wrong: generate.py FOLDER. The standard library alone; the same bytes on every run.

realistic.jsonl   services of uneven weight, latencies of several shapes, slight disorder, lines without some of the fields
nasty.jsonl       one service for each distribution that a sketch, a sum or a window may get wrong
"""
import json
import random
import sys

DAY_MS = 86_400_000
START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z


def time(ms, digits=3, zone_minutes=0):
    """RFC 3339 with so many decimals, in a zone."""
    import datetime
    at = datetime.datetime(2026, 1, 1) + datetime.timedelta(milliseconds=ms - START_MS + zone_minutes * 60_000)
    text = at.strftime("%Y-%m-%dT%H:%M:%S")
    if digits:
        text += "." + f"{at.microsecond:06d}"[:digits]
    if not zone_minutes:
        return text + "Z"
    sign, minutes = "-+"[zone_minutes > 0], abs(zone_minutes)
    return f"{text}{sign}{minutes // 60:02d}:{minutes % 60:02d}"


def write(path, lines):
    with open(path, "w") as out:
        for line in lines:
            out.write(json.dumps(line, separators=(",", ":")) + "\n")


def realistic(rng, count=50_000):
    services = [f"svc-{i}" for i in range(20)]
    weights = [1 / (i + 1) ** 1.1 for i in range(20)]
    for i in range(count):
        ms = START_MS + i * 10_800_000 // count + int(rng.gauss(0, 2_000))
        service = rng.choices(services, weights)[0]
        line = {"timestamp": time(ms, rng.choice((0, 3, 6)), rng.choice((0, 0, 60, -330))), "service": service}
        kind = rng.random()
        if kind < 0.95:
            line["status"] = rng.choice((200, 200, 200, 201, 204, 301, 304, 400, 404, 429, 500, 503))
        if kind > 0.04:
            line["latency_ms"] = round(rng.lognormvariate(3.5 + hash_of(service) % 3, 0.8), 3)
        if rng.random() < 0.7:
            line["level"] = rng.choice(("INFO", "INFO", "WARN", "ERROR", "debug"))
        if rng.random() < 0.5:
            line["bytes"] = rng.randrange(1 << rng.randrange(1, 40))
        yield line


def hash_of(text):
    return sum(text.encode())


def nasty(rng):
    def at(service, ms, value):
        return {"timestamp": time(ms), "service": service, "latency_ms": value}

    minutes = [START_MS + 60_000 * i for i in range(20)]
    any_ms = lambda: rng.choice(minutes) + rng.randrange(60_000)
    lines = []
    for _ in range(4_000):
        lines.append(at("constant", any_ms(), 0.1))
        lines.append(at("two-far", any_ms(), rng.choice((1e-9, 1e9))))
        lines.append(at("negative", any_ms(), -rng.lognormvariate(2, 3)))
        lines.append(at("around-zero", any_ms(), rng.gauss(0, 1e-3) if rng.random() < 0.7 else rng.choice((0.0, -0.0))))
        lines.append(at("exponents", any_ms(), rng.choice((-1, 1)) * rng.uniform(1, 10) * 10.0 ** rng.randrange(-300, 108)))
        lines.append(at("heavy-tail", any_ms(), rng.paretovariate(0.3)))
        lines.append(at("cancels", any_ms(), rng.choice((1e100, -1e100, 1.0, 1e-100))))
        lines.append(at("one-minute", START_MS + rng.randrange(60_000), rng.expovariate(0.01)))
        lines.append(at("unordered", START_MS - rng.randrange(365) * DAY_MS + rng.choice((0, 59_999)), float(rng.randrange(100))))
        lines.append(at("octaves", any_ms(), 2.0 ** rng.randrange(-20, 20) * rng.choice((1, 1 - 2**-53, 1 + 2**-52))))
    for i, ms in enumerate(range(START_MS, START_MS + 3_600_000, 60_000)):
        # One, two, three … values a window, where ranks are small.
        for value in range(i % 7 + 1):
            lines.append(at("few", ms + value, 1.5**value))
        for edge in (0, 1, 59_999):
            lines.append(at("edges", ms + edge, edge + 1.0))
        line = at("edges", ms, 7.0)
        line["timestamp"] = time(ms, 0)[:-1] + rng.choice((".999999Z", ".000001Z", "+00:00", ".5-00:00"))
        lines.append(line)
    for _ in range(4_000):
        # More buckets than a sketch keeps apart: in the first minute, in no other minute, in the hour.
        ms = START_MS + rng.randrange(60_000) if rng.random() < 0.6 else any_ms()
        lines.append(at("wide", ms, rng.lognormvariate(0, 8)))
        lines.append(at("wide-signs", ms, rng.choice((-1, 1)) * 10.0 ** rng.uniform(-6, 6)))
        lines.append(at("widest", ms, rng.choice((-1, 1)) * 2.0 ** rng.uniform(-1074, 360)))
    lines.append(at("largest", START_MS, 2.0**360))
    lines.append(at("largest", START_MS, -(2.0**360)))
    lines.append(at("largest", START_MS, 2.0**-1074))
    rng.shuffle(lines)
    return lines


def main():
    folder = sys.argv[1]
    write(f"{folder}/realistic.jsonl", realistic(random.Random(1)))
    write(f"{folder}/nasty.jsonl", nasty(random.Random(2)))


main()

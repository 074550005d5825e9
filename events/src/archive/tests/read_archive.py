"""A reader of archived segments in another language, written from events/src/archive/format.md alone: standard library only.

read_archive.py FILE: checks a segment whose blocks are not packed, and prints its header and records as lines of JSON."""
import hashlib
import json
import struct
import sys


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def records(raw):
    at = 0
    while at < len(raw):
        n = raw[at]
        at += 1
        sequence = int.from_bytes(raw[at:at + n], "big")
        stamp, k, d = struct.unpack_from("<qHI", raw, at + n)
        at += n + 14
        key, data = raw[at:at + k].decode(), raw[at + k:at + k + d]
        at += k + d
        yield {"sequence": str(sequence), "arrived_at_ms": stamp, "key": key, "data": data.hex()}
    assert at == len(raw), "the last record is cut"


segment = open(sys.argv[1], "rb").read()
assert segment[:8] == b"\xe7WERARC\x01", "not a segment of version 1"
(length,) = struct.unpack_from("<I", segment, 8)
header = segment[44:44 + length]
assert sha256(header) == segment[12:44].hex(), "the header was changed"
says = json.loads(header)
print(json.dumps({key: says[key] for key in ("stream", "shard", "parents", "after", "previous", "last", "is_last_of_shard")}))
at, seen, last = 44 + length, 0, int(says["after"])
assert says["codec"] == "none"
for block in says["blocks"]:
    stored = segment[at:at + block["bytes"]]
    at += block["bytes"]
    assert sha256(stored) == block["sha256"] and len(stored) == block["raw_bytes"], "a block was changed"
    found = list(records(stored))
    assert len(found) == block["records"] and found[0]["sequence"] == block["first"]
    for record in found:
        assert int(record["sequence"]) > last
        last, seen = int(record["sequence"]), seen + 1
        print(json.dumps(record))
assert at == len(segment) and seen == says["held"]["records"] and last == int(says["last"])

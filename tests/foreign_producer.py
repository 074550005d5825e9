"""A producer in another language, written from events/src/wire/format.md alone: standard library only.

foreign_producer.py URL FILE SERVICE: sends FILE's lines in batches of about 4 KiB, every batch twice, and prints how many lines it has."""
import hashlib
import struct
import sys
import urllib.request

SLICE = 16_777_216


def pack(value):
    """MessagePack, as far as a header needs it."""
    if isinstance(value, int):
        return b"\xcf" + struct.pack(">Q", value)
    if isinstance(value, str):
        text = value.encode()
        return b"\xdb" + struct.pack(">I", len(text)) + text
    if isinstance(value, dict):
        return b"\xdf" + struct.pack(">I", len(value)) + b"".join(pack(k) + pack(v) for k, v in value.items())
    raise TypeError(value)


def batch(path, service, start, body):
    header = pack({
        "tenant": "local", "content": "lines", "codec": "none", "raw_len": len(body), "read_at_ms": 1_767_225_600_000,
        "service": service,
        "extent": {"origin": {"kind": "named", "name": path, "version": ""}, "from": start, "to": start + len(body)},
    })
    return b"\xe7WER\x01" + struct.pack("<I", len(header)) + header + body


def continues(line):
    return (line[:1] in b" \t" and line.strip() and line.strip()[:1] != b"{") or line.startswith(b"Caused by: ")


def main():
    url, path, service = sys.argv[1:]
    lines = open(path, "rb").read().splitlines(keepends=True)
    batches, body, start, at = [], b"", 0, 0
    for line in lines:
        full = len(body) >= 4096 or start // SLICE != at // SLICE
        if body and full and not continues(line):
            batches.append((start, body))
            start, body = at, b""
        body += line
        at += len(line)
    batches.append((start, body))
    for start, body in batches + batches:
        request = urllib.request.Request(url + "/ingest?run=foreign", data=batch(path, service, start, body), method="POST")
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 202, answer.status
    key = "\0".join(["local", "named", path, "", "0", ""]).encode()
    print(len(lines), hashlib.md5(key).hexdigest())


main()

"""A producer in another language, written from events/src/wire/format.md alone: standard library only.

foreign_producer.py URL FILE SERVICE: sends FILE's lines in batches of about 4 KiB, every batch twice, and prints how many lines it has.
foreign_producer.py URL: sends one batch of each other kind that the page has, every batch twice."""
import hashlib
import struct
import sys
import urllib.request

SLICE = 16_777_216


def pack(value):
    """MessagePack, as far as a header needs it."""
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, list):
        return b"\xdd" + struct.pack(">I", len(value)) + b"".join(map(pack, value))
    if isinstance(value, int):
        return b"\xcf" + struct.pack(">Q", value)
    if isinstance(value, str):
        text = value.encode()
        return b"\xdb" + struct.pack(">I", len(text)) + text
    if isinstance(value, dict):
        return b"\xdf" + struct.pack(">I", len(value)) + b"".join(pack(k) + pack(v) for k, v in value.items())
    raise TypeError(value)


def lz4(body):
    """One LZ4 block of one sequence: literals only."""
    if len(body) < 15:
        return bytes([len(body) << 4]) + body
    more, last = divmod(len(body) - 15, 255)
    return b"\xf0" + b"\xff" * more + bytes([last]) + body


def zstd(body):
    """One Zstandard frame of raw blocks (RFC 8878), its content's size in the header."""
    frame = struct.pack("<IBI", 0xFD2FB528, 0b1010_0000, len(body))
    for at in range(0, len(body), 1 << 16):
        block = body[at:at + (1 << 16)]
        is_last = at + len(block) == len(body)
        frame += struct.pack("<I", len(block) << 3 | is_last)[:3] + block
    return frame


CODECS = {"none": bytes, "lz4": lz4, "zstd": zstd}


def payload(body, content="lines", codec="none", **more):
    header = pack({"tenant": "local", "content": content, "codec": codec, "raw_len": len(body), "read_at_ms": 1_767_225_600_000, **more})
    return b"\xe7WER\x01" + struct.pack("<I", len(header)) + header + CODECS[codec](body)


def batch(path, service, start, body):
    extent = {"origin": {"kind": "named", "name": path, "version": ""}, "from": start, "to": start + len(body)}
    return payload(body, service=service, extent=extent)


def send(url, run, data):
    request = urllib.request.Request(f"{url}/ingest?run={run}", data=data, method="POST")
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 202, answer.status


def continues(line):
    return (line[:1] in b" \t" and line.strip() and line.strip()[:1] != b"{") or line.startswith(b"Caused by: ")


def whole_page(url):
    def mark(counter):
        return {"id": "python", "epoch": 1, "counter": counter}

    def line(number):
        return b'{"ts":"2026-01-01T00:00:00Z","service":"%s","latency_ms":%d}\n' % (b"page", number)

    many = b"".join(map(line, range(3000)))
    datum = {"namespace": "shop", "metric": "baskets", "unit": "Count", "value": 2.5, "service": "page",
             "dimensions": [["region", "eu"]], "time_ms": 1_767_225_601_000}
    undated = {"namespace": "shop", "metric": "baskets", "unit": "Count", "value": -0.5, "service": "page", "dimensions": [["region", "eu"]]}
    # Thirty bytes of a line were taken out, and all but the head of another that was too long.
    cut, short = b'{"service":"page","latency_ms":1,"user":""}\n', b'{"service":"page","latency_ms":1,\n'
    edits = [{"body_offset": cut.index(b'""') + 1, "removed_bytes": 30, "reason": "redacted"},
             {"body_offset": len(cut) + len(short) - 1, "removed_bytes": 300_000, "reason": "too_long"}]
    extent = {"origin": {"kind": "object", "name": "bucket/key", "version": "etag"}, "from": 0, "to": len(cut + short) + 300_030}
    for data in [
        payload(many, codec="lz4", producer=mark(1)),
        payload(many, codec="zstd", producer=mark(2)),
        payload(line(1), codec="lz4", producer=mark(3)),
        payload(pack([{"Measured": {"data": [datum, undated]}}]), content="events", codec="zstd", producer=mark(4)),
        payload(cut + short, edits=edits, extent=extent),
    ]:
        send(url, "page", data)
        send(url, "page", data)
    # With neither extent nor producer it counts each time.
    send(url, "bare", payload(line(1)))
    send(url, "bare", payload(line(1)))


def main():
    if len(sys.argv) == 2:
        return whole_page(sys.argv[1])
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
        send(url, "foreign", batch(path, service, start, body))
    key = "\0".join(["local", "named", path, "", "0", ""]).encode()
    print(len(lines), hashlib.md5(key).hexdigest())


main()

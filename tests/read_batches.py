"""A consumer in another language, written from events/src/wire/format.md alone: botocore to read the stream, zstandard to unpack; else standard library.

read_batches.py ENDPOINT STREAM: prints the lines that Weir's batches hold. First those of each origin, by name, each byte of it once and in order; then
those of each producer in the order of its marks, each mark once; then those with neither. On standard error: how many batches were of which kind."""
import collections
import hashlib
import json
import struct
import sys

import botocore.session
import zstandard

SLICE = 16_777_216


class Pack:
    """MessagePack, as far as headers and events need it."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        piece = self.data[self.at:self.at + count]
        assert len(piece) == count, "it is cut"
        self.at += count
        return piece

    def number(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def read(self):
        tag = self.number("B")
        if tag < 0x80 or tag >= 0xE0:
            return tag if tag < 0x80 else tag - 256
        if tag < 0x90:
            return self.map(tag & 15)
        if tag < 0xA0:
            return self.array(tag & 15)
        if tag < 0xC0:
            return self.take(tag & 31).decode()
        numbers = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}
        if tag in numbers:
            return self.number(numbers[tag])
        lengths = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I", 0xD9: ">B", 0xDA: ">H", 0xDB: ">I", 0xDC: ">H", 0xDD: ">I", 0xDE: ">H", 0xDF: ">I"}
        if tag in lengths:
            length = self.number(lengths[tag])
            if tag < 0xC7:
                return self.take(length)
            if tag < 0xDC:
                return self.take(length).decode()
            return self.array(length) if tag < 0xDE else self.map(length)
        return {0xC0: None, 0xC2: False, 0xC3: True}[tag]

    def array(self, length):
        return [self.read() for _ in range(length)]

    def map(self, length):
        return {self.read(): self.read() for _ in range(length)}


def lz4(block, length):
    """One LZ4 block without a size before it."""
    out, at = bytearray(), 0

    def more(count):
        nonlocal at
        while count >= 15:
            count, at = count + block[at], at + 1
            if block[at - 1] != 255:
                break
        return count

    while at < len(block):
        token = block[at]
        at += 1
        literals = more(token >> 4)
        out += block[at:at + literals]
        at += literals
        if at == len(block):
            break
        back = block[at] | block[at + 1] << 8
        at += 2
        for _ in range(more(token & 15) + 4):
            out.append(out[-back])
    assert len(out) == length
    return bytes(out)


def unpacked(codec, body, length):
    if codec == "none":
        return body
    if codec == "lz4":
        return lz4(body, length)
    assert codec == "zstd", codec
    return zstandard.ZstdDecompressor().decompress(body, max_output_size=length)


def batch(payload):
    assert payload[4] == 1, "another version"
    (length,) = struct.unpack_from("<I", payload, 5)
    assert length <= 65_536
    header = Pack(payload[9:9 + length])
    says = header.read()
    assert header.at == length
    body = unpacked(says["codec"], payload[9 + length:], says["raw_len"])
    assert len(body) == says["raw_len"] <= 8_388_608
    return says, body


def key(*fields):
    return hashlib.md5("".join(f"{field}\0" for field in fields).encode()).hexdigest()


def records(client, stream):
    for shard in client.list_shards(StreamName=stream)["Shards"]:
        of = client.get_shard_iterator(StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
        while of:
            page = client.get_records(ShardIterator=of, Limit=1000)
            yield from page["Records"]
            of = page.get("NextShardIterator")
            if not page["Records"] and page["MillisBehindLatest"] == 0:
                break


endpoint, stream = sys.argv[1:]
session = botocore.session.get_session()
session.set_credentials("test", "test")
client = session.create_client("kinesis", region_name="us-east-1", endpoint_url=endpoint)
origins, producers, bare, kinds = collections.defaultdict(list), {}, [], collections.Counter()
for record in records(client, stream):
    if record["Data"][:4] != b"\xe7WER":
        kinds["other"] += 1
        continue
    says, body = batch(record["Data"])
    if says["content"] == "events":
        for event in Pack(body).read():
            kinds[next(iter(event))] += 1
        continue
    kinds[says["codec"]] += 1
    assert body and says["content"] == "lines" and not says.get("edits")
    if "extent" in says:
        extent = says["extent"]
        origin = extent["origin"]
        assert extent["to"] - extent["from"] == len(body)
        place = (origin["kind"], origin["name"], origin["version"])
        assert record["PartitionKey"] == key(says["tenant"], *place, extent["from"] // SLICE)
        origins[place].append((extent["from"], body))
    elif "producer" in says:
        mark = says["producer"]
        assert record["PartitionKey"] == key(says["tenant"], "producer", mark["id"])
        same = producers.setdefault((mark["id"], mark["epoch"], mark["counter"]), body)
        assert same == body, "a mark is repeated with other bytes"
    else:
        bare.append(body)
for place in sorted(origins):
    at = 0
    for start, body in sorted(origins[place]):
        assert start <= at, f"bytes {at} to {start} of {place} are missing"
        sys.stdout.buffer.write(body[at - start:])
        at = max(at, start + len(body))
for mark in sorted(producers):
    sys.stdout.buffer.write(producers[mark])
sys.stdout.buffer.write(b"".join(bare))
print(json.dumps(kinds), file=sys.stderr)

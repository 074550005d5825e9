"""Puts records of producers that never heard of Weir onto a stream, by botocore. Standard library and botocore only.

strangers.py ENDPOINT STREAM AGGREGATE: AGGREGATE is a file that another implementation of the Kinesis Producer Library's format has made.
Prints, as JSON, how many units each kind of record holds and what should become of them."""
import gzip
import json
import pathlib
import sys

import botocore.session

endpoint, stream, aggregate = sys.argv[1:]
session = botocore.session.get_session()
session.set_credentials("test", "test")
kinesis = session.create_client("kinesis", region_name="us-east-1", endpoint_url=endpoint)
START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z


def text(value):
    return json.dumps(value, separators=(",", ":"))


def log_event(number, message):
    return {"id": f"3695{number:052d}", "timestamp": START_MS + 1000 * number, "message": message}


subscription = gzip.compress(text({
    "messageType": "DATA_MESSAGE", "owner": "123456789012", "logGroup": "/aws/lambda/pay", "logStream": "2026/01/01/[$LATEST]0",
    "subscriptionFilters": ["all"],
    "logEvents": [log_event(1, "ERROR card declined\n"), log_event(2, text({"level": "info", "status": 200, "latency_ms": 7}))],
}).encode())
control = gzip.compress(text({
    "messageType": "CONTROL_MESSAGE", "owner": "CloudwatchLogs", "logGroup": "", "logStream": "", "subscriptionFilters": [],
    "logEvents": [{"id": "", "timestamp": START_MS, "message": "CWL CONTROL MESSAGE: Checking health of destination Kinesis stream."}],
}).encode())
event = text({
    "version": "0", "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718", "detail-type": "OrderPlaced", "source": "com.example.orders", "account": "123456789012",
    "time": "2026-01-01T00:00:30Z", "region": "us-east-1", "resources": [], "detail": {"service": "orders", "status": 201, "latency_ms": 40},
})
metrics = text({
    "_aws": {"Timestamp": START_MS, "CloudWatchMetrics": [
        {"Namespace": "Shop", "Dimensions": [["ServiceName"]], "Metrics": [{"Name": "Basket", "Unit": "Count"}]}]},
    "ServiceName": "basket", "Basket": [2, 3.5],
})
objects = "\n".join(text({"timestamp": "2026-01-01T00:00:05Z", "service": "plain", "status": 200 + 300 * (n % 2), "latency_ms": n}) for n in range(4))


def put(data, key):
    kinesis.put_record(StreamName=stream, PartitionKey=key, Data=data)


# All of it twice, under the same key: what has an id of its own counts once.
for _ in range(2):
    put(pathlib.Path(aggregate).read_bytes(), "a")
    put(subscription, "2026/01/01/[$LATEST]0")
    put(event.encode(), "c")
    put(metrics.encode(), "d")
    put(objects.encode(), "e")
put(control, "control")
# Records that nobody can read: bytes of no format, a batch whose header is cut, gzip that is cut, a subscription that lacks its events.
put(b"\x00\xff\xfe\x01 broken", "f")
put(b"\xe7WER\x01\xff\x00\x00\x00 broken", "g")
put(subscription[:40], "h")
put(gzip.compress(text({"messageType": "DATA_MESSAGE", "logEvents": "none"}).encode()), "i")
print(text({
    # An aggregate of five records, one of them blank; the subscription's and the bus's events are known again; metrics and objects have no id.
    "folded": 2 * 4 + 2 + 1 + 2 * 2 + 2 * 4, "duplicate": 2 + 1, "skipped": {"blank": 2, "control_message": 1}, "dead": 4,
}))

"""Reads a service's minutes from the tables of a pair, as any tool of AWS can: with botocore alone (boto3 is a shell around it), and by the layout that
projections/src/dynamodb/design.md documents. Prints two JSON objects: metrics by minute, and the services that the index names in some six hours.

    python read_table.py ENDPOINT PREFIX TENANT SERVICE FIRST_HOUR LAST_HOUR      (hours as 2015-05-17T00, UTC)
"""

import collections
import datetime
import json
import sys

import botocore.session

endpoint, prefix, tenant, service, first, last = sys.argv[1:]
client = botocore.session.get_session().create_client(
    "dynamodb", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
)
table = f"{prefix}-ApplicationMetrics"


def query(**condition):
    """All items of a query; pages are followed."""
    for page in client.get_paginator("query").paginate(TableName=table, **condition):
        yield from page["Items"]


def six_hours():
    """The beginnings of the six hours that the time touches, as keys have them."""
    parse = lambda text: datetime.datetime.strptime(text, "%Y-%m-%dT%H")
    at, end = parse(first), parse(last)
    at -= datetime.timedelta(hours=at.hour % 6)
    while at <= end:
        yield at.strftime("%Y-%m-%dT%H")
        at += datetime.timedelta(hours=6)


def number(value):
    return float(value["N"])


minutes = collections.defaultdict(dict)
for hours in six_hours():
    # TENANT/SERVICE/gGENERATION/SIX HOURS/length of the tenant's name
    partition = f"{tenant}/{service}/g0/{hours}/{len(tenant.encode())}"
    items = query(
        KeyConditionExpression="ServiceName = :service AND #time BETWEEN :from AND :to",
        # Behind `!`, which is the entry of the index.
        ExpressionAttributeNames={"#time": "Timestamp"},
        ExpressionAttributeValues={":service": {"S": partition}, ":from": {"S": "0"}, ":to": {"S": "9"}},
    )
    for item in items:
        minute = minutes[item["Timestamp"]["S"].split(" ")[0]]
        # One item for each shard that had lines of the minute: they are added up.
        for name, value in item["Metrics"]["M"].items():
            if "N" in value:
                minute[name] = minute.get(name, 0) + number(value)
                continue
            value = value["M"]
            of = minute.setdefault(name, {"count": 0, "sum": 0, "min": float("inf"), "max": float("-inf")})
            of["count"] += number(value["count"])
            of["sum"] += number(value["sum"])
            of["min"] = min(of["min"], number(value["min"]))
            of["max"] = max(of["max"], number(value["max"]))
            of["unit"] = value["unit"]["S"]
print(json.dumps(minutes))

found = collections.defaultdict(list)
for hours in six_hours():
    for bucket in range(16):
        items = query(
            IndexName="TimestampIndex",
            KeyConditionExpression="TimeBucket = :bucket",
            ExpressionAttributeValues={":bucket": {"S": f"{tenant}//g0/{hours}-{bucket}/{len(tenant.encode())}"}},
        )
        for item in items:
            found[hours].append(item["ServiceName"]["S"].removeprefix(f"{tenant}/").rsplit("/", 3)[0])
print(json.dumps({hours: sorted(services) for hours, services in found.items()}))

"""Deploys a program as a function on an emulator of Lambda, by botocore, and invokes it once with an event, or has an event source do that. Prints what
it answered, or what became of the event source.
    deployed.py ENDPOINT PROGRAM NAME STREAM PREFIX EVENT_FILE|ARN_OF_STREAM"""
import io
import json
import pathlib
import sys
import zipfile

import botocore.session

endpoint, program, name, stream, prefix, event = sys.argv[1:]
session = botocore.session.get_session()
session.set_credentials("test", "test")
functions = session.create_client("lambda", region_name="us-east-1", endpoint_url=endpoint)
packed = io.BytesIO()
entry = zipfile.ZipInfo("bootstrap")
entry.external_attr = 0o755 << 16
entry.compress_type = zipfile.ZIP_DEFLATED
with zipfile.ZipFile(packed, "w") as file:
    file.writestr(entry, pathlib.Path(program).read_bytes(), compresslevel=1)
variables = {
    "WEIR_STREAM": f"kinesis://{stream}", "WEIR_STORE": f"dynamodb://{prefix}", "AWS_ENDPOINT_URL": endpoint,
    "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
}
functions.create_function(
    FunctionName=name, Runtime="provided.al2023", Handler="bootstrap", Role="arn:aws:iam::000000000000:role/weir", Timeout=60, MemorySize=512,
    Code={"ZipFile": packed.getvalue()}, Environment={"Variables": variables},
)
if event.startswith("arn:"):
    mapping = functions.create_event_source_mapping(
        FunctionName=name, EventSourceArn=event, StartingPosition="TRIM_HORIZON", BatchSize=10000, MaximumBatchingWindowInSeconds=1,
        BisectBatchOnFunctionError=True, FunctionResponseTypes=["ReportBatchItemFailures"],
    )
    print(json.dumps({"state": mapping["State"]}))
    sys.exit()
answer = functions.invoke(FunctionName=name, Payload=pathlib.Path(event).read_bytes())
print(json.dumps({"error": answer.get("FunctionError"), "answer": json.loads(answer["Payload"].read())}))

//! What the policy for `weir up` permits is what the program asks of AWS: no operation more, none less.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Operations by which the adapters call AWS, as methods of its clients; what IAM calls each, where that is another name.
const OPERATIONS: [(&str, &str, &[&str]); 31] = [
    ("kinesis", "create_stream", &["CreateStream", "AddTagsToStream"]),
    ("kinesis", "describe_stream", &["DescribeStream"]),
    ("kinesis", "describe_stream_consumer", &["DescribeStreamConsumer"]),
    ("kinesis", "describe_stream_summary", &["DescribeStreamSummary"]),
    ("kinesis", "get_records", &["GetRecords"]),
    ("kinesis", "get_shard_iterator", &["GetShardIterator"]),
    ("kinesis", "increase_stream_retention_period", &["IncreaseStreamRetentionPeriod"]),
    ("kinesis", "list_shards", &["ListShards"]),
    ("kinesis", "list_streams", &["ListStreams"]),
    ("kinesis", "put_record", &["PutRecord"]),
    ("kinesis", "put_records", &["PutRecords"]),
    ("kinesis", "register_stream_consumer", &["RegisterStreamConsumer"]),
    ("kinesis", "subscribe_to_shard", &["SubscribeToShard"]),
    ("dynamodb", "batch_get_item", &["BatchGetItem"]),
    ("dynamodb", "batch_write_item", &["BatchWriteItem"]),
    ("dynamodb", "create_table", &["CreateTable", "TagResource"]),
    ("dynamodb", "delete_item", &["DeleteItem"]),
    ("dynamodb", "describe_table", &["DescribeTable"]),
    ("dynamodb", "describe_time_to_live", &["DescribeTimeToLive"]),
    ("dynamodb", "get_item", &["GetItem"]),
    ("dynamodb", "put_item", &["PutItem"]),
    ("dynamodb", "query", &["Query"]),
    ("dynamodb", "scan", &["Scan"]),
    ("dynamodb", "transact_write_items", &["PutItem", "UpdateItem", "DeleteItem", "ConditionCheckItem"]),
    ("dynamodb", "update_item", &["UpdateItem"]),
    ("dynamodb", "update_time_to_live", &["UpdateTimeToLive"]),
    // Of a version, and of whether there is one.
    ("s3", "get_object", &["GetObject", "GetObjectVersion"]),
    ("s3", "head_object", &["GetObject"]),
    ("s3", "list_objects_v2", &["ListBucket"]),
    ("s3", "list_object_versions", &["ListBucketVersions"]),
    ("s3", "put_object", &["PutObject"]),
];

/// Where the program speaks to AWS.
const ADAPTERS: [&str; 9] = [
    "events/src/kinesis.rs",
    "events/src/kinesis",
    "projections/src/dynamodb.rs",
    "projections/src/dynamodb",
    "processor/src/leases/dynamodb.rs",
    "processor/src/s3.rs",
    "src/aws.rs",
    "src/aws",
    "src/archive.rs",
];

/// The sources below a path, without their tests.
fn sources(path: &Path, found: &mut Vec<String>) {
    if path.is_dir() {
        if !path.ends_with("tests") {
            fs::read_dir(path).unwrap().for_each(|entry| sources(&entry.unwrap().path(), found));
        }
    } else if path.extension().is_some_and(|of| of == "rs") && !path.ends_with("tests.rs") {
        let text = fs::read_to_string(path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        found.push(text.split_whitespace().collect());
    }
}

#[test]
fn the_policy_permits_what_the_adapters_call_and_nothing_else() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = vec![];
    ADAPTERS.iter().for_each(|path| sources(&root.join(path), &mut code));
    assert!(code.len() > 30, "the adapters lie where this test looks: {} files", code.len());
    let mut called = BTreeSet::new();
    for (service, method, actions) in OPERATIONS {
        // A call of a client begins a request: nothing stands between the brackets.
        if code.iter().any(|text| text.contains(&format!(".{method}()."))) {
            called.extend(actions.iter().map(|action| format!("{service}:{action}")));
        }
    }
    // Whatever else a client is asked for would be missing above.
    for text in &code {
        for (at, before) in text.match_indices("client.") {
            let method: String =
                text[at + before.len()..].chars().take_while(|of| *of == '_' || of.is_alphanumeric()).collect();
            let begins_a_request = text[at + before.len() + method.len()..].starts_with("().");
            let is_known = OPERATIONS.iter().any(|(_, known, _)| *known == method)
                || ["config", "clone"].contains(&method.as_str());
            assert!(!begins_a_request || is_known, "which permission does `{method}` need?");
        }
    }
    let policy = fs::read_to_string(root.join("infra/policies/weir.json")).unwrap();
    let policy: serde_json::Value = serde_json::from_str(&policy).unwrap();
    let mut permitted = BTreeMap::<String, Vec<String>>::new();
    for statement in policy["Statement"].as_array().unwrap() {
        assert_eq!(statement["Effect"], "Allow");
        let texts = |of: &serde_json::Value| match of {
            serde_json::Value::String(text) => vec![text.clone()],
            list => list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect(),
        };
        let resources = texts(&statement["Resource"]);
        assert!(resources.iter().all(|resource| resource != "*"), "{statement}");
        for action in texts(&statement["Action"]) {
            assert!(!action.contains('*'), "{action}");
            permitted.entry(action).or_default().extend(resources.clone());
        }
    }
    assert_eq!(permitted.keys().cloned().collect::<BTreeSet<_>>(), called);
    // Of the tables of rows nothing is ever scanned.
    assert_eq!(permitted["dynamodb:Scan"], ["arn:aws:dynamodb:REGION:ACCOUNT:table/PREFIX-leases"]);
}

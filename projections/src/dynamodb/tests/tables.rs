//! Tables as they are found and made, what is said of them, the stream that they are bound to, and when what is in them expires.

use std::sync::Mutex;

use crate::{
    dynamodb::{Create, DynamoDb, OpenError, layout},
    store::{Day, Generation, Kind, ReadError, Row, Span, Store, WriteError, Written},
};
use aws_credential_types::provider::{ProvideCredentials, error::CredentialsError, future};

use super::{
    gate::{Act, Gate, client, config, wait},
    laws::{PACE, again, dynalite, ministack, open, prefix},
    scripted::{first, window, write},
};

#[test]
fn errors_name_table_operation_cause_and_next_step_and_hold_no_secrets() {
    let said = |status, code: &'static str| {
        let (_, store) = first(u32::MAX, |request| request.operation == "BatchGetItem", Act::refuse(status, code));
        match wait(store.read(&[window(0, 5).key])) {
            Err(ReadError::Unavailable(why)) => (why, store),
            answer => panic!("{code}: {answer:?}"),
        }
    };
    for (code, next) in [
        ("AccessDeniedException", "allow `dynamodb:BatchGetItem`"),
        ("ResourceNotFoundException", "no such table in this account and region"),
        ("ExpiredTokenException", "renew them"),
        ("UnrecognizedClientException", "renew them"),
        ("ValidationException", "was refused and will be again"),
    ] {
        let (why, store) = said(400, code);
        for part in ["BatchGetItem", store.metrics.as_str(), code, next] {
            assert!(why.contains(part), "`{part}` is not in: {why}");
        }
    }
    // The service repeats what was signed.
    for code in ["InvalidSignatureException", "SignatureDoesNotMatch", "IncompleteSignature", "RequestExpired"] {
        let (why, _) = said(400, code);
        assert!(why.contains(code) && why.contains("clock") && !why.contains("said by the test"), "{why}");
    }
    let mut nowhere = DynamoDb::over(&client("http://127.0.0.1:9"), "nowhere");
    nowhere.pace = PACE;
    let answer = wait(nowhere.read(&[window(0, 5).key]));
    let Err(ReadError::Unavailable(why)) = answer else { panic!("{answer:?}") };
    assert!(why.contains("nowhere-ApplicationMetrics") && why.contains("AWS_ENDPOINT_URL"), "{why}");
    assert!(!why.contains("a secret of the test"), "{why}");
}

#[test]
fn tables_are_made_once_tagged_and_named_and_not_at_all_where_that_is_refused() {
    let prefix = prefix();
    let client = client(ministack());
    let refused = wait(DynamoDb::open(&client, &prefix, Create::Refuse)).err().unwrap();
    let text = refused.to_string();
    for part in ["-ApplicationMetrics", "-state", "-checkpoints", "in this account and region"] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    let (store, made) = wait(DynamoDb::open(&client, &prefix, Create::Missing)).unwrap();
    assert_eq!(made, [store.metrics.clone(), store.state.clone(), store.checkpoints.clone()]);
    assert_eq!(wait(store.see_to_expiry(Create::Missing)), [] as [String; 0]);
    let described = wait(client.describe_table().table_name(&store.metrics).send()).unwrap().table.unwrap();
    assert_eq!(described.global_secondary_indexes()[0].index_name(), Some("TimestampIndex"));
    let tags = wait(client.list_tags_of_resource().resource_arn(described.table_arn().unwrap()).send()).unwrap();
    assert_eq!((tags.tags()[0].key(), tags.tags()[0].value()), ("weir:store", prefix.as_str()));
    let ttl = wait(client.describe_time_to_live().table_name(&store.state).send()).unwrap();
    assert_eq!(ttl.time_to_live_description().unwrap().attribute_name(), Some("ExpiresAt"));
    let gate = Gate::before(ministack(), |_| Act::Pass);
    let (_, made) = wait(DynamoDb::open(&self::client(&gate.endpoint), &prefix, Create::Refuse)).unwrap();
    assert_eq!(made, [] as [String; 0]);
    assert_eq!((gate.seen("DescribeTable").len(), gate.all()), (3, 3), "what can be used is looked at once");
    for bad in ["", "with blank", &"x".repeat(237)] {
        let answer = wait(DynamoDb::open(&client, bad, Create::Missing)).err().unwrap();
        assert!(matches!(answer, OpenError::Prefix { .. }), "{answer}");
    }
}

/// A provider that says what the program that it runs wrote.
#[derive(Debug)]
struct Talkative;

impl ProvideCredentials for Talkative {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err(CredentialsError::provider_error("stderr of a program: hunter2")))
    }
}

#[test]
fn what_has_no_credentials_is_not_sent_and_not_written_and_nothing_of_their_provider_is_said() {
    let prefix = prefix();
    drop(open(dynalite(), &prefix));
    let gate = Gate::before(dynalite(), |_| Act::Pass);
    let made = || config(&gate.endpoint);
    for (made, kind) in [
        (made(), "no provider of them is configured"),
        (made().credentials_provider(Talkative), "their provider failed"),
    ] {
        let mut store = DynamoDb::over(&aws_sdk_dynamodb::Client::from_conf(made.build()), &prefix);
        store.pace = PACE;
        let answer = write(&store, &[window(0, 5)]);
        let Err(WriteError::NotWritten(why)) = answer else { panic!("{answer:?}") };
        for part in [kind, "aws sso login", "aws sts get-caller-identity"] {
            assert!(why.contains(part), "`{part}` is not in: {why}");
        }
        assert!(!why.contains("hunter2") && !why.contains("times"), "{why}");
    }
    assert_eq!(gate.all(), 0);
}

#[test]
fn tables_are_bound_to_one_stream_and_refuse_every_other() {
    let prefix = prefix();
    let store = open(dynalite(), &prefix);
    assert_eq!(wait(store.bind("arn:logs 1")), Ok(()));
    assert_eq!(wait(again(dynalite(), &prefix).bind("arn:logs 1")), Ok(()));
    // The same name, made anew.
    let refused = wait(again(dynalite(), &prefix).bind("arn:logs 2")).unwrap_err().to_string();
    for part in [prefix.as_str(), "`arn:logs 1`", "`arn:logs 2`", "choose another prefix", "delete these three tables"]
    {
        assert!(refused.contains(part), "`{part}` is not in: {refused}");
    }
    // Who is told nothing of its own success is not refused for it.
    let (_gate, store) = first(1, |request| request.operation == "PutItem", Act::PassAndCut);
    assert_eq!(wait(store.bind("arn:logs 1")), Ok(()));
}

#[test]
fn ttl_that_is_off_is_enabled_by_whoever_opens_next() {
    let prefix = prefix();
    // Who made them died before it.
    let (store, _) = wait(DynamoDb::open(&client(ministack()), &prefix, Create::Missing)).unwrap();
    let said = wait(store.see_to_expiry(Create::Refuse));
    assert!(said[0].contains(&store.metrics) && said[0].contains("ExpiresAt"), "{said:?}");
    assert_eq!(said.len(), 2);
    assert_eq!(wait(store.see_to_expiry(Create::Missing)), [] as [String; 0]);
    assert_eq!(wait(store.see_to_expiry(Create::Refuse)), [] as [String; 0]);
}

#[test]
fn a_table_that_cannot_be_used_yet_is_looked_at_again_until_it_can() {
    let prefix = prefix();
    drop(open(dynalite(), &prefix));
    for status in ["CREATING", "UPDATING"] {
        let looks = Mutex::new(0);
        let gate = Gate::before(dynalite(), move |request| {
            let mut looks = looks.lock().unwrap();
            *looks += u32::from(request.body.contains("-state"));
            match *looks {
                1..=3 if request.body.contains("-state") => Act::Say(200, described(status, "Partition", "B")),
                _ => Act::Pass,
            }
        });
        let (store, made) = wait(DynamoDb::open(&client(&gate.endpoint), &prefix, Create::Refuse)).unwrap();
        assert_eq!(made, [] as [String; 0], "{status}");
        let of_state = gate.seen("DescribeTable").iter().filter(|look| look.body.contains(&store.state)).count();
        assert_eq!((of_state, gate.all()), (4, 6), "{status}");
    }
}

/// What is said of a table that is as the one of states, but for these.
fn described(status: &str, partition: &str, kind_of_key: &str) -> String {
    serde_json::json!({"Table": {
        "TableStatus": status,
        "KeySchema": [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": "Key", "KeyType": "RANGE"}],
        "AttributeDefinitions": [
            {"AttributeName": partition, "AttributeType": "S"}, {"AttributeName": "Key", "AttributeType": kind_of_key}
        ],
    }})
    .to_string()
}

#[test]
fn a_table_with_other_keys_is_refused_by_its_name_and_nothing_is_changed() {
    let prefix = prefix();
    drop(open(dynalite(), &prefix));
    for (partition, kind, said) in
        [("id", "B", "its keys are id and Key, not Partition and Key"), ("Partition", "N", "Key is of type N, not B")]
    {
        let gate = Gate::before(dynalite(), move |request| match request.body.contains("-state") {
            true => Act::Say(200, described("ACTIVE", partition, kind)),
            false => Act::Pass,
        });
        let refused = wait(DynamoDb::open(&client(&gate.endpoint), &prefix, Create::Missing)).err().unwrap();
        assert!(matches!(&refused, OpenError::Foreign { table, .. } if table.ends_with("-state")), "{refused}");
        assert!(refused.to_string().contains(said), "{refused}");
        assert_eq!(gate.seen("DescribeTable").len(), gate.all());
    }
}

fn listed(store: &DynamoDb) -> usize {
    let span = Span::All { tenant: Some("tenant".into()), generation: Generation(0), kind: Kind::Window };
    wait(store.scan(&span, None, 10.try_into().unwrap())).unwrap().rows.len()
}

#[test]
fn a_row_of_an_old_day_is_listed_though_another_process_took_its_bucket_off_the_list() {
    let prefix = prefix();
    let late = DynamoDb { today: || Day(20_400), ..open(dynalite(), &prefix) };
    write(&late, &[window(0, 5)]).unwrap();
    let other = again(dynalite(), &prefix);
    assert_eq!(wait(other.expire(Generation(0), Kind::Window, Day(20_001))), Ok(1));
    // It still knows the entry, which is gone.
    assert_eq!(write(&late, &[window(60, 6)]), Ok(vec![Written::Stored]));
    assert_eq!(listed(&other), 1);
}

#[test]
fn who_takes_a_bucket_off_the_list_lists_it_again_for_a_row_that_came_meanwhile() {
    let prefix = prefix();
    let store = open(dynalite(), &prefix);
    write(&store, &[window(0, 5)]).unwrap();
    // Put by who knew the entry, as the last thing before it goes.
    let (at, to) = (prefix.clone(), dynalite());
    let gate = Gate::before(to, move |request| {
        if request.operation == "DeleteItem" && request.body.contains("LastDay") {
            let (at, item) = (at.clone(), window(60, 6));
            std::thread::spawn(move || put_alone(to, &at, &item)).join().unwrap();
        }
        Act::Pass
    });
    assert_eq!(wait(again(&gate.endpoint, &prefix).expire(Generation(0), Kind::Window, Day(20_001))), Ok(1));
    assert_eq!(listed(&store), 1);
}

/// Puts a row as if its bucket were known to be listed.
fn put_alone(endpoint: &str, prefix: &str, row: &Row) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let http = aws_smithy_http_client::Builder::new().build_http();
    let made = client(endpoint).config().to_builder().http_client(http).build();
    let client = aws_sdk_dynamodb::Client::from_conf(made);
    let item = crate::dynamodb::item::row(&layout::place(&row.key).unwrap(), row, None);
    let put = client.put_item().table_name(format!("{prefix}-ApplicationMetrics")).set_item(Some(item));
    runtime.block_on(put.send()).unwrap();
}

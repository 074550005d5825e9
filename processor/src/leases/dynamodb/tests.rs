//! Against dynalite: races, a zombie, and workers who share shards through the table alone.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use aws_sdk_dynamodb::config::{BehaviorVersion, Region};
use events::position::{HashKey, HashRange};

use super::{super::Watch, *};
use crate::leases::{Appetite, View, plan};

fn client() -> Client {
    let config = emulators::settings!(aws_sdk_dynamodb, &emulators::dynamodb().endpoint);
    Client::from_conf(config.build())
}

async fn fresh() -> Table {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("leases-{}", COUNT.fetch_add(1, Relaxed));
    let (table, created) = Table::open(client(), &name, true).await.unwrap();
    assert!(created);
    table
}

fn shard(number: u64, parents: &[u64]) -> Shard {
    let range = HashRange { from: HashKey(0), through: HashKey(u128::MAX) };
    let parents = parents.iter().map(|parent| ShardId::numbered(*parent)).collect();
    Shard { id: ShardId::numbered(number), range, parents, closed: false }
}

#[tokio::test]
async fn a_missing_table_is_refused_where_it_may_not_be_made() {
    let missing = Table::open(client(), "leases-absent", false).await.unwrap_err();
    assert_eq!(missing, TableError::Missing("leases-absent".into()));
    let table = fresh().await;
    assert!(!Table::open(client(), &table.name, true).await.unwrap().1, "what is there is used");
}

/// A DynamoDB that refuses one call, with this.
fn refusing(code: &str, message: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let body = format!(r#"{{"__type":"com.amazon.coral.service#{code}","message":"{message}"}}"#);
    std::thread::spawn(move || {
        let mut socket = listener.accept().unwrap().0;
        let (mut lines, mut length) = (BufReader::new(socket.try_clone().unwrap()), 0);
        loop {
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            match line.trim_end().to_ascii_lowercase().split_once(": ") {
                Some(("content-length", value)) => length = value.parse().unwrap(),
                None if line.trim_end().is_empty() => break,
                _ => {}
            }
        }
        lines.read_exact(&mut vec![0; length]).unwrap();
        let head = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/x-amz-json-1.0\r\nconnection: close";
        write!(socket, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    });
    endpoint
}

#[tokio::test]
async fn what_aws_says_of_a_refused_call_is_told_without_what_was_signed() {
    for (code, message, told) in [
        ("AccessDeniedException", "not authorized", "AccessDeniedException: not authorized"),
        ("InvalidSignatureException", "x-amz-security-token:SESSION", "InvalidSignatureException"),
    ] {
        let config = emulators::settings!(aws_sdk_dynamodb, refusing(code, message));
        let refused = Table::open(Client::from_conf(config.build()), "leases", true).await.unwrap_err();
        assert_eq!(refused.to_string(), format!("DynamoDB table leases could not be described: {told}"));
    }
    // Nothing is sent without credentials.
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url("http://127.0.0.1:9")
        .http_client(aws_smithy_http_client::Builder::new().build_http());
    let refused = Table::open(Client::from_conf(config.build()), "leases", true).await.unwrap_err().to_string();
    assert!(refused.contains("no usable AWS credentials"), "{refused}");
}

#[tokio::test]
async fn of_two_who_take_a_lease_one_has_it_and_a_zombie_changes_nothing() {
    let table = fresh().await;
    assert!(table.carry_out("a", &Step::Create(shard(3, &[1, 2]))).await.unwrap());
    assert!(!table.carry_out("b", &Step::Create(shard(3, &[]))).await.unwrap(), "it is there");
    let free = table.read().await.unwrap().remove(0);
    let (noted, wanted) = (Noted::Nothing, SequenceNumber::ZERO);
    assert_eq!(free, Lease { shard: ShardId::numbered(3), owner: None, counter: 0, noted, wanted });
    let take = |lease: &Lease| Step::Take { lease: lease.clone(), steal: false };
    assert!(table.carry_out("a", &take(&free)).await.unwrap());
    assert!(!table.carry_out("b", &take(&free)).await.unwrap());
    let of_a = table.read().await.unwrap().remove(0);
    assert_eq!((of_a.owner.as_deref(), of_a.counter), (Some("a"), 1));
    assert!(table.carry_out("b", &take(&of_a)).await.unwrap(), "stolen");
    for step in [Step::Renew(of_a.clone()), take(&of_a)] {
        assert!(!table.carry_out("a", &step).await.unwrap(), "{step:?}");
    }
    assert!(!table.renew(&of_a, Some(SequenceNumber::from_parts(1, 2))).await.unwrap());
    assert!(!table.carry_out("a", &Step::End { lease: of_a.clone(), children: vec![] }).await.unwrap());
    assert!(!table.release(&of_a, None).await.unwrap());
    let of_b = table.read().await.unwrap().remove(0);
    assert_eq!((of_b.owner.as_deref(), of_b.counter), (Some("b"), 2));
    let children = vec![ShardId::numbered(4)];
    assert!(table.carry_out("b", &Step::End { lease: of_b, children }).await.unwrap());
    let ended = table.read().await.unwrap().remove(0);
    assert_eq!((ended.noted, &ended.owner), (Noted::End, &None));
    assert!(!table.carry_out("b", &Step::Remove(of_a)).await.unwrap(), "not as it was read");
    assert!(table.carry_out("b", &Step::Remove(ended)).await.unwrap());
    assert_eq!(table.read().await.unwrap(), []);
}

#[tokio::test]
async fn rows_have_the_attributes_of_the_kinesis_client_library() {
    let table = fresh().await;
    table.carry_out("a", &Step::Create(shard(3, &[1, 2]))).await.unwrap();
    let free = table.read().await.unwrap().remove(0);
    table.carry_out("a", &Step::Take { lease: free, steal: false }).await.unwrap();
    let taken = table.read().await.unwrap().remove(0);
    let through: SequenceNumber = "49590338271490256608559692538361571095921575989136588898".parse().unwrap();
    let before = SequenceNumber::from_parts(1, 2);
    assert!(table.want(&taken.shard, before).await.unwrap());
    assert!(!table.want(&ShardId::numbered(77), before).await.unwrap(), "no row is made of it");
    let wanted = table.read().await.unwrap().remove(0);
    assert_eq!(wanted.wanted, before);
    assert!(table.renew(&wanted, Some(through)).await.unwrap());
    let renewed = table.read().await.unwrap().remove(0);
    assert_eq!((renewed.noted, renewed.wanted), (Noted::Through(through), SequenceNumber::ZERO), "it is reached");
    let item = client().get_item().table_name(&table.name).key("leaseKey", key(&taken.shard)).send().await.unwrap();
    let item: BTreeMap<String, String> =
        item.item.unwrap().into_iter().map(|(name, value)| (name, format!("{value:?}"))).collect();
    let expected = [
        ("checkpoint", "S(\"49590338271490256608559692538361571095921575989136588898\")"),
        ("checkpointSubSequenceNumber", "N(\"0\")"),
        ("endingHashKey", "S(\"340282366920938463463374607431768211455\")"),
        ("leaseCounter", "N(\"2\")"),
        ("leaseKey", "S(\"shardId-000000000003\")"),
        ("leaseOwner", "S(\"a\")"),
        ("ownerSwitchesSinceCheckpoint", "N(\"0\")"),
        ("parentShardId", "Ss([\"shardId-000000000001\", \"shardId-000000000002\"])"),
        ("startingHashKey", "S(\"0\")"),
    ];
    assert_eq!(item, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    // So it is one unit to renew it, and half a one to read it, also where names are as long as they get.
    let bytes: usize = item.iter().map(|(name, value)| name.len() + value.len()).sum();
    assert!(bytes + 256 < 1_024, "{bytes}");
    assert!(table.release(&renewed, Some(through)).await.unwrap());
    let released = table.read().await.unwrap().remove(0);
    assert_eq!((released.owner, released.noted), (None, Noted::Through(through)));
    let other = client().put_item().table_name(&table.name).item("leaseKey", AttributeValue::S("Migration3.0".into()));
    other.item("entityType", AttributeValue::S("LEADER".into())).send().await.unwrap();
    assert_eq!(table.read().await.unwrap().len(), 1, "rows of other kinds are passed over");
}

#[tokio::test]
async fn workers_share_shards_through_the_table_and_take_over_from_one_that_is_silent() {
    let table = fresh().await;
    let shards: Vec<Shard> = (0..6).map(|i| shard(i, &[])).collect();
    let failover = Duration::from_secs(10);
    let mut watches = [Watch::default(), Watch::default(), Watch::default()];
    let mut now = Duration::ZERO;
    for (rounds, alive, expected) in [(8, 0..3, vec![2, 2, 2]), (12, 0..2, vec![3, 3])] {
        for _ in 0..rounds {
            now += Duration::from_secs(3);
            for worker in alive.clone() {
                let leases = table.read().await.unwrap();
                let silent = watches[worker].look(&leases, now, failover);
                let view = View { shards: &shards, ended: &BTreeSet::new(), leases: &leases, silent: &silent };
                for step in plan(&worker.to_string(), Appetite::Share, view) {
                    table.carry_out(&worker.to_string(), &step).await.unwrap();
                }
            }
        }
        let mut loads: BTreeMap<String, usize> = BTreeMap::new();
        for lease in table.read().await.unwrap() {
            *loads.entry(lease.owner.unwrap()).or_default() += 1;
        }
        assert_eq!(loads.into_values().collect::<Vec<_>>(), expected);
    }
}

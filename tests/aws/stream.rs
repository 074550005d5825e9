//! A stream of Kinesis as its owner has it: records put and shards changed by the SDK's client, beside the program. Decides nothing about right and
//! wrong.

use aws_sdk_kinesis::{
    Client,
    primitives::Blob,
    types::{PutRecordsRequestEntry, ScalingType, StreamStatus},
};
use events::stream::Put;
use tokio::runtime::Runtime;

use crate::cloud::Cloud;

/// Records of one call: the emulator is slow, and a call has some seconds.
const RECORDS_A_CALL: usize = 100;

/// A client of Kinesis at this endpoint.
pub fn client(endpoint: &str) -> Client {
    Client::from_conf(emulators::settings!(aws_sdk_kinesis, endpoint).build())
}

/// A runtime for calls of a test.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// An open shard and its part of the ring.
#[derive(Debug, Clone)]
pub struct Open {
    pub shard: String,
    pub from: u128,
    pub through: u128,
}

impl Open {
    /// The key in the middle.
    pub fn middle(&self) -> u128 {
        self.from + (self.through - self.from) / 2
    }
}

/// One stream.
pub struct Stream {
    name: String,
    client: Client,
    runtime: Runtime,
}

impl Stream {
    pub fn of(cloud: &Cloud) -> Self {
        Self { name: cloud.name.clone(), client: client(&emulators::kinesis().endpoint), runtime: runtime() }
    }

    /// Puts records, in this order.
    pub fn put(&self, puts: &[Put]) {
        let entry = |put: &Put| {
            let entry = PutRecordsRequestEntry::builder().partition_key(&put.partition_key);
            let entry = entry.data(Blob::new(put.data.clone()));
            entry.set_explicit_hash_key(put.hash_key.map(|key| key.0.to_string())).build().unwrap()
        };
        for call in puts.chunks(RECORDS_A_CALL) {
            let call =
                self.client.put_records().stream_name(&self.name).set_records(Some(call.iter().map(entry).collect()));
            let answer = self.runtime.block_on(call.send()).unwrap();
            assert_eq!(answer.failed_record_count().unwrap_or(0), 0, "{answer:?}");
        }
    }

    /// Open shards, in the order of their keys.
    pub fn open(&self) -> Vec<Open> {
        let listed = self.runtime.block_on(self.client.list_shards().stream_name(&self.name).send()).unwrap();
        let is_open = |shard: &&aws_sdk_kinesis::types::Shard| {
            shard.sequence_number_range().is_some_and(|range| range.ending_sequence_number().is_none())
        };
        let open = |shard: &aws_sdk_kinesis::types::Shard| {
            let range = shard.hash_key_range().unwrap();
            let [from, through] = [range.starting_hash_key(), range.ending_hash_key()].map(|key| key.parse().unwrap());
            Open { shard: shard.shard_id().to_owned(), from, through }
        };
        let mut found: Vec<Open> = listed.shards().iter().filter(is_open).map(open).collect();
        found.sort_by_key(|open| open.from);
        found
    }

    /// Splits a shard; `at` is the first key of the upper child.
    pub fn split(&self, shard: &str, at: u128) {
        let split = self.client.split_shard().stream_name(&self.name).shard_to_split(shard);
        self.runtime.block_on(split.new_starting_hash_key(at.to_string()).send()).unwrap();
        self.settle();
    }

    /// Merges two neighbours.
    pub fn merge(&self, one: &str, other: &str) {
        let merge = self.client.merge_shards().stream_name(&self.name).shard_to_merge(one);
        self.runtime.block_on(merge.adjacent_shard_to_merge(other).send()).unwrap();
        self.settle();
    }

    /// Has so many shards.
    pub fn resize(&self, shards: i32) {
        let update = self.client.update_shard_count().stream_name(&self.name).target_shard_count(shards);
        self.runtime.block_on(update.scaling_type(ScalingType::UniformScaling).send()).unwrap();
        self.settle();
    }

    /// A stream that is being changed takes no other change.
    fn settle(&self) {
        loop {
            let about = self.client.describe_stream_summary().stream_name(&self.name).send();
            let about = self.runtime.block_on(about).unwrap();
            if *about.stream_description_summary().unwrap().stream_status() == StreamStatus::Active {
                return;
            }
        }
    }
}

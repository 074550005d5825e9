//! The reads that all readers of a stream share, on the way from it: held back as if they were slow, and a shard of which the stream has let go. What is
//! pushed to a consumer of its own comes all the same. Decides nothing about right and wrong.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::way::{Call, Guard};

/// So far behind are reads that are held back, as their answers say.
pub const BEHIND_MS: u64 = 3_600_000;

/// An iterator's shard, and the position that it was asked for; empty: the oldest.
#[derive(Clone)]
struct Begun {
    shard: String,
    at: String,
}

#[derive(Default)]
pub struct Reads {
    iterators: HashMap<String, Begun>,
    /// Who reads on from here or before gets empty pages.
    held_through: Option<String>,
    /// The stream has no such shard any more.
    gone: Option<String>,
    /// The last record that was read.
    last: String,
}

/// In the order of positions: they are whole numbers, without zeros before them.
fn is_later(one: &str, other: &str) -> bool {
    (one.len(), one) > (other.len(), other)
}

impl Reads {
    /// Nothing is read from now on.
    pub fn hold(&mut self) {
        self.held_through = Some("9".repeat(60));
    }

    /// Who goes on behind what was read so far, or before, reads nothing from now on.
    pub fn hold_behind(&mut self) {
        self.held_through = Some(self.last.clone());
    }

    pub fn go_on(&mut self) {
        self.held_through = None;
    }

    /// The stream does not list a shard from now on, and has nothing of it.
    pub fn let_go(&mut self, shard: &str) {
        self.gone = Some(shard.to_owned());
    }

    fn of<'a>(&'a self, call: &Call) -> Option<&'a Begun> {
        self.iterators.get(call.asked["ShardIterator"].as_str()?)
    }

    fn note(&mut self, begun: Option<Begun>, token: &Value) {
        if let (Some(begun), Some(token)) = (begun, token.as_str()) {
            self.iterators.insert(token.to_owned(), begun);
        }
    }
}

impl Guard for Reads {
    fn refuses(&mut self, call: &Call) -> Option<Value> {
        let gone = self.gone.as_deref()?;
        let asked = match call.action.as_str() {
            "GetRecords" => self.of(call)?.shard.as_str(),
            "GetShardIterator" | "SubscribeToShard" => call.asked["ShardId"].as_str()?,
            _ => return None,
        };
        let why = format!("Shard {gone} in stream under account 000000000000 does not exist");
        (asked == gone).then(|| json!({"__type": "ResourceNotFoundException", "message": why}))
    }

    fn is_answered(&mut self, call: &Call, answer: &mut Value) -> bool {
        match call.action.as_str() {
            "GetShardIterator" => {
                let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
                let begun =
                    Begun { shard: text(&call.asked["ShardId"]), at: text(&call.asked["StartingSequenceNumber"]) };
                self.note(Some(begun), &answer["ShardIterator"]);
            }
            "GetRecords" => {
                let begun = self.of(call).cloned();
                let held = self.held_through.as_deref();
                if begun.as_ref().is_some_and(|begun| held.is_some_and(|through| !is_later(&begun.at, through))) {
                    *answer = json!({"Records": [], "NextShardIterator": call.asked["ShardIterator"], "MillisBehindLatest": BEHIND_MS});
                }
                for record in answer["Records"].as_array().into_iter().flatten() {
                    let sequence = record["SequenceNumber"].as_str().unwrap_or_default();
                    if is_later(sequence, &self.last) {
                        self.last = sequence.to_owned();
                    }
                }
                self.note(begun, &answer["NextShardIterator"]);
            }
            "ListShards" => {
                if let (Some(shards), Some(gone)) = (answer["Shards"].as_array_mut(), &self.gone) {
                    shards.retain(|shard| shard["ShardId"] != gone.as_str());
                }
            }
            _ => {}
        }
        true
    }
}

//! Records that the system itself appends. Decides how often is tried again, and never in which order they end up.

use std::time::Duration;

use events::{
    event::{Event, Missed},
    identity::LOCAL_TENANT,
    position::HashKey,
    stream::{APPEND_RECORDS_MAX, AppendError, Appended, Put, Refused, Stream},
    wire::{self, Content, Extent, Header},
};

/// One append has no more bytes than this, or one record (Kinesis API reference, `PutRecords`: 5 MiB with the partition keys).
const APPEND_BYTES_MAX: usize = 4 << 20;
/// An append is tried so often before it is given up.
const TRIES_MAX: u32 = 5;

/// A record for an event that the system itself says, addressed to the shard that owns the key.
pub fn system_event(hash_key: HashKey, event: Event) -> Put {
    system_event_of(LOCAL_TENANT, hash_key, event)
}

/// As `system_event`, on behalf of a tenant.
pub fn system_event_of(tenant: &str, hash_key: HashKey, event: Event) -> Put {
    let header = Header::plain(tenant, Content::Events, 0, 0);
    Put { partition_key: "weir/system".into(), hash_key: Some(hash_key), data: wire::encode_events(header, &[event]) }
}

/// A record for something that was announced and could not be read. Each time that it is said it is the same record, apart from when that was.
pub fn missed(tenant: &str, missed: Missed, now_ms: i64) -> Put {
    let (origin, from) = (missed.known_as(), missed.from);
    let partition_key = missed.origin.partition_key(tenant, from);
    let event = [Event::Missed(missed)];
    // Its bytes are those of the event, whatever they are: an extent explains the length of a body.
    let header = Header::plain(tenant, Content::Events, 0, now_ms);
    let bytes = wire::events_len(&event);
    let extent = Extent { origin, from: 0, to: bytes };
    Put { partition_key, hash_key: None, data: wire::encode_events(Header { extent: Some(extent), ..header }, &event) }
}

/// Appends any number of records, again those that were refused, until all are durable. Records must bear being appended twice. Returns where they
/// were put, in any order.
///
/// `Err`: the words of the last refusal. One that can never be taken is refused at once, and what stands after it may not have been appended.
pub async fn append_all<S: Stream>(stream: &S, puts: Vec<Put>) -> Result<Vec<Appended>, String> {
    let mut appended = vec![];
    let mut puts = puts.into_iter().peekable();
    while puts.peek().is_some() {
        let (mut call, mut bytes) = (vec![], 0);
        while let Some(put) = puts.next_if(|put| {
            bytes += put.partition_key.len() + put.data.len();
            call.is_empty() || (call.len() < APPEND_RECORDS_MAX && bytes <= APPEND_BYTES_MAX)
        }) {
            call.push(put);
        }
        append_call(stream, call, &mut appended).await?;
    }
    Ok(appended)
}

async fn append_call<S: Stream>(stream: &S, mut puts: Vec<Put>, appended: &mut Vec<Appended>) -> Result<(), String> {
    let mut last = String::new();
    for attempt in 0..TRIES_MAX {
        if attempt > 0 {
            tokio::time::sleep(Duration::from_millis(50 << attempt)).await;
        }
        match stream.append(puts.clone()).await {
            Ok(answers) => {
                let mut again = vec![];
                for (put, answer) in puts.into_iter().zip(answers) {
                    match answer {
                        Ok(put) => appended.push(put),
                        Err(refused @ Refused::Invalid(_)) => return Err(refused.to_string()),
                        Err(refused) => {
                            last = refused.to_string();
                            again.push(put);
                        }
                    }
                }
                if again.is_empty() {
                    return Ok(());
                }
                puts = again;
            }
            Err(AppendError::NotAppended(why) | AppendError::Unknown(why)) => last = why,
        }
    }
    Err(last)
}

//! Law 7 under Lambda: a program of a newer fold has begun to tick. The older function commits what stands before its tick, and folds nothing behind.

use events::{
    event::{Event, OpenShard, Ticked},
    position::{HashKey, HashRange, SequenceNumber, ShardId},
};
use processor::append::system_event;
use projections::fold::FOLD_REVISION;
use serde_json::json;

use crate::{
    cloud::{CONSUMER, Cloud, batches, lines},
    lambda::Ended,
    mapping::{TIME, event, recorded},
};

const SHARD: &str = "shardId-000000000000";

#[test]
fn where_a_newer_fold_begins_the_function_commits_what_stands_before_and_reports_the_rest_as_long_as_it_is_older() {
    let cloud = Cloud::new(1);
    let (before, behind) = (batches("a.log", &lines("app", 0..300)), batches("b.log", &lines("app", 300..600)));
    let range = HashRange { from: HashKey(0), through: HashKey(u128::MAX) };
    let newer = Ticked {
        definitions: SequenceNumber::ZERO,
        open_shards: vec![OpenShard { shard: ShardId::named(SHARD), range }],
        fold_revision: FOLD_REVISION + 1,
    };
    cloud.append(&before);
    cloud.append(&[system_event(range.from, Event::Ticked(newer))]);
    cloud.append(&behind);
    let records = recorded(&cloud, SHARD);
    let [last, tick] = [before.len() - 1, before.len()].map(|place| records[place].sequence.clone());
    let mut function = cloud.function(CONSUMER);
    let stands = || assert_eq!(cloud.resume_point(SHARD), Some((last.clone(), false)));
    let answered = function.invoke(&event(&records), TIME).answered();
    assert_eq!(answered, json!({"batchItemFailures": [{"itemIdentifier": tick}]}), "{}", function.said());
    stands();
    // What is left comes again, and fails: nobody takes it for done.
    let words = format!("the fold has revision {}; this program has {FOLD_REVISION} and stops here", FOLD_REVISION + 1);
    for first in [before.len(), before.len() + 1] {
        match function.invoke(&event(&records[first..]), TIME) {
            Ended::Failed(why) => assert!(why.contains(&words), "{why}"),
            other => panic!("{other:?}"),
        }
        stands();
    }
}

//! Splits and merges: what is refused, what a restart finds, and appends that are under way.

use super::*;
use crate::embedded::SHARDS_MAX;

const MIDDLE: HashKey = HashKey(1 << 127);

fn id(number: u64) -> ShardId {
    ShardId::numbered(number)
}

#[test]
fn a_restart_finds_parents_closed_and_children_where_they_were() {
    for crash in [SimulatedDisk::kill, |disk: &SimulatedDisk| disk.power_loss(7)] {
        let disk = SimulatedDisk::new(1);
        let stream = open(&disk, small());
        append(&stream, vec![put("a", vec![1]), put("b", vec![2])]);
        let [lower, upper] = stream.split(&id(0), MIDDLE).unwrap();
        assert_eq!((&lower, &upper), (&id(1), &id(2)));
        append(&stream, vec![put("a", vec![3]), put("b", vec![4])]);
        let merged = stream.merge(&upper, &lower).unwrap();
        append(&stream, vec![put("a", vec![5])]);
        let (listed, tips) = (block_on(stream.shards()).unwrap(), |stream: &Embedded<_>| {
            (0..4).map(|shard| stream.tip(&id(shard)).unwrap()).collect::<Vec<_>>()
        });
        let before = tips(&stream);
        drop(stream);
        crash(&disk);
        let stream = open(&disk, small());
        assert_eq!((block_on(stream.shards()).unwrap(), tips(&stream)), (listed, before.clone()));
        assert!(before[1].max(before[2]) < before[3] && before[0] < before[1].min(before[2]), "{before:?}");
        for closed in 0..3 {
            let page = block_on(stream.read(&id(closed), Start::After(before[closed as usize]), LIMITS)).unwrap();
            assert_eq!((page.records.len(), page.next), (0, None), "shard {closed} has ended");
        }
        let sequence = append(&stream, vec![put("b", vec![6])])[0];
        assert_eq!(stream.tip(&merged).unwrap(), sequence);
    }
}

#[test]
fn what_cannot_be_split_or_merged_is_refused_and_nothing_changes() {
    let stream = open(&SimulatedDisk::new(1), Options { shards: 3.try_into().unwrap(), ..small() });
    let before = block_on(stream.shards()).unwrap();
    let range = before[1].range;
    for at in [HashKey(0), range.from, HashKey(range.through.0 + 1), HashKey(u128::MAX)] {
        assert!(matches!(stream.split(&id(1), at), Err(ReshardError::OutsideRange { .. })), "{at:?}");
    }
    assert!(matches!(stream.split(&id(9), MIDDLE), Err(ReshardError::NoSuchShard(_))));
    assert!(matches!(stream.merge(&id(0), &id(2)), Err(ReshardError::NotAdjacent { .. })));
    assert!(matches!(stream.merge(&id(0), &id(0)), Err(ReshardError::NotAdjacent { .. })));
    assert_eq!(block_on(stream.shards()).unwrap(), before);
    stream.split(&id(1), HashKey(range.from.0 + 1)).unwrap();
    assert!(matches!(stream.split(&id(1), HashKey(range.from.0 + 1)), Err(ReshardError::Closed(_))));
    assert!(matches!(stream.merge(&id(1), &id(2)), Err(ReshardError::Closed(_))));
    assert!(matches!(stream.split(&id(3), range.from), Err(ReshardError::OutsideRange { .. })), "it has one key");
}

#[test]
fn there_are_no_more_open_shards_than_the_limit() {
    let disk = SimulatedDisk::new(1);
    let stream = open(&disk, Options { shards: (SHARDS_MAX as u16 - 1).try_into().unwrap(), ..small() });
    let last = |stream: &Embedded<_>| block_on(stream.shards()).unwrap().pop().unwrap();
    let shard = last(&stream);
    stream.split(&shard.id, shard.range.through).unwrap();
    let shard = last(&stream);
    let first = block_on(stream.shards()).unwrap()[0].clone();
    assert!(matches!(stream.split(&first.id, first.range.through), Err(ReshardError::TooMany)), "{shard:?}");
    stream.merge(&id(0), &id(1)).unwrap();
    stream.split(&id(2), block_on(stream.shards()).unwrap()[2].range.through).unwrap();
}

#[test]
fn metadata_from_before_a_split_is_refused_once_a_child_holds_a_record() {
    let disk = SimulatedDisk::new(1);
    let stream = open(&disk, small());
    append(&stream, vec![put("a", vec![1])]);
    let old = disk.contents("stream").unwrap();
    stream.split(&id(0), MIDDLE).unwrap();
    let put_back = |old: &[u8]| {
        use crate::embedded::disk::File as _;
        let file = disk.create("stream").unwrap();
        file.write_at(&[std::io::IoSlice::new(old)], 0).unwrap();
        file.sync_data().unwrap();
    };
    append(&stream, vec![put("a", vec![2])]);
    stream.close();
    put_back(&old);
    let refused = Embedded::open(disk.clone(), || 1_000, small()).unwrap_err().to_string();
    assert!(refused.contains("does not know shardId-0") && refused.contains("made after"), "{refused}");
}

#[test]
fn appends_on_many_threads_go_to_a_parent_or_a_child_and_each_is_there_once() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: 1 << 20, ..Options::default() };
    let stream = open(&RealDisk::in_folder(folder.path()).unwrap(), options.clone());
    let acknowledged = Mutex::new(vec![]);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (stream, acknowledged) = (&stream, &acknowledged);
            scope.spawn(move || {
                for i in 0..60 {
                    let puts = vec![put(&format!("{thread}-{i}"), vec![thread; 100]), put("k", vec![thread; 9000])];
                    for answer in block_on(stream.append(puts)).unwrap() {
                        acknowledged.lock().unwrap().push((answer.clone().unwrap().shard, answer.unwrap().sequence));
                    }
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..10 {
                let shards: Vec<Shard> = block_on(stream.shards()).unwrap();
                let mut open: Vec<_> = shards.iter().filter(|shard| !shard.closed).collect();
                open.sort_by_key(|shard| shard.range.from);
                if open.len() > 3 {
                    stream.merge(&open[1].id, &open[2].id).unwrap();
                } else {
                    let range = open[0].range;
                    let middle = HashKey(range.from.0 + (range.through.0 - range.from.0) / 2 + 1);
                    stream.split(&open[0].id, middle).unwrap();
                }
            }
        });
    });
    let mut acknowledged = acknowledged.into_inner().unwrap();
    acknowledged.sort_unstable();
    let stored = |stream: &Embedded<RealDisk>| {
        let mut stored = vec![];
        for (number, shard) in (0..).zip(block_on(stream.shards()).unwrap()) {
            for record in read_all(stream, number, Start::TrimHorizon).unwrap() {
                assert!(shard.range.contains(HashKey::of(&record.partition_key)));
                stored.push((shard.id.clone(), record.sequence));
            }
        }
        stored.sort_unstable();
        stored
    };
    assert_eq!(acknowledged.len(), 480);
    assert_eq!(stored(&stream), acknowledged);
    drop(stream);
    assert_eq!(stored(&open(&RealDisk::in_folder(folder.path()).unwrap(), options)), acknowledged);
}

//! One input through the embedded pair and through the functions: the same digest, whatever Lambda does meanwhile. `tests/aws/one_input.rs` puts the same
//! input through the long-running consumer.

use crate::{
    cloud::{CONSUMER, Cloud, TICKER},
    input,
    lambda::Function,
    mapping::{Delivered, TIME, event, recorded, run},
};

const HALF: u128 = 1 << 127;

/// A share of a shard's records that the event source has handed over, and the rest.
struct Source {
    shard: String,
    done: usize,
}

impl Source {
    fn new(shard: &str) -> Self {
        Self { shard: shard.to_owned(), done: 0 }
    }

    /// Hands over so many further records in batches of this size, each batch twice and the second time with what came before it.
    fn go_on(&mut self, cloud: &Cloud, function: &mut Function, records: usize, size: usize) {
        let all: Vec<Delivered> = recorded(cloud, &self.shard);
        let to = all.len().min(self.done.saturating_add(records));
        for from in (self.done..to).step_by(size) {
            let until = to.min(from + size);
            run(function, &all[from..until], size, 1);
            run(function, &all[from.saturating_sub(3)..until], size + 3, 1);
        }
        self.done = to;
    }
}

#[test]
fn the_digest_is_that_of_one_machine_with_repeats_two_orders_a_split_a_merge_and_a_kill_in_the_middle() {
    let cloud = Cloud::new(2);
    let parts: Vec<Vec<_>> =
        input::parts().iter().map(|files| files.iter().flat_map(input::batches).collect()).collect();
    let expected = cloud.embedded(&parts.concat());

    let [first, second] = ["shardId-000000000000", "shardId-000000000001"];
    let mut functions = [cloud.function(CONSUMER), cloud.function(CONSUMER)];
    let mut ticker = cloud.function(TICKER);
    let mut tick = || ticker.invoke(&serde_json::json!({"source": "aws.scheduler"}), TIME).answered();
    cloud.append(&parts[0]);
    tick();
    let (mut one, mut two) = (Source::new(first), Source::new(second));
    // The second shard far ahead of the first.
    two.go_on(&cloud, &mut functions[1], usize::MAX, 9);
    one.go_on(&cloud, &mut functions[0], 5, 3);

    let split = cloud.client.split_shard().stream_name(&cloud.name).shard_to_split(first);
    let split = split.new_starting_hash_key((HALF / 2).to_string());
    cloud.runtime.block_on(split.send()).unwrap();
    cloud.append(&parts[1]);
    tick();
    // Instances change places, and one is killed with a batch in its hands. Both children come before the parent is at its end.
    functions.swap(0, 1);
    let (mut lower, mut upper) = (Source::new("shardId-000000000002"), Source::new("shardId-000000000003"));
    let batch = recorded(&cloud, &lower.shard);
    let number = functions[0].hand_over(&event(&batch), TIME);
    functions[0].kill();
    functions[0].wait(number);
    functions[0] = cloud.function(CONSUMER);
    lower.go_on(&cloud, &mut functions[0], 4, 2);
    assert_eq!(cloud.resume_point(first).map(|(_, ended)| ended), Some(true), "a child begins behind its parent's end");
    // What the event source still has of the parent is known.
    one.go_on(&cloud, &mut functions[1], usize::MAX, 50);
    two.go_on(&cloud, &mut functions[0], 3, 2);

    let merge = cloud.client.merge_shards().stream_name(&cloud.name);
    let merge = merge.shard_to_merge("shardId-000000000003").adjacent_shard_to_merge(second);
    cloud.runtime.block_on(merge.send()).unwrap();
    cloud.append(&parts[2]);
    tick();
    // The merged shard's records come first of all.
    Source::new("shardId-000000000004").go_on(&cloud, &mut functions[1], usize::MAX, 20);
    assert_eq!(cloud.resume_point(second).map(|(_, ended)| ended), Some(true));
    lower.go_on(&cloud, &mut functions[1], usize::MAX, 11);
    upper.go_on(&cloud, &mut functions[0], usize::MAX, 11);
    two.go_on(&cloud, &mut functions[0], usize::MAX, 11);
    for function in &functions {
        assert!(!function.said().contains("\"lost\""), "{}", function.said());
    }
    assert_eq!(cloud.verifies(), expected);
}

//! Records of producers that never heard of Weir, put by botocore onto a stream that `weir up` follows: what they count as, that what has an id counts
//! once, and that what cannot be read is counted and kept while the shard goes on.

use std::process::Command;

use serde_json::Value;

use crate::{
    cloud::Cloud,
    logs::lines,
    program::{Folder, say, weir},
};

/// Five records aggregated by another implementation: `events/src/wire/golden/README.md`.
const AGGREGATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/events/src/wire/golden/kpl-aws_kinesis_agg-1.2.3.bin");

/// Count and sum of each metric of a service, whatever its windows.
fn metric(cloud: &Cloud, service: &str, metric: &str) -> (u64, f64) {
    let said = cloud.run("metrics", ["--service", service, "--metric", metric, "-o", "json"]).exits(0);
    let windows = said.json_lines();
    let count = windows.iter().map(|window| window["count"].as_u64().unwrap()).sum();
    (count, windows.iter().map(|window| window["sum"].as_f64().unwrap()).sum())
}

#[test]
fn what_botocore_puts_counts_as_the_page_says_once_if_it_has_an_id_and_what_is_broken_is_a_dead_letter() {
    let cloud = Cloud::new();
    let server = cloud.up(["--shards", "1"]);
    let mut script = Command::new(emulators::python());
    script.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/strangers.py"));
    let said = say(script.args([&emulators::kinesis().endpoint, &cloud.name, AGGREGATE])).exits(0);
    let expected: Value = said.json();

    // Who waits for lines of their own waits for all that came before: the shard goes on behind what is broken.
    let own = Folder::new();
    let file = own.file("own.log", lines("own", 0..10));
    let said = say(weir(own.root.path()).args(["ingest", "--url", &server.url]).arg(file)).exits(0);
    assert_eq!(said.last_line(), "accepted 10 = folded 10 + skipped 0 + duplicate 0 + dead 0");
    let mut balance = server.get("/balance").json();
    balance["folded"] = (balance["folded"].as_u64().unwrap() - 10).into();
    for field in ["folded", "duplicate", "skipped", "dead"] {
        assert_eq!(balance[field], expected[field], "{field}: {balance}");
    }

    // The aggregate counts twice, as its producer gives it no id.
    assert_eq!(metric(&cloud, "checkout", "latency"), (4, 525.0));
    // A log event is of the function whose log group it is in; an event of the bus of what it names.
    assert_eq!(metric(&cloud, "pay", "errors"), (1, 1.0));
    assert_eq!(metric(&cloud, "pay", "latency"), (1, 7.0));
    assert_eq!(metric(&cloud, "orders", "latency"), (1, 40.0));
    assert_eq!(metric(&cloud, "basket", "Basket"), (4, 11.0));
    assert_eq!(metric(&cloud, "plain", "latency"), (8, 12.0));
    assert_eq!(metric(&cloud, "plain", "errors"), (4, 4.0));
    server.stop().exits(0);

    // All four are kept with their reason.
    let report = cloud.verifies();
    assert_eq!(report["differences"], 0);
    let kept = crate::cloud::scan(&format!("{}-state", cloud.name));
    let letters = kept.iter().filter(|row| row["Partition"].as_str().is_some_and(|of| of.starts_with("local/dead")));
    assert_eq!(letters.count(), 4, "{kept:?}");
}

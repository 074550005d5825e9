//! One input through the embedded pair, and through Kinesis and DynamoDB: the same digest, the same answers.

use std::path::Path;

use crate::{
    cloud::Cloud,
    logs::NONE,
    program::{Folder, Said, say},
};

/// 10,000 lines of a real web server's access log: where it is from stands in the README.md beside it.
fn real() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/apache_logs.log.gz").display().to_string()
}

const WHOLE: &str = "accepted 10000 = folded 10000 + skipped 0 + duplicate 0 + dead 0";
const AGAIN: &str = "accepted 10000 = folded 0 + skipped 0 + duplicate 10000 + dead 0";

/// What `weir metrics` says of every hour.
fn hours(said: Said) -> String {
    said.exits(0).out
}

#[test]
fn a_real_log_gives_the_digest_and_the_metrics_that_it_gives_on_one_machine() {
    let (cloud, local) = (Cloud::new(), Folder::new());
    local.ingest([real()]).exits(0);
    let expected = local.verifies()["digest"].clone();

    // Nothing is there yet: who only reads makes nothing, and who adds something says what it made.
    cloud.run("metrics", NONE).exits(2).complains(&[&cloud.name, "there is no Kinesis stream"]);
    let said = cloud.run("ingest", [real()]).exits(0);
    assert_eq!(said.last_line(), WHOLE);
    let stream = format!("made the stream {} in us-east-1 at http://127.0.0.1:", cloud.name);
    let table = format!("made the table {}-ApplicationMetrics in us-east-1 at http://127.0.0.1:", cloud.name);
    let said = said.complains(&[&stream, &table]);
    assert!(!said.err.contains("warning"), "{said:?}");
    assert_eq!(cloud.verifies()["digest"], expected);

    let query = ["--period", "3600", "-o", "csv"];
    assert_eq!(hours(cloud.run("metrics", query)), hours(local.run("metrics", query)));
    assert!(hours(cloud.run("metrics", query)).lines().count() > 300);

    // The cache knows the file.
    let said = cloud.run("ingest", [real()]).exits(0).complains(&["1 of 1 files hold nothing new"]);
    assert!(!said.err.contains("made "), "{said:?}");
}

#[test]
fn what_has_a_name_by_hand_is_known_to_the_stream_whoever_reads_it() {
    let (cloud, local) = (Cloud::new(), Folder::new());
    local.ingest([real()]).exits(0);
    let named = |cache: &Folder| say(cloud.command_in(cache, "ingest").args([&real(), "--as", "access-log"])).exits(0);
    assert_eq!(named(&cloud.folder).last_line(), WHOLE);
    let other = Folder::new();
    assert_eq!(named(&other).last_line(), AGAIN);
    assert_eq!(cloud.verifies()["digest"], local.verifies()["digest"]);
    // Without a name nobody can tell that a machine has read the file before: that is said, once.
    let new = Folder::new();
    let file = new.file("app.log", crate::logs::lines("app", 0..60));
    let first = say(cloud.command_in(&new, "ingest").arg(&file)).exits(0);
    first.complains(&["no file is known", "--as NAME"]);
    let second = say(cloud.command_in(&new, "ingest").arg(&file)).exits(0);
    assert!(!second.err.contains("no file is known"), "{second:?}");
}

#[test]
fn the_environment_names_the_pair_and_a_list_of_one_stream_says_nothing_of_another() {
    let (one, other) = (Cloud::new(), Cloud::new());
    let file = one.folder.file("app.log", crate::logs::lines("app", 0..60));
    let counted = |cloud: &Cloud| {
        let mut command = one.folder.command("ingest");
        Cloud::lead(&mut command)
            .arg(&file)
            .env("WEIR_STREAM", &cloud.options()[1])
            .env("WEIR_STORE", &cloud.options()[3]);
        say(&mut command).exits(0)
    };
    let folded = "accepted 60 = folded 60 + skipped 0 + duplicate 0 + dead 0";
    assert_eq!(counted(&one).last_line(), folded);
    assert_eq!(counted(&other).last_line(), folded);
    counted(&one).complains(&["1 of 1 files hold nothing new"]);
    assert!(!one.folder.data.join("stream").exists() && !one.folder.data.join("rows.redb").exists());
}

#[test]
fn alarms_are_applied_and_read() {
    let cloud = Cloud::new();
    let alarm = r#"{"AlarmName":"slow","ServiceName":"app","MetricName":"lines","Statistic":"Sum","Period":60,"EvaluationPeriods":1,
        "Threshold":1,"ComparisonOperator":"GreaterThanOrEqualToThreshold"}"#;
    let file = cloud.folder.file("alarm.json", alarm);
    let said = cloud.run("apply", [file]).exits(0);
    assert!(said.out.contains("alarm slow applied, revision 4"), "{said:?}");
    let alarms = cloud.run("alarms", ["-o", "json"]).exits(0);
    assert_eq!(alarms.json()["name"], "slow", "{alarms:?}");
    cloud.verifies();
}

#[test]
fn a_stream_that_is_older_than_its_tables_is_folded_into_new_ones_with_the_definitions_that_it_names() {
    let cloud = Cloud::new();
    let server = cloud.up(["--shards", "3"]);
    for number in 0..3 {
        let alarm = format!(
            r#"{{"AlarmName":"busy-{number}","ServiceName":"app","MetricName":"lines","Statistic":"Sum","Period":60,
            "EvaluationPeriods":1,"Threshold":1,"ComparisonOperator":"GreaterThanOrEqualToThreshold"}}"#
        );
        let applied = server.post("/definitions", alarm.as_bytes());
        assert_eq!(applied.status, 200, "{applied:?}");
        let sent = server.post(&format!("/ingest?service=app&run=r{number}"), b"one line\nanother\n");
        assert_eq!(sent.status, 202, "{sent:?}");
        assert_eq!(server.get(&format!("/runs/r{number}")).json()["folded"], 2);
    }
    server.stop().exits(0);
    let digest = cloud.verifies()["digest"].clone();
    let mut options = cloud.options();
    options[3].push_str("-anew");
    let anew = |arguments: &[&str]| {
        let mut command = cloud.folder.command(arguments[0]);
        say(Cloud::lead(&mut command).args(&options).args(&arguments[1..])).exits(0)
    };
    // An ingest of nothing new makes the tables, and folds what is there.
    let file = cloud.folder.file("empty.log", "");
    anew(&["ingest", file.to_str().unwrap()]);
    let report = anew(&["verify", "--json"]).json();
    assert_eq!((&report["differences"], &report["digest"]), (&0.into(), &digest), "{report}");
    assert_eq!(anew(&["alarms", "-o", "json"]).json_lines().len(), 3);
}

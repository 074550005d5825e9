//! Objects as inputs, over a service whose faults are scripted: nothing is read twice that need not be, and a run that is cut off goes on.
#![allow(clippy::unwrap_used)]

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use events::{
    pack::{self, Packed},
    wire::{self, Codec, Extent},
};

use super::*;
use crate::{
    ingest::{Inputs, Options, ReaderList, Report, SendError, Sender, ingest_all},
    s3::scripted::{Act, Scripted},
};

/// Takes so many batches, then none.
struct Taking {
    most: usize,
    taken: Mutex<Vec<(Extent, i64)>>,
}

impl Taking {
    fn of(most: usize) -> Self {
        Self { most, taken: Mutex::default() }
    }

    /// Names and ranges that were taken, in order, those that touch each other as one.
    fn ranges(&self) -> Vec<(String, u64, u64)> {
        let mut ranges: Vec<(String, u64, u64)> = vec![];
        let mut all: Vec<_> = self.taken.lock().unwrap().iter().map(|(extent, _)| extent.clone()).collect();
        all.sort_by(|a, b| (&a.origin.name, a.from).cmp(&(&b.origin.name, b.from)));
        for Extent { origin, from, to } in all {
            match ranges.last_mut().filter(|(name, _, end)| *name == origin.name && *end == from) {
                Some(last) => last.2 = to,
                None => ranges.push((origin.name, from, to)),
            }
        }
        ranges
    }
}

impl Sender for Taking {
    async fn send(&self, packed: Packed) -> Result<(), SendError> {
        let header = wire::decode_header(&packed.data).unwrap().0;
        let mut taken = self.taken.lock().unwrap();
        if taken.len() == self.most {
            return Err(SendError::Unavailable("as scripted".into()));
        }
        taken.push((header.extent.unwrap(), header.read_at_ms));
        Ok(())
    }
}

async fn targets(s3: &Scripted, keys: &[&str]) -> Vec<Target> {
    let mut targets = vec![];
    for key in keys {
        targets.push(Target::find(s3.bucket(), key).await.unwrap());
    }
    targets
}

/// The list in a folder: below it, as the mark that there is a list stands beside the list's own.
fn list_in(folder: &Path) -> ReaderList {
    ReaderList::open(&folder.join("readers"), 7, true).unwrap()
}

/// One run of a command, with the list in this folder.
async fn run(targets: Vec<Target>, folder: &Path, sender: &Taking) -> Report {
    let list = Arc::new(list_in(folder));
    let options = Options {
        tenant: "local".into(),
        service: None,
        as_name: None,
        again: false,
        codec: Codec::None,
        target: pack::Target::Lines(512 << 10),
        now_ms: 5,
        definitions: None,
    };
    let objects = Some(open_ahead(listed(targets, list.clone())));
    let inputs = Inputs { paths: vec![], stdin: Box::new(std::io::empty()), objects };
    ingest_all(inputs, options, Some(list), sender, Arc::default()).await
}

#[tokio::test]
async fn a_run_that_is_cut_off_goes_on_where_it_was_durable_and_asks_for_no_range_before() {
    let line = b"2026-01-01T00:00:00Z INFO a line of some length, as there are many in a log\n";
    let text = line.repeat((40 << 20) / line.len());
    let total = text.len() as u64;
    for packed in [false, true] {
        let (s3, folder) = (Scripted::start().await, tempfile::tempdir().unwrap());
        let bytes = if packed { zstd::encode_all(&text[..], 1).unwrap() } else { text.clone() };
        s3.put("app.log", bytes);
        let first = Taking::of(50);
        let report = run(targets(&s3, &["app.log"]).await, folder.path(), &first).await;
        assert_eq!(report.objects.failed, 1);
        let [(name, 0, end)] = &first.ranges()[..] else { panic!("{:?}", first.ranges()) };
        assert_eq!((name.as_str(), *end > 24 << 20), ("logs/app.log", true));
        s3.calls();

        let second = Taking::of(usize::MAX);
        let report = run(targets(&s3, &["app.log"]).await, folder.path(), &second).await;
        assert_eq!((report.objects.ingested, report.objects.failed), (1, 0), "{report:?}");
        let [(_, from, to)] = second.ranges()[..] else { panic!("{:?}", second.ranges()) };
        assert!((16 << 20..=*end).contains(&from) && to == total, "{from} {to}");
        if !packed {
            let asked: Vec<u64> =
                s3.calls().iter().filter_map(|call| Some(call.range?.0)).filter(|from| *from > 0).collect();
            assert!(asked.iter().all(|at| *at > 15 << 20), "{asked:?}");
        }
        // Its lines have the time at which the bucket took it, whoever reads it.
        let times: Vec<i64> = second.taken.lock().unwrap().iter().map(|(_, time)| *time).collect();
        assert!(times.iter().all(|time| *time == 1_767_226_000_000));

        s3.calls();
        let third = Taking::of(0);
        let report = run(targets(&s3, &["app.log"]).await, folder.path(), &third).await;
        assert_eq!((report.objects.unchanged, report.lines_sent), (1, 0));
        assert!(s3.calls().iter().all(|call| call.query.contains_key("list-type")), "it was listed, and not read");
    }
}

#[tokio::test]
async fn many_objects_are_read_by_pages_and_what_fails_is_named_while_the_others_go_on() {
    let (s3, folder) = (Scripted::start().await, tempfile::tempdir().unwrap());
    s3.state().page = 10;
    (0..35).for_each(|n| s3.put(&format!("in/{n:02}.log"), format!("line {n}\n")));
    s3.put("in/empty", vec![]);
    let all = targets(&s3, &["in/00.log", "in", "in/0*"]).await;
    let list = list_in(folder.path());
    let survey = Survey::of(&all, &list).await.unwrap();
    drop(list);
    assert_eq!((survey.objects, survey.empty, survey.gets), (35, 1, 35), "{survey:?}");
    // One goes between list and reading, and one is archived: both are asked for once.
    s3.calls();
    let archived = Act::Error(403, "InvalidObjectState", None);
    s3.next([Act::Fine, archived, Act::Change("in/05.log", None)]);
    let taking = Taking::of(usize::MAX);
    let report = run(all, folder.path(), &taking).await;
    assert!((1..=2).contains(&report.objects.failed), "{:?}", report.objects);
    assert_eq!(report.objects.ingested + report.objects.failed, 35);
    let why: Vec<String> = report.failed().map(|(path, error)| format!("{}: {error}", path.display())).collect();
    assert!(why.iter().any(|why| why.starts_with("s3://logs/in/") && why.contains("it is archived")), "{why:?}");
    assert_eq!(taking.ranges().len() as u64, report.objects.ingested);
}

#[tokio::test]
async fn an_object_that_is_replaced_after_it_was_listed_is_read_as_it_is_now() {
    let (s3, folder) = (Scripted::start().await, tempfile::tempdir().unwrap());
    s3.put("app.log", b"one\n".to_vec());
    let all = targets(&s3, &["app.log"]).await;
    s3.next([Act::Change("app.log", Some(b"one\ntwo\n".to_vec()))]);
    let taking = Taking::of(usize::MAX);
    let report = run(all, folder.path(), &taking).await;
    assert_eq!((report.objects.ingested, report.lines_sent), (1, 2), "{report:?}");
}

#[tokio::test]
async fn a_version_that_is_replaced_while_it_is_read_is_read_to_its_end() {
    let (s3, folder) = (Scripted::start().await, tempfile::tempdir().unwrap());
    s3.state().keeps_versions = true;
    let text = b"a line\n".repeat(400_000);
    s3.put("app.log", text.clone());
    let all = targets(&s3, &["app.log"]).await;
    s3.next([Act::Fine, Act::Change("app.log", Some(b"other\n".to_vec()))]);
    let taking = Taking::of(usize::MAX);
    let report = run(all, folder.path(), &taking).await;
    assert_eq!((report.objects.ingested, report.lines_sent), (1, 400_000), "{report:?}");
    let versions: Vec<String> =
        taking.taken.lock().unwrap().iter().map(|(extent, _)| extent.origin.version.clone()).collect();
    assert!(versions.iter().all(|version| version == "v1"), "{versions:?}");
}

#[tokio::test]
async fn names_that_mean_nothing_say_what_there_is() {
    let s3 = Scripted::start().await;
    s3.put("logs-old/a", b"x".to_vec());
    let why = Target::find(s3.bucket(), "logs").await.unwrap_err().to_string();
    assert!(why.contains("Keys begin so, the first is logs-old/a: `s3://logs/logs*` means all"), "{why}");
    let why = Target::find(s3.bucket(), "none").await.unwrap_err().to_string();
    assert!(why.contains("`aws s3 ls s3://logs/`"), "{why}");
    for name in ["s3://", "s3://a", "s3://a b/c", "s3:/a/b", "S3://abc/d"] {
        assert!(spelling(name).is_err(), "{name}");
    }
    let point = spelling("s3://arn:aws:s3:us-east-1:123456789012:accesspoint/logs/app.log").unwrap_err().to_string();
    assert!(point.contains("access point by its ARN") && point.contains("its alias as a bucket"), "{point}");
    assert_eq!(spelling("s3://abc").unwrap(), ("abc", ""));
    assert_eq!(spelling("s3://abc/d/e f").unwrap(), ("abc", "d/e f"));
}

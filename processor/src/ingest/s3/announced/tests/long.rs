//! An object that takes several calls: cut off by the time, killed, gone or replaced between two of them, and read by two at once.

use std::ops::Range;

use projections::dynamodb::{Entry, Reached};

use super::*;

/// Long lines: many bytes to be read, few to be folded.
fn long(count: usize) -> String {
    let pad = "x".repeat(4_000);
    (0..count).map(|n| format!("{{\"service\":\"app\",\"status\":200,\"n\":{n},\"pad\":\"{pad}\"}}\n")).collect()
}

const COUNT: usize = 5_000;

/// An object of 20 MB, a stream, and entries.
struct Long {
    s3: Scripted,
    stream: Kept,
    rows: Arc<DynamoDb>,
    announced: Value,
    origin: Origin,
}

impl Long {
    async fn new(is_packed: bool) -> Self {
        let (s3, text) = (Scripted::start().await, long(COUNT));
        let bytes = match is_packed {
            false => text.into_bytes(),
            true => {
                // It hardly gets smaller, so that it has many ranges too.
                let mut packed = flate2::write::GzEncoder::new(vec![], flate2::Compression::none());
                packed.write_all(text.as_bytes()).unwrap();
                packed.finish().unwrap()
            }
        };
        let announced = record("app.log", &bytes, None, "01");
        let origin = Origin { kind: OriginKind::Object, name: "logs/app.log".into(), version: etag(&bytes) };
        s3.put("app.log", bytes);
        Self { s3, stream: Kept::default(), rows: rows().await, announced, origin }
    }

    async fn call(&self, settings: &Settings) -> Done {
        let bucket = self.s3.bucket();
        let messages = sqs(&[&[&self.announced]]);
        let done = ingest_announced(messages, |_| bucket.clone(), &self.stream, self.rows.clone(), settings).await;
        done.into_iter().next().unwrap()
    }

    /// A call whose time is over while ranges that reach this byte do not come.
    async fn until(&self, byte: u64) -> Done {
        self.s3.state().silent_from = Some(byte);
        let done = self.call(&settings(3)).await;
        self.s3.state().silent_from = None;
        done
    }

    /// A call that is killed once an entry says that something is durable.
    async fn killed(&self) {
        self.s3.state().silent_from = Some(10 << 20);
        let settings = settings(600);
        let durable = async {
            while !matches!(self.entry().await, Some(Entry { reached: Reached::Byte(1..), .. })) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let is_killed = matches!(select(pin!(self.call(&settings)), pin!(durable)).await, Either::Right(_));
        assert!(is_killed);
        self.s3.state().silent_from = None;
    }

    async fn entry(&self) -> Option<Entry> {
        self.rows.object("local", &self.origin).await.unwrap()
    }

    async fn reached(&self) -> u64 {
        match self.entry().await {
            Some(Entry { reached: Reached::Byte(end), .. }) => end,
            entry => panic!("{entry:?}"),
        }
    }

    /// The bytes of the batches that came since `before`.
    fn sent(&self, before: usize) -> Option<Range<u64>> {
        let puts = self.stream.puts.lock().unwrap();
        let extents = puts[before..].iter().filter_map(|put| events::wire::decode_header(&put.data).unwrap().0.extent);
        extents
            .map(|extent| extent.from..extent.to)
            .reduce(|all, next| all.start.min(next.start)..all.end.max(next.end))
    }

    fn puts(&self) -> usize {
        self.stream.puts.lock().unwrap().len()
    }
}

#[tokio::test]
async fn an_object_that_takes_three_calls_is_read_on_from_where_it_was_durable_and_nothing_is_sent_twice() {
    for is_packed in [false, true] {
        let long = Long::new(is_packed).await;
        let mut from = 0;
        for byte in [10 << 20, 18 << 20] {
            let (before, done) = (long.puts(), long.until(byte).await);
            assert!(done.left[0].contains("the time was over when it was on the stream up to byte "), "{done:?}");
            let sent = long.sent(before).unwrap();
            let entry = long.entry().await.unwrap();
            assert_eq!(entry, Entry { reached: Reached::Byte(sent.end), under_way: vec![] });
            assert_eq!(sent.start, from);
            assert!(done.left[0].contains(&format!("byte {}:", sent.end)), "{done:?}");
            from = sent.end;
        }
        long.s3.calls();
        let before = long.puts();
        assert_eq!(long.call(&settings(60)).await, done(0, 1, 0));
        assert_eq!(long.sent(before).unwrap().start, from);
        let asked: Vec<u64> = long.s3.calls().iter().filter_map(|call| Some(call.range?.0)).collect();
        assert!(is_packed || asked.iter().all(|at| *at == 0 || *at + 2048 >= from), "{asked:?} {from}");
        counts(&long.stream, COUNT as u64, 0, 0);
        // Announced again: it is not even read.
        let before = long.puts();
        long.s3.calls();
        assert_eq!(long.call(&settings(60)).await, done(0, 1, 0));
        assert_eq!((long.puts(), long.s3.calls().len()), (before, 1));
    }
}

#[tokio::test]
async fn what_a_killed_call_has_noted_is_not_read_again() {
    let long = Long::new(false).await;
    long.killed().await;
    let (noted, before) = (long.reached().await, long.puts());
    assert_eq!(long.call(&settings(60)).await, done(0, 1, 0));
    let sent = long.sent(before).unwrap();
    assert!(sent.start >= noted, "{sent:?} {noted}");
    let (balance, _) = long.stream.folded();
    assert_eq!((balance.folded, balance.dead), (COUNT as u64, 0));
}

#[tokio::test]
async fn an_object_that_goes_between_two_calls_is_a_dead_letter_from_where_it_was_not_read() {
    let long = Long::new(false).await;
    long.until(10 << 20).await;
    let reached = long.reached().await;
    long.s3.delete("app.log");
    assert_eq!(long.call(&settings(60)).await, done(0, 0, 1));
    let (balance, letters) = long.stream.folded();
    assert!(balance.folded > 0 && (balance.duplicate, balance.dead) == (0, 1), "{balance:?}");
    assert!(letters[0].contains(&format!("was to be read from byte {reached} on")), "{letters:?}");
    // Whoever was killed may have sent more than is noted: nothing of it passes for the rest.
    let long = Long::new(false).await;
    long.killed().await;
    long.s3.delete("app.log");
    assert_eq!(long.call(&settings(60)).await, done(0, 0, 1));
    let (balance, letters) = long.stream.folded();
    assert_eq!((balance.duplicate, balance.dead), (0, 1), "{letters:?}");
    assert!(letters[0].contains("how far it had been read is not known"), "{letters:?}");
    // One that was read to its end is no loss, and needs no word.
    let long = Long::new(false).await;
    assert_eq!(long.call(&settings(60)).await, done(0, 1, 0));
    long.s3.delete("app.log");
    let before = long.puts();
    assert_eq!((long.call(&settings(60)).await, long.puts()), (done(0, 1, 0), before));
}

#[tokio::test]
async fn an_object_that_is_replaced_between_two_calls_is_another_one_and_the_rest_of_the_first_is_a_dead_letter() {
    let long = Long::new(false).await;
    long.until(10 << 20).await;
    let (before, reached) = (long.stream.folded().0.folded, long.reached().await);
    long.s3.put("app.log", super::lines(70_000));
    assert_eq!(long.call(&settings(60)).await, done(0, 0, 1));
    counts(&long.stream, before + 70_000, 0, 1);
    let letter = long.stream.folded().1.remove(0);
    assert!(letter.contains(&format!("was to be read from byte {reached} on")), "{letter}");
}

#[tokio::test]
async fn two_calls_at_once_count_an_object_once() {
    let long = Long::new(false).await;
    // Both begin before either has noted anything.
    let settings = settings(60);
    let both = tokio::join!(long.call(&settings), long.call(&settings));
    assert_eq!(both, (done(0, 1, 0), done(0, 1, 0)));
    let (balance, _) = long.stream.folded();
    assert_eq!((balance.folded, balance.dead), (COUNT as u64, 0));
    assert_eq!(long.entry().await, Some(Entry { reached: Reached::End, under_way: vec![] }));
}

#[tokio::test]
async fn what_may_have_been_appended_is_not_called_known() {
    let long = Long::new(false).await;
    *long.stream.refusals.lock().unwrap() = 10_000;
    let said = long.call(&settings(60)).await;
    assert!(said.left[0].contains("as scripted"), "{said:?}");
    let entry = long.entry().await.unwrap();
    assert_eq!((entry.reached, entry.under_way.len()), (Reached::Byte(0), 1));
}

//! Who gets a run's balance, and who is refused.
#![allow(clippy::unwrap_used)]
use std::pin::pin;

use super::*;

fn at(offset: u64) -> SequenceNumber {
    SequenceNumber::from_parts(1, offset)
}

fn shard() -> ShardId {
    ShardId::numbered(0)
}

fn one() -> Balance {
    Balance { folded: 1, ..Balance::default() }
}

/// Appends a record under a run, as the API does.
fn append(ledger: &Ledger, run: &str, offset: u64) -> Result<(), Full> {
    ledger.admit(run)?;
    ledger.expect(run, &shard(), at(offset));
    Ok(())
}

fn fold(ledger: &Ledger, offsets: impl Iterator<Item = u64>) {
    ledger.folded(&shard(), offsets.map(|offset| (at(offset), one())).collect());
}

async fn folded_lines(ledger: &Ledger, run: &str) -> Option<u64> {
    match ledger.settled(run, Duration::ZERO).await {
        Ok(balance) => Some(balance.folded),
        Err(Unsettled::Unknown(_)) => None,
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_tenant_with_many_runs_costs_no_other_tenant_a_run_and_itself_those_first_that_it_has_read() {
    let ledger = Ledger::default();
    let many = RUNS_MAX as u64;
    append(&ledger, "acme/only", 0).unwrap();
    append(&ledger, "greedy/slow", 1).unwrap();
    append(&ledger, "greedy/read", 2).unwrap();
    fold(&ledger, 0..3);
    ledger.committed(&shard(), at(2));
    assert_eq!(folded_lines(&ledger, "greedy/read").await, Some(1));
    for i in 3..many + 2 {
        append(&ledger, &format!("greedy/{i}"), i).unwrap();
    }
    // They are folded and not committed: only what was there before is settled, and of that first what was read.
    fold(&ledger, 3..many + 2);
    assert_eq!(folded_lines(&ledger, "greedy/read").await, None);
    append(&ledger, "greedy/slow", many + 2).unwrap();
    fold(&ledger, many + 2..many + 3);
    assert_eq!(append(&ledger, "greedy/more", many + 3), Err(Full::Runs));
    assert_eq!(append(&ledger, "acme/more", many + 4), Ok(()));
    ledger.committed(&shard(), at(many + 2));
    assert_eq!(append(&ledger, "greedy/more", many + 5), Ok(()));
    assert_eq!(folded_lines(&ledger, "acme/only").await, Some(1));
    assert_eq!(folded_lines(&ledger, "greedy/slow").await, Some(2), "not made anew with a part of its balance");
}

#[tokio::test]
async fn a_run_that_somebody_waits_for_is_not_forgotten() {
    let ledger = Ledger::default();
    append(&ledger, "t/waited", 0).unwrap();
    let mut waiting = pin!(ledger.settled("t/waited", Duration::from_secs(60)));
    assert!(polled(waiting.as_mut()).await.is_none());
    assert!(!ledger.is_awaited(&ShardId::numbered(1)) && ledger.is_awaited(&shard()));
    for i in 1..3 * RUNS_MAX as u64 {
        append(&ledger, &format!("t/{i}"), i).unwrap();
        fold(&ledger, i - 1..i);
        ledger.committed(&shard(), at(i - 1));
    }
    assert_eq!(waiting.await.unwrap().folded, 1);
    assert!(ledger.books().waited.is_empty());
}

async fn polled<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        std::task::Poll::Ready(done) => std::task::Poll::Ready(Some(done)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

#[tokio::test]
async fn who_waits_for_a_run_that_is_not_there_yet_leaves_no_trace_and_takes_nobody_elses() {
    let ledger = Ledger::default();
    assert_eq!(folded_lines(&ledger, "t/run").await, None);
    append(&ledger, "t/run", 0).unwrap();
    assert!(!ledger.is_awaited(&shard()));
    fold(&ledger, 0..1);
    ledger.committed(&shard(), at(0));
    assert_eq!(folded_lines(&ledger, "t/run").await, Some(1));
}

#[test]
fn records_that_wait_to_be_folded_are_bounded_for_each_tenant() {
    let ledger = Ledger::default();
    for i in 0..OPEN_MAX as u64 {
        append(&ledger, "t/run", i).unwrap();
    }
    assert_eq!(append(&ledger, "t/run", u64::MAX / 4), Err(Full::Records));
    assert_eq!(append(&ledger, "other/run", OPEN_MAX as u64), Ok(()));
    fold(&ledger, 0..1);
    assert_eq!(append(&ledger, "t/run", OPEN_MAX as u64 + 1), Ok(()));
}

#[tokio::test]
async fn an_outcome_that_comes_before_the_appends_answer_is_counted() {
    let ledger = Ledger::default();
    fold(&ledger, 0..2);
    append(&ledger, "t/run", 0).unwrap();
    ledger.committed(&shard(), at(1));
    assert_eq!(folded_lines(&ledger, "t/run").await, Some(1));
}

#[tokio::test]
async fn what_another_process_folded_is_waited_for_and_said_to_be_known_to_that_one_alone() {
    let ledger = Ledger::default();
    (0..4).for_each(|offset| append(&ledger, "acme/run", offset).unwrap());
    append(&ledger, "acme/later", 9).unwrap();
    fold(&ledger, 0..2);
    // Overtaken: a worker goes on behind the resume point of another process.
    ledger.passed(&shard(), at(3));
    let settled = ledger.settled("acme/run", Duration::ZERO).await.unwrap_err();
    assert_eq!(settled, Unsettled::Elsewhere(Box::new(Balance { folded: 2, ..Balance::default() }), 2));
    // One whose append is answered after that.
    append(&ledger, "acme/run", 3).unwrap();
    let settled = ledger.settled("acme/run", Duration::ZERO).await.unwrap_err();
    assert!(matches!(settled, Unsettled::Elsewhere(_, 3)), "{settled:?}");
    // What stands behind the resume point is folded here.
    assert!(matches!(ledger.settled("acme/later", Duration::ZERO).await, Err(Unsettled::Late(_))));
    fold(&ledger, 9..10);
    ledger.committed(&shard(), at(9));
    assert_eq!(folded_lines(&ledger, "acme/later").await, Some(1));
}

//! Two processes at one bucket, one of which takes its entry off the list while the other puts a row of a long past day into it: every order of their
//! steps, forced.

use std::{
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

use crate::{
    dynamodb::{DynamoDb, layout},
    store::{Day, Generation, Kind, Span, Store, Written},
};

use super::{
    gate::{Act, Gate, Request, client, wait},
    laws::{PACE, again, dynalite, open, prefix},
    scripted::{stands, window, write},
};

/// Who may take the next step. A step is over when its process asks for its next one, or has ended.
struct Turns {
    order: Vec<char>,
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    /// Steps that were begun.
    begun: usize,
    /// Whose step is under way.
    under_way: Option<char>,
    ended: Vec<char>,
}

impl Turns {
    /// Waits for the turn of a process, and takes its step.
    fn step(&self, who: char) {
        let mut state = self.state.lock().unwrap();
        if state.under_way == Some(who) {
            state.under_way = None;
            self.moved.notify_all();
        }
        let waits = |state: &mut State| {
            // What is left of the order once the other has ended is nobody's but this one's.
            let next = self.order.get(state.begun).copied();
            state.under_way.is_some() || next.is_some_and(|next| next != who && !state.ended.contains(&next))
        };
        let (mut state, late) = self.moved.wait_timeout_while(state, Duration::from_secs(30), waits).unwrap();
        assert!(!late.timed_out(), "the order {:?} cannot be had", self.order);
        state.begun += 1;
        state.under_way = Some(who);
    }

    fn end(&self, who: char) {
        let mut state = self.state.lock().unwrap();
        state.under_way = state.under_way.filter(|under_way| *under_way != who);
        state.ended.push(who);
        self.moved.notify_all();
    }
}

/// A store of its own process, as far as connections and threads go.
fn apart(endpoint: &str, prefix: &str) -> DynamoDb {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let made = client(endpoint).config().to_builder().http_client(http).build();
    let mut store = DynamoDb::over(&aws_sdk_dynamodb::Client::from_conf(made), prefix);
    (store.pace, store.today) = (PACE, || Day(20_400));
    store
}

fn alone<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// The writer puts its row, and looks at its entry again.
fn is_writers(request: &Request) -> bool {
    match request.operation.as_str() {
        "PutItem" => request.body.contains("AppliedThrough"),
        "GetItem" => request.body.contains("partitions of windows"),
        _ => false,
    }
}

/// The other looks for rows that are past their time, removes head and entry, and looks for rows again.
fn is_removers(request: &Request) -> bool {
    match request.operation.as_str() {
        "Query" => request.body.contains("FoldedOn"),
        "DeleteItem" => !request.body.contains("FoldedOn"),
        _ => false,
    }
}

/// Every way to let two steps of `w` and four of `r` follow each other.
fn orders() -> Vec<Vec<char>> {
    let mut orders = vec![];
    for first in 0..6 {
        for second in first + 1..6 {
            orders.push((0..6).map(|at| if at == first || at == second { 'w' } else { 'r' }).collect());
        }
    }
    orders
}

#[test]
fn no_row_stands_unlisted_in_whatever_order_one_process_writes_and_another_takes_its_bucket_off_the_list() {
    let mut stood = 0;
    for order in orders() {
        let prefix = prefix();
        drop(open(dynalite(), &prefix));
        let turns = Arc::new(Turns { order: order.clone(), state: Mutex::default(), moved: Condvar::new() });
        let gate = |who: char, is_step: fn(&Request) -> bool| {
            let (turns, is_begun) = (turns.clone(), Arc::new(std::sync::atomic::AtomicBool::new(false)));
            let begun = is_begun.clone();
            let gate = Gate::apart(dynalite(), move |request| {
                if begun.load(std::sync::atomic::Ordering::SeqCst) && is_step(request) {
                    turns.step(who);
                }
                Act::Pass
            });
            (gate, is_begun)
        };
        let (writers, writer_begins) = gate('w', is_writers);
        let (removers, remover_begins) = gate('r', is_removers);
        let (at, of, end) = (writers.endpoint.clone(), prefix.clone(), turns.clone());
        let (known, knows) = std::sync::mpsc::channel();
        let writer = thread::spawn(move || {
            alone(async {
                let store = apart(&at, &of);
                store.write(vec![window(0, 5)]).await.unwrap();
                // It knows the entry from here on.
                writer_begins.store(true, std::sync::atomic::Ordering::SeqCst);
                known.send(()).unwrap();
                let written = store.write(vec![window(60, 6)]).await;
                end.end('w');
                written
            })
        });
        knows.recv().unwrap();
        let (at, of, end) = (removers.endpoint.clone(), prefix.clone(), turns.clone());
        let remover = thread::spawn(move || {
            alone(async {
                remover_begins.store(true, std::sync::atomic::Ordering::SeqCst);
                let removed = apart(&at, &of).expire(Generation(0), Kind::Window, Day(20_001)).await;
                end.end('r');
                removed
            })
        });
        assert_eq!(writer.join().unwrap(), Ok(vec![Written::Stored]), "{order:?}");
        let removed = remover.join().unwrap().unwrap();
        let third = again(dynalite(), &prefix);
        let is_there = stands(&third, &window(60, 6));
        assert_eq!(removed, if is_there { 1 } else { 2 }, "{order:?}");
        let span = Span::All { tenant: Some("tenant".into()), generation: Generation(0), kind: Kind::Window };
        let listed = wait(third.scan(&span, None, 10.try_into().unwrap())).unwrap().rows.len();
        assert_eq!(listed, usize::from(is_there), "{order:?}");
        if is_there {
            let scope = layout::Scope::of(&window(60, 6).key.subject);
            let (head, _) = scope.head(&scope.bucket("web", 60).unwrap()).unwrap();
            assert!(wait(third.get(&head)).unwrap().is_some(), "{order:?}: it is in the index");
        }
        stood += usize::from(is_there);
        // What is listed can be removed.
        assert_eq!(write(&third, &[]), Ok(vec![]));
        let left = wait(third.expire(Generation(0), Kind::Window, Day(20_001)));
        assert_eq!(left, Ok(u64::from(is_there)), "{order:?}");
    }
    assert!((1..15).contains(&stood), "both ends were met: {stood} of 15");
}

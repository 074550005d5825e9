//! Batches on their way, and what becomes durable of which input. Decides when a batch is sent, when the list hears of it, and what an input came to; it
//! reads nothing.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use events::identity::Origin;
use tokio::sync::mpsc;

use super::{
    FAILED_MAX, FileError, FileReport, Outcome, Progress, ReaderList, Report, SENDS_MAX, SendError, Sender,
    reader::{Message, Noted, Place},
};

/// One input, from the side of the sends.
#[derive(Debug, Default)]
pub(super) struct File {
    path: PathBuf,
    lines: u64,
    bytes: u64,
    /// The first batch that was not acknowledged: nothing after it moves the list's end.
    broken: Option<SendError>,
    /// What is durable and not in the list yet: it goes there with the next word about the file.
    durable: Option<Noted>,
    /// One of many objects: it stands in the report if it fails.
    is_one_of_many: bool,
    tag: Option<usize>,
    origin: Option<Origin>,
    /// See [`super::object::Object::durable`].
    reached: Option<Arc<AtomicU64>>,
}

/// What waits for its turn. Taken from the front only, so that marks move in order and no counter runs far ahead of an unacknowledged one.
pub(super) enum UnderWay<'a> {
    Send {
        file: usize,
        lines: u64,
        covers: u64,
        mark: Option<Noted>,
        future: Pin<Box<dyn Future<Output = Result<(), SendError>> + Send + 'a>>,
        answer: Option<Result<(), SendError>>,
    },
    Done {
        file: usize,
        place: Option<Place>,
        outcome: Result<bool, FileError>,
    },
}

pub(super) struct Sends<'a, S> {
    pub(super) sender: &'a S,
    pub(super) list: Option<Arc<ReaderList>>,
    pub(super) progress: Arc<Progress>,
    pub(super) received: mpsc::Receiver<Vec<Message>>,
    pub(super) taken: std::vec::IntoIter<Message>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) broken: Arc<AtomicU64>,
    pub(super) under_way: VecDeque<UnderWay<'a>>,
    /// By their place in the order of reading; those that are done are in the report, and forgotten here.
    pub(super) files: BTreeMap<usize, File>,
    pub(super) found: usize,
    pub(super) report: Report,
}

impl<'a, S: Sender> Sends<'a, S> {
    /// Ready when something moved; false once all is done.
    pub(super) fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        for item in &mut self.under_way {
            if let UnderWay::Send { future, answer: answer @ None, .. } = item
                && let Poll::Ready(result) = future.as_mut().poll(context)
            {
                *answer = Some(result);
            }
        }
        let mut moved = false;
        while !matches!(self.under_way.front(), None | Some(UnderWay::Send { answer: None, .. })) {
            if let Some(item) = self.under_way.pop_front() {
                self.settle(item);
            }
            moved = true;
        }
        if self.stop.load(Relaxed) && self.under_way.is_empty() {
            return Poll::Ready(false);
        }
        if self.under_way.len() < SENDS_MAX && !self.stop.load(Relaxed) {
            if self.taken.as_slice().is_empty() {
                match self.received.poll_recv(context) {
                    Poll::Ready(Some(messages)) => self.taken = messages.into_iter(),
                    Poll::Ready(None) if self.under_way.is_empty() => return Poll::Ready(false),
                    Poll::Ready(None) | Poll::Pending => {}
                }
            }
            if let Some(message) = self.taken.next() {
                self.take(message);
                moved = true;
            }
        }
        if moved { Poll::Ready(true) } else { Poll::Pending }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Found(paths) => {
                let files = paths.into_iter().map(|path| File { path, ..File::default() });
                self.files.extend((self.found..).zip(files));
                self.found = self.files.last_key_value().map_or(self.found, |(last, _)| last + 1);
            }
            Message::FoundObject { path, tag, origin, durable: reached } => {
                let file = File { path, tag, origin, reached, is_one_of_many: tag.is_none(), ..File::default() };
                self.files.insert(self.found, file);
                self.found += 1;
            }
            Message::Known(objects) => self.report.objects.unchanged += objects,
            Message::Warning(text) => self.report.warnings.push(text),
            Message::Batch { file, packed, mark } => {
                if self.files.get(&file).is_none_or(|file| file.broken.is_some()) {
                    return;
                }
                let (lines, covers) = (packed.lines, packed.covers);
                let future = Box::pin(self.sender.send(packed));
                self.under_way.push_back(UnderWay::Send { file, lines, covers, mark, future, answer: None });
            }
            Message::Done { file, place, outcome } => {
                self.under_way.push_back(UnderWay::Done { file, place, outcome });
            }
        }
    }

    fn settle(&mut self, item: UnderWay<'_>) {
        match item {
            UnderWay::Send { file, lines, covers, mark, answer: Some(Ok(())), .. } => {
                self.report.lines_sent += lines;
                self.progress.lines_sent.fetch_add(lines, Relaxed);
                let Some(file) = self.files.get_mut(&file) else { return };
                file.lines += lines;
                file.bytes += covers;
                // Behind what was refused nothing is known to hang together.
                if let Some(reached) = file.reached.as_ref().filter(|_| file.broken.is_none()) {
                    reached.fetch_add(covers, Relaxed);
                }
                let earlier = if file.broken.is_none() { std::mem::replace(&mut file.durable, mark) } else { None };
                if let (Some(noted), Some(list)) = (earlier, &self.list)
                    && let Err(error) = noted.advance(list)
                {
                    self.report.warnings.push(format!("{}: {error}; it will be read again", file.path.display()));
                }
            }
            UnderWay::Send { file, answer: Some(Err(error)), .. } => {
                if matches!(error, SendError::Unavailable(_)) {
                    self.stop.store(true, Relaxed);
                }
                if let Some(file) = self.files.get_mut(&file) {
                    file.broken.get_or_insert(error);
                }
                self.broken.fetch_max(file as u64 + 1, Relaxed);
            }
            UnderWay::Send { answer: None, .. } => {}
            UnderWay::Done { file, place, outcome } => {
                if let Some(mut of) = self.files.remove(&file) {
                    self.note(&mut of, place, &outcome);
                    self.close(of, outcome);
                }
            }
        }
    }

    /// The last word about an input, as far as it is durable.
    fn note(&mut self, file: &mut File, place: Option<Place>, outcome: &Result<bool, FileError>) {
        let (durable, Some(place), Some(list)) = (file.durable.take(), place, &self.list) else { return };
        let doubtful = outcome.as_ref().is_err_and(FileError::makes_bytes_doubtful);
        let noted = match (&file.broken, durable) {
            (None, durable) if outcome.is_ok() || doubtful => place.finish(list, durable, doubtful),
            (_, Some(durable)) => durable.advance(list),
            _ => Ok(()),
        };
        if let Err(error) = noted {
            self.report.warnings.push(format!("{}: {error}; it will be read again", file.path.display()));
        }
    }

    /// `outcome`: whether anything was new.
    fn close(&mut self, file: File, outcome: Result<bool, FileError>) {
        self.progress.files_done.fetch_add(1, Relaxed);
        let File { bytes, lines, .. } = file;
        let outcome = match (file.broken, outcome) {
            (Some(error), _) => Outcome::Failed { error: FileError::Send(error), bytes, lines },
            (None, Err(error)) => Outcome::Failed { error, bytes, lines },
            (None, Ok(false)) if lines == 0 => Outcome::Unchanged,
            (None, Ok(_)) => Outcome::Ingested { bytes, lines },
        };
        if file.is_one_of_many {
            let objects = &mut self.report.objects;
            let count = match outcome {
                Outcome::Ingested { .. } => &mut objects.ingested,
                Outcome::Unchanged => &mut objects.unchanged,
                Outcome::Failed { .. } => &mut objects.failed,
            };
            *count += 1;
            if !matches!(outcome, Outcome::Failed { .. }) || objects.failed > FAILED_MAX as u64 {
                return;
            }
        }
        self.report.files.push(FileReport { path: file.path, tag: file.tag, origin: file.origin, outcome });
    }

    /// Files that were not reached, because sending had to stop.
    pub(super) fn finish(&mut self) {
        // Who stopped says why before.
        let mut left: Vec<_> = self.taken.by_ref().collect();
        while let Ok(messages) = self.received.try_recv() {
            left.extend(messages);
        }
        for message in left {
            if let Message::Warning(text) = message {
                self.report.warnings.push(text);
            }
        }
        for mut file in std::mem::take(&mut self.files).into_values() {
            let place = file.durable.map(Noted::place);
            self.note(&mut file, place, &Err(FileError::NotRead));
            self.close(file, Err(FileError::NotRead));
        }
        if let Some(Err(error)) = self.list.as_ref().map(|list| list.sync()) {
            self.report
                .warnings
                .push(format!("{error}: what was read may be read again, and is then counted as duplicate"));
        }
    }
}

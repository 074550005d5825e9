//! The one thread that writes: what waits together goes into one transaction, so that several shards share a sync.
//!
//! What an error means:
//!
//! | failed                          | the file says    | the caller hears                 | afterwards                        |
//! |---------------------------------|------------------|----------------------------------|-----------------------------------|
//! | before the commit began         | -                | nothing was written              | opened again, the next may succeed|
//! | in the commit, not in a sync    | old transaction  | nothing was written              | opened again, the next may succeed|
//! | in the commit, not in a sync    | new transaction  | may have happened                | opened again, the next may succeed|
//! | in a sync                       | either           | as above                         | nothing is written any more       |
//! | opening it again                | cannot be read   | may have happened                | the next tries to open it again   |

use std::sync::{
    Arc,
    mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
};

use redb::WriteTransaction;

use super::{
    OpenError, WRITES_TOGETHER_MAX, WRITES_WAITING_MAX,
    answer::{Debtor, owed},
    file::{self, File},
};
use crate::store::WriteError;

/// Why work did not finish inside a transaction, which is then given up whole.
pub(super) enum Trouble {
    /// The database or the disk.
    Database(redb::Error),
    /// This work cannot be done; that of others may.
    Refused(String),
}

impl<E: Into<redb::Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Database(error.into())
    }
}

type Work<T> = Box<dyn Fn(&WriteTransaction) -> Result<T, Trouble> + Send>;

/// Work that waits; `carry_out` may be called again when its transaction was given up.
trait Job: Send {
    fn carry_out(&mut self, transaction: &WriteTransaction) -> Result<(), Trouble>;
    fn answer(self: Box<Self>, outcome: Result<(), WriteError>);
}

struct Task<T> {
    work: Work<T>,
    result: Option<T>,
    debtor: Debtor<Result<T, WriteError>>,
}

impl<T: Send> Job for Task<T> {
    fn carry_out(&mut self, transaction: &WriteTransaction) -> Result<(), Trouble> {
        self.result = Some((self.work)(transaction)?);
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), WriteError>) {
        let Self { result, debtor, .. } = *self;
        match (outcome, result) {
            (Err(error), _) => debtor.answer(Err(error)),
            (Ok(()), Some(result)) => debtor.answer(Ok(result)),
            // Dropping the debt says that the answer was lost.
            (Ok(()), None) => {}
        }
    }
}

/// Where work is handed in.
pub(super) struct Queue(SyncSender<Box<dyn Job>>);

impl Queue {
    /// Hands work in and waits for what became of it. It is carried out although the future be dropped.
    pub(super) async fn put<T: Send + 'static>(
        &self,
        work: impl Fn(&WriteTransaction) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, WriteError> {
        let (debtor, answer) = owed();
        match self.0.try_send(Box::new(Task { work: Box::new(work), result: None, debtor })) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                return Err(WriteError::NotWritten(format!(
                    "{WRITES_WAITING_MAX} writes wait already; try again later"
                )));
            }
            Err(TrySendError::Disconnected(_)) => {
                return Err(WriteError::NotWritten("its writing thread has ended; restart the process".to_owned()));
            }
        }
        let lost = || WriteError::Unknown("its writing thread has ended; restart the process".to_owned());
        answer.await.unwrap_or_else(|| Err(lost()))
    }
}

/// Starts the thread; it ends when the queue is dropped, after what waits in it.
pub(super) fn start(file: Arc<File>) -> std::io::Result<(Queue, std::thread::JoinHandle<()>)> {
    let (queue, jobs) = sync_channel(WRITES_WAITING_MAX);
    let thread = std::thread::Builder::new().name("weir-store".to_owned()).spawn(move || run(&file, &jobs))?;
    Ok((Queue(queue), thread))
}

fn run(file: &File, jobs: &Receiver<Box<dyn Job>>) {
    while let Ok(first) = jobs.recv() {
        let mut together = vec![first];
        while together.len() < WRITES_TOGETHER_MAX
            && let Ok(next) = jobs.try_recv()
        {
            together.push(next);
        }
        carry_out(file, together);
    }
}

fn carry_out(file: &File, mut together: Vec<Box<dyn Job>>) {
    let outcome = match transact(file, &mut together) {
        // Whose fault it was shows when each goes alone.
        Err(Failed::Refused(_)) if together.len() > 1 => {
            return together.into_iter().for_each(|job| carry_out(file, vec![job]));
        }
        Ok(()) => Ok(()),
        Err(Failed::Refused(why)) => Err(WriteError::NotWritten(why)),
        Err(Failed::Write(error)) => Err(error),
    };
    for job in together {
        job.answer(outcome.clone());
    }
}

enum Failed {
    Refused(String),
    Write(WriteError),
}

fn transact(file: &File, together: &mut [Box<dyn Job>]) -> Result<(), Failed> {
    if file.sync_failed() {
        return Err(Failed::Write(WriteError::NotWritten(format!(
            "an earlier sync of {} failed and what it held may be gone; check the disk, then restart the process",
            file.name()
        ))));
    }
    let attempt = file.with(|database| {
        let mut transaction = database.begin_write().map_err(|error| (None, error.into()))?;
        // The next opening after a crash then needs no walk through the whole file.
        transaction.set_quick_repair(true);
        for job in &mut *together {
            job.carry_out(&transaction).map_err(|trouble| (None, trouble))?;
        }
        let count = file::count_transaction(&transaction).map_err(|error| (None, error.into()))?;
        transaction.commit().map_err(|error| (Some(count), error.into()))
    });
    match attempt {
        Ok(Ok(())) => Ok(()),
        Ok(Err((_, Trouble::Refused(why)))) => Err(Failed::Refused(why)),
        Ok(Err((committing, Trouble::Database(error)))) => {
            file.mark_broken();
            let text = disk_said(file.name(), &error);
            let Some(count) = committing else { return Err(Failed::Write(WriteError::NotWritten(text))) };
            let stands = file.with(file::transactions);
            let happened = !matches!(stands, Ok(Ok(last)) if last < count);
            Err(Failed::Write(if happened { WriteError::Unknown(text) } else { WriteError::NotWritten(text) }))
        }
        // It may have panicked at any point.
        Err(error @ OpenError::Damaged { .. }) => Err(Failed::Write(WriteError::Unknown(error.to_string()))),
        Err(error) => Err(Failed::Write(WriteError::NotWritten(error.with_cause()))),
    }
}

/// An error of the database in words of its reader: which file, what, and what to do.
pub(super) fn disk_said(name: &str, error: &redb::Error) -> String {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    match error {
        redb::Error::Io(cause) if matches!(cause.kind(), StorageFull | QuotaExceeded | FileTooLarge) => {
            format!("no room for {name}: {cause}")
        }
        error => format!("{name}: {error}"),
    }
}

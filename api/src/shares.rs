//! So much at once, for each client and in all. Decides who waits and who is turned away; knows nothing of what is shared out.
//!
//! Invariants:
//! - A client's own share is taken before the common one, so that whoever asks for much waits for itself and not before others.
//! - Only who holds or awaits something is remembered: the map is no larger than the number of connections.

use std::{sync::Arc, time::Duration};

use dashmap::DashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::throttle::Client;

/// See the module.
#[derive(Debug)]
pub(crate) struct Shares {
    all: Arc<Semaphore>,
    each_max: usize,
    waiting_max: usize,
    of: DashMap<Client, Own>,
}

/// A client's own share, and how often it holds or awaits one.
#[derive(Debug)]
struct Own {
    permits: Arc<Semaphore>,
    asking: usize,
}

/// Which share is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// The client's own.
    Own,
    /// Everybody's.
    All,
}

/// One of so many, until it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    // In this order: the permits go back before the client is forgotten.
    _all: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
    _asking: Asking,
}

/// A client that holds or awaits something.
#[derive(Debug)]
struct Asking {
    shares: Arc<Shares>,
    client: Client,
}

impl Shares {
    /// So many in all and of each; of each so many wait at most, and a further one is turned away at once.
    pub(crate) fn new(all_max: usize, each_max: usize, waiting_max: usize) -> Arc<Self> {
        Arc::new(Self { all: Arc::new(Semaphore::new(all_max)), each_max, waiting_max, of: DashMap::new() })
    }

    fn asking(self: &Arc<Self>, client: Client) -> Result<(Asking, Arc<Semaphore>), Full> {
        let new = || Own { permits: Arc::new(Semaphore::new(self.each_max)), asking: 0 };
        let mut own = self.of.entry(client.clone()).or_insert_with(new);
        if own.asking >= self.each_max + self.waiting_max {
            return Err(Full::Own);
        }
        own.asking += 1;
        Ok((Asking { shares: self.clone(), client }, own.permits.clone()))
    }

    /// One of the client's and of all, waited for at most so long.
    pub(crate) async fn take(self: &Arc<Self>, client: Client, wait: Duration) -> Result<Share, Full> {
        let deadline = tokio::time::Instant::now() + wait;
        let (asking, own) = self.asking(client)?;
        let own = tokio::time::timeout_at(deadline, own.acquire_owned()).await;
        let own = own.ok().and_then(Result::ok).ok_or(Full::Own)?;
        let all = tokio::time::timeout_at(deadline, self.all.clone().acquire_owned()).await;
        let all = all.ok().and_then(Result::ok).ok_or(Full::All)?;
        Ok(Share { _all: all, _own: own, _asking: asking })
    }

    /// The same without waiting.
    pub(crate) fn try_take(self: &Arc<Self>, client: Client) -> Result<Share, Full> {
        let (asking, own) = self.asking(client)?;
        let own = own.try_acquire_owned().map_err(|_| Full::Own)?;
        let all = self.all.clone().try_acquire_owned().map_err(|_| Full::All)?;
        Ok(Share { _all: all, _own: own, _asking: asking })
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.shares.of.remove_if_mut(&self.client, |_, own| {
            own.asking -= 1;
            own.asking == 0
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tenant(name: &str) -> Client {
        Client::Tenant(name.into())
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_much_waits_for_itself_and_others_do_not() {
        let shares = Shares::new(5, 2, 1);
        let held: Vec<_> = (0..2).map(|_| shares.try_take(tenant("greedy")).unwrap()).collect();
        assert_eq!(shares.try_take(tenant("greedy")).unwrap_err(), Full::Own);
        assert_eq!(shares.take(tenant("greedy"), Duration::from_secs(1)).await.unwrap_err(), Full::Own);
        let others: Vec<_> = (0..3).map(|i| shares.try_take(tenant(&format!("other-{i}"))).unwrap()).collect();
        assert_eq!(shares.try_take(tenant("late")).unwrap_err(), Full::All);
        drop(others);
        let waiting = tokio::spawn({
            let shares = shares.clone();
            async move { shares.take(tenant("greedy"), Duration::from_secs(60)).await.map(drop) }
        });
        tokio::task::yield_now().await;
        assert_eq!(
            shares.take(tenant("greedy"), Duration::from_secs(3_600)).await.unwrap_err(),
            Full::Own,
            "one waits, no more"
        );
        drop(held);
        assert_eq!(waiting.await.unwrap(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_remembered_who_holds_and_awaits_nothing() {
        let shares = Shares::new(2, 1, 1);
        for i in 0..100 {
            drop(shares.try_take(tenant(&format!("client-{i}"))).unwrap());
        }
        assert_eq!(shares.of.len(), 0);
        let held = shares.try_take(tenant("a")).unwrap();
        shares.try_take(tenant("a")).unwrap_err();
        shares.take(tenant("a"), Duration::from_millis(5)).await.unwrap_err();
        assert_eq!(shares.of.len(), 1, "it still holds one");
        drop(held);
        assert_eq!(shares.of.len(), 0);
    }
}

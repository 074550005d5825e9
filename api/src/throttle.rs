//! A rate for each client. Decides whether a request comes too soon; never waits.

use std::{
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    state::keyed::DashMapStateStore,
};

/// Clients remembered. At the limit those that could send a burst again are forgotten; if that is not enough, new addresses share one rate.
pub const CLIENTS_MAX: usize = 65_536;
/// How often it is looked whether there are too many.
const LOOK_EVERY: u32 = 1_024;

/// Whose rate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    /// A tenant, by its credential.
    Tenant(Arc<str>),
    /// An address without a credential, or all of one machine.
    Address(IpAddr),
    /// A socket that has no address.
    Unknown,
    /// All further addresses.
    Crowd,
}

impl Client {
    /// Who has no credential. An IPv6 client has a whole /64 to itself, and an IPv4 one is the same however it is written.
    pub(crate) fn of(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => std::net::Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
            address => address,
        })
    }
}

/// See the module.
pub(crate) struct Throttle {
    limiter: RateLimiter<Client, DashMapStateStore<Client>, DefaultClock>,
    clock: DefaultClock,
    asked: AtomicU32,
    crowded: AtomicBool,
}

impl Throttle {
    pub(crate) fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        Self::of(Quota::per_second(per_second).allow_burst(burst))
    }

    fn of(quota: Quota) -> Self {
        Self {
            limiter: RateLimiter::dashmap(quota),
            clock: DefaultClock::default(),
            asked: AtomicU32::new(0),
            crowded: AtomicBool::new(false),
        }
    }

    /// `Err`: too soon by so much.
    pub(crate) fn check(&self, client: Client) -> Result<(), Duration> {
        if self.asked.fetch_add(1, Ordering::Relaxed) % LOOK_EVERY == LOOK_EVERY - 1 {
            self.forget();
        }
        let is_address = matches!(client, Client::Address(_));
        let client = if is_address && self.crowded.load(Ordering::Relaxed) { Client::Crowd } else { client };
        self.limiter.check_key(&client).map_err(|until| until.wait_time_from(self.clock.now()))
    }

    fn forget(&self) {
        if self.limiter.len() > CLIENTS_MAX / 2 {
            self.limiter.retain_recent();
        }
        self.crowded.store(self.limiter.len() >= CLIENTS_MAX - LOOK_EVERY as usize, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn a_client_is_an_address_of_ipv4_and_a_network_of_ipv6() {
        let of = |text: &str| Client::of(text.parse().unwrap());
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.2"), of("10.0.0.1"));
        assert_eq!(of("2001:db8:0:1::7"), of("2001:db8:0:1:ffff::"));
        assert_ne!(of("2001:db8:0:2::7"), of("2001:db8:0:1::7"));
    }

    #[test]
    fn the_number_of_clients_remembered_is_bounded() {
        // An hour a request: no client is forgotten for having been quiet, however slow the machine.
        let throttle = Throttle::of(Quota::per_hour(NonZeroU32::MIN));
        for i in 0..3 * CLIENTS_MAX as u128 {
            let _ = throttle.check(Client::Address(Ipv6Addr::from_bits(i).into()));
        }
        assert!(throttle.limiter.len() <= CLIENTS_MAX, "{}", throttle.limiter.len());
        let newcomer = Client::Address(Ipv6Addr::from_bits(u128::MAX).into());
        assert!(throttle.check(newcomer).is_err(), "the crowd shares one rate");
        assert!(throttle.check(Client::Tenant("acme".into())).is_ok(), "who has a credential is not of the crowd");
    }
}

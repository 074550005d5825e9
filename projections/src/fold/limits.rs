//! The limits at which the fold says no to a line or a value. Decides numbers only.
//!
//! What is counted against them is part of the snapshot or of a row that is read before its record folds: else a replay, which meets everything
//! from the beginning, would say no at other lines than a worker that was started again.

/// See the module. All of them are a shard's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most tenants of a day; lines and values of a further one are skipped as `too_many_tenants`.
    pub tenants: usize,
    /// Most services of a tenant and a day; lines and values of a further one are skipped as `too_many_services`.
    pub tenant_services: usize,
    /// Most services of all tenants together and a day: bounds memory and the snapshot. What is further is skipped as `too_many_services`.
    pub services: usize,
    /// Most series of one page; values of a further one are skipped as `too_many_series`.
    pub series: usize,
    /// Most pieces, with gaps between, in which the bytes of a slice are taken; lines that would begin a further one are skipped as
    /// `too_many_gaps`, and count once gaps are filled and they are sent again.
    pub pieces: usize,
    /// Most bytes of ids of one source and minute; what comes with a further one is folded, and a repeat of it counts again.
    pub id_bytes: usize,
    /// Most bytes of what one shard tells another in one record, about: what is more goes into further ones.
    pub told_bytes: usize,
}

impl Limits {
    /// Those of a build for users.
    pub const REAL: Self = Self {
        tenants: 1_000,
        tenant_services: 10_000,
        services: 100_000,
        series: crate::cell::SERIES_MAX,
        pieces: super::taken::PIECES_MAX,
        id_bytes: super::identified::ID_BYTES_MAX,
        told_bytes: events::stream::RECORD_BYTES_MAX / 2,
    };
}

#[cfg(feature = "law")]
thread_local! {
    static SMALL: std::cell::Cell<Limits> = const { std::cell::Cell::new(Limits::REAL) };
}

/// The limits that hold: in a test that has set small ones, those.
#[inline(always)]
pub fn limits() -> Limits {
    #[cfg(feature = "law")]
    return SMALL.get();
    #[cfg(not(feature = "law"))]
    Limits::REAL
}

/// Makes the limits on this thread so small that short histories meet them.
#[cfg(feature = "law")]
pub fn set(limits: Limits) {
    SMALL.set(limits);
}

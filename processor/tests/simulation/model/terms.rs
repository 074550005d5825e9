//! The model's terms, in plain values: what a record means, and what a row holds. Decides nothing.

use std::collections::BTreeMap;

use events::{event::Ticked, identity::Origin, position::SequenceNumber};

use crate::{
    alarms::{Change, Part},
    input::Written,
    logged::Logged,
};

/// Who a batch claims to be.
#[derive(Debug, Clone)]
pub enum Identity {
    Nobody,
    /// From the first byte to the first after.
    Origin(Origin, u64, u64),
    Producer {
        id: String,
        epoch: u64,
        counter: u64,
    },
}

/// One value of an API.
#[derive(Debug, Clone)]
pub struct Datum {
    pub id: u64,
    pub metric: &'static str,
    pub service: Option<&'static str>,
    pub time_ms: Option<i64>,
    pub value: f64,
}

#[derive(Debug, Clone)]
pub enum Body {
    Lines(Vec<Written>),
    Data(Vec<Datum>),
}

/// What a record means.
#[derive(Debug, Clone)]
pub enum Meaning {
    Batch {
        tenant: &'static str,
        service: Option<&'static str>,
        read_at_ms: i64,
        identity: Identity,
        body: Body,
        /// The revision of definitions that it names.
        definitions: Option<SequenceNumber>,
    },
    Noise,
    Logged(Logged),
    /// Nothing that a row holds.
    System,
    Ticked(Ticked),
    /// Another shard has spoken.
    Spoken(Part),
    /// Tenant, name and body of an alarm.
    Defined(String, String, String),
    /// A person confirmed that the clock is right.
    TimeReset,
    /// The fold's meaning changes here.
    NewRevision,
}

/// All values of one metric in one window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stat {
    pub count: u64,
    pub sum: f64,
    pub min: f64,
    pub max: f64,
}

impl Stat {
    pub const NONE: Self = Self { count: 0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY };
}

/// What a row has to hold.
#[derive(Debug, Clone, PartialEq)]
pub enum Holds {
    Window(BTreeMap<&'static str, Stat>),
    Balance {
        folded: u64,
        duplicate: u64,
        dead: u64,
        skipped: BTreeMap<&'static str, u64>,
    },
    Alarm(Change),
    /// Not looked at by the model.
    Mark,
}

/// A row through each record that touched it.
pub type History = Vec<(SequenceNumber, Holds)>;

//! What came of a comparison of two generations, as it is kept with the record and told. Decides nothing; how rows are compared is the processor's.

use serde::{Deserialize, Serialize};

/// Of windows that differ between two generations, so many are kept with the record.
pub const SHOWN_MAX: usize = 20;

/// A comparison with the generation that counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// When, Unix milliseconds.
    pub at_ms: i64,
    /// With which.
    pub with: String,
    /// Windows that both could have.
    pub windows: u64,
    /// Of these, those that differ.
    pub windows_differ: u64,
    /// The first of them, in words and numbers.
    pub first: Vec<WindowDiffers>,
    /// Decisions of alarms that both could have made.
    pub decisions: u64,
    /// Of these, those that one of them made, or made otherwise.
    pub decisions_differ: u64,
    /// The first of them.
    pub first_decisions: Vec<DecisionDiffers>,
    /// Windows that begin earlier are read from the parent, and were not compared. Unix seconds; `None`: all were.
    pub from_secs: Option<i64>,
    /// What goes on being written: rows that hold records which the other generation had perhaps not folded yet. In none of the counts above.
    #[serde(default)]
    pub moving: LeftOut,
    /// What one of both keeps no longer whole, where rows are kept by time. In none of the counts above.
    #[serde(default)]
    pub past: LeftOut,
}

/// What could not be compared, for one reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// So many windows.
    pub windows: u64,
    /// So many decisions of alarms.
    pub decisions: u64,
    /// Begin of the first window, or time of the first decision, Unix seconds; `None`: there is none.
    pub first_secs: Option<i64>,
    /// Of the last.
    pub last_secs: Option<i64>,
}

impl LeftOut {
    /// A window that begins then.
    pub fn window(&mut self, start_secs: i64) {
        self.windows += 1;
        self.at(start_secs);
    }

    /// A decision of that time.
    pub fn decision(&mut self, time_secs: i64) {
        self.decisions += 1;
        self.at(time_secs);
    }

    fn at(&mut self, secs: i64) {
        self.first_secs = Some(self.first_secs.map_or(secs, |first| first.min(secs)));
        self.last_secs = Some(self.last_secs.map_or(secs, |last| last.max(secs)));
    }
}

/// A metric of a window that differs, and by how much.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WindowDiffers {
    /// The tenant.
    pub tenant: String,
    /// The service.
    pub service: String,
    /// Window start, Unix seconds.
    pub start_secs: i64,
    /// The first metric that differs.
    pub metric: String,
    /// How many values it has in the generation that counts.
    pub old_count: u64,
    /// And their sum.
    pub old_sum: f64,
    /// How many in the other.
    pub new_count: u64,
    /// And their sum.
    pub new_sum: f64,
}

/// What an alarm did in one minute in one generation and not in the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DecisionDiffers {
    /// The tenant.
    pub tenant: String,
    /// The alarm.
    pub alarm: String,
    /// Time of evaluation, Unix seconds.
    pub time_secs: i64,
    /// What it became in the generation that counts; `None`: nothing.
    pub old: Option<String>,
    /// What it became in the other.
    pub new: Option<String>,
}

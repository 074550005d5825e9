//! A generation that is not wanted any more is ended by hand. Decides nothing of which may be: the record does. Its threads end by themselves, here and in
//! other processes, at their next look at the record.

use api::operator::NotDone;
use serde_json::{Value, json};

use crate::{System, with_causes};

impl System {
    /// Ends a generation: it is folded no longer, and its rows stay where they are. Called twice: it stays ended. `no_way_back`: also one that counted, and
    /// that could be gone back to.
    pub async fn end_generation(&self, name: &str, no_way_back: bool) -> Result<Value, NotDone> {
        let generations = &self.generations;
        let _one = generations.changing.lock().await;
        let ended = generations.change(|record| record.end(name, no_way_back)).await.map_err(NotDone::Failed)?;
        let is_new = ended.map_err(|error| NotDone::Refused(with_causes(&error)))?;
        Ok(json!({"name": name, "standing": "ended", "already": !is_new}))
    }
}

//! What the command line promises to people and scripts: last lines, exit statuses, fields, and errors that name the thing, the cause and the next
//! step. The real program, as a shell would run it.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "cli/alarms.rs"]
mod alarms;
#[path = "cli/archive.rs"]
mod archive;
#[path = "cli/environment.rs"]
mod environment;
#[path = "cli/generations.rs"]
mod generations;
#[path = "program/history.rs"]
mod history;
#[path = "cli/http.rs"]
mod http;
#[path = "cli/ingest.rs"]
mod ingest;
#[path = "program/input.rs"]
mod input;
#[path = "cli/inputs.rs"]
mod inputs;
#[path = "cli/logs.rs"]
mod logs;
#[path = "cli/long.rs"]
mod long;
#[path = "cli/lost.rs"]
mod lost;
#[path = "cli/metrics.rs"]
mod metrics;
#[path = "cli/pair.rs"]
mod pair;
#[path = "program/weir.rs"]
mod program;
#[path = "cli/readme.rs"]
mod readme;
#[path = "cli/refusals.rs"]
mod refusals;
#[path = "cli/rings.rs"]
mod rings;
#[path = "cli/room.rs"]
mod room;
#[path = "cli/shards.rs"]
mod shards;
#[path = "cli/tenants.rs"]
mod tenants;
#[path = "cli/up.rs"]
mod up;
#[path = "cli/verify.rs"]
mod verify;
#[path = "cli/whole.rs"]
mod whole;

#![allow(clippy::unwrap_used)]
//! The embedded store on files and in memory; `power_loss` pulls the plug.

#[cfg(feature = "law")]
mod law {
    crate::store_laws!(|| crate::embedded::Embedded::in_memory().unwrap());
}

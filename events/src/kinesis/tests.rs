//! The adapter against an emulator that others wrote, and against a scripted service for what no emulator does.
#![allow(clippy::unwrap_used)]

mod emulator;

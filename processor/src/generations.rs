//! Another generation of rows beside the one that counts: where it begins, how its shards are folded without acting, how both are compared. What a
//! generation is, and which counts, is decided in `projections::generations`; who runs the threads, by whoever has them.

mod begin;
mod compare;
mod crew;
mod look;

pub use self::{
    begin::{Began, BeginError, Start, begin, defined, give, named_through},
    compare::{Common, compare},
    crew::{Acting, Crew, Follower},
    look::{hear, readable},
};

//! The fake world: time, network, disks, clocks, processes, faults.
//!
//! It runs the real brain, kernel and journal of a whole cluster in one thread, from one seed,
//! and holds DESIGN.md's rules and the invariants of faults.md against every step. [`run`] runs
//! a seed; [`plan`] says what a seed stands for; [`fault`] lists what can go wrong.
//!
//! **Architecture invariant:** all chance comes from [`rng`], all time from the world's queue.

mod agent;
mod calm;
mod checks;
mod clock;
mod cluster;
pub mod coverage;
mod declines;
mod disaster;
mod event;
pub mod fault;
mod judge;
mod launcher;
mod nemesis;
mod network;
mod operators;
pub mod plan;
mod queue;
pub mod rng;
pub mod run;
pub mod search;
mod settled;
pub mod shrink;
mod storage;
mod store;
mod told;
mod world;

pub use coverage::Coverage;
pub use plan::Class;
pub use run::{Outcome, Request, run};
pub use shrink::shrink;
pub use world::World;

//! The simulator's own tests: seeds hold, replay exactly, and every planted bug is caught.

mod blind;
mod plants;
mod regressions;
mod replay;
mod rules;
mod search;
mod seeds;
mod shrinking;

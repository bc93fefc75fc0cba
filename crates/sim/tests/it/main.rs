//! The simulator's own tests: seeds hold, replay exactly, and every planted bug is caught.

mod plants;
mod replay;
mod seeds;

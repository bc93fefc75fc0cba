//! The binary: one file per command.
fn main() {}

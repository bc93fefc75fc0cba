//! Fuzz targets: one for each decoder of bytes that others wrote, behind its authentication as
//! well as before it, because keys get lost and a peer can have a bug.
//!
//! A target says more than that nothing panics: what is read is written back and read again the
//! same, and no input makes its reader allocate more than [`Target::memory_max`]. libFuzzer's own
//! limit bounds the time. `cargo xtask fuzz` runs them; [`Target::run`] is all that it calls, so
//! that an ordinary test can replay the corpora.
//!
//! **Architecture invariant:** a target's outcome rests on its input alone.

mod cursor;
mod round;
mod targets;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static MEMORY: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What an input may make a reader allocate in all, unless its target says otherwise: twice what
/// the largest buffer of a decoder reserves beforehand, and room for what an input of
/// [`INPUT_MAX`] bytes becomes.
pub const MEMORY_MAX: usize = 8 << 20;
/// Longest input, in bytes, unless a target says otherwise.
pub const INPUT_MAX: usize = 4_096;
/// The variable that names the target of the fuzzer.
pub const TARGET_VARIABLE: &str = "BACKSTAY_FUZZ_TARGET";
/// The directory that the fuzzer first writes a target's own seeds to.
pub const SEEDS_VARIABLE: &str = "BACKSTAY_FUZZ_SEEDS";
/// Where it is set, the fuzzer lists its targets: name, longest input, what each reads.
pub const LIST_VARIABLE: &str = "BACKSTAY_FUZZ_LIST";
/// Where it is set, the target panics at inputs that begin with [`PLANTED`]: proof that the set-up
/// finds what is there to be found.
pub const PLANT_VARIABLE: &str = "BACKSTAY_FUZZ_PLANT";
/// What a planted bug panics at.
pub const PLANTED: [u8; 4] = *b"bug!";

/// A decoder, and how it is tried.
pub struct Target {
    /// Its name, and its corpus's directory.
    pub name: &'static str,
    /// What it reads.
    pub about: &'static str,
    /// Longest input in bytes.
    pub input_max: usize,
    /// Most bytes that one input may make it allocate, all allocations summed.
    pub memory_max: usize,
    /// Inputs made by the honest writer, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Reads an input.
    read: fn(&[u8]),
}

impl Target {
    const fn new(
        name: &'static str,
        about: &'static str,
        read: fn(&[u8]),
        seeds: fn() -> Vec<Vec<u8>>,
    ) -> Target {
        Target { name, about, input_max: INPUT_MAX, memory_max: MEMORY_MAX, seeds, read }
    }

    const fn input(self, input_max: usize) -> Target {
        Target { input_max, ..self }
    }

    const fn memory(self, memory_max: usize) -> Target {
        Target { memory_max, ..self }
    }

    /// All targets, in the order of their names.
    #[must_use]
    pub fn all() -> &'static [Target] {
        targets::ALL
    }

    /// The target of a name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Target> {
        Target::all().iter().find(|target| target.name == name)
    }

    /// Reads an input; one that is too long counts as cut.
    ///
    /// # Panics
    /// Where a decoder is wrong. That is what it is for.
    pub fn run(&self, input: &[u8]) {
        let input = &input[..input.len().min(self.input_max)];
        let region = Region::new(MEMORY);
        (self.read)(input);
        let taken = region.change().bytes_allocated;
        let (name, most, length) = (self.name, self.memory_max, input.len());
        assert!(taken <= most, "{name}: {length} bytes made it allocate {taken}, {most} at most");
    }

    /// [`Target::run`] with a bug in it.
    ///
    /// # Panics
    /// Where the input begins with [`PLANTED`].
    pub fn run_planted(&self, input: &[u8]) {
        // One number, outside of any loop: the fuzzer sees no comparisons of slices or of loops.
        if let Some([a, b, c, d]) = input.first_chunk() {
            let first = u32::from_le_bytes([*a, *b, *c, *d]);
            assert!(first != u32::from_le_bytes(PLANTED), "a planted bug");
        }
        self.run(input);
    }
}

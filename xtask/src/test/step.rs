//! What a step is.

use super::count::Counts;
use super::needs::Needs;

/// When a step is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// With every `test`: it needs Rust alone.
    Always,
    /// With `test --all`.
    All,
}

/// A named step.
pub(super) struct Step {
    /// Its name, for `--only`.
    pub(super) name: &'static str,
    /// What it does, in a few words.
    pub(super) about: &'static str,
    /// When it is run.
    pub(super) when: When,
    /// What must be there.
    pub(super) needs: Needs,
    /// Does it, and counts. An error is one failure.
    pub(super) run: fn() -> Result<Counts, String>,
}

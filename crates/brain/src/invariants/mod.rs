//! The nine rules of DESIGN.md ("Time, leases, epochs") as predicates, a file each.
//!
//! Each takes a small view that its caller fills (the simulator from an all-knowing place, the
//! exhaustive search likewise) and says whether the rule holds. True times are nanoseconds of the
//! observer's own clock; nothing here can be known by a single real node.

pub mod absence;
pub mod authority;
pub mod epochs;
pub mod evidence;
pub mod lease;
pub mod promise;
pub mod succession;
pub mod takeover;
pub mod witness;

use alloc::string::String;

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which: the file's name, or an id of faults.md.
    pub rule: &'static str,
    /// What was seen.
    pub what: String,
}

/// The rule holds, or how it was broken.
pub type Verdict = Result<(), Violation>;

pub(crate) fn hold(holds: bool, rule: &'static str, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Violation { rule, what: what() }) }
}

#[cfg(test)]
mod tests;

//! Rule 2: at any true moment at most one coordinator in office holds authority.

use alloc::format;

use model::{ReplicaId, Span};

use super::{Verdict, hold};

/// One node that believes to be in office.
#[derive(Debug, Clone, Copy)]
pub struct Office {
    /// Which.
    pub replica: ReplicaId,
    /// In which term.
    pub term: u64,
    /// What is left of its authority, on its own clock.
    pub left: Span,
}

/// At most one has authority left.
///
/// # Errors
/// Two have.
pub fn at_most_one(offices: &[Office]) -> Verdict {
    let mut with = offices.iter().filter(|o| o.left > Span::ZERO);
    let (first, second) = (with.next(), with.next());
    hold(second.is_none(), "authority", || match (first, second) {
        (Some(a), Some(b)) => format!(
            "{} (term {}, {} left) and {} (term {}, {} left) both hold authority",
            a.replica, a.term, a.left, b.replica, b.term, b.left
        ),
        _ => format!("{} offices", offices.len()),
    })
}

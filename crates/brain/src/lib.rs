//! Decides, never does: leases, placement, judgement.

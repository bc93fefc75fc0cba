//! Planted faults: whatever dies, hangs or lies, nothing is active past its lease.

type Run = fn(bool) -> Result<(), String>;

pub(crate) fn all() -> Vec<(&'static str, Run)> {
    Vec::new()
}

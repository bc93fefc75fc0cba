//! Waiting that ends: at success, at a limit, or when the demo is interrupted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::error::DemoError;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Remembers that somebody wants the demo to end.
pub(super) fn interrupt() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Fails where somebody wants the demo to end.
pub(super) fn check_interrupted() -> Result<(), DemoError> {
    if INTERRUPTED.load(Ordering::Relaxed) { Err(DemoError::Interrupted) } else { Ok(()) }
}

/// Probes at this pace until there is something, at most so long.
pub(super) fn until<T>(
    what: &str,
    within: Duration,
    pace: Duration,
    mut probe: impl FnMut() -> Result<Option<T>, DemoError>,
) -> Result<T, DemoError> {
    let begun = Instant::now();
    loop {
        check_interrupted()?;
        if let Some(found) = probe()? {
            return Ok(found);
        }
        if begun.elapsed() >= within {
            return Err(DemoError::TooSlow { what: what.to_owned(), within });
        }
        std::thread::sleep(pace);
    }
}

/// Lets time pass, because time passing is what is wanted.
pub(super) fn pass(time: Duration) -> Result<(), DemoError> {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        check_interrupted()?;
        std::thread::sleep(left.min(Duration::from_millis(20)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_at_success_or_at_the_limit() {
        let mut left = 3;
        let found = until("x", Duration::from_secs(20), Duration::ZERO, || {
            left -= 1;
            Ok((left == 0).then_some("done"))
        });
        assert_eq!(found.unwrap(), "done");
        let never = until("the miracle", Duration::ZERO, Duration::ZERO, || Ok(None::<()>));
        assert!(never.unwrap_err().to_string().starts_with("the miracle did not happen"));
    }
}

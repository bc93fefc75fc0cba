//! How often a lost or refused connection is tried again, and how often that is said.
//!
//! What stood for a while and broke is tried again at once: a launcher that was restarted must
//! not be waited for. What breaks as soon as it stands is tried less and less often.

use std::time::Duration;

/// First pause after a connection that did not last.
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause between two attempts.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(2);
/// A connection that stood for so long was a healthy one.
pub(super) const LASTED: Duration = Duration::from_secs(1);

/// Pauses between attempts, and what was said of them last.
#[derive(Debug)]
pub(super) struct Reconnecting {
    pause: Duration,
    said: Option<String>,
}

impl Default for Reconnecting {
    fn default() -> Self {
        Reconnecting { pause: PAUSE_MIN, said: None }
    }
}

impl Reconnecting {
    /// How long to wait after a connection that ended, having stood for so long.
    pub(super) fn after(&mut self, stood: Duration) -> Duration {
        if stood >= LASTED {
            *self = Reconnecting::default();
            return Duration::ZERO;
        }
        self.after_refusal()
    }

    /// How long to wait after an attempt that somebody refused.
    pub(super) fn after_refusal(&mut self) -> Duration {
        let next = (self.pause * 2).min(PAUSE_MAX);
        std::mem::replace(&mut self.pause, next)
    }

    /// Whether this is another state of affairs than the one that was said last.
    pub(super) fn is_news(&mut self, state: &str) -> bool {
        if self.said.as_deref() == Some(state) {
            return false;
        }
        self.said = Some(state.to_owned());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_lasted_is_tried_again_at_once() {
        let mut again = Reconnecting::default();
        again.after_refusal();
        assert!(again.is_news("refused"));
        assert_eq!(again.after(LASTED), Duration::ZERO);
        assert!(again.is_news("refused"), "it is another time");
        assert_eq!(again.after_refusal(), PAUSE_MIN, "the pauses begin afresh");
    }

    #[test]
    fn what_ends_as_soon_as_it_began_is_tried_ever_less_often_and_said_once() {
        let mut again = Reconnecting::default();
        let pauses: Vec<Duration> = (0..1_000).map(|_| again.after(Duration::ZERO)).collect();
        assert!(pauses.iter().all(|pause| *pause >= PAUSE_MIN && *pause <= PAUSE_MAX));
        assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(pauses.last(), Some(&PAUSE_MAX));
        let said = (0..1_000).filter(|_| again.is_news("the launcher closed it")).count();
        assert_eq!(said, 1);
        assert!(again.is_news("another"));
    }
}

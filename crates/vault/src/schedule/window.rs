//! When in the day something may begin: `22:00-06:00`.

use super::Now;
use super::when::{minute_of_day, next};
use jiff::Timestamp;
use serde::Deserialize;
use std::fmt;

/// A part of every day; it may go over midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Window {
    /// Minutes after midnight at which it opens.
    from: u16,
    /// At which it closes.
    to: u16,
}

impl Window {
    /// Reads what an operator wrote.
    ///
    /// # Errors
    /// Saying what can be written.
    pub fn parse(text: &str) -> Result<Window, String> {
        let ends = text.split_once('-');
        let ends = ends.and_then(|(a, b)| Some((minute_of_day(a)?, minute_of_day(b)?)));
        match ends {
            Some((from, to)) if from != to => Ok(Window { from, to }),
            _ => Err(format!("`{text}` is no part of a day; write \"22:00-06:00\"")),
        }
    }

    /// Whether it is open.
    pub fn contains(&self, now: &Now<'_>) -> bool {
        let Ok(time) = Timestamp::from_millisecond(now.ms) else { return false };
        let time = time.to_zoned(now.zone.clone());
        let minute = time.hour() as u16 * 60 + time.minute() as u16;
        match self.from < self.to {
            true => (self.from..self.to).contains(&minute),
            false => minute >= self.from || minute < self.to,
        }
    }

    /// When it opens next; now, where it is open.
    pub fn opens_ms(&self, now: &Now<'_>) -> i64 {
        if self.contains(now) { now.ms } else { next(now.ms, None, self.from, now.zone) }
    }
}

impl TryFrom<String> for Window {
    type Error = String;

    fn try_from(text: String) -> Result<Window, String> {
        Window::parse(&text)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Window { from, to } = *self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;

    #[test]
    fn a_window_may_go_over_midnight() {
        let zone = &TimeZone::UTC;
        let at = |text: &str| {
            let time: Timestamp = format!("2026-11-22T{text}:00Z").parse().unwrap();
            Now { ms: time.as_millisecond(), zone }
        };
        let night = Window::parse("22:00-06:00").unwrap();
        let noon = Window::parse("12:00-13:00").unwrap();
        let cases = [("22:00", true, false), ("05:59", true, false), ("06:00", false, false)];
        for (time, in_night, at_noon) in cases {
            assert_eq!(night.contains(&at(time)), in_night, "{time}");
            assert_eq!(noon.contains(&at(time)), at_noon, "{time}");
        }
        assert!(noon.contains(&at("12:30")) && !noon.contains(&at("13:00")));
        assert_eq!(night.opens_ms(&at("06:00")), at("22:00").ms);
        assert_eq!(night.opens_ms(&at("23:00")), at("23:00").ms);
        assert_eq!(noon.opens_ms(&at("13:00")), at("12:00").ms + 86_400_000);
        for text in ["22:00", "22:00-22:00", "22:00-24:00", "a-b"] {
            assert!(Window::parse(text).is_err(), "{text}");
        }
        assert_eq!(night.to_string(), "22:00-06:00");
    }
}

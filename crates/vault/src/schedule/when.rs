//! How often: `every 6h`, `at 02:30`, `at sun 02:30`.

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde::Deserialize;
use std::fmt;

/// The longest time between two runs.
const EVERY_MS_MAX: i64 = 366 * 86_400_000;
/// Days in which a time of day on a given weekday is found, clock changes included.
const DAYS_MAX: i64 = 15;

/// How often a job is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum When {
    /// So long after the last run began.
    Every {
        /// In milliseconds.
        ms: i64,
    },
    /// At a time of day, on one day of the week or on all.
    At {
        /// On this day only.
        day: Option<Weekday>,
        /// Minutes after midnight.
        minute: u16,
    },
}

impl When {
    /// Reads what an operator wrote.
    ///
    /// # Errors
    /// Saying what can be written.
    pub fn parse(text: &str) -> Result<When, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let parsed = match words[..] {
            ["every", length] => every(length),
            ["at", time] => minute_of_day(time).map(|minute| When::At { day: None, minute }),
            ["at", day, time] => weekday(day)
                .zip(minute_of_day(time))
                .map(|(day, minute)| When::At { day: Some(day), minute }),
            _ => None,
        };
        parsed.ok_or_else(|| {
            format!("`{text}` says no time; write \"every 6h\", \"at 02:30\" or \"at sun 02:30\"")
        })
    }

    /// The first time it is due after a run that began at `done_ms`.
    pub fn after(&self, done_ms: i64, zone: &TimeZone) -> i64 {
        match *self {
            When::Every { ms } => done_ms.saturating_add(ms),
            When::At { day, minute } => next(done_ms, day, minute, zone),
        }
    }
}

impl TryFrom<String> for When {
    type Error = String;

    fn try_from(text: String) -> Result<When, String> {
        When::parse(&text)
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            When::Every { ms } => {
                let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
                let (unit, name) =
                    units.into_iter().find(|(unit, _)| ms % unit == 0).unwrap_or((1, "ms"));
                write!(f, "every {}{name}", ms / unit)
            }
            When::At { day, minute } => {
                f.write_str("at ")?;
                if let Some(day) = day {
                    let number = day.to_monday_zero_offset() as usize;
                    write!(f, "{} ", DAYS[number])?;
                }
                write!(f, "{:02}:{:02}", minute / 60, minute % 60)
            }
        }
    }
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

fn weekday(text: &str) -> Option<Weekday> {
    let number = DAYS.iter().position(|day| *day == text)?;
    Weekday::from_monday_zero_offset(number as i8).ok()
}

fn every(text: &str) -> Option<When> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    let unit_ms = match unit {
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let ms = number.parse::<i64>().ok()?.checked_mul(unit_ms)?;
    (1..=EVERY_MS_MAX).contains(&ms).then_some(When::Every { ms })
}

/// Minutes after midnight of `02:30`.
pub(super) fn minute_of_day(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |t: &str, limit: u16| {
        let digits = t.len() == 2 && t.bytes().all(|b| b.is_ascii_digit());
        t.parse::<u16>().ok().filter(|n| digits && *n < limit)
    };
    Some(number(hour, 24)? * 60 + number(minute, 60)?)
}

/// The next time of day strictly after `ms`. One that a clock change skips comes later that day.
pub(super) fn next(ms: i64, day: Option<Weekday>, minute: u16, zone: &TimeZone) -> i64 {
    let far = ms.saturating_add(DAYS_MAX * 86_400_000);
    let Ok(from) = Timestamp::from_millisecond(ms) else { return far };
    let first = from.to_zoned(zone.clone()).date();
    let Ok(time) = Time::new((minute / 60) as i8, (minute % 60) as i8, 0, 0) else { return far };
    for days in 0..DAYS_MAX {
        let Ok(date) = first.checked_add(Span::new().days(days)) else { return far };
        if day.is_some_and(|day| day != date.weekday()) {
            continue;
        }
        let Ok(zoned) = date.to_datetime(time).to_zoned(zone.clone()) else { continue };
        let found = zoned.timestamp().as_millisecond();
        if found > ms {
            return found;
        }
    }
    far
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn what_operators_write_is_read_and_shown_again() {
        for text in ["every 90s", "every 15m", "every 6h", "every 7d", "at 02:30", "at sun 23:59"] {
            assert_eq!(When::parse(text).unwrap().to_string(), text);
        }
        let wrong =
            ["", "every", "every 6", "every 0h", "every -1h", "every 400d", "6h", "at 24:00"];
        let more = ["at 2:30", "at 02:60", "at noon 02:30", "at sun", "at sun 02:30 x", "every 1w"];
        for text in wrong.iter().chain(&more) {
            assert!(When::parse(text).unwrap_err().contains("at sun 02:30"), "{text}");
        }
    }

    #[test]
    fn times_of_day_are_those_of_the_zone_and_survive_clock_changes() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let cases = [
            ("at 02:30", "2026-11-22T00:00:00Z", "2026-11-22T01:30:00Z"),
            ("at 02:30", "2026-11-22T01:30:00Z", "2026-11-23T01:30:00Z"),
            ("at sun 02:30", "2026-11-22T01:30:00Z", "2026-11-29T01:30:00Z"),
            // Skipped by the change to summer time: an hour later that day.
            ("at 02:30", "2026-03-28T12:00:00Z", "2026-03-29T01:30:00Z"),
            ("at 02:30", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"),
            // Twice on the day of the change back: the first one, once.
            ("at 02:30", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"),
            ("at 02:30", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"),
            ("every 6h", "2026-10-25T00:30:00Z", "2026-10-25T06:30:00Z"),
        ];
        for (text, done, due) in cases {
            let when = When::parse(text).unwrap();
            assert_eq!(when.after(ms(done), &berlin), ms(due), "{text} after {done}");
        }
        let when = When::parse("at 02:30").unwrap();
        for odd in [i64::MIN, i64::MAX] {
            assert!(when.after(odd, &berlin) >= odd);
        }
    }
}

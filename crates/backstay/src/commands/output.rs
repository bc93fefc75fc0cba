//! What commands print: JSON on request, else sentences and tables; times and durations.

use serde_json::Value;

use super::{Done, Failure};

/// Prints one JSON value.
pub(crate) fn json(value: &impl serde::Serialize) -> Done {
    let text = serde_json::to_string_pretty(value).map_err(Failure::new)?;
    println!("{text}");
    Ok(())
}

/// Says how an operation ended.
pub(crate) fn outcome(answer: &Value, as_json: bool, done: &str) -> Done {
    if as_json {
        return json(answer);
    }
    let unchanged = answer.get("outcome").and_then(Value::as_str) == Some("unchanged");
    println!("{}", if unchanged { "Nothing was to be done." } else { done });
    Ok(())
}

/// A table without lines between its cells.
pub(crate) fn table(header: &[&str]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    // On a terminal what is too long goes on in the next line; elsewhere a row stays one line.
    table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    table.set_header(header.iter().copied());
    table
}

/// How long a move took in all, from its timing as the API has it; 0 where it has none.
pub(crate) fn move_ms(timing: &Value) -> f64 {
    let timing: model::state::Timing = serde::Deserialize::deserialize(timing).unwrap_or_default();
    timing.total_us() as f64 / 1e3
}

/// A wall-clock time for people, in this machine's zone.
pub(crate) fn time(wall_ms: u64) -> String {
    let stamp = jiff::Timestamp::from_millisecond(wall_ms as i64).unwrap_or_default();
    let zoned = stamp.to_zoned(jiff::tz::TimeZone::system());
    zoned.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

/// How long ago, for people.
pub(crate) fn ago(wall_ms: u64) -> String {
    let now = jiff::Timestamp::now().as_millisecond().max(0) as u64;
    span(now.saturating_sub(wall_ms))
}

/// A span of milliseconds in its largest two units.
pub(crate) fn span(ms: u64) -> String {
    let s = ms / 1_000;
    match s {
        0 => format!("{ms} ms"),
        1..60 => format!("{s} s"),
        60..3_600 => format!("{} min {} s", s / 60, s % 60),
        3_600..86_400 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3_600),
    }
}

/// Reads a duration such as `90s`, `15m`, `2h30m` or `1d` in milliseconds.
pub(crate) fn duration_ms(text: &str) -> Result<u64, String> {
    let span: jiff::SignedDuration = text
        .parse()
        .or_else(|_| {
            let span: jiff::Span = text.parse()?;
            span.to_duration(jiff::SpanRelativeTo::days_are_24_hours())
        })
        .map_err(|_| format!("{text:?} is no duration; write 90s, 15m, 2h30m or 1d"))?;
    u64::try_from(span.as_millis())
        .ok()
        .filter(|ms| *ms > 0)
        .ok_or_else(|| "a duration is longer than nothing".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_takes_the_sum_of_its_phases() {
        let timing = model::state::Timing {
            detect_us: 1,
            fence_us: 20,
            decide_us: 300,
            commit_us: 4_000,
            promote_us: 50_000,
        };
        let value = serde_json::to_value(timing).expect("plain data");
        assert!((move_ms(&value) - 54.321).abs() < 1e-9);
        assert_eq!(move_ms(&Value::Null), 0.0);
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, ms) in
            [("90s", 90_000), ("15m", 900_000), ("2h30m", 9_000_000), ("1d", 86_400_000)]
        {
            assert_eq!(duration_ms(text), Ok(ms), "{text}");
        }
        for text in ["", "x", "0s", "-5m", "10"] {
            assert!(duration_ms(text).is_err(), "{text}");
        }
    }
}

//! Texts: their length, and what an operator may have meant by one where a number belongs.

use model::spec::TEXT_MAX;
use toml::de::DeValue;

use super::found::Found;
use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::sink::Sink;
use crate::source::Place;

/// A text that is short enough and holds no NUL character, which no system call can take.
pub(crate) fn checked(text: &str, key: &str, place: Place, sink: &Sink) -> Option<Found<String>> {
    let problem = if text.len() > TEXT_MAX {
        format!("{key:?} has {} bytes; {TEXT_MAX} is the most", text.len())
    } else if text.contains('\0') {
        format!("{key:?} contains a NUL character")
    } else {
        return Some(Found { value: text.to_string(), place });
    };
    sink.report(
        Diagnostic::new(Code::TooLong, problem, "put long content in a file and name that")
            .at(&place, "not possible"),
    );
    None
}

/// The whole number that a wrong value was most likely meant to be: `"5s"` in milliseconds,
/// `"1000"`, `2.0`.
pub(crate) fn whole_from(value: &DeValue<'_>, unit: &str) -> Option<u64> {
    let text = match value {
        DeValue::String(text) => text.trim().to_string(),
        DeValue::Float(float) => float.as_str().to_string(),
        _ => return None,
    };
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..split].parse().ok()?;
    let factor = match (unit, text[split..].trim()) {
        (_, "") | ("ms", "ms") => 1.0,
        ("ms", "s") => 1e3,
        ("ms", "m" | "min") => 6e4,
        ("ms", "h") => 3.6e6,
        ("bytes", "k" | "K" | "KiB") => 1024.0,
        ("bytes", "M" | "MiB") => 1_048_576.0,
        ("bytes", "G" | "GiB") => 1_073_741_824.0,
        ("bytes", "kB" | "KB") => 1e3,
        ("bytes", "MB") => 1e6,
        ("bytes", "GB") => 1e9,
        _ => return None,
    };
    let whole = (number * factor).round();
    (0.0..1e18).contains(&whole).then_some(whole as u64)
}

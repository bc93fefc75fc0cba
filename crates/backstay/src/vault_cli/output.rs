//! How results and progress are shown.

use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressStyle};
use serde::Serialize;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Text for people, or JSON as a stable contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// One JSON document.
    Json,
}

impl Output {
    /// From the `--json` flag.
    pub(crate) fn of(json: bool) -> Output {
        if json { Output::Json } else { Output::Text }
    }

    /// Prints the value as JSON, or what `text` makes of it.
    pub(crate) fn show<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) {
        match self {
            Output::Json => {
                let json = serde_json::to_string_pretty(value);
                println!("{}", json.expect("results always encode"));
            }
            Output::Text => println!("{}", text(value)),
        }
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A length for people.
pub(crate) fn size(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// A rate for people.
pub(crate) fn rate(bytes: u64, time: Duration) -> String {
    let per_second = bytes as f64 / time.as_secs_f64().max(0.001);
    format!("{}/s", HumanBytes(per_second as u64))
}

/// A moment for people, in the machine's zone.
pub(crate) fn moment(ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(time) => {
            let time = time.to_zoned(jiff::tz::TimeZone::system());
            time.strftime("%Y-%m-%d %H:%M:%S").to_string()
        }
        Err(_) => format!("{ms} ms after 1970"),
    }
}

/// How long ago, for people.
pub(crate) fn ago(now_ms: i64, then_ms: i64) -> String {
    match u64::try_from(now_ms - then_ms) {
        Ok(ms) => format!("{} ago", HumanDuration(Duration::from_millis(ms))),
        Err(_) => "in the future".to_owned(),
    }
}

/// Runs `work` while a bar on the terminal follows `done` towards `total` (unknown: zero).
pub(crate) fn with_progress<T>(
    total: u64,
    done: impl Fn() -> u64 + Send + Sync,
    work: impl FnOnce() -> T,
) -> T {
    if !std::io::stderr().is_terminal() {
        return work();
    }
    let template = match total {
        0 => "{spinner} {bytes} ({bytes_per_sec}) {elapsed}",
        _ => "{bar:30} {bytes}/{total_bytes} ({bytes_per_sec}) {eta} left",
    };
    let style = ProgressStyle::with_template(template).expect("the template is valid");
    let bar = ProgressBar::new(total).with_style(style);
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !ended.load(Ordering::Acquire) {
                bar.set_position(done());
                std::thread::park_timeout(Duration::from_millis(100));
            }
        });
        let result = work();
        ended.store(true, Ordering::Release);
        watcher.thread().unpark();
        bar.finish_and_clear();
        result
    })
}

/// Measures how long `work` takes.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let result = work();
    (result, begun.elapsed())
}

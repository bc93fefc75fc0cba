//! The keys of `kind = "process"`.

use std::collections::BTreeMap;

use model::spec::{LimitsSpec, LogSpec, ProcessSpec, Promote, Ready};

use super::Found;
use super::found::values;
use super::table::Reader;
use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::suggest;

/// Signals that can ask a process to stop. Real-time ones are written `SIGRTMIN+n`.
const SIGNALS: &[&str] = &[
    "SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGPWR",
    "SIGABRT", "SIGALRM", "SIGCONT", "SIGKILL",
];
/// The last real-time signal is this far from the first.
const REALTIME_SIGNALS: u32 = 30;
/// Longest user or group name (`useradd` allows no more).
const USER_MAX: usize = 32;

/// Reads the keys of a process; `hot` says that standbys of it run.
pub(super) fn read(reader: &Reader<'_>, hot: bool) -> ProcessSpec {
    let default = ProcessSpec::default();
    if reader.has("command").is_none() {
        reader.missing("command");
    }
    ProcessSpec {
        command: command(reader, "command").unwrap_or_default(),
        user: user(reader, "user"),
        group: user(reader, "group"),
        environment: environment(reader),
        directory: directory(reader),
        limits: limits(reader),
        log: log(reader),
        ready: ready(reader),
        start_ms: reader.whole_or("start_ms", default.start_ms),
        stop_signal: stop_signal(reader).unwrap_or(default.stop_signal),
        stop_ms: reader.whole_or("stop_ms", default.stop_ms),
        promote: promote(reader, hot),
        promote_ms: reader.whole_or("promote_ms", default.promote_ms),
    }
}

/// A standby that runs is there to be told; a process without one is simply started.
fn promote(reader: &Reader<'_>, hot: bool) -> Promote {
    match reader.choice("promote").as_ref().map(|found| found.value.as_str()) {
        Some("socket") => Promote::Socket,
        None if hot => Promote::Socket,
        _ => Promote::Restart,
    }
}

/// A command: at least a program, which is an absolute path.
pub(super) fn command(reader: &Reader<'_>, key: &str) -> Option<Vec<String>> {
    let words = reader.texts(key)?;
    let place = reader.has(key)?;
    let (problem, help, at) = match words.first() {
        None => (
            format!("`{key}` names no program"),
            format!("write the program and its arguments: `{key} = [\"/usr/bin/…\", \"…\"]`"),
            &place,
        ),
        Some(program) if !program.value.starts_with('/') => (
            format!("`{key}` begins with {:?}, which is not an absolute path", program.value),
            relative_help(&words),
            &program.place,
        ),
        Some(program) if program.value.ends_with('/') => (
            format!("`{key}` begins with {:?}, which is a directory", program.value),
            "name the program itself".to_string(),
            &program.place,
        ),
        Some(_) => return Some(values(&words)),
    };
    reader.sink.report(Diagnostic::new(Code::BadCommand, problem, help).at(at, "no program"));
    None
}

fn relative_help(words: &[Found<String>]) -> String {
    let shell = words.len() == 1 && words[0].value.contains(' ');
    let why = "no search path is used, so that every node runs the same file";
    if shell {
        let split: Vec<String> =
            words[0].value.split_whitespace().map(|word| format!("{word:?}")).collect();
        let split = split.join(", ");
        format!("{why}; write each argument on its own, the program with its full path: [{split}]")
    } else {
        format!("{why}; write the full path: `command -v {}` prints it", words[0].value)
    }
}

fn user(reader: &Reader<'_>, key: &str) -> Option<String> {
    let found = reader.text(key)?;
    let text = found.value.as_str();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let number = text.parse::<u32>().is_ok_and(|id| id < u32::MAX);
    let digits = text.chars().all(|c| c.is_ascii_digit());
    let name = !text.starts_with('-') && text.chars().all(plain) && text.len() <= USER_MAX;
    if !text.is_empty() && (number || (name && !digits)) {
        return Some(found.value);
    }
    reader.sink.report(
        Diagnostic::new(
            Code::BadUser,
            format!("`{key}` can't be {text:?}"),
            "write a name as in /etc/passwd or /etc/group, or a number in quotes",
        )
        .at(&found.place, "no name, no number"),
    );
    None
}

fn environment(reader: &Reader<'_>) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    for (key, value) in reader.map("environment") {
        let mut chars = key.value.chars();
        let begins = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        let plain = begins && chars.all(|c| c.is_ascii_alphanumeric() || c == '_');
        let ours = key.value.starts_with("BACKSTAY_") || key.value == "NOTIFY_SOCKET";
        let help = match (plain, ours) {
            (true, false) => {
                environment.insert(key.value, value.value);
                continue;
            }
            (true, true) => "Backstay sets it for the instance; choose another name",
            (false, _) => "use letters, digits and '_', not beginning with a digit",
        };
        let message = format!("the environment variable {:?} can't be set", key.value);
        reader.sink.report(
            Diagnostic::new(Code::BadEnvironment, message, help).at(&key.place, "this name"),
        );
    }
    environment
}

fn directory(reader: &Reader<'_>) -> Option<String> {
    let found = reader.text("directory")?;
    if found.value.starts_with('/') {
        return Some(found.value);
    }
    reader.sink.report(
        Diagnostic::new(
            Code::BadPath,
            format!("`directory` is {:?}, which is not an absolute path", found.value),
            "write it from the root: `directory = \"/var/lib/…\"`",
        )
        .at(&found.place, "not absolute"),
    );
    None
}

fn limits(reader: &Reader<'_>) -> LimitsSpec {
    let Some(table) = reader.table("limits") else { return LimitsSpec::default() };
    table.known_keys_only(&[]);
    let number = |key: &str| table.whole(key).map(|found| found.value);
    LimitsSpec {
        memory_bytes: number("memory_bytes"),
        processes: number("processes"),
        open_files: number("open_files"),
        cpu_percent: number("cpu_percent").and_then(|percent| u32::try_from(percent).ok()),
        core_bytes: number("core_bytes"),
    }
}

fn log(reader: &Reader<'_>) -> LogSpec {
    let default = LogSpec::default();
    let Some(table) = reader.table("log") else { return default };
    table.known_keys_only(&[]);
    let keep = table.whole("keep").and_then(|found| u32::try_from(found.value).ok());
    LogSpec {
        rotate_bytes: table.whole_or("rotate_bytes", default.rotate_bytes),
        keep: keep.unwrap_or(default.keep),
    }
}

fn ready(reader: &Reader<'_>) -> Ready {
    if reader.is_table("ready") {
        let Some(table) = reader.table("ready") else { return Ready::Started };
        table.known_keys_only(&[]);
        if table.has("delay_ms").is_none() {
            table.missing("delay_ms");
        }
        return table.whole("delay_ms").map_or(Ready::Started, |found| Ready::DelayMs(found.value));
    }
    let Some(found) = reader.choice("ready") else { return Ready::Started };
    match found.value.as_str() {
        "notify" => Ready::Notify,
        "probe" => {
            if reader.has("health").is_none() {
                reader.sink.report(
                    Diagnostic::new(
                        Code::MissingKey,
                        "`ready = \"probe\"` waits for health checks, and there are none",
                        "add `health = [{ … }]`, or say `ready = \"started\"` or \"notify\"",
                    )
                    .at(&found.place, "would never be ready"),
                );
            }
            Ready::Probe
        }
        _ => Ready::Started,
    }
}

fn stop_signal(reader: &Reader<'_>) -> Option<String> {
    let found = reader.text("stop_signal")?;
    let text = found.value.as_str();
    let realtime = text.strip_prefix("SIGRTMIN").is_some_and(|rest| {
        rest.is_empty()
            || rest
                .strip_prefix('+')
                .filter(|digits| digits.chars().all(|c| c.is_ascii_digit()))
                .and_then(|digits| digits.parse::<u32>().ok())
                .is_some_and(|n| n <= REALTIME_SIGNALS)
    });
    if SIGNALS.contains(&text) || realtime {
        return Some(found.value);
    }
    let upper = text.to_uppercase();
    let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    let help = match suggest::nearest(&full, SIGNALS.iter().copied()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("possible are: {}, SIGRTMIN+0 to +{REALTIME_SIGNALS}", SIGNALS.join(", ")),
    };
    let message = format!("{text:?} is not a signal that asks a process to stop");
    reader.sink.report(Diagnostic::new(Code::BadSignal, message, help).at(&found.place, "here"));
    None
}

//! Runs other programs: shows what they print while it hands on every line.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

/// Longest line that is handed on in one piece, in bytes.
const LINE_MAX: u64 = 64 * 1024;
/// Lines that wait to be shown; a program that prints faster waits.
const LINES_WAITING_MAX: usize = 1_024;

/// A command of cargo, as it was called itself, without colour so that its words can be read.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(arguments).current_dir(crate::root());
    // Of the build that runs this task, nothing is meant for the builds that it starts.
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR" {
            command.env_remove(&key);
        }
    }
    command.env("CARGO_TERM_COLOR", "never").env("CARGO_TERM_PROGRESS_WHEN", "never");
    command
}

/// Where cargo builds.
pub(crate) fn target_directory() -> PathBuf {
    let named = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    crate::root().join(named.unwrap_or_else(|| PathBuf::from("target")))
}

/// A command in words, for people.
pub(crate) fn words(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    let parts = std::iter::once(program).chain(command.get_args());
    parts.map(|part| part.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Runs a command to its end, shows what it prints, and hands on each line.
pub(crate) fn watch(
    command: &mut Command,
    mut line: impl FnMut(&str),
) -> Result<ExitStatus, String> {
    let name = words(command);
    let failed = |error: std::io::Error| format!("can't run {name}: {error}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let (sender, lines) = sync_channel(LINES_WAITING_MAX);
    let outputs: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|out| Box::new(out) as Box<dyn Read + Send>),
        child.stderr.take().map(|err| Box::new(err) as Box<dyn Read + Send>),
    ];
    let readers: Vec<_> = outputs
        .into_iter()
        .flatten()
        .map(|output| {
            let sender = sender.clone();
            thread::spawn(move || read_lines(output, &sender))
        })
        .collect();
    drop(sender);
    let mut shown = std::io::stdout().lock();
    for text in lines {
        // Where nobody reads what is shown any more, the work still goes on.
        let _ = writeln!(shown, "{text}");
        line(&text);
    }
    for reader in readers {
        reader.join().map_err(|_| format!("reading the output of {name} failed"))?;
    }
    child.wait().map_err(failed)
}

fn read_lines(output: impl Read, sender: &SyncSender<String>) {
    let mut output = BufReader::new(output);
    loop {
        let mut bytes = Vec::new();
        match output.by_ref().take(LINE_MAX).read_until(b'\n', &mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_string();
        if sender.send(text).is_err() {
            return;
        }
    }
}

/// Runs a command to its end, as if it had been typed.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let name = words(command);
    println!("$ {name}");
    let status = command.status().map_err(|error| format!("can't run {name}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{name} ended with {status}")) }
}

/// Whether a program is found and says that all is well.
pub(crate) fn works(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_outputs_are_handed_on_and_the_end_is_told() {
        let mut seen = Vec::new();
        let script = "echo out; echo err >&2; printf last; exit 3";
        let status = watch(Command::new("sh").args(["-c", script]), |l| seen.push(l.to_string()));
        seen.sort();
        assert_eq!(seen, ["err", "last", "out"]);
        assert_eq!(status.map(|s| s.code()), Ok(Some(3)));
        assert!(watch(&mut Command::new("no-such-program"), |_| {}).is_err());
    }
}

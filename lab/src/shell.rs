//! Programs that do one thing and end: `ip`, `nft`, commands of an operator.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// What a case or a piece of the lab says when something is not as it should be.
pub(crate) type Done<T = ()> = Result<T, String>;

/// Pause between two looks at something that tells nobody when it changes.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Runs a program; its standard output where it succeeded.
pub(crate) fn run(command: &mut Command) -> Done<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("{command:?}: {e}"))?;
    said(command, &output)
}

/// Runs a program with a text as its input.
pub(crate) fn feed(command: &mut Command, text: &str) -> Done<String> {
    let failed = |e: std::io::Error| e.to_string();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let mut input = child.stdin.take().ok_or("no input")?;
    input.write_all(text.as_bytes()).map_err(failed)?;
    drop(input);
    said(command, &child.wait_with_output().map_err(failed)?)
}

fn said(command: &Command, output: &Output) -> Done<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
    let program = command.get_program().to_string_lossy();
    Err(format!("{program} {}: {}{}", words.join(" "), text(&output.stdout), text(&output.stderr)))
}

/// Runs `ip` with these words.
pub(crate) fn ip(words: &str) -> Done<String> {
    run(Command::new("ip").args(words.split(' ')))
}

/// Lets time pass.
pub(crate) fn pass(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}

/// Waits until something is there, for as long as is said.
pub(crate) fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> Done<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if begun.elapsed() > limit {
            return Err(format!("{what} did not come within {limit:?}"));
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
}

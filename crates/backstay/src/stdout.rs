//! Standard output whose reader may be gone, as that of `backstay events | head` is.
//!
//! Nothing is printed from then on, and the command goes on to its end: a backup is finished, what
//! was started is stopped. Only what would print for ever ends by [`end_unread`]. SIGPIPE stays
//! ignored all the while: its default would also end a command whose node went away, instead of
//! letting it ask another. Nothing unwinds: a release build can't.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a shell says of a program that SIGPIPE ended.
pub const READER_GONE: u8 = 141;

/// Nobody reads any more.
static GONE: AtomicBool = AtomicBool::new(false);

/// Standard output, for whatever wants a writer.
#[derive(Debug)]
pub struct Out(io::StdoutLock<'static>);

/// Standard output, for this thread alone until it is dropped.
#[must_use]
pub fn lock() -> Out {
    Out(io::stdout().lock())
}

/// What was not read counts as written.
fn present<T>(written: io::Result<T>, unread: T) -> io::Result<T> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            GONE.store(true, Ordering::Relaxed);
            Ok(unread)
        }
        written => written,
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        present(self.0.write(bytes), bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        present(self.0.flush(), ())
    }
}

/// Prints; `print!` and `println!` of the commands come here.
///
/// # Panics
/// Where standard output fails otherwise than by a reader that is gone, as a full disk.
pub fn print(text: Arguments<'_>) {
    if let Err(error) = lock().write_fmt(text) {
        panic!("standard output can't be written: {error}");
    }
}

/// Ends a command that would print for ever, where nobody reads it. It must hold nothing that has
/// to be put away.
pub fn end_unread() {
    if GONE.load(Ordering::Relaxed) {
        std::process::exit(i32::from(READER_GONE));
    }
}

/// Runs the program to its end; where nobody read all of what it printed, that is its status.
#[must_use]
pub fn quietly(main: fn() -> ExitCode) -> ExitCode {
    let status = main();
    // What is still in the buffer tells, too.
    let flushed = lock().flush();
    match (GONE.load(Ordering::Relaxed), flushed) {
        (true, _) => ExitCode::from(READER_GONE),
        (false, Ok(())) => status,
        (false, Err(error)) => {
            eprintln!("standard output can't be written: {error}");
            ExitCode::FAILURE
        }
    }
}

//! What can end the demo early.

use std::path::PathBuf;
use std::time::Duration;

/// Why the demo could not be carried to its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Ctrl-C, or another request to end.
    #[error("interrupted: everything that was started is being taken down")]
    Interrupted,
    /// Something that always happens did not.
    #[error(
        "{what} did not happen within {within:?}, so there is nothing to measure; \
         run again with --keep and read the logs in the directory it names"
    )]
    TooSlow {
        /// What was waited for.
        what: String,
        /// How long.
        within: Duration,
    },
    /// A command of ours failed.
    #[error("`backstay {command}` failed, so the demo can't go on: {output}")]
    Command {
        /// Its arguments.
        command: String,
        /// The end of what it printed.
        output: String,
    },
    /// A file, socket or process.
    #[error("{what}: the demo needs loopback addresses, a temporary directory and processes")]
    System {
        /// What was tried.
        what: String,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A record that can't be read.
    #[error("{path} holds a line that can't be read: the figures would be wrong")]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The cluster's answer has another shape than expected.
    #[error("the cluster's answer lacks {0}: binary and demo are of different versions")]
    Answer(&'static str),
}

/// Names what was tried, for `map_err`.
pub(super) fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> DemoError {
    let what = what.into();
    move |source| DemoError::System { what, source }
}

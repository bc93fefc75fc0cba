//! Says what is going on while the demo runs: a line that changes on a terminal, lines one after
//! another elsewhere, nothing with `--json`.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::ProgressBar;

const TICK: Duration = Duration::from_millis(100);

/// How progress is shown.
pub(super) enum Progress {
    /// A spinner with a text that changes.
    Terminal(ProgressBar),
    /// Plain lines on standard error.
    Lines,
    /// Nothing.
    Quiet,
}

impl Progress {
    /// What fits where the output goes.
    pub(super) fn new(json: bool) -> Progress {
        if json {
            Progress::Quiet
        } else if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(TICK);
            Progress::Terminal(bar)
        } else {
            Progress::Lines
        }
    }

    /// What is being done now.
    pub(super) fn doing(&self, text: &str) {
        match self {
            Progress::Terminal(bar) => bar.set_message(text.to_owned()),
            Progress::Lines => eprintln!("{text} …"),
            Progress::Quiet => {}
        }
    }

    /// What is done, and stays to be read.
    pub(super) fn done(&self, text: &str) {
        match self {
            Progress::Terminal(bar) => bar.println(text),
            Progress::Lines => eprintln!("{text}"),
            Progress::Quiet => {}
        }
    }

    /// Makes room for the table.
    pub(super) fn end(&self) {
        if let Progress::Terminal(bar) = self {
            bar.finish_and_clear();
        }
    }
}

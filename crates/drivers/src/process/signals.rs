//! Names of signals, as `stop_signal` in the specification says them.

use rustix::process::Signal;

const NAMES: [(&str, Signal); 9] = [
    ("SIGTERM", Signal::TERM),
    ("SIGINT", Signal::INT),
    ("SIGQUIT", Signal::QUIT),
    ("SIGHUP", Signal::HUP),
    ("SIGUSR1", Signal::USR1),
    ("SIGUSR2", Signal::USR2),
    ("SIGWINCH", Signal::WINCH),
    ("SIGKILL", Signal::KILL),
    ("SIGABRT", Signal::ABORT),
];

/// The signal of this name, with or without `SIG`; an empty name is `SIGTERM`.
#[must_use]
pub fn signal_by_name(name: &str) -> Option<Signal> {
    if name.is_empty() {
        return Some(Signal::TERM);
    }
    let full = |long: &str| long == name || long.strip_prefix("SIG") == Some(name);
    NAMES.iter().find(|(long, _)| full(long)).map(|(_, signal)| *signal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_two_names_and_a_default() {
        assert_eq!(signal_by_name("SIGINT"), Some(Signal::INT));
        assert_eq!(signal_by_name("INT"), Some(Signal::INT));
        assert_eq!(signal_by_name(""), Some(Signal::TERM));
        assert_eq!(signal_by_name("SIG"), None);
        assert_eq!(signal_by_name("sigterm"), None);
    }
}

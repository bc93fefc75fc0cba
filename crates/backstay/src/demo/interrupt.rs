//! Ctrl-C, other requests to end, and panics: each leads to the same clean-up.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::error::{DemoError, system};
use super::{children, wait};

/// Exit status after a request to end: 128 and SIGINT's number, as shells do.
const INTERRUPTED: u8 = 130;

/// The exit status of an interrupted demo.
pub(super) fn exit_code() -> ExitCode {
    ExitCode::from(INTERRUPTED)
}

/// From now on the first request to end lets the demo wind up, and the second ends it at once,
/// with everything taken down all the same. So does a panic.
pub(super) fn watch() -> Result<(), DemoError> {
    let earlier = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        earlier(panic);
        let left = children::clean_up();
        if !left.is_none() {
            eprintln!("backstay: could not be taken down: {left:?}");
        }
    }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let runtime = runtime.map_err(system("start watching for signals"))?;
    let signals = runtime.block_on(async {
        [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
            .into_iter()
            .map(signal)
            .collect::<Result<Vec<_>, _>>()
    });
    let mut signals = signals.map_err(system("watch for signals"))?;
    let thread = std::thread::Builder::new().name("signals".to_owned());
    let watching = thread.spawn(move || {
        runtime.block_on(async {
            let [one, two, three] = &mut signals[..] else { return };
            for second in [false, true] {
                tokio::select! {
                    _ = one.recv() => {}
                    _ = two.recv() => {}
                    _ = three.recv() => {}
                }
                wait::interrupt();
                if second {
                    children::clean_up();
                    std::process::exit(i32::from(INTERRUPTED));
                }
            }
        });
    });
    watching.map(drop).map_err(system("start watching for signals"))
}

//! `backstay watch`: the status, again and again.

use std::io::Write;
use std::time::Duration;

use super::connect::Connect;
use super::{Done, status};

/// Options of `watch`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Pause between two looks, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(100..=60_000))]
    every_ms: u64,
    /// End after so many looks
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    #[command(flatten)]
    connect: Connect,
}

pub(crate) fn run(args: &Args) -> Done {
    let cluster = args.connect.open()?;
    let mut looks = 0;
    loop {
        backstay::stdout::end_unread();
        match status::fetch(&cluster) {
            Ok(now) if args.connect.json => println!("{now}"),
            Ok(now) => screen(&status::render(&now))?,
            Err(failure) if args.connect.json => return Err(failure),
            Err(failure) => screen(&format!("{}\n", failure.text))?,
        }
        looks += 1;
        if args.count.is_some_and(|count| looks >= count) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(args.every_ms));
    }
}

/// Home, each line cleared behind its text, the rest of the screen cleared: no flicker.
fn screen(text: &str) -> std::io::Result<()> {
    let mut out = backstay::stdout::lock();
    write!(out, "\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))?;
    out.flush()
}

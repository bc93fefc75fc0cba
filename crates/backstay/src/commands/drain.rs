//! `backstay drain`: moves everything away from a node, until an end.

use model::{NodeName, Operation};

use super::connect::Connect;
use super::{Done, output};

/// Options of `drain`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The node
    node: NodeName,
    /// For how long, such as 2h; there is no drain without an end
    #[arg(long = "for", value_name = "DURATION", value_parser = output::duration_ms)]
    #[arg(required_unless_present = "end")]
    for_ms: Option<u64>,
    /// End a drain early
    #[arg(long, conflicts_with = "for_ms")]
    end: bool,
    #[command(flatten)]
    connect: Connect,
}

pub(crate) fn run(args: &Args) -> Done {
    let node = args.node.clone();
    let (operation, done) = match args.for_ms {
        Some(for_ms) => (
            Operation::Drain { node, for_ms },
            format!("{} is being drained for {}.", args.node, output::span(for_ms)),
        ),
        None => (Operation::Undrain { node }, format!("{} may be used again.", args.node)),
    };
    let answer = args.connect.open()?.operate(&operation)?;
    output::outcome(&answer, args.connect.json, &done)
}

//! `backstay agent`: runs this node's agent.

use std::path::PathBuf;

use agent::node::files::DataDir;
use agent::node::{AgentOptions, run as run_agent};
use drivers::run_dir::RunDir;

use super::{Done, Failure};

/// Options of `agent`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The node's data directory
    #[arg(long, value_name = "DIR", env = "BACKSTAY_DATA", default_value = "/var/lib/backstay")]
    data: PathBuf,
    /// The directory that agent, launcher and guard share; empty after a boot
    #[arg(long, value_name = "DIR", env = "BACKSTAY_RUN", default_value = "/run/backstay")]
    run: PathBuf,
}

pub(crate) fn run(args: &Args) -> Done {
    let options =
        AgentOptions { data: DataDir::new(&args.data), run: RunDir::new(args.run.clone()) };
    run_agent(&options).map_err(Failure::new)
}

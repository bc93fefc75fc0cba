//! `backstay agent`: runs this node's agent.

use std::path::PathBuf;

use agent::node::files::DataDir;
use agent::node::vault_run::VaultOptions;
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
    /// Keep a `vault run` of this schedule alive beside the agent; repository and key come from
    /// BACKSTAY_REPOSITORY and BACKSTAY_KEY_FILE
    #[arg(long, value_name = "FILE", env = "BACKSTAY_VAULT_SCHEDULE")]
    vault: Option<PathBuf>,
    /// Log lines of JSON
    #[arg(long)]
    pub(super) json: bool,
}

pub(crate) fn run(args: &Args) -> Done {
    let vault = match &args.vault {
        None => None,
        Some(schedule) => {
            let (schedule, data) = (schedule.clone(), args.data.clone());
            Some(VaultOptions { schedule, program: std::env::current_exe()?, data })
        }
    };
    let (data, run) = (DataDir::new(&args.data), RunDir::new(args.run.clone()));
    let options = AgentOptions { data, run, vault };
    run_agent(&options).map_err(Failure::new)
}

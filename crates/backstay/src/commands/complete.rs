//! `backstay complete`: shell completions and man pages.

use std::path::PathBuf;

use clap::CommandFactory;

use super::{Cli, Done};

/// Options of `complete`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Completions for this shell, on standard output
    #[arg(value_enum, required_unless_present = "man")]
    shell: Option<clap_complete::Shell>,
    /// Write man pages into this directory
    #[arg(long, value_name = "DIR")]
    man: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Done {
    let mut command = Cli::command();
    if let Some(dir) = &args.man {
        std::fs::create_dir_all(dir)?;
        clap_mangen::generate_to(command, dir)?;
        return Ok(());
    }
    if let Some(shell) = args.shell {
        clap_complete::generate(shell, &mut command, "backstay", &mut backstay::stdout::lock());
    }
    Ok(())
}

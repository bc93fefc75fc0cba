//! The command line: what commands there are, and how their end becomes an exit status.
//!
//! Exit statuses are a contract: 0 done; 1 it failed; 2 the words on the command line are wrong;
//! 3 the configuration has errors; 4 the cluster refused; 5 no node answered; 6 the outcome is
//! unknown.

mod agent;
mod apply;
mod authority;
mod check;
mod complete;
mod confirm;
mod connect;
mod diff;
mod drain;
mod events;
mod explain;
mod failover;
mod init;
mod join;
mod maintenance;
mod measure;
mod node;
mod output;
mod processes;
mod recover_quorum;
mod remembering;
mod state;
mod status;
mod survey;
mod switchover;
mod token;
mod vault;
mod watch;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Keeps services up through the loss of any machine, link, disk or process, and proves it.
#[derive(Debug, Parser)]
#[command(name = "backstay", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Found a cluster: this machine becomes its first node
    Init(init::Args),
    /// Measure machines and links, and say which profile fits them
    Measure(measure::Args),
    /// Join a running cluster as a further node, or get a certificate as a person
    Join(join::Args),
    /// Make a single-use token for a node or a person to join with
    Token(token::Args),
    /// The cluster's certificate authority: show it, rotate it, renew, revoke
    Authority(authority::Args),
    /// Run the agent of this node
    Agent(agent::Args),
    /// Run the launcher of this node: parent of all instances
    Launcher(processes::LauncherArgs),
    /// Run the guard of this node: stops what the lease no longer covers
    Guard(processes::GuardArgs),
    /// Hold an address; the launcher runs this as the program of a resource of kind `address`
    #[command(hide = true)]
    Keeper(processes::KeeperArgs),
    /// Look at a configuration: every error at its line, every risk in words
    Check(check::Args),
    /// Show what a configuration would change in the running cluster
    Diff(diff::Args),
    /// Commit a configuration, whole or not at all
    Apply(apply::Args),
    /// Show the cluster
    Status(status::Args),
    /// Show the cluster, again and again
    Watch(watch::Args),
    /// Say why a resource is where it is, and why it last moved
    Explain(explain::Args),
    /// List what happened
    Events(events::Args),
    /// Move a resource, planned: nothing is lost
    Switchover(switchover::Args),
    /// Give a resource's present instance up as failed and move it
    Failover(failover::Args),
    /// Move everything away from a node and place nothing there, until an end
    Drain(drain::Args),
    /// Leave the cluster, a node or a resource alone, until an end
    Maintenance(maintenance::Args),
    /// Forget failures, bans and quarantine of a resource
    Clear(failover::ClearArgs),
    /// Hand the coordinator's office to another node
    Transfer(node::TransferArgs),
    /// Remove a node from the cluster for good
    Forget(node::ForgetArgs),
    /// Keep the cluster's control state in a file, look at one, or found the cluster anew from one
    State(state::Args),
    /// Begin anew on a survivor after a majority of the voters was lost for good
    RecoverQuorum(recover_quorum::Args),
    /// Back a directory or a command's output up
    Backup(Box<vault::WithOutput<crate::vault_cli::backup::BackupArgs>>),
    /// Bring a backup, or a part of it, back
    Restore(Box<vault::WithOutput<crate::vault_cli::restore::RestoreArgs>>),
    /// Repositories, keys, verification, retention
    Vault(Box<vault::VaultArgs>),
    /// See a service survive: a cluster on this machine, one fault after another
    Demo(vault::DemoCommand),
    /// Run one of the programs that ship as examples
    Example(backstay::orders::command::ExampleArgs),
    /// Write shell completions or man pages
    Complete(complete::Args),
}

/// Why a command failed: an exit status and what to say, with everything that lies behind it.
#[derive(Debug)]
pub(crate) struct Failure {
    status: u8,
    text: String,
    passing: bool,
}

impl Failure {
    /// It failed.
    pub(crate) fn new(error: impl Into<Box<dyn Error>>) -> Failure {
        Failure::with(1, error)
    }

    /// Whether the cluster refused for a reason that may pass, or could not be asked just now.
    pub(crate) fn may_pass(&self) -> bool {
        self.passing
    }

    /// What is said of it.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The same, for a reason that may pass.
    pub(crate) fn passing(self, passing: bool) -> Failure {
        Failure { passing, ..self }
    }

    /// It failed in a way that has an exit status of its own.
    pub(crate) fn with(status: u8, error: impl Into<Box<dyn Error>>) -> Failure {
        Failure { status, text: explained(&*error.into()), passing: false }
    }
}

/// An error and its causes, one a line; a cause that was said already is not said again.
fn explained(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let because = error.to_string();
        if !text.contains(&because) {
            text.push_str(&format!("\n  because: {because}"));
        }
        cause = error.source();
    }
    if let Some(advice) = ::vault::error::advice(error) {
        text.push_str(&format!("\n  {advice}"));
    }
    text
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::new(error)
    }
}

type Done = Result<(), Failure>;

/// Parses the command line and runs the command.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logging(&cli.command);
    let done = match cli.command {
        Command::Init(args) => init::run(&args),
        Command::Measure(args) => measure::run(&args),
        Command::Join(args) => join::run(&args),
        Command::Token(args) => token::run(&args),
        Command::Authority(args) => authority::run(&args),
        Command::Agent(args) => agent::run(&args),
        Command::Launcher(args) => processes::launcher(&args),
        Command::Guard(args) => processes::guard(&args),
        Command::Keeper(args) => processes::keeper(&args),
        Command::Check(args) => check::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Apply(args) => apply::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Events(args) => events::run(&args),
        Command::Switchover(args) => switchover::run(&args),
        Command::Failover(args) => failover::run(&args),
        Command::Drain(args) => drain::run(&args),
        Command::Maintenance(args) => maintenance::run(&args),
        Command::Clear(args) => failover::clear(&args),
        Command::Transfer(args) => node::transfer(&args),
        Command::Forget(args) => node::forget(&args),
        Command::State(args) => state::run(&args),
        Command::RecoverQuorum(args) => recover_quorum::run(&args),
        Command::Backup(args) => return vault::backup(&args),
        Command::Restore(args) => return vault::restore(&args),
        Command::Vault(args) => return vault::vault(&args),
        Command::Demo(args) => return vault::demo(args),
        Command::Example(args) => backstay::orders::command::run(args).map_err(Failure::new),
        Command::Complete(args) => complete::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.text.is_empty() {
                eprintln!("backstay: {}", failure.text);
            }
            ExitCode::from(failure.status)
        }
    }
}

/// Daemons log what they do; everything else only what goes wrong. `BACKSTAY_LOG` overrides.
fn start_logging(command: &Command) {
    let (default, json) = match command {
        Command::Agent(args) => ("info", args.json),
        Command::Launcher(args) => ("info", args.json()),
        Command::Guard(args) => ("info", args.json()),
        _ => ("warn", false),
    };
    let asked = std::env::var("BACKSTAY_LOG").ok();
    let read = asked.as_deref().map(str::parse::<Targets>);
    let filter = match &read {
        Some(Ok(filter)) => filter.clone(),
        Some(Err(_)) | None => default.parse().expect("a level is a filter"),
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let lines = if json { lines.json().flatten_event(true).boxed() } else { lines.boxed() };
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
    if let (Some(asked), Some(Err(error))) = (&asked, &read) {
        tracing::warn!(
            "BACKSTAY_LOG={asked} can't be read ({error}), so {default} holds; write a level, or \
             target=level pairs with commas between"
        );
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Failure;

    #[derive(Debug, thiserror::Error)]
    enum Layers {
        #[error("the top")]
        Top(#[source] Box<Layers>),
        #[error("the middle (with the bottom)")]
        Middle(#[source] std::io::Error),
    }

    #[test]
    fn every_failure_says_what_lies_behind_it_once() {
        let middle = || Layers::Middle(std::io::Error::other("the bottom"));
        let said = Failure::new(Layers::Top(Box::new(middle()))).text;
        assert_eq!(said, "the top\n  because: the middle (with the bottom)");
        let apart = std::io::Error::new(std::io::ErrorKind::NotFound, middle());
        assert_eq!(Failure::with(4, apart).status, 4);
        assert_eq!(Failure::with(3, "").text, "");
    }

    #[test]
    fn the_command_line_fits_together() {
        super::Cli::command().debug_assert();
    }
}

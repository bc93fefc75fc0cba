//! `backstay launcher` and `backstay guard`: the two processes beside the agent; and `keeper`, the
//! program that holds an address.

use std::path::PathBuf;

use agent::node::files::DataDir;
use agent::node::start::{ABSENCE_MS, timers_of};
use drivers::guard::{GuardOptions, Reboot};
use drivers::launcher::LauncherOptions;
use drivers::plant::Plants;
use drivers::process::cgroup::CgroupChoice;
use drivers::run_dir::RunDir;
use model::Span;

use super::{Done, Failure};

/// What both share.
#[derive(Debug, clap::Args)]
struct Common {
    /// The node's data directory
    #[arg(long, value_name = "DIR", env = "BACKSTAY_DATA", default_value = "/var/lib/backstay")]
    data: PathBuf,
    /// The directory that agent, launcher and guard share; empty after a boot
    #[arg(long, value_name = "DIR", env = "BACKSTAY_RUN", default_value = "/run/backstay")]
    run: PathBuf,
    /// Log lines of JSON
    #[arg(long)]
    json: bool,
    /// Plants a fault of Backstay itself, to show that it would be noticed; never for real use
    #[arg(long, value_name = "FAULT", hide = true)]
    plant: Vec<String>,
}

/// Options of `launcher`.
#[derive(Debug, clap::Args)]
pub(crate) struct LauncherArgs {
    #[command(flatten)]
    common: Common,
    /// Where the output of instances goes; in the data directory unless said otherwise
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
    /// The agent's user, by name or number, where it is not the launcher's own
    #[arg(long, value_name = "USER")]
    agent_uid: Option<String>,
    /// Parent of the instances' cgroups, `off` for none; found by itself unless said otherwise
    #[arg(long, value_name = "DIR")]
    cgroups: Option<PathBuf>,
}

/// Options of `guard`.
#[derive(Debug, clap::Args)]
pub(crate) struct GuardArgs {
    #[command(flatten)]
    common: Common,
    /// Reboot the machine at once when something can't be stopped
    #[arg(long)]
    reboot: bool,
    /// Write a line to this file instead of rebooting; for tests
    #[arg(long, value_name = "FILE", hide = true, conflicts_with = "reboot")]
    reboot_stand_in: Option<PathBuf>,
    /// A hardware watchdog to feed, such as /dev/watchdog
    #[arg(long, value_name = "DEVICE")]
    watchdog: Option<PathBuf>,
}

impl LauncherArgs {
    /// Whether its log is to be JSON.
    pub(super) fn json(&self) -> bool {
        self.common.json
    }
}

impl GuardArgs {
    /// Whether its log is to be JSON.
    pub(super) fn json(&self) -> bool {
        self.common.json
    }
}

/// Options of `keeper`.
#[derive(Debug, clap::Args)]
pub(crate) struct KeeperArgs {
    /// `ADDRESS/PREFIX%INTERFACE`, the interface by its number
    #[arg(value_name = "ADDRESS")]
    at: drivers::address::AddressAt,
}

fn plants(values: &[String]) -> Result<Plants, Failure> {
    Plants::parse(values.iter().map(String::as_str)).map_err(|why| Failure::with(2, why))
}

pub(crate) fn launcher(args: &LauncherArgs) -> Done {
    let data = DataDir::new(&args.common.data);
    let (node, profile) = timers_of(&data).map_err(Failure::new)?;
    let timers = profile.timers();
    let longest = Span::from_ms(ABSENCE_MS).max(timers.lease);
    let log_dir = args.log_dir.clone().unwrap_or_else(|| data.output());
    let run = RunDir::new(args.common.run.clone());
    let mut options = LauncherOptions::new(node, run, log_dir, timers, longest);
    options.agent_uid = match &args.agent_uid {
        Some(user) => Some(drivers::process::user::number(user).map_err(Failure::new)?),
        None => None,
    };
    options.plants = plants(&args.common.plant)?;
    options.cgroups = match &args.cgroups {
        None => CgroupChoice::Auto,
        Some(path) if path.as_os_str() == "off" => CgroupChoice::Off,
        Some(path) => CgroupChoice::At(path.clone()),
    };
    drivers::launcher::run(options).map_err(Failure::new)
}

pub(crate) fn guard(args: &GuardArgs) -> Done {
    let (node, profile) = timers_of(&DataDir::new(&args.common.data)).map_err(Failure::new)?;
    let timers = profile.timers();
    let longest = Span::from_ms(ABSENCE_MS).max(timers.lease);
    let run = RunDir::new(args.common.run.clone());
    let mut options = GuardOptions::new(node, run, timers, longest);
    options.plants = plants(&args.common.plant)?;
    options.watchdog = args.watchdog.clone();
    options.reboot = match (&args.reboot_stand_in, args.reboot) {
        (Some(path), _) => Reboot::StandIn(path.clone()),
        (None, true) => Reboot::Really,
        (None, false) => Reboot::Never,
    };
    drivers::guard::run(options).map_err(Failure::new)
}

pub(crate) fn keeper(args: &KeeperArgs) -> Done {
    drivers::address::keeper::run(args.at).map_err(Failure::new)
}

//! Whole clusters on network-namespace hosts: the release binary, real cables (of the kernel's
//! making), real faults. Tests and measurements only; nothing here ships.
//!
//! - [`network`], [`cgroup`], [`host`]: hosts, cables and what is wrong with them, power switches;
//! - [`cluster`]: three nodes, a client, a judge; [`watch`]: who holds the address;
//! - [`judge`]: what may be claimed; [`cases`]: the claims, each in a sentence;
//! - [`linear`]: whether what several operators were told has one order;
//! - [`disk`]: disks that fail when they are told to; [`clock`]: clocks that jump and run away;
//! - [`datagrams`]: heartbeats kept and said again; [`hostile`]: who took a node over;
//! - [`bench`]: failovers measured; [`counts`]: what must happen so often or never; [`idle`]: what
//!   rest costs;
//! - [`unrest`]: what must not move anything; [`chaos`]: faults by chance.
//!
//! It needs root, for network namespaces and cgroups. What it makes it removes, also when a case
//! fails.

mod bench;
mod cases;
mod cgroup;
mod chaos;
mod clock;
mod cluster;
mod counts;
mod datagrams;
mod disk;
mod host;
mod hostile;
mod idle;
mod judge;
mod linear;
mod network;
mod random;
mod records;
mod shell;
mod sweep;
mod unrest;
mod watch;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use cases::Wanted;
use cluster::Setup;
use shell::Done;

/// How it is called.
const USAGE: &str = "backstay-lab cases [WORD] [--jobs N] | list | \
                     failover [--rounds N] [--profile P] [--only ROW] [--json FILE] | \
                     idle [--seconds N] [--json FILE] | \
                     false-failover [--minutes N] [--only WORD] [--json FILE] | \
                     partitions [--rounds N] [--json FILE] | \
                     coordinator-deaths [--rounds N] [--json FILE] | \
                     chaos [--minutes N] [--seed S] \
                     (--binary FILE names the program under test)";

/// What needs hosts.
const PLAYS: [&str; 7] =
    ["cases", "failover", "idle", "false-failover", "partitions", "coordinator-deaths", "chaos"];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("lab: {why}");
            ExitCode::from(2)
        }
    }
}

/// The value of an option, which stands behind its name.
fn value<'a>(words: &'a [String], name: &str) -> Option<&'a str> {
    let at = words.iter().position(|word| word == name)?;
    words.get(at + 1).map(String::as_str)
}

fn number(words: &[String], name: &str, default: u64) -> Done<u64> {
    let Some(text) = value(words, name) else { return Ok(default) };
    text.parse().map_err(|_| format!("{name} {text}: not a number"))
}

/// `1/2`: the second of two parts.
fn part(text: &str) -> Done<(usize, usize)> {
    let parts = text.split_once('/').and_then(|(part, of)| part.parse().ok().zip(of.parse().ok()));
    let sound = parts.filter(|(part, of): &(usize, usize)| part < of);
    sound.ok_or_else(|| format!("--part {text}: not like 0/2"))
}

fn run(words: &[String]) -> Done<bool> {
    let what = words.first().map(String::as_str).unwrap_or_default();
    if what == "watch-address" {
        let address = words.get(1).and_then(|text| text.parse().ok()).ok_or(USAGE)?;
        return watch::watch(address).map(|()| true);
    }
    if let "capture-datagrams" | "replay-datagrams" = what {
        let file = std::path::Path::new(words.get(1).ok_or(USAGE)?);
        return match what {
            "capture-datagrams" => datagrams::capture(file),
            _ => datagrams::replay(file),
        }
        .map(|()| true);
    }
    if what == "forge-datagrams" {
        let file = std::path::Path::new(words.get(1).ok_or(USAGE)?);
        let [from, name] = [2, 3].map(|at| words.get(at).and_then(|text| text.parse().ok()));
        return datagrams::forge(file, from.ok_or(USAGE)?, name.ok_or(USAGE)?).map(|()| true);
    }
    if what == "list" {
        cases::ALL.iter().for_each(|case| println!("{}", case.name));
        return Ok(true);
    }
    if !PLAYS.contains(&what) {
        return Err(USAGE.into());
    }
    possible()?;
    sweep::sweep()?;
    let setup = Setup {
        binary: binary(value(words, "--binary"))?,
        profile: value(words, "--profile").unwrap_or("lan").to_owned(),
        idle: 0,
        own_binaries: false,
        disks: false,
        witness: false,
        member: false,
    };
    let (only, json) = (value(words, "--only"), value(words, "--json"));
    match what {
        "cases" => {
            let jobs = number(words, "--jobs", 1)? as usize;
            let part = value(words, "--part").map_or(Ok((0, 1)), part)?;
            if jobs > 1 && value(words, "--part").is_none() {
                return cases::play_beside(words, jobs);
            }
            let word = words.get(1).filter(|word| !word.starts_with('-'));
            Ok(cases::play(&setup, Wanted { word: word.map_or("", String::as_str), part }))
        }
        "failover" => {
            let rounds = number(words, "--rounds", 20)?;
            bench::failover(&setup, rounds as usize, only, json)
        }
        "partitions" => counts::holders(&setup, number(words, "--rounds", 50)? as usize, json),
        "coordinator-deaths" => {
            counts::disturbed(&setup, number(words, "--rounds", 50)? as usize, json)
        }
        "idle" => idle::run(&setup, number(words, "--seconds", 60)?, json),
        "false-failover" => unrest::run(&setup, number(words, "--minutes", 10)?, only, json),
        _ => {
            let (minutes, seed) = (number(words, "--minutes", 3)?, number(words, "--seed", 1)?);
            chaos::run(&setup, minutes, seed)
        }
    }
}

/// The program under test: the one named, else the release binary of this tree.
fn binary(named: Option<&str>) -> Done<PathBuf> {
    let own = || {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
        let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        target.unwrap_or_else(|| root.join("target")).join("release/backstay")
    };
    let path = named.map_or_else(own, PathBuf::from);
    path.canonicalize().map_err(|e| {
        format!("{}: {e}: `cargo build --release -p backstay` makes it", path.display())
    })
}

/// Says why it can't run here, where that is so.
fn possible() -> Done {
    let needs = |what: &str, why: &str| Err(format!("it can't run here: {what}, {why}"));
    if !rustix::process::geteuid().is_root() {
        return needs("this is not root", "which network namespaces need");
    }
    let programs = [
        ("ip", "iproute2"),
        ("nft", "nftables"),
        ("nsenter", "util-linux"),
        ("as", "binutils"),
        ("objcopy", "binutils"),
        ("openssl", "openssl"),
    ];
    for (program, package) in programs {
        if Command::new(program)
            .arg(if program == "openssl" { "version" } else { "--version" })
            .output()
            .is_err()
        {
            return needs(&format!("there is no `{program}`"), &format!("install {package}"));
        }
    }
    if cgroup::root().is_none() {
        return needs("there are no cgroups (v2)", "which freeze and kill a whole host");
    }
    if !std::path::Path::new("/dev/fuse").exists() {
        return needs("there is no /dev/fuse", "which disks that fail need");
    }
    let probe = format!("bslprobe{}", std::process::id());
    if let Err(error) = shell::ip(&format!("netns add {probe}")) {
        return needs(&error, "network namespaces are not permitted");
    }
    shell::ip(&format!("netns del {probe}")).map(drop)
}

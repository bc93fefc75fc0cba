//! `backstay apply`: commits a configuration, whole or not at all.

use std::path::PathBuf;

use serde_json::Value;

use super::connect::Connect;
use super::{Done, Failure, check, diff, output};

/// Options of `apply`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration
    #[arg(value_name = "FILE", default_value = "cluster.toml")]
    config: PathBuf,
    /// Don't show what changes first
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    connect: Connect,
}

pub(crate) fn run(args: &Args) -> Done {
    let loaded = config::load(&args.config);
    check::show(&loaded.diagnostics, args.connect.json)?;
    let Some(new) = &loaded.spec else { return Err(Failure::with(3, "")) };
    let cluster = args.connect.open()?;
    let mut path = "/v1/apply".to_owned();
    if !args.quiet && !args.connect.json {
        let (diff, version) = diff::against(&cluster, new)?;
        print!("{diff}");
        // What was shown is what is done: not on top of what somebody else applied since.
        path.push_str(&format!("?base={version}"));
    }
    let answer = cluster.post_text(&path, &loaded.text)?;
    let version = answer.get("version").and_then(Value::as_u64).unwrap_or_default();
    output::outcome(&answer, args.connect.json, &format!("Applied as version {version}."))
}

//! `backstay diff`: what a configuration would change in the running cluster.

use std::path::PathBuf;

use config::diff::{Diff, Now};
use model::ClusterSpec;
use serde_json::Value;

use super::connect::{Cluster, Connect};
use super::{Done, Failure, check, output};

/// Options of `diff`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration
    #[arg(value_name = "FILE", default_value = "cluster.toml")]
    config: PathBuf,
    #[command(flatten)]
    connect: Connect,
}

/// What would change, and in which version of the specification.
pub(crate) fn against(cluster: &Cluster, new: &ClusterSpec) -> Result<(Diff, u64), Failure> {
    let spec = cluster.get("/v1/spec")?;
    let text = spec.get("text").and_then(Value::as_str).unwrap_or_default();
    let old = config::parse(text, "the committed specification").spec.ok_or_else(|| {
        Failure::new("the committed specification can't be read; compare versions")
    })?;
    let version = spec["version"]
        .as_u64()
        .ok_or_else(|| Failure::new("the node's answer has no version; compare versions"))?;
    let joined = spec["members"].as_object().into_iter().flat_map(|members| members.keys());
    let status = cluster.get("/v1/status")?;
    let resources = status["resources"].as_array().into_iter().flatten();
    let placed = resources.filter_map(|resource| {
        let name = resource["name"].as_str()?.parse().ok()?;
        let node = resource["node"].as_str()?.parse().ok()?;
        Some((name, node))
    });
    let now = Now {
        placed: placed.collect(),
        joined: joined.filter_map(|name| name.parse().ok()).collect(),
    };
    Ok((config::diff::diff(&old, new, &now), version))
}

pub(crate) fn run(args: &Args) -> Done {
    let loaded = config::load(&args.config);
    check::show(&loaded.diagnostics, args.connect.json)?;
    let Some(new) = &loaded.spec else { return Err(Failure::with(3, "")) };
    let cluster = args.connect.open()?;
    let (diff, _) = against(&cluster, new)?;
    if args.connect.json {
        output::json(&diff)?;
    } else {
        print!("{diff}");
    }
    // What `apply` would end with.
    if diff.refused.is_empty() { Ok(()) } else { Err(Failure::with(4, "")) }
}

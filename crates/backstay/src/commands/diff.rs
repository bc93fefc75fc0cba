//! `backstay diff`: what a configuration would change in the running cluster.

use std::collections::BTreeMap;
use std::path::PathBuf;

use model::{ClusterSpec, NodeName, ResourceName};
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

/// What would change.
pub(crate) fn against(cluster: &Cluster, new: &ClusterSpec) -> Result<config::diff::Diff, Failure> {
    let spec = cluster.get("/v1/spec")?;
    let text = spec.get("text").and_then(Value::as_str).unwrap_or_default();
    let old = config::parse(text, "the committed specification").spec.ok_or_else(|| {
        Failure::new("the committed specification can't be read; compare versions")
    })?;
    let status = cluster.get("/v1/status")?;
    let placed: BTreeMap<ResourceName, NodeName> = status["resources"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|resource| {
            let name = resource["name"].as_str()?.parse().ok()?;
            let node = resource["node"].as_str()?.parse().ok()?;
            Some((name, node))
        })
        .collect();
    Ok(config::diff::diff(&old, new, &placed))
}

pub(crate) fn run(args: &Args) -> Done {
    let loaded = config::load(&args.config);
    check::show(&loaded.diagnostics, args.connect.json)?;
    let Some(new) = &loaded.spec else { return Err(Failure::with(3, "")) };
    let cluster = args.connect.open()?;
    let diff = against(&cluster, new)?;
    if args.connect.json {
        return output::json(&diff);
    }
    print!("{diff}");
    Ok(())
}

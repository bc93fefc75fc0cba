//! `backstay init`: founds a cluster; this machine becomes its first node.

use std::path::PathBuf;

use agent::node::files::DataDir;
use agent::node::found::{FoundOptions, found};
use model::NodeName;

use super::{Done, Failure, check, output};

/// Options of `init`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The cluster's configuration
    #[arg(long, value_name = "FILE", default_value = "cluster.toml")]
    config: PathBuf,
    /// Which of its nodes this machine is
    #[arg(long, value_name = "NAME")]
    node: NodeName,
    /// Where the node's data goes
    #[arg(long, value_name = "DIR", env = "BACKSTAY_DATA", default_value = "/var/lib/backstay")]
    data: PathBuf,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Done {
    let loaded = config::load(&args.config);
    check::show(&loaded.diagnostics, args.json)?;
    let Some(spec) = loaded.spec else { return Err(Failure::with(3, "")) };
    let cluster = spec.name.clone();
    let options = FoundOptions {
        spec,
        text: loaded.text,
        node: args.node.clone(),
        data: DataDir::new(&args.data),
    };
    let founded = found(options).map_err(Failure::new)?;
    if args.json {
        return output::json(&serde_json::json!({
            "cluster": cluster, "node": args.node, "operator": founded.operator
        }));
    }
    println!("Cluster {cluster} is founded; {} is its first node.", args.node);
    println!("The operator's credential is {}: keep it safe.", founded.operator.display());
    println!(
        "Next: run launcher, guard and agent here (packaging/ has the systemd units), then \
         `backstay token` for each further node."
    );
    Ok(())
}

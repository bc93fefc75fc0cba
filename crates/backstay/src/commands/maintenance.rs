//! `backstay maintenance`: leaves the cluster, a node or a resource alone, until an end.

use model::operation::Scope;
use model::{NodeName, Operation, ResourceName};

use super::connect::Connect;
use super::{Done, output};

/// Options of `maintenance`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this node
    #[arg(long, value_name = "NAME", conflicts_with = "resource")]
    node: Option<NodeName>,
    /// Only this resource
    #[arg(long, value_name = "NAME")]
    resource: Option<ResourceName>,
    /// For how long, such as 2h; there is no maintenance without an end
    #[arg(long = "for", value_name = "DURATION", value_parser = output::duration_ms)]
    #[arg(required_unless_present = "end")]
    for_ms: Option<u64>,
    /// End a maintenance early
    #[arg(long, conflicts_with = "for_ms")]
    end: bool,
    #[command(flatten)]
    connect: Connect,
}

pub(crate) fn run(args: &Args) -> Done {
    let scope = match (&args.node, &args.resource) {
        (Some(node), _) => Scope::Node(node.clone()),
        (None, Some(resource)) => Scope::Resource(resource.clone()),
        (None, None) => Scope::Cluster,
    };
    let (operation, done) = match args.for_ms {
        Some(for_ms) => (
            Operation::Maintenance { scope: scope.clone(), for_ms },
            format!(
                "Backstay leaves {scope} alone for {}. Leases and fencing stay in force.",
                output::span(for_ms)
            ),
        ),
        None => (
            Operation::EndMaintenance { scope: scope.clone() },
            format!("Backstay looks after {scope} again."),
        ),
    };
    let answer = args.connect.open()?.operate(&operation)?;
    output::outcome(&answer, args.connect.json, &done)
}

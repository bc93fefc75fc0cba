//! `backstay failover` and `backstay clear`.

use model::{NodeName, Operation, ResourceName};

use super::connect::Connect;
use super::{Done, output, switchover};

/// Options of `failover`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The resource
    resource: ResourceName,
    /// For an instance that can't be stopped: you have seen that this machine is off
    #[arg(long, value_name = "NODE")]
    confirm_stopped: Option<NodeName>,
    /// Don't wait until the move is done
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    connect: Connect,
}

pub(crate) fn run(args: &Args) -> Done {
    let cluster = args.connect.open()?;
    let resource = args.resource.clone();
    let answer = cluster.operate(&match args.confirm_stopped.clone() {
        Some(node) => Operation::ConfirmStopped { resource, node },
        None => Operation::Failover { resource },
    })?;
    if args.no_wait {
        return output::outcome(&answer, args.connect.json, "The failover has begun.");
    }
    let after = answer["outcome"]["committed"]["index"].as_u64().unwrap_or_default();
    let moved = switchover::wait(&cluster, &args.resource, after)?;
    if args.connect.json {
        return output::json(&moved);
    }
    println!("{}", switchover::sentence(&args.resource, &moved));
    Ok(())
}

/// Options of `clear`.
#[derive(Debug, clap::Args)]
pub(crate) struct ClearArgs {
    /// The resource
    resource: ResourceName,
    #[command(flatten)]
    connect: Connect,
}

pub(crate) fn clear(args: &ClearArgs) -> Done {
    let operation = Operation::Clear { resource: args.resource.clone() };
    let answer = args.connect.open()?.operate(&operation)?;
    let done = format!("Failures, bans and quarantine of {} are forgotten.", args.resource);
    output::outcome(&answer, args.connect.json, &done)
}

//! `backstay failover` and `backstay clear`.

use model::{Operation, ResourceName};

use super::connect::Connect;
use super::{Done, output, switchover};

/// Options of `failover`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The resource
    resource: ResourceName,
    /// Don't wait until the move is done
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    connect: Connect,
}

pub(crate) fn run(args: &Args) -> Done {
    let cluster = args.connect.open()?;
    let answer = cluster.operate(&Operation::Failover { resource: args.resource.clone() })?;
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

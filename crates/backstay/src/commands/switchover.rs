//! `backstay switchover`: a planned move that loses nothing.

use std::time::{Duration, Instant};

use model::{NodeName, Operation, ResourceName};
use serde_json::Value;

use super::connect::{Cluster, Connect};
use super::{Done, Failure, output};

/// How long the command waits for the move.
const WAIT: Duration = Duration::from_secs(30);

/// Options of `switchover`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The resource
    resource: ResourceName,
    /// Where to; the best other node unless said otherwise
    #[arg(long, value_name = "NODE")]
    to: Option<NodeName>,
    /// Don't wait until the move is done
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    connect: Connect,
}

pub(crate) fn run(args: &Args) -> Done {
    let cluster = args.connect.open()?;
    let (resource, to) = (args.resource.clone(), args.to.clone());
    let answer = cluster.operate(&Operation::Switchover { resource, to })?;
    let unchanged = answer["outcome"].as_str() == Some("unchanged");
    if args.no_wait || unchanged {
        return output::outcome(&answer, args.connect.json, "The move has begun.");
    }
    let after = answer["outcome"]["committed"]["index"].as_u64().unwrap_or_default();
    let moved = wait(&cluster, &args.resource, after)?;
    if args.connect.json {
        return output::json(&moved);
    }
    println!("{}", sentence(&args.resource, &moved));
    Ok(())
}

/// Waits until the resource is active after an index, and returns that event.
pub(crate) fn wait(
    cluster: &Cluster,
    resource: &ResourceName,
    after: u64,
) -> Result<Value, Failure> {
    let began = Instant::now();
    let mut from = after;
    while began.elapsed() < WAIT {
        let answer = cluster.get(&format!("/v1/events?after={from}&wait_ms=2000"))?;
        for event in answer["events"].as_array().into_iter().flatten() {
            let what = &event["what"];
            let named = |kind: &str| what[kind]["resource"].as_str() == Some(resource.as_str());
            if named("active") {
                return Ok(event.clone());
            }
            if named("switchover-ended") || named("quarantined") {
                let why = format!(
                    "the move of {resource} was given up; `backstay explain {resource}` says why"
                );
                return Err(Failure::with(4, why));
            }
        }
        from = answer["newest"].as_u64().unwrap_or(from).max(from);
    }
    Err(Failure::with(
        6,
        format!(
            "{resource} did not become active within {} s; look at `backstay status`",
            WAIT.as_secs()
        ),
    ))
}

/// Says where it is now and how long it took.
pub(crate) fn sentence(resource: &ResourceName, event: &Value) -> String {
    let active = &event["what"]["active"];
    let node = active["node"].as_str().unwrap_or("?");
    let ms = output::move_ms(&active["timing"]);
    format!("{resource} is active on {node}; the move took {ms:.1} ms.")
}

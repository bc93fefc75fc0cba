//! `backstay explain`: why a resource is where it is, and why it last moved.

use model::ResourceName;
use serde_json::Value;

use super::connect::Connect;
use super::{Done, output};

/// Moves and failures shown unless all are asked for.
const SHOWN: usize = 3;

/// Options of `explain`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The resource
    resource: ResourceName,
    /// Show all moves and failures remembered
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    connect: Connect,
}

pub(crate) fn run(args: &Args) -> Done {
    let cluster = args.connect.open()?;
    let answer = cluster.of_coordinator(&format!("/v1/explain/{}", args.resource))?;
    if args.connect.json {
        return output::json(&answer);
    }
    let shown = if args.all { usize::MAX } else { SHOWN };
    println!("{}", args.resource);
    section("now", &answer["now"], usize::MAX);
    section("moves, newest first", &answer["moves"], shown);
    section("elsewhere", &answer["elsewhere"], usize::MAX);
    section("failures, newest first", &answer["failures"], shown);
    if answer["authoritative"] == Value::Bool(false) {
        let node = answer["node"].as_str().unwrap_or("the node that was asked");
        println!(
            "\nThis is what {node} knows. It does not speak for the cluster: what is said here \
             may be over."
        );
    }
    Ok(())
}

fn section(title: &str, sentences: &Value, shown: usize) {
    let Some(sentences) = sentences.as_array().filter(|list| !list.is_empty()) else { return };
    println!("\n  {title}");
    for sentence in sentences.iter().take(shown) {
        let text = sentence["text"].as_str().unwrap_or_default();
        match sentence["wall_ms"].as_u64() {
            Some(at) => println!("    {text}  ({}, {} ago)", output::time(at), output::ago(at)),
            None => println!("    {text}"),
        }
        for reason in sentence["because"].as_array().into_iter().flatten() {
            println!("      - {}", reason.as_str().unwrap_or_default());
        }
    }
    if sentences.len() > shown {
        println!("    … and {} more (--all)", sentences.len() - shown);
    }
}

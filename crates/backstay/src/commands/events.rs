//! `backstay events`: what happened, oldest first.

use serde_json::Value;

use super::connect::Connect;
use super::{Done, output};

/// Options of `events`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only those after this log index
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    after: u64,
    /// Go on with what happens from now on
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    connect: Connect,
}

pub(crate) fn run(args: &Args) -> Done {
    let cluster = args.connect.open()?;
    let mut after = args.after;
    let mut wait = 0;
    loop {
        let answer = cluster.get(&format!("/v1/events?after={after}&wait_ms={wait}"))?;
        let events = answer["events"].as_array().cloned().unwrap_or_default();
        if args.connect.json && !args.follow {
            return output::json(&events);
        }
        for event in &events {
            if args.connect.json {
                println!("{event}");
            } else {
                println!("{}", line(event));
            }
            after = after.max(event["index"].as_u64().unwrap_or_default());
        }
        if !args.follow {
            return Ok(());
        }
        wait = 20_000;
    }
}

/// One event as a line, its reasons behind it.
pub(crate) fn line(event: &Value) -> String {
    let at = output::time(event["wall_ms"].as_u64().unwrap_or_default());
    let because: Vec<&str> =
        event["because"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let because =
        if because.is_empty() { String::new() } else { format!(": {}", because.join("; ")) };
    format!("{at}  {}{because}", what(&event["what"]))
}

fn what(what: &Value) -> String {
    let (kind, detail) = match what {
        Value::String(kind) => (kind.as_str(), &Value::Null),
        Value::Object(map) => match map.iter().next() {
            Some((kind, detail)) => (kind.as_str(), detail),
            None => ("?", &Value::Null),
        },
        _ => ("?", &Value::Null),
    };
    let text = |key: &str| match &detail[key] {
        Value::String(text) => text.clone(),
        Value::Null => "?".to_owned(),
        other => other.to_string(),
    };
    let epoch = || {
        let of = &detail["epoch"];
        format!("{}.{}", of["generation"], of["counter"])
    };
    match kind {
        "began" => "the cluster began".to_owned(),
        "applied" => format!("specification {} applied", text("version")),
        "joined" => format!("{} joined as #{}", text("node"), text("replica")),
        "left" => format!("{} left", text("node")),
        "assigned" => match detail["from"].as_str() {
            Some(from) if from != text("to") => {
                format!(
                    "{} moves from {from} to {}, epoch {}",
                    text("resource"),
                    text("to"),
                    epoch()
                )
            }
            _ => format!("{} is given to {}, epoch {}", text("resource"), text("to"), epoch()),
        },
        "releasing" => format!("{} has to give up {}", text("node"), text("resource")),
        "vacated" => format!("{} has no holder, it left {}", text("resource"), text("node")),
        "active" => {
            let ms = output::move_ms(&detail["timing"]);
            format!("{} is active on {} after {ms:.1} ms", text("resource"), text("node"))
        }
        "failed" => format!("{} failed on {}", text("resource"), text("node")),
        "quarantined" => format!("{} is quarantined", text("resource")),
        "cleared" => format!("failures of {} are forgotten", text("resource")),
        "switchover-began" => format!("switchover of {} to {}", text("resource"), text("to")),
        "switchover-ended" => format!("switchover of {} given up", text("resource")),
        "maintenance-began" => format!("maintenance of {} began", text("scope")),
        "maintenance-ended" => format!("maintenance of {} ended", text("scope")),
        "drain-began" => format!("{} is being drained", text("node")),
        "drain-ended" => format!("the drain of {} ended", text("node")),
        "absent" => format!("#{} goes away for a moment", text("replica")),
        "renounced" => format!("the coordinator hands over to #{}", text("candidate")),
        "refounded" => refounded(detail),
        "waited-out" => format!("no lease before generation {} can run", text("generation")),
        other => other.to_owned(),
    }
}

fn refounded(detail: &Value) -> String {
    let text = |key: &str| detail[key].as_str().unwrap_or("?").to_owned();
    let how = match detail["kind"].as_str() {
        Some("recovered") => "a survivor's log after the quorum was lost",
        _ => "an exported state",
    };
    let off: Vec<&str> =
        detail["off"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    format!(
        "generation {} began from {how} of generation {}, known up to index {}; {} said that {} \
         were off, because: {}",
        detail["generation"],
        detail["before"],
        detail["known"],
        text("by"),
        if off.is_empty() { "none".to_owned() } else { off.join(", ") },
        text("why")
    )
}

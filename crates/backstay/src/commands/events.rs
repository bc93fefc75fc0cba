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
        backstay::stdout::end_unread();
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
    format!("{at}  {}{because}", what(event))
}

/// What a maintenance covers.
fn scope(of: &Value) -> String {
    let known: Option<model::operation::Scope> = serde::Deserialize::deserialize(of).ok();
    known.map_or_else(|| of.to_string(), |scope| scope.to_string())
}

/// The node that an event is about; the number of its incarnation where that has no name by now.
fn named(event: &Value, replica: &str) -> String {
    event["about"].as_str().map_or_else(|| format!("#{replica}"), str::to_owned)
}

fn what(event: &Value) -> String {
    let (kind, detail) = match &event["what"] {
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
        "maintenance-began" => format!("maintenance of {} began", scope(&detail["scope"])),
        "maintenance-ended" => format!("maintenance of {} ended", scope(&detail["scope"])),
        "drain-began" => format!("{} is being drained", text("node")),
        "drain-ended" => format!("the drain of {} ended", text("node")),
        "absent" => format!("{} goes away for a moment", named(event, &text("replica"))),
        "renounced" => {
            format!("the coordinator hands over to {}", named(event, &text("candidate")))
        }
        "refounded" => refounded(detail),
        "waited-out" => format!("no lease before generation {} can run", text("generation")),
        "rotated" => rotated(detail),
        "certified" => format!("{} has a new certificate", text("name")),
        "revoked" => format!("certificates of {} are refused", text("name")),
        other => of_a_repository(other, detail),
    }
}

/// What happened to the memory of a repository of the vault.
fn of_a_repository(kind: &str, detail: &Value) -> String {
    let text = |key: &str| detail[key].as_str().unwrap_or("?");
    let repository = format!("repository {}", text("repository"));
    match kind {
        "repository-known" => format!("{repository} is remembered, at record {}", text("head")),
        "forked" => {
            let (by, found, known) = (text("by"), text("found"), text("known"));
            format!("{repository} has two histories: {by} showed {found} against {known}")
        }
        "fork-cleared" => {
            format!("what is remembered of {repository} holds, not {}", text("found"))
        }
        "head-accepted" => {
            let (head, before) = (text("head"), text("instead_of"));
            format!("of {repository} record {head} holds instead of {before}")
        }
        "repository-forgotten" => {
            format!("{repository} is remembered no more, last at {}", text("head"))
        }
        other => other.to_owned(),
    }
}

fn rotated(detail: &Value) -> String {
    let names = |key: &str| -> String {
        let names = detail[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        names.collect::<Vec<_>>().join(", ")
    };
    let short = |key: &str| detail[key].as_str().and_then(|name| name.get(..16)).unwrap_or("?");
    let (from, to) = (short("from"), short("to"));
    let mut out = match detail["step"].as_str() {
        Some("began") => format!("authority {to} is believed beside {from}"),
        Some("began-compromised") => {
            format!("authority {to} is believed beside {from}, whose key leaked")
        }
        Some("renews") => format!("authority {to} issues in the place of {from}"),
        Some("finished") => format!("authority {from} is believed no more, {to} alone is"),
        Some("aborted") => format!("the rotation to authority {to} was broken off"),
        _ => format!("the rotation to authority {to} turns back to {from}"),
    };
    for (key, what) in [("shut_out", "left behind"), ("people", "people shut out")] {
        let names = names(key);
        if !names.is_empty() {
            out += &format!("; {what}: {names}");
        }
    }
    out
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::what;

    #[test]
    fn what_happened_is_told_in_words_and_names() {
        let table = [
            (json!({"maintenance-began": {"scope": {"node": "b"}}}), "maintenance of node b began"),
            (
                json!({"maintenance-began": {"scope": {"resource": "gateway"}}}),
                "maintenance of resource gateway began",
            ),
            (
                json!({"maintenance-ended": {"scope": "cluster"}}),
                "maintenance of the cluster ended",
            ),
            (json!({"renounced": {"candidate": 3}}), "the coordinator hands over to c"),
            (json!({"absent": {"replica": 3}}), "c goes away for a moment"),
        ];
        for (happened, told) in table {
            assert_eq!(what(&json!({ "what": happened, "about": "c" })), told);
        }
        let nameless = json!({ "what": { "renounced": { "candidate": 3 } }, "about": null });
        assert_eq!(what(&nameless), "the coordinator hands over to #3");
    }
}

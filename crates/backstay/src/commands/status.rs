//! `backstay status`: the cluster on one screen.

use serde_json::Value;

use super::connect::{Cluster, Connect};
use super::{Done, Failure, output};

/// Options of `status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    connect: Connect,
}

pub(crate) fn run(args: &Args) -> Done {
    let cluster = args.connect.open()?;
    let status = fetch(&cluster)?;
    if args.connect.json {
        return output::json(&status);
    }
    print!("{}", render(&status));
    Ok(())
}

/// The status, from the coordinator's point of view where one can be reached.
pub(crate) fn fetch(cluster: &Cluster) -> Result<Value, Failure> {
    cluster.get("/v1/status")
}

/// The screen.
pub(crate) fn render(status: &Value) -> String {
    let text = |key: &str| status[key].as_str().unwrap_or("-").to_owned();
    let coordinator = match status["coordinator"].as_str() {
        Some(node) => format!("{node} coordinates"),
        None => "NO COORDINATOR: nothing is decided until a quorum of voters meets".to_owned(),
    };
    let mut out = format!(
        "{}   {coordinator}, term {}   profile {}   specification {}\n",
        text("cluster"),
        status["term"],
        text("profile"),
        status["spec_version"]
    );
    if let Some(ms) = status["maintenance_ms"].as_u64() {
        out += &format!("MAINTENANCE of the whole cluster for another {}\n", output::span(ms));
    }
    out += &nodes(status);
    out += &resources(status);
    for alarm in status["alarms"].as_array().into_iter().flatten() {
        out += &format!("! {}\n", alarm.as_str().unwrap_or_default());
    }
    for shortfall in status["shortfalls"].as_array().into_iter().flatten() {
        out += &format!("~ {}: {}\n", text("node"), shortfall.as_str().unwrap_or_default());
    }
    if status["authoritative"] == Value::Bool(false) {
        out += &format!("This is what {} sees; it does not coordinate.\n", text("node"));
    }
    out
}

fn table(header: &[&str]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(header.iter().copied());
    table
}

fn nodes(status: &Value) -> String {
    let mut table = table(&["NODE", "ROLE", "HEALTH", "RUNS", "HEARS", "NOTE"]);
    for node in status["nodes"].as_array().into_iter().flatten() {
        let word = |key: &str| node[key].as_str().unwrap_or("-").to_owned();
        let mut notes = Vec::new();
        if node["coordinator"] == Value::Bool(true) {
            notes.push("coordinator".to_owned());
        }
        if node["ready"] == Value::Bool(false) && node["role"] != "witness" {
            notes.push("can't run anything".to_owned());
        }
        for (key, what) in [("drain_ms", "draining"), ("maintenance_ms", "maintenance")] {
            if let Some(ms) = node[key].as_u64() {
                notes.push(format!("{what} for {}", output::span(ms)));
            }
        }
        table.add_row([
            word("name"),
            word("role"),
            word("health"),
            runs(node),
            hears(node),
            notes.join(", "),
        ]);
    }
    format!("\n{table}\n")
}

fn runs(node: &Value) -> String {
    let count = |phase: &str| {
        let instances = node["instances"].as_array().into_iter().flatten();
        instances.filter(|i| i["phase"].as_str() == Some(phase)).count()
    };
    format!("{} active, {} standby", count("active"), count("standby"))
}

fn hears(node: &Value) -> String {
    let heard = node["heard"].as_array().into_iter().flatten();
    let parts: Vec<String> = heard
        .map(|peer| {
            let links = peer["links"].as_u64().unwrap_or_default().count_ones();
            let connected = if peer["connected"] == Value::Bool(true) { "" } else { "!" };
            format!("#{}:{links}{connected}", peer["peer"])
        })
        .collect();
    parts.join(" ")
}

fn resources(status: &Value) -> String {
    let mut table =
        table(&["RESOURCE", "ACTIVE ON", "EPOCH", "STANDBYS", "SINCE", "SLOWEST", "NOTE"]);
    for resource in status["resources"].as_array().into_iter().flatten() {
        let node = match (resource["node"].as_str(), &resource["active"]) {
            (Some(node), Value::Bool(true)) => node.to_owned(),
            (Some(node), _) => format!("({node})"),
            (None, _) => "nowhere".to_owned(),
        };
        let epoch = match &resource["epoch"] {
            Value::Null => "-".to_owned(),
            epoch => format!("{}.{}", epoch["generation"], epoch["counter"]),
        };
        let standbys: Vec<&str> = resource["standbys"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let since = resource["since_wall_ms"].as_u64().map_or("-".to_owned(), output::ago);
        table.add_row([
            resource["name"].as_str().unwrap_or("-").to_owned(),
            node,
            epoch,
            standbys.join(" "),
            since,
            slowest(resource),
            notes(resource),
        ]);
    }
    format!("\n{table}\n")
}

fn slowest(resource: &Value) -> String {
    match (resource["slowest_move_ms"].as_f64(), resource["rto_ms"].as_u64()) {
        (Some(ms), Some(rto)) if ms > rto as f64 => format!("{ms:.0} of {rto} ms !"),
        (Some(ms), Some(rto)) => format!("{ms:.0} of {rto} ms"),
        (Some(ms), None) => format!("{ms:.0} ms"),
        (None, Some(rto)) => format!("- of {rto} ms"),
        (None, None) => "-".to_owned(),
    }
}

fn notes(resource: &Value) -> String {
    let mut notes = Vec::new();
    let is = |key: &str| resource[key] == Value::Bool(true);
    if is("quarantined") {
        notes.push("QUARANTINED".to_owned());
    }
    if is("maintenance") {
        notes.push("maintenance".to_owned());
    }
    if is("releasing") {
        notes.push("giving up".to_owned());
    }
    if let Some(to) = resource["switchover"].as_str() {
        notes.push(format!("moving to {to}"));
    }
    match resource["failures"].as_u64().unwrap_or_default() {
        0 => {}
        1 => notes.push("1 failure".to_owned()),
        n => notes.push(format!("{n} failures")),
    }
    notes.join(", ")
}

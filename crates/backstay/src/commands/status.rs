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

/// The status, as the coordinator sees it where that one can be reached. What only the node that
/// was asked knows of itself is under `asked` then.
pub(crate) fn fetch(cluster: &Cluster) -> Result<Value, Failure> {
    let own = cluster.get("/v1/status")?;
    if own["authoritative"] == Value::Bool(true) || own["coordinator"].is_null() {
        return Ok(own);
    }
    let Ok(mut status) = cluster.of_coordinator("/v1/status") else { return Ok(own) };
    if status["node"] != own["node"] {
        let of = |key: &str| (key.to_owned(), own[key].clone());
        let asked = ["node", "lease_ms", "shortfalls", "vault_run"].map(of);
        status["asked"] = asked.into_iter().collect();
    }
    Ok(status)
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
    // What was asked first, then who answered for the cluster.
    let speakers = [&status["asked"], status];
    speakers.iter().for_each(|said| out += &vault_run(said));
    if let Some(phase) = status["rotation"]["phase"].as_str() {
        out += &format!(
            "A rotation of the authority is under way, phase {phase}: `backstay authority show`\n"
        );
    }
    for alarm in status["alarms"].as_array().into_iter().flatten() {
        out += &format!("! {}\n", alarm.as_str().unwrap_or_default());
    }
    for said in speakers {
        let node = said["node"].as_str().unwrap_or("-");
        for shortfall in said["shortfalls"].as_array().into_iter().flatten() {
            out += &format!("~ {node}: {}\n", shortfall.as_str().unwrap_or_default());
        }
    }
    if !is_authoritative(status) {
        out += &format!(
            "This is what {} knows (?: as it was last heard). It does not speak for the cluster.\n",
            text("node")
        );
    }
    out
}

/// Whether what is said of others is so now.
fn is_authoritative(status: &Value) -> bool {
    status["authoritative"] == Value::Bool(true)
}

fn nodes(status: &Value) -> String {
    let mut table = output::table(&["NODE", "ROLE", "HEALTH", "RUNS", "HEARS", "NOTE"]);
    for node in status["nodes"].as_array().into_iter().flatten() {
        let word = |key: &str| node[key].as_str().unwrap_or("-").to_owned();
        let mut notes = Vec::new();
        if node["coordinator"] == Value::Bool(true) {
            notes.push("coordinator".to_owned());
        }
        if node["stalled"] == Value::Bool(true) {
            notes.push("its loop stalled".to_owned());
        }
        if node["ready"] == Value::Bool(false) && node["role"].as_str() != Some("witness") {
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
            hears(node, status),
            notes.join(", "),
        ]);
    }
    format!("\n{table}\n")
}

fn runs(node: &Value) -> String {
    // It has told this node nothing.
    if node["ready"].is_null() {
        return "?".to_owned();
    }
    let count = |phase: &str| {
        let instances = node["instances"].as_array().into_iter().flatten();
        instances.filter(|i| i["phase"].as_str() == Some(phase)).count()
    };
    format!("{} active, {} standby", count("active"), count("standby"))
}

/// Whom it hears, on how many links; `!` where it has no connection for messages.
fn hears(node: &Value, status: &Value) -> String {
    let name = |replica: &Value| {
        let mut nodes = status["nodes"].as_array().into_iter().flatten();
        let named = nodes.find(|node| node["replica"] == *replica);
        // One that is gone for good may still be heard.
        let name = named.and_then(|node| node["name"].as_str()).map(str::to_owned);
        name.unwrap_or_else(|| format!("#{replica}"))
    };
    let heard = node["heard"].as_array().into_iter().flatten();
    let parts: Vec<String> = heard
        .map(|peer| {
            let links = peer["links"].as_u64().unwrap_or_default().count_ones();
            let connected = if peer["connected"] == Value::Bool(true) { "" } else { "!" };
            format!("{}:{links}{connected}", name(&peer["peer"]))
        })
        .collect();
    parts.join(" ")
}

fn resources(status: &Value) -> String {
    let mut table =
        output::table(&["RESOURCE", "ACTIVE ON", "EPOCH", "STANDBYS", "SINCE", "SLOWEST", "NOTE"]);
    for resource in status["resources"].as_array().into_iter().flatten() {
        let node = match (resource["node"].as_str(), &resource["active"]) {
            (Some(node), Value::Bool(true)) if may_be_over(resource, status) => format!("{node} ?"),
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

/// Whether its holder was heard of too long ago to say that it is active.
fn may_be_over(resource: &Value, status: &Value) -> bool {
    !is_authoritative(status) && resource["running"] != Value::Bool(true)
}

/// The `vault run` beside the agent that answers: whether it lives, and each job that is in
/// trouble.
fn vault_run(status: &Value) -> String {
    let run = &status["vault_run"];
    if run.is_null() {
        return String::new();
    }
    let jobs = run["jobs"].as_array().map_or(&[][..], Vec::as_slice);
    let node = status["node"].as_str().unwrap_or("-");
    let mut out = match (run["pid"].as_u64(), run["last_end"].as_str()) {
        (Some(_), _) => format!("\nvault run on {node}: {} jobs\n", jobs.len()),
        (None, end) => {
            format!("\n! vault run on {node} is DOWN: {}\n", end.unwrap_or("it never began"))
        }
    };
    for job in jobs {
        let Some(trouble) = job["trouble"].as_str() else { continue };
        let what = job["job"].as_str().unwrap_or("-");
        let source = job["source"].as_str().map_or(String::new(), |source| format!(" of {source}"));
        out += &format!("! {what}{source}, {} failures: {trouble}\n", job["failures"]);
    }
    out
}

fn slowest(resource: &Value) -> String {
    match (resource["slowest_move_ms"].as_f64(), resource["rto_ms"].as_u64()) {
        (Some(ms), Some(rto)) if ms > rto as f64 => format!("{ms:.0}/{rto} ms !"),
        (Some(ms), Some(rto)) => format!("{ms:.0}/{rto} ms"),
        (Some(ms), None) => format!("{ms:.0} ms"),
        (None, Some(rto)) => format!("-/{rto} ms"),
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
    if is("active") && resource["running"] == Value::Bool(false) {
        notes.push("NOT RUNNING".to_owned());
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, replica: u64, heard: &[u64], told: bool) -> Value {
        let heard: Vec<Value> = heard
            .iter()
            .map(|peer| json!({ "peer": peer, "links": 3, "connected": true }))
            .collect();
        let ready = if told { Value::Bool(true) } else { Value::Null };
        json!({ "name": name, "role": "voter", "health": "healthy", "replica": replica,
            "ready": ready, "heard": heard, "coordinator": name == "a",
            "instances": if told { json!([{ "phase": "active" }]) } else { json!([]) } })
    }

    fn cluster(authoritative: bool, told: bool) -> Value {
        let resource = |name: &str, running: Value, failures: u64| {
            json!({ "name": name, "node": "a", "active": true, "running": running,
                "epoch": { "generation": 1, "counter": 12 }, "standbys": ["b", "c"],
                "rto_ms": 1500, "slowest_move_ms": 481.0, "failures": failures,
                "since_wall_ms": 1_790_000_000_000u64 })
        };
        let running = if told { Value::Bool(true) } else { Value::Null };
        json!({ "cluster": "trading", "coordinator": "a", "term": 12, "profile": "lan",
            "spec_version": 3, "node": "b", "authoritative": authoritative,
            "nodes": [node("a", 1, &[2, 3], told), node("b", 2, &[1, 3], told),
                node("c", 3, &[1, 2, 9], told)],
            "resources": [resource("orders", running.clone(), 1),
                resource("orders-address", running, 0), resource("ledger", json!(false), 0)] })
    }

    #[test]
    fn three_nodes_and_three_resources_fit_a_terminal() {
        let screen = render(&cluster(true, true));
        for line in screen.lines() {
            assert!(line.trim_end().chars().count() <= 80, "{line:?} of\n{screen}");
        }
        assert!(screen.contains("b:2 c:2") && screen.contains("#9:2"), "{screen}");
        assert!(screen.contains("1 active, 0 standby") && !screen.contains('?'), "{screen}");
        assert!(screen.contains("NOT RUNNING"), "{screen}");
    }

    #[test]
    fn what_a_node_was_not_told_is_not_said_of_others() {
        let screen = render(&cluster(false, false));
        assert!(!screen.contains("can't run anything") && !screen.contains("0 active"), "{screen}");
        assert!(screen.contains("a ?") && screen.contains("This is what b knows"), "{screen}");
    }

    #[test]
    fn a_vault_run_that_is_down_and_jobs_in_trouble_are_shown() {
        let status = |pid: Value, trouble: Value| {
            let job = json!({ "job": "backup", "source": "s", "failures": 2, "trouble": trouble });
            json!({ "node": "a", "vault_run": { "pid": pid, "last_end": "x", "jobs": [job] } })
        };
        assert_eq!(vault_run(&json!({ "node": "a", "vault_run": null })), "");
        let well = vault_run(&status(json!(7), Value::Null));
        assert_eq!(well, "\nvault run on a: 1 jobs\n");
        let bad = vault_run(&status(Value::Null, json!("full")));
        assert!(bad.contains("! vault run on a is DOWN: x"), "{bad}");
        assert!(bad.contains("! backup of s, 2 failures: full"), "{bad}");
    }
}

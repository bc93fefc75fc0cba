//! `backstay authority`: who issues certificates, and how another takes its place.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use agent::api::ApiClient;
use agent::identity::{Credential, NodeKey, TrustBundle, read_file, write_file};
use model::authority::RotationOrder;
use model::{NodeName, Operation};
use serde_json::{Value, json};

use super::connect::{self, Cluster, Connect};
use super::{Done, Failure, output};

/// Exit status of a refusal.
const REFUSED: u8 = 4;
/// Pause between two questions while a step is waited for.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Options of `authority`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Show the authorities, who has a certificate of which, and a rotation under way
    Show(ShowArgs),
    /// Put a new authority in the place of the present one, up to its last step
    Rotate(RotateArgs),
    /// Renew a person's or program's credential file, and the authorities it believes
    Renew(RenewArgs),
    /// Refuse a person's or program's certificates from now on
    Revoke(RevokeArgs),
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, clap::Args)]
struct RotateArgs {
    /// Take the last step: the old authority is believed no more
    #[arg(long, conflicts_with = "abort")]
    finish: bool,
    /// Break the rotation off; possible until its last step
    #[arg(long)]
    abort: bool,
    /// The present key is in wrong hands: nobody joins or is renewed by it meanwhile, and the last
    /// step follows at once
    #[arg(long, conflicts_with_all = ["finish", "abort"])]
    compromised: bool,
    /// A member that is left behind, and has to join anew; one for each
    #[arg(long, value_name = "NODE", conflicts_with = "abort")]
    without: Vec<NodeName>,
    /// How long to wait for the members before each step
    #[arg(long, value_name = "DURATION", value_parser = output::duration_ms,
          default_value = "2m")]
    wait: u64,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, clap::Args)]
struct RenewArgs {
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, clap::Args)]
struct RevokeArgs {
    /// Whose
    name: NodeName,
    #[command(flatten)]
    connect: Connect,
}

pub(crate) fn run(args: &Args) -> Done {
    match &args.what {
        What::Show(args) => show(args),
        What::Rotate(args) => rotate(args),
        What::Renew(args) => renew(&args.connect),
        What::Revoke(args) => revoke(args),
    }
}

fn show(args: &ShowArgs) -> Done {
    let state = args.connect.open()?.get("/v1/authority")?;
    if args.connect.json {
        return output::json(&state);
    }
    print!("{}", render(&state));
    Ok(())
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("-")
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

/// The first digits of an authority's name.
fn short(name: &str) -> &str {
    name.get(..16).unwrap_or(name)
}

fn until(ends_s: &Value) -> String {
    ends_s.as_u64().map_or("-".to_owned(), |s| output::time(s.saturating_mul(1_000)))
}

fn render(state: &Value) -> String {
    let mut out = String::new();
    for authority in list(state, "authorities") {
        let part = if authority["issues"] == true { "issues" } else { "is believed" };
        let (name, end) = (text(authority, "fingerprint"), until(&authority["ends_s"]));
        out += &format!("authority {name}\n  {part}, ends {end}\n");
    }
    let mut table = output::table(&["NODE", "ROLE", "CERTIFICATE OF", "ENDS", "KEYS OF", "TRUST"]);
    for node in list(state, "nodes") {
        let own = &node["certificate"];
        let keys: Vec<&str> = list(own, "keys").filter_map(Value::as_str).map(short).collect();
        table.add_row([
            text(node, "name").to_owned(),
            text(node, "role").to_owned(),
            short(text(own, "issuer")).to_owned(),
            until(&own["ends_s"]),
            keys.join(" "),
            own["trust"].as_u64().map_or("-".to_owned(), |version| version.to_string()),
        ]);
    }
    out += &format!("\n{table}\n\n");
    out += &people(state);
    for name in list(state, "shut_out").filter_map(Value::as_str) {
        out += &format!("! {name} was left behind by a rotation: it has to join anew\n");
    }
    match &state["rotation"] {
        Value::Null => out += "No rotation is under way.\n",
        rotation => out += &under_way(rotation),
    }
    if state["authoritative"] != true {
        out += "There is no coordinator at the moment: this is what one node knows.\n";
    }
    out
}

fn people(state: &Value) -> String {
    let issuing = list(state, "authorities").find(|a| a["issues"] == true);
    let issuing = issuing.map(|authority| text(authority, "fingerprint")).unwrap_or_default();
    let mut out = String::new();
    let named: Vec<String> = list(state, "people")
        .map(|person| {
            let old = person["authority"].as_str().is_some_and(|by| by != issuing);
            let mark = if old { " (other authority)" } else { "" };
            format!("{} {}{mark}", text(person, "role"), text(person, "name"))
        })
        .collect();
    out += &format!("{} people and programs are known", named.len());
    out += &if named.is_empty() { ".\n".to_owned() } else { format!(": {}\n", named.join(", ")) };
    for revoked in list(state, "revoked") {
        let span = output::span(revoked["for_ms"].as_u64().unwrap_or_default());
        out +=
            &format!("Certificates of {} are refused for another {span}.\n", text(revoked, "name"));
    }
    out
}

fn under_way(rotation: &Value) -> String {
    let since = rotation["began_wall_ms"].as_u64().map_or("-".to_owned(), output::ago);
    let mut out = format!(
        "A rotation from {} to {} is under way for {since}, phase {}{}{}.\n",
        short(text(rotation, "from")),
        short(text(rotation, "to")),
        text(rotation, "phase"),
        if rotation["compromised"] == true { ", because the old key leaked" } else { "" },
        if rotation["undone"] == true { ", broken off and on its way back" } else { "" },
    );
    let missing = missing(rotation);
    if missing.is_empty() {
        let next = match text(rotation, "phase") {
            "trust" => "`backstay authority rotate` renews all certificates",
            _ => "`backstay authority rotate --finish` drops the old authority",
        };
        out += &format!("Every member is ready for the next step: {next}.\n");
    } else {
        out += &format!("The next step waits: {}.\n", missing.join(", "));
    }
    out
}

fn missing(rotation: &Value) -> Vec<String> {
    list(rotation, "missing")
        .map(|missing| {
            let lacks = match text(missing, "lacks") {
                "word" => "is not heard",
                "trust" => "does not believe the new authority yet",
                "key" => "does not hold the new authority's key yet",
                "renewal" => "has not renewed its certificate yet",
                other => other,
            };
            format!("{} {lacks}", text(missing, "node"))
        })
        .collect()
}

/// Where a rotation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    Trust,
    Renew,
}

fn stage(state: &Value) -> Stage {
    match state["rotation"]["phase"].as_str() {
        Some("trust") => Stage::Trust,
        Some(_) => Stage::Renew,
        None => Stage::Idle,
    }
}

/// Goes on from wherever the rotation stands, so that it can be repeated after any failure.
fn rotate(args: &RotateArgs) -> Done {
    let cluster = args.connect.open()?;
    let say = |what: &str| {
        if !args.connect.json {
            println!("{what}");
        }
    };
    if args.abort {
        let answer = cluster.operate(&Operation::Rotate(RotationOrder::Abort))?;
        let done = "Broken off. `backstay authority show` says whether certificates have to be \
                    renewed back first; `rotate --finish` ends it then.";
        return output::outcome(&answer, args.connect.json, done);
    }
    let without: BTreeSet<NodeName> = args.without.iter().cloned().collect();
    let state = cluster.get("/v1/authority")?;
    let mut stage = stage(&state);
    let back = state["rotation"]["undone"] == true;
    if args.compromised && stage != Stage::Idle && state["rotation"]["compromised"] != true {
        let why = "a rotation that is not for a leaked key is under way: break it off first \
                   (`--abort`), and begin anew";
        return Err(Failure::with(REFUSED, why));
    }
    if args.finish && stage == Stage::Idle {
        return Err(Failure::with(REFUSED, "no rotation of the authority is under way"));
    }
    if stage == Stage::Idle {
        let body = json!({ "compromised": args.compromised });
        let answer = cluster.post("/v1/authority", &body)?;
        say(&format!("1 of 3: the new authority is {}.", text(&answer, "authority")));
        stage = Stage::Trust;
    }
    if stage == Stage::Trust {
        let order = RotationOrder::Renew { without: without.clone() };
        insist(&cluster, args, &Operation::Rotate(order))?;
        say("2 of 3: it issues, and every certificate is renewed.");
    }
    if args.finish || args.compromised || back {
        let order = RotationOrder::Finish { without };
        insist(&cluster, args, &Operation::Rotate(order))?;
        say("3 of 3: the old authority is believed no more.");
    } else {
        say("The old authority is still believed. People renew with `backstay authority renew`; \
             then: `backstay authority rotate --finish`.");
    }
    if args.connect.json {
        return output::json(&cluster.get("/v1/authority")?);
    }
    Ok(())
}

/// Asks for a step until it is taken, as long as it only waits for members.
fn insist(cluster: &Cluster, args: &RotateArgs, operation: &Operation) -> Done {
    let began = Instant::now();
    let mut said = String::new();
    loop {
        let refused = match cluster.operate(operation) {
            Ok(_) => return Ok(()),
            Err(refused) => refused,
        };
        if !refused.may_pass() || began.elapsed() > Duration::from_millis(args.wait) {
            return Err(refused);
        }
        let why = refused.text().lines().next().unwrap_or_default();
        if why != said && !args.connect.json {
            println!("  waiting: {why}");
            said = why.to_owned();
        }
        std::thread::sleep(ASK_EVERY);
    }
}

/// Renews a credential file in place: the certificate, and the authorities it believes.
fn renew(args: &Connect) -> Done {
    let path: PathBuf = args.credential_path();
    let pem = read_file(&path, true).map_err(Failure::new)?;
    let old = Credential::from_pem(&pem).map_err(Failure::new)?;
    let client = ApiClient::new(&old, &args.endpoints()).map_err(connect::failure)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let request = old.key().request().map_err(Failure::new)?;
    let answer = runtime.block_on(client.post("/v1/renew", &json!({ "request": request })));
    let answer = answer.map_err(connect::failure)?;
    let bundle = TrustBundle::from_pem(text(&answer, "authorities")).map_err(Failure::new)?;
    let key = NodeKey::from_pem(&old.key().to_pem()).map_err(Failure::new)?;
    let new = Credential::new(bundle, text(&answer, "certificate"), key).map_err(Failure::new)?;
    write_file(&path, new.to_pem().as_bytes(), 0o600).map_err(Failure::new)?;
    let ends_s = new.caller().expires_s;
    if args.json {
        return output::json(&json!({ "credential": path, "ends_s": ends_s }));
    }
    println!("{} is renewed, until {}.", path.display(), until(&json!(ends_s)));
    Ok(())
}

fn revoke(args: &RevokeArgs) -> Done {
    let operation = Operation::Revoke { name: args.name.clone() };
    let answer = args.connect.open()?.operate(&operation)?;
    let done = format!(
        "Certificates of {} open nothing any more. The name can't be given again before the last \
         of them has ended.",
        args.name
    );
    output::outcome(&answer, args.connect.json, &done)
}

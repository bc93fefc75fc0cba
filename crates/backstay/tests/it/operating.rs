//! What operators do all day, through the commands, against agents that run; and that what the
//! commands print as JSON has the keys that the documentation promises.

use std::collections::BTreeSet;
use std::io::Read;
use std::process::{Command, Output, Stdio};

use agent::api::{ApiClient, ClientError};
use agent::identity::Credential;
use backstay::stdout::READER_GONE;
use serde_json::Value;

use super::cluster_rig::{NODES, TestCluster, alone};
use super::demo_rig::until;

const CLI: &str = include_str!("../../../../docs/reference/cli.md");

/// The keys that the documentation promises of a command's JSON.
fn documented(command: &str) -> BTreeSet<&'static str> {
    let (_, section) = CLI.split_once("## What `--json` prints").expect("the section is there");
    let rows = section.lines().take_while(|line| !line.starts_with("## "));
    let mut rows = rows.filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    let named = |cell: &str| cell.replace('`', "").split(", ").any(|name| name == command);
    let (_, keys) = rows.find(|(cell, _)| named(cell)).unwrap_or_else(|| panic!("no {command}"));
    keys.split('`').skip(1).step_by(2).collect()
}

/// Reads one JSON value and holds it to what is documented.
fn held(command: &str, text: &str) -> Value {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{command}: {e}"));
    let one = value.as_array().map_or(&value, |all| &all[0]);
    let there: BTreeSet<&str> = one.as_object().unwrap().keys().map(String::as_str).collect();
    let promised = documented(command);
    assert!(promised.is_subset(&there), "{command}: {promised:?}, but {there:?}");
    value
}

/// Somebody who works in a directory of their own, with a credential of their own.
struct Operator<'a> {
    cluster: &'a TestCluster,
    api: String,
}

impl Operator<'_> {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        command.args(words).current_dir(self.cluster.path(0, "")).stdin(Stdio::null());
        command
    }

    fn as_oneself(&self, words: &[&str]) -> Command {
        self.command(&[words, &["--credential", "operator.pem", "--api", &self.api]].concat())
    }

    fn run(&self, words: &[&str]) -> Output {
        self.as_oneself(words).output().unwrap()
    }

    /// What a command that succeeds prints.
    fn told(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The JSON of a command that succeeds; of its first word, or of this name in the table.
    fn json(&self, command: &str, words: &[&str]) -> Value {
        held(command, &self.told(&[words, &["--json"]].concat()))
    }

    /// What a command says that the cluster refuses.
    fn refused(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(4), "{words:?}: {output:?}");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        text(output.stdout) + &text(output.stderr)
    }

    fn joins(&self) {
        let token = self.cluster.ask(0, &["token", "--role", "operator", "--json"]).unwrap();
        let token = held("token", &token)["token"].as_str().unwrap().to_owned();
        let words = ["join", "--node", "ann", "--token", &token, "--json", "--credential"];
        // A place that is none costs no token.
        let nowhere = self.command(&[&words[..], &["missing/operator.pem"]].concat()).output();
        assert_eq!(nowhere.unwrap().status.code(), Some(1));
        let joined = self.command(&[&words[..], &["operator.pem"]].concat()).output().unwrap();
        assert!(joined.status.success(), "{joined:?}");
        held("join of a person", std::str::from_utf8(&joined.stdout).unwrap());
        self.told(&["authority", "renew"]);
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.cluster.path(0, name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn a_configuration_changes(ann: &Operator<'_>, original: &str) {
    let zz = ann.refused(&["token", "--node", "zz"]);
    assert!(zz.contains("[[node]]") && zz.contains("`backstay apply`"), "{zz}");

    let [before, after] = [original, "\n[[node]]\nname = \"d\"\nlinks = [\"127.0.0.9\"]\n"];
    let more = ann.file("more.toml", &format!("{before}{after}voter = false\n"));
    let diff = ann.json("diff", &["diff", &more]);
    assert_eq!(
        (&diff["changes"][0]["name"], &diff["changes"][0]["effect"]),
        (&"d".into(), &"join".into())
    );
    assert!(ann.told(&["apply", &more]).contains("Applied as version"));
    assert_eq!(ann.json("apply", &["apply", &more])["outcome"], "unchanged");
    assert!(ann.told(&["diff", &more]).contains("nothing changes"));

    // A member is not put out by a line that is missing, and `diff` knows it before `apply`.
    let without = format!("name = \"{}\"", NODES[2]);
    let nodes: Vec<&str> = original.split("[[").filter(|t| !t.contains(&without)).collect();
    let fewer = ann.file("fewer.toml", &nodes.join("[["));
    for command in ["diff", "apply"] {
        let told = ann.refused(&[command, &fewer]);
        assert!(told.contains("`backstay forget c`"), "{command}: {told}");
    }
}

/// Somebody applies between a diff and its apply.
fn an_apply_in_between_is_noticed(ann: &Operator<'_>, original: &str) {
    let resource = |n: usize| {
        format!("\n[[resource]]\nname = \"r{n}\"\nkind = \"process\"\ncommand = [\"/bin/true\"]\n")
    };
    let many: String = (0..200).map(resource).collect();
    let many = ann.file("many.toml", &format!("{original}{many}"));
    // Its difference does not fit into the pipe: it stands between its question and its order.
    let (mut reader, writer) = std::io::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 4_096).unwrap();
    let mut command = ann.as_oneself(&["apply", &many]);
    let late = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    drop(command);
    reader.read_exact(&mut [0]).unwrap();
    let path = ann.file("original.toml", original);
    ann.told(&["apply", "--quiet", &path]);
    let mut diff = String::new();
    reader.read_to_string(&mut diff).unwrap();
    let output = late.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("has changed meanwhile") && said.contains("`backstay diff`"), "{said}");

    let pem = std::fs::read_to_string(ann.cluster.path(0, "operator.pem")).unwrap();
    let client =
        ApiClient::new(&Credential::from_pem(&pem).unwrap(), &[ann.api.parse().unwrap()]).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stale = runtime.block_on(client.post_text("/v1/apply?base=1", original));
    let Err(ClientError::Refused { status, problem, .. }) = stale else { panic!("{stale:?}") };
    assert_eq!((status, problem.code.as_str()), (409, "version"));
}

fn a_service_is_moved(ann: &Operator<'_>) {
    let cluster = ann.cluster;
    let asked = [0, 1, 2];
    let before = cluster.until_whole().active;
    ann.json("drain", &["drain", NODES[before], "--for", "1h"]);
    let drained = cluster.until_scene("the drain", &asked, |scene| scene.active != before);
    ann.json("drain", &["drain", NODES[before], "--end"]);
    cluster.until_whole();

    let failed = until("a failover", || {
        let output = ann.run(&["failover", "orders", "--json"]);
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    });
    let moved = held("failover", &failed);
    assert_eq!(moved["what"]["active"]["resource"], "orders");
    assert_ne!(moved["what"]["active"]["node"], NODES[drained.active], "{moved}");
    cluster.until_whole();
    cluster.served();

    ann.json("maintenance", &["maintenance", "--resource", "orders", "--for", "1h"]);
    let told = ann.refused(&["switchover", "orders"]);
    assert!(told.contains("maintenance --end"), "{told}");
    ann.json("maintenance", &["maintenance", "--resource", "orders", "--end"]);
    let to = NODES[(cluster.until_whole().active + 1) % NODES.len()];
    let moved = ann.json("switchover", &["switchover", "orders", "--to", to]);
    assert_eq!(moved["what"]["active"]["node"], to);
    cluster.until_whole();
}

fn it_is_looked_at(ann: &Operator<'_>) {
    let before = ann.cluster.until_scene("a coordinator", &[0, 1, 2], |_| true).coordinator;
    let to = (before + 1) % NODES.len();
    ann.json("transfer", &["transfer", "--to", NODES[to]]);
    ann.cluster.until_scene("the new coordinator", &[0, 1, 2], |now| now.coordinator == to);
    let events = until("the transfer's event", || {
        let told = ann.told(&["events"]);
        told.contains(&format!("hands over to {}", NODES[to])).then_some(told)
    });
    assert!(events.contains("maintenance of resource orders began"), "{events}");
    ann.json("events", &["events"]);
    ann.json("status", &["status"]);
    ann.json("watch", &["watch", "--count", "1"]);
    let screen = ann.told(&["watch", "--count", "1"]);
    assert!(screen.starts_with("\x1b[H") && screen.contains("orders"), "{screen:?}");
    ann.json("state export", &["state", "export"]);
    ann.json("state export --out", &["state", "export", "--out", "state.json"]);
    for words in [&["events"][..], &["status"], &["explain", "orders"], &["events", "--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = ann.as_oneself(words);
        let output = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let output = output.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(i32::from(READER_GONE)), "{words:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{words:?}: {output:?}");
    }
}

/// What a load balancer gets of each node, which shows no certificate.
fn health_of_all(ann: &Operator<'_>, path: &str) -> [u16; NODES.len()] {
    let pem = std::fs::read_to_string(ann.cluster.path(0, "operator.pem")).unwrap();
    let bundle = Credential::from_pem(&pem).unwrap().bundle().clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    [0, 1, 2].map(|node| {
        let api = ann.cluster.api(node).parse().unwrap();
        let client = ApiClient::anonymous(&bundle, &[api]).unwrap();
        match runtime.block_on(client.get(path)) {
            Ok(_) => 200,
            Err(ClientError::Refused { status, .. }) => status,
            Err(_) => 0,
        }
    })
}

fn load_balancers_are_told(ann: &Operator<'_>) {
    assert_eq!(health_of_all(ann, "/livez"), [200; 3]);
    until("nodes that are ready", || (health_of_all(ann, "/readyz") == [200; 3]).then_some(()));
    assert_eq!(health_of_all(ann, "/resources/missing/active"), [404; 3]);
    let place = ann.cluster.until_whole().active;
    for to in [(place + 1) % NODES.len(), place] {
        ann.told(&["switchover", "orders", "--to", NODES[to]]);
        let mut expected = [503; NODES.len()];
        expected[to] = 200;
        until("one place to send traffic to", || {
            (health_of_all(ann, "/resources/orders/active") == expected).then_some(())
        });
        ann.cluster.until_whole();
    }
}

/// A node that is left alone lives, is not ready, and is no place to send traffic to.
fn a_node_that_is_left_alone_says_so(cluster: &mut TestCluster) {
    let left = 0;
    cluster.switchover(left, left);
    (1..NODES.len()).for_each(|node| cluster.stop_agent(node));
    let ann = Operator { cluster, api: cluster.api(left) };
    until("the lone node's word", || {
        let all = ["/readyz", "/resources/orders/active", "/livez"];
        let said = all.map(|path| health_of_all(&ann, path)[left]);
        (said == [503, 503, 200]).then_some(())
    });
}

#[test]
fn operators_drive_a_cluster_by_the_commands_as_documented() {
    let _alone = alone();
    let mut cluster = TestCluster::start();
    let ann = Operator { cluster: &cluster, api: cluster.api(1) };
    ann.joins();
    let original = cluster.configuration();
    a_configuration_changes(&ann, &original);
    an_apply_in_between_is_noticed(&ann, &original);
    a_service_is_moved(&ann);
    it_is_looked_at(&ann);
    load_balancers_are_told(&ann);
    a_node_that_is_left_alone_says_so(&mut cluster);
    assert_eq!(cluster.lost(), [""; 0]);
    assert_eq!(cluster.two_active_ms(), 0);
}

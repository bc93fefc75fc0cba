//! The vault inside a cluster: real agents remember the heads of a real repository, and keep
//! `vault run` alive beside them.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cluster_rig::{NODES, TestCluster, alone, pid, processes_naming};
use super::demo_rig::until;

/// How long a schedule that looks every ten seconds may take to follow a takeover.
const FOLLOWS: Duration = Duration::from_secs(90);

/// As `until`, for a schedule.
fn until_followed<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(begun.elapsed() < FOLLOWS, "{what} did not happen within {FOLLOWS:?}");
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

/// A repository beside a cluster, and data to back up.
struct Vault<'a> {
    cluster: &'a TestCluster,
    folder: tempfile::TempDir,
}

impl<'a> Vault<'a> {
    fn new(cluster: &'a TestCluster) -> Vault<'a> {
        let vault = Vault { cluster, folder: tempfile::tempdir_in("/tmp").unwrap() };
        vault.write("one");
        let made = vault.on("init", 0, &["vault", "init"]);
        assert!(made.status.success(), "{}", said(&made));
        vault
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn data(&self) -> String {
        self.path("data").to_string_lossy().into_owned()
    }

    fn write(&self, text: &str) {
        std::fs::create_dir_all(self.path("data")).unwrap();
        std::fs::write(self.path("data/file"), text.repeat(1000)).unwrap();
    }

    /// A command on a machine, which is a node and remembers in a directory of its own.
    fn command(&self, machine: &str, node: usize, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("BACKSTAY_REPOSITORY", self.path("repository"));
        command.env("BACKSTAY_KEY_FILE", self.path("key"));
        command.env("BACKSTAY_STATE_DIR", self.path(machine));
        command.env("BACKSTAY_DATA", self.cluster.path(node, "data"));
        command
    }

    fn on(&self, machine: &str, node: usize, words: &[&str]) -> Output {
        self.command(machine, node, words).output().unwrap()
    }

    fn back_up(&self, node: usize, text: &str) {
        self.write(text);
        let done =
            self.on("writer", node, &["backup", &self.data(), "--name", "book", "--cluster"]);
        assert!(done.status.success(), "{}", said(&done));
        assert!(said(&done).contains("remembered by the cluster"), "{}", said(&done));
    }

    fn keep(&self, from: &str, to: &str) {
        copy(&self.path(from), &self.path(to));
    }

    fn put_back(&self, kept: &str) {
        std::fs::remove_dir_all(self.path("repository")).unwrap();
        self.keep(kept, "repository");
    }

    /// What the cluster remembers, as one node says it; its exit code.
    fn heads(&self, node: usize) -> (Value, Option<i32>) {
        let heads = self.on("viewer", node, &["vault", "heads", "--json"]);
        let parsed = serde_json::from_slice(&heads.stdout);
        (parsed.unwrap_or_else(|_| panic!("{}", said(&heads))), heads.status.code())
    }

    /// What it remembers of the only repository.
    fn chain(&self, node: usize) -> Value {
        let (heads, _) = self.heads(node);
        heads.as_object().and_then(|all| all.values().next()).cloned().unwrap_or_default()
    }

    fn head(&self, machine: &str) -> String {
        let status = self.on(machine, 0, &["vault", "status", "--json"]);
        let status: Value = serde_json::from_slice(&status.stdout).unwrap();
        status["head"].as_str().unwrap().to_owned()
    }
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{:?}: {}{}", output.status, text(&output.stdout), text(&output.stderr))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => _ = std::fs::copy(entry.path(), target).unwrap(),
        }
    }
}

#[test]
fn a_removed_backup_and_a_second_history_are_noticed_by_machines_that_never_saw_the_repository() {
    let _alone = alone();
    let cluster = TestCluster::start();
    let vault = Vault::new(&cluster);
    vault.back_up(0, "two");
    let fresh = vault.on("second", 1, &["vault", "verify", "--cluster"]);
    assert!(fresh.status.success(), "{}", said(&fresh));
    assert!(said(&fresh).contains("contains the newest head remembered"), "{}", said(&fresh));
    vault.keep("repository", "kept");
    vault.back_up(1, "three");
    vault.keep("repository", "whole");
    assert_eq!(vault.chain(2)["by"], "b", "it was said by node b");
    let newest = vault.head("writer");
    assert_eq!(vault.chain(0)["head"], newest.as_str());

    // Everything that the newest backup wrote goes. What is left is whole.
    vault.put_back("kept");
    let silent = vault.on("third", 2, &["vault", "verify"]);
    assert!(silent.status.success() && said(&silent).contains("not provable"), "{}", said(&silent));
    let target = vault.path("back").to_string_lossy().into_owned();
    for words in [&["vault", "verify"][..], &["vault", "status"], &["restore", "--target", &target]]
    {
        let words = [words, &["--cluster"]].concat();
        let noticed = vault.on("fourth", 2, &words);
        assert!(!noticed.status.success(), "{words:?}: {}", said(&noticed));
        assert!(said(&noticed).contains("the cluster remembers"), "{}", said(&noticed));
    }
    assert!(!Path::new(&target).exists(), "something was restored");
    let alarm = || cluster.ask(0, &["status"]).filter(|text| text.contains("two histories"));
    until("an alarm", alarm);

    // Someone goes on with the old copy, beyond what is remembered.
    for text in ["four", "five", "six"] {
        vault.write(text);
        let alone = vault.on("stray", 2, &["backup", &vault.data(), "--name", "book"]);
        assert!(alone.status.success(), "{}", said(&alone));
    }
    let forked = vault.on("stray", 2, &["vault", "record"]);
    assert!(!forked.status.success(), "{}", said(&forked));
    let (heads, code) = vault.heads(0);
    assert_eq!(code, Some(3), "{heads}");
    assert_eq!(vault.chain(0)["head"], newest.as_str(), "what is remembered holds");
    let (id, chain) = heads.as_object().unwrap().iter().next().unwrap();
    let forks = chain["forks"].as_array().unwrap().clone();
    assert!(forks.len() >= 2, "{chain}");

    // The right copy comes back; an operator names each fork and ends the alarm.
    vault.put_back("whole");
    let credential = cluster.path(0, "data/operator.pem");
    for fork in &forks {
        let name = format!("{id}/{}", fork["found"].as_str().unwrap());
        let as_node = vault.on("viewer", 1, &["vault", "heads", "--clear-fork", &name]);
        assert!(!as_node.status.success(), "a node may not: {}", said(&as_node));
        let words = ["vault", "heads", "--clear-fork", &name, "--credential", &credential];
        vault.on("viewer", 0, &words);
    }
    assert_eq!(vault.heads(0).1, Some(0));
    until("no alarm", || cluster.ask(0, &["status"]).filter(|t| !t.contains("two histories")));
    let whole = vault.on("fifth", 2, &["vault", "verify", "--cluster"]);
    assert!(whole.status.success(), "{}", said(&whole));
    let metrics = || metrics(&cluster).contains("backstay_vault_newest_backup_age_seconds");
    assert!(metrics());
}

/// What node a tells a collector.
fn metrics(cluster: &TestCluster) -> String {
    let pem = std::fs::read_to_string(cluster.path(0, "data/operator.pem")).unwrap();
    let credential = agent::identity::Credential::from_pem(&pem).unwrap();
    let client = agent::api::ApiClient::new(&credential, &[cluster.api(0).parse().unwrap()]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(client.unwrap().get_text("/metrics")).unwrap()
}

#[test]
fn what_is_killed_between_repository_and_log_is_made_up_for_and_silence_is_never_a_yes() {
    let _alone = alone();
    let cluster = TestCluster::start();
    let vault = Vault::new(&cluster);
    vault.back_up(0, "two");
    let before = vault.chain(0)["head"].clone();
    // A node that takes calls and never answers: the backup comes to the repository, and dies
    // when it is about to tell.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    vault.write("three");
    let words = ["backup", &vault.data(), "--name", "book", "--cluster", "--api", &at];
    let mut command = vault.command("writer", 0, &words);
    let mut child = command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    // The first two calls look, of the coordinator and of the node itself; the third would tell.
    for _ in 0..2 {
        drop(listener.accept().unwrap());
    }
    let third = listener.accept().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    drop(third);
    let left = vault.head("writer");
    assert_ne!(before, left.as_str(), "the backup is in the repository");
    assert_eq!(vault.chain(0)["head"], before, "and the log does not know");
    let verified = vault.on("second", 1, &["vault", "verify", "--cluster"]);
    assert!(verified.status.success(), "{}", said(&verified));
    assert_eq!(vault.chain(2)["head"], left.as_str(), "a verification made up for it");

    // Nobody answers: the backup is made, and the exit code says that nobody remembers it.
    drop(listener);
    vault.write("four");
    let told = vault.on("writer", 0, &[&words[..], &["--json"]].concat());
    assert_eq!(told.status.code(), Some(3), "{}", said(&told));
    assert!(said(&told).contains("NOT RECORDED"), "{}", said(&told));
    let shown: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(shown["remembered"], false);
    let silent = vault.on("third", 1, &["vault", "verify", "--cluster", "--api", &at]);
    assert!(!silent.status.success(), "{}", said(&silent));
    let recorded = vault.on("third", 1, &["vault", "record"]);
    assert!(recorded.status.success(), "{}", said(&recorded));
    assert_eq!(vault.chain(0)["head"], shown["head"]);
}

const SCHEDULE: &str = "[cluster]\nrecord = \"every 1d\"\n[[source]]\nname = \"book\"\n\
    path = \"DATA\"\nbackup = \"every 1s\"\nonly = \"standby or active of orders\"\n";

#[test]
fn a_schedule_beside_the_agents_runs_on_one_standby_and_moves_with_a_takeover() {
    let _alone = alone();
    let mut cluster = TestCluster::start();
    let folder = {
        let vault = Vault::new(&cluster);
        let schedule = SCHEDULE.replace("DATA", &vault.data());
        std::fs::write(vault.path("vault.toml"), schedule).unwrap();
        vault.folder
    };
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    for (node, name) in NODES.iter().enumerate() {
        let state = path(&format!("state-{name}"));
        cluster.restart_agent_with(
            node,
            &[
                ("BACKSTAY_VAULT_SCHEDULE", &path("vault.toml")),
                ("BACKSTAY_REPOSITORY", &path("repository")),
                ("BACKSTAY_KEY_FILE", &path("key")),
                ("BACKSTAY_STATE_DIR", &state),
            ],
        );
    }
    let scene = cluster.until_whole();
    let first_standby = |active: usize| (0..NODES.len()).find(|node| *node != active).unwrap();
    // Whoever made the newest backup said so.
    let writer = |cluster: &TestCluster, after: u64| {
        let data = cluster.path(scene.coordinator, "data");
        let told = cluster.call(&["vault", "heads", "--json", "--data", &data]).ok()?;
        let heads: Value = serde_json::from_str(&told).ok()?;
        let book = heads.as_object()?.values().next()?["sources"]["book"].clone();
        let number = book["newest"]["number"].as_u64().filter(|number| *number > after)?;
        Some((NODES.iter().position(|node| book["by"] == *node)?, number))
    };
    let by = first_standby(scene.active);
    let (_, mut number) = until_followed("a backup by the first standby", || {
        writer(&cluster, 0).filter(|(node, _)| *node == by)
    });
    let others: Vec<String> = (0..NODES.len())
        .map(|node| {
            let status = until("a status", || {
                let status: Value =
                    serde_json::from_str(&cluster.ask(node, &["status", "--json"])?).unwrap();
                status["vault_run"]["jobs"].as_array().filter(|jobs| !jobs.is_empty())?;
                Some(status)
            });
            let jobs = status["vault_run"]["jobs"].as_array().unwrap().clone();
            let backup = jobs.iter().find(|job| job["job"] == "backup").unwrap();
            backup["why"].as_str().unwrap().to_owned()
        })
        .collect();
    for (node, why) in others.iter().enumerate().filter(|(node, _)| *node != by) {
        assert_eq!(why, "turn", "{} must let the first standby do it", NODES[node]);
    }
    // The standby takes over: it is no standby any more, and another one goes on.
    cluster.switchover(scene.coordinator, by);
    let next = first_standby(by);
    number = until_followed("a backup by the next one", || {
        writer(&cluster, number).filter(|(node, _)| *node == next)
    })
    .1;
    assert!(number > 0);
    for (node, name) in NODES.iter().enumerate() {
        ends_with_its_agent(&cluster, node, &folder.path().join(format!("state-{name}")));
    }
}

/// An agent that is killed leaves no `vault run` behind that goes on.
fn ends_with_its_agent(cluster: &TestCluster, node: usize, state: &Path) {
    let runs = || {
        let named = processes_naming(state).into_iter();
        named.filter(|(_, words)| words.contains("vault run")).map(|(id, _)| id).next()
    };
    let child = until("a `vault run`", runs);
    let agent = pid(cluster.agent(node).0.id());
    rustix::process::kill_process(agent, rustix::process::Signal::KILL).unwrap();
    until("its end", || (!Path::new(&format!("/proc/{child}/exe")).exists()).then_some(()));
}

//! A real cluster of three nodes on loopback, made with the commands that a person would use,
//! with store and client beside it. Everything dies with it.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use backstay::orders::wire::Verdict;
use model::Moment;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::demo_rig::{Client, Process, Store, intervals, until};

/// The nodes.
pub(crate) const NODES: [&str; 3] = ["a", "b", "c"];

/// Whole clusters run one at a time: the machine's cores are what their timers are made of.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    // A test that failed leaves nothing behind that the next one could meet.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Processes whose arguments or environment name this path, with their arguments.
pub(crate) fn processes_naming(path: &Path) -> Vec<(u32, String)> {
    let needle = path.as_os_str().as_encoded_bytes();
    let names = |proc: &Path, file: &str| {
        let text = std::fs::read(proc.join(file)).unwrap_or_default();
        text.windows(needle.len()).any(|window| window == needle)
    };
    let entries = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap());
    let numbered = entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse::<u32>().ok()?;
        Some((pid, entry.path()))
    });
    let naming = numbered.filter(|(pid, proc)| {
        *pid != std::process::id() && (names(proc, "cmdline") || names(proc, "environ"))
    });
    let told = |proc: &Path| {
        let words = std::fs::read(proc.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&words).replace('\0', " ")
    };
    naming.map(|(pid, proc)| (pid, told(&proc))).collect()
}

/// A process id as the kernel's calls take it.
pub(crate) fn pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

/// Addresses of one cluster: the process id and a count pick the network.
struct Network([u8; 2]);

impl Network {
    fn draw() -> Network {
        static DRAWN: AtomicU8 = AtomicU8::new(0);
        let (id, drawn) = (std::process::id(), DRAWN.fetch_add(1, Ordering::Relaxed));
        assert!(drawn < 8, "more clusters than networks: use another octet");
        Network([128 + (id % 16) as u8 * 8 + drawn, (id / 16 % 250) as u8])
    }

    fn at(&self, node: usize, link: usize) -> Ipv4Addr {
        let [second, third] = self.0;
        Ipv4Addr::new(127, second, third, (link * 10 + node + 1) as u8)
    }

    fn api(&self, node: usize) -> SocketAddr {
        (self.at(node, 0), 7402).into()
    }

    fn orders(&self, node: usize) -> SocketAddr {
        (self.at(node, 0), 7500).into()
    }
}

/// The processes of one node.
struct Node {
    launcher: Process,
    guard: Process,
    agent: Process,
}

/// Who is who.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scene {
    pub(crate) coordinator: usize,
    pub(crate) active: usize,
}

/// A whole cluster that serves orders.
pub(crate) struct TestCluster {
    nodes: Vec<Node>,
    client: Option<Client>,
    _store: Store,
    network: Network,
    dir: tempfile::TempDir,
}

impl TestCluster {
    /// Starts everything and waits until one instance is active and two stand by.
    pub(crate) fn start() -> TestCluster {
        let (dir, network) = (tempfile::tempdir_in("/tmp").unwrap(), Network::draw());
        let store = Store::start(dir.path());
        std::fs::write(dir.path().join("cluster.toml"), config(dir.path(), &network, &store))
            .unwrap();
        let mut cluster =
            TestCluster { nodes: Vec::new(), client: None, _store: store, network, dir };
        let file = cluster.dir.path().join("cluster.toml").to_string_lossy().into_owned();
        let data = cluster.path(0, "data");
        let init = ["init", "--no-measure", "--config", &file, "--node", NODES[0]];
        cluster.must(&[&init[..], &["--data", &data]].concat());
        cluster.start_node(0);
        for (node, name) in NODES.iter().enumerate().skip(1) {
            // The first node has just started, or has just gained a voter: not at once, then soon.
            let token = until("a token", || cluster.ask(0, &["token", "--node", name]));
            let data = cluster.path(node, "data");
            cluster.must(&["join", "--node", name, "--token", token.trim(), "--data", &data]);
            cluster.start_node(node);
        }
        cluster.until_whole();
        let servers: Vec<String> =
            (0..NODES.len()).map(|node| cluster.network.orders(node).to_string()).collect();
        cluster.client = Some(Client::start_at(cluster.dir.path(), &servers, &cluster._store));
        cluster.served();
        cluster
    }

    /// A path below a node's directory.
    pub(crate) fn path(&self, node: usize, name: &str) -> String {
        self.dir.path().join(NODES[node]).join(name).to_string_lossy().into_owned()
    }

    /// The configuration that the cluster was founded with.
    pub(crate) fn configuration(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("cluster.toml")).unwrap()
    }

    /// Where a node's API answers.
    pub(crate) fn api(&self, node: usize) -> String {
        self.network.api(node).to_string()
    }

    fn start_part(&self, node: usize, part: &str) -> Process {
        self.start_part_with(node, part, &[])
    }

    fn start_part_with(&self, node: usize, part: &str, settings: &[(&str, &str)]) -> Process {
        let log = self.dir.path().join(format!("{}-{part}.log", NODES[node]));
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        command
            .args([part, "--data", &self.path(node, "data"), "--run", &self.path(node, "run")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .envs(settings.iter().copied());
        Process(command.spawn().unwrap())
    }

    /// Starts the three processes of a node.
    pub(crate) fn start_node(&mut self, node: usize) {
        let [launcher, guard, agent] =
            ["launcher", "guard", "agent"].map(|part| self.start_part(node, part));
        self.nodes.push(Node { launcher, guard, agent });
    }

    /// Runs a command; its output where it succeeded.
    pub(crate) fn call(&self, words: &[&str]) -> Result<String, String> {
        let output = Command::new(env!("CARGO_BIN_EXE_backstay")).args(words).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    fn must(&self, words: &[&str]) {
        self.call(words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
    }

    /// Asks one node as the operator.
    pub(crate) fn ask(&self, node: usize, words: &[&str]) -> Option<String> {
        let (credential, api) = (self.path(0, "data/operator.pem"), self.network.api(node));
        let api = api.to_string();
        let all = [words, &["--credential", &credential, "--api", &api]].concat();
        self.call(&all).ok()
    }

    /// Who is who, as one node has it from the coordinator; nothing while that is not clear.
    fn scene(&self, node: usize) -> Option<Scene> {
        let status: Value = serde_json::from_str(&self.ask(node, &["status", "--json"])?).unwrap();
        let place = |name: &Value| NODES.iter().position(|n| name.as_str() == Some(n));
        let orders = &status["resources"][0];
        let settled = status["authoritative"] == true && orders["active"] == true;
        let places = place(&status["coordinator"]).zip(place(&orders["node"]));
        places.filter(|_| settled).map(|(coordinator, active)| Scene { coordinator, active })
    }

    /// Who is who, as soon as any of these nodes says so and it is as wanted.
    pub(crate) fn until_scene(
        &self,
        what: &str,
        asked: &[usize],
        wanted: impl Fn(&Scene) -> bool,
    ) -> Scene {
        until(what, || asked.iter().find_map(|node| self.scene(*node)).filter(&wanted))
    }

    /// Waits until all nodes are healthy, one instance is active and two stand by.
    pub(crate) fn until_whole(&self) -> Scene {
        until("a whole cluster", || {
            (0..NODES.len()).find_map(|node| {
                let status: Value =
                    serde_json::from_str(&self.ask(node, &["status", "--json"])?).unwrap();
                let nodes = status["nodes"].as_array()?;
                let ready = |n: &Value| n["health"] == "healthy" && n["ready"] == true;
                let standbys = status["resources"][0]["standbys"].as_array()?.len();
                let whole = nodes.len() == NODES.len() && nodes.iter().all(ready) && standbys == 2;
                self.scene(node).filter(|_| whole)
            })
        })
    }

    /// Moves the service as planned.
    pub(crate) fn switchover(&self, asked: usize, to: usize) {
        let words = ["switchover", "orders", "--to", NODES[to]];
        self.ask(asked, &words).unwrap_or_else(|| panic!("no switchover to {}", NODES[to]));
        self.until_scene("the service at its place", &[asked], |scene| scene.active == to);
    }

    /// The agent of a node.
    pub(crate) fn agent(&self, node: usize) -> &Process {
        &self.nodes[node].agent
    }

    /// Ends the agent alone as a service manager does, and starts it again.
    pub(crate) fn restart_agent(&mut self, node: usize) {
        self.restart_agent_with(node, &[]);
    }

    /// The same, with these settings in its environment.
    pub(crate) fn restart_agent_with(&mut self, node: usize, settings: &[(&str, &str)]) {
        let agent = &mut self.nodes[node].agent;
        kill_process(Pid::from_child(&agent.0), Signal::TERM).unwrap();
        let status = agent.0.wait().unwrap();
        assert!(status.success(), "the agent ended with {status}");
        self.nodes[node].agent = self.start_part_with(node, "agent", settings);
    }

    /// Ends the agent alone and waits for its end.
    pub(crate) fn stop_agent(&mut self, node: usize) {
        let agent = &mut self.nodes[node].agent;
        kill_process(Pid::from_child(&agent.0), Signal::TERM).unwrap();
        agent.0.wait().unwrap();
    }

    /// Starts the agent alone, where it has ended.
    pub(crate) fn start_agent(&mut self, node: usize) {
        self.nodes[node].agent = self.start_part(node, "agent");
    }

    /// Waits until the agent ends by itself; whether it was content.
    pub(crate) fn agent_ends(&mut self, node: usize) -> bool {
        let agent = &mut self.nodes[node].agent;
        until("the agent's end", || agent.0.try_wait().unwrap()).success()
    }

    /// Turns a node that was killed on again, with the data it had.
    pub(crate) fn revive(&mut self, node: usize) {
        self.bury(node);
        let [launcher, guard, agent] =
            ["launcher", "guard", "agent"].map(|part| self.start_part(node, part));
        self.nodes[node] = Node { launcher, guard, agent };
    }

    /// Waits until nothing is left of a node that was killed, as after a loss of power.
    pub(crate) fn bury(&mut self, node: usize) {
        let Node { agent, guard, launcher } = &mut self.nodes[node];
        for process in [agent, guard, launcher] {
            process.0.wait().unwrap();
        }
        let run = self.path(node, "run");
        if Path::new(&run).exists() {
            std::fs::remove_dir_all(run).unwrap();
        }
    }

    /// Kills a node: agent, guard, launcher, and its instance of the service.
    pub(crate) fn kill_node(&mut self, node: usize) {
        let instance = self.instance(node);
        let Node { agent, guard, launcher } = &mut self.nodes[node];
        for process in [agent, guard, launcher] {
            process.0.kill().unwrap();
        }
        if let Some(instance) = instance {
            // It may have gone with its launcher.
            _ = kill_process(pid(instance), Signal::KILL);
        }
    }

    /// What the processes said last.
    fn show_logs(&self) {
        for node in NODES {
            for part in ["agent", "launcher", "guard"] {
                let name = format!("{node}-{part}.log");
                let text = std::fs::read_to_string(self.dir.path().join(&name)).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let from = lines.len().saturating_sub(LOG_LINES_SHOWN);
                eprintln!("--- {name}\n{}", lines[from..].join("\n"));
            }
        }
    }

    /// Turns all nodes off, as a loss of power does.
    pub(crate) fn off(&mut self) {
        for node in 0..self.nodes.len() {
            self.kill_node(node);
            let Node { agent, guard, launcher } = &mut self.nodes[node];
            for process in [agent, guard, launcher] {
                process.0.wait().unwrap();
            }
            std::fs::remove_dir_all(self.path(node, "run")).unwrap();
        }
        self.nodes.clear();
    }

    /// Turns the rest of the nodes on again, and waits until the service is whole.
    pub(crate) fn on(&mut self) {
        (self.nodes.len()..NODES.len()).for_each(|node| self.start_node(node));
        self.until_whole();
        self.served();
    }

    /// The process id of a node's instance.
    pub(crate) fn instance(&self, node: usize) -> Option<u32> {
        let run = self.dir.path().join(NODES[node]).join("run");
        let named = processes_naming(&run);
        let mut servers = named.into_iter().filter(|(_, words)| words.contains("orders-server"));
        servers.next().map(|(pid, _)| pid)
    }

    /// The epoch of the instance that was active last, and its name and process.
    pub(crate) fn holder(&self) -> (String, u32, String) {
        let newest = intervals(self.dir.path()).into_iter().max_by_key(|i| (i.epoch, i.last));
        newest.map(|i| (i.instance, i.pid, i.epoch.to_string())).unwrap()
    }

    /// Milliseconds during which two instances were active.
    pub(crate) fn two_active_ms(&self) -> u64 {
        let all = intervals(self.dir.path());
        let later = |i: usize| all[i + 1..].iter().map(move |other| (i, other));
        let pairs = (0..all.len()).flat_map(later).map(|(i, other)| (&all[i], other));
        let apart = pairs.filter(|(one, other)| one.pid != other.pid);
        apart.map(|(a, b)| a.last.min(b.last).since(a.first.max(b.first)).as_ms()).sum()
    }

    /// Waits until an order sent from now on is acknowledged.
    pub(crate) fn served(&self) {
        self.client.as_ref().unwrap().acknowledged_after(backstay::orders::records::now());
    }

    /// Orders that were acknowledged and are not in the store.
    pub(crate) fn lost(&self) -> Vec<String> {
        // The client's list first: what it knows by then, the store knew before.
        let orders = self.client.as_ref().unwrap().records();
        let stored = self._store.records();
        let stored: std::collections::BTreeSet<&str> = stored
            .iter()
            .filter(|record| record.verdict == Verdict::Stored)
            .map(|record| record.order.as_str())
            .collect();
        let done = orders.iter().filter(|order| order.acknowledged.is_some());
        let missing = done.filter(|order| !stored.contains(order.order.as_str()));
        missing.map(|order| order.order.clone()).collect()
    }

    /// The longest time between two acknowledgements within these moments, in milliseconds.
    pub(crate) fn longest_gap_ms(&self, from: Moment, to: Moment) -> u64 {
        let records = self.client.as_ref().unwrap().records();
        let mut done: Vec<Moment> = records.iter().filter_map(|o| o.acknowledged).collect();
        done.retain(|moment| *moment >= from && *moment <= to);
        done.extend([from, to]);
        done.sort_unstable();
        done.windows(2).map(|pair| pair[1].since(pair[0]).as_ms()).max().unwrap()
    }
}

/// Lines of each log that a failed test shows.
const LOG_LINES_SHOWN: usize = 40;

impl Drop for TestCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
        }
        for node in (0..self.nodes.len()).rev() {
            self.kill_node(node);
        }
        // What a test failed to foresee goes too; nobody else names this directory.
        for (stray, _) in processes_naming(self.dir.path()) {
            _ = kill_process(pid(stray), Signal::KILL);
        }
    }
}

/// The configuration: three nodes with two links, the order server with hot standbys.
fn config(dir: &Path, network: &Network, store: &Store) -> String {
    let node = |n: usize| {
        let links = [0, 1].map(|link| format!("\"{}\"", network.at(n, link)));
        format!("\n[[node]]\nname = \"{}\"\nlinks = [{}]\n", NODES[n], links.join(", "))
    };
    let nodes: String = (0..NODES.len()).map(node).collect();
    let listen: Vec<String> =
        (0..NODES.len()).map(|n| format!("{}={}", NODES[n], network.orders(n))).collect();
    let log: PathBuf = dir.join("active.jsonl");
    let words = [
        env!("CARGO_BIN_EXE_backstay"),
        "example",
        "orders-server",
        "--listen",
        &listen.join(","),
        "--store",
        &store.address.to_string(),
        "--active-log",
        &log.to_string_lossy(),
    ];
    format!(
        "[cluster]\nname = \"test\"\nprofile = \"lan\"\n{nodes}\n[[resource]]\n\
         name = \"orders\"\nkind = \"process\"\ncommand = {words:?}\nmode = \"active-passive\"\n\
         standby = \"hot\"\nready = \"notify\"\npromote = \"socket\"\n"
    )
}

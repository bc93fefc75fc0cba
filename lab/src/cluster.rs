//! A whole cluster on hosts: three nodes on two links, a service behind an address that moves, a
//! client and a store on hosts of their own. Made by the commands that a person would use.

pub(crate) mod calls;
mod configuration;
mod hands;
mod office;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use model::Moment;
use rustix::process::Signal;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tempfile::TempDir;

use crate::disk::Disk;
use crate::host::{Host, Program};
use crate::network::Network;
use crate::records::{Order, Records, intervals, tail};
use crate::shell::{Done, ip, run, until};
use crate::sweep::PREFIX;
use crate::watch::{Holding, holdings};

/// Set, directories stay where they are until the next lab begins.
const KEEP: &str = "BACKSTAY_LAB_KEEP";
/// The nodes.
pub(crate) const NODES: [&str; 3] = ["a", "b", "c"];
/// The hosts beside them.
const OTHERS: [&str; 2] = ["client", "judge"];
/// The address that moves.
pub(crate) const ADDRESS: &str = "10.77.0.100";
/// The store, on the judge's host.
const STORE: &str = "10.77.0.5:7600";
/// Longest wait for a cluster to be whole. Only a failing case meets it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Faults come faster here than anywhere: for so long what failed is remembered, then it holds
/// nothing back.
pub(crate) const REMEMBERED: Duration = Duration::from_secs(1);
/// What the client wrote within the last seconds, and within the last minutes.
const LAST_BYTES: u64 = 64 << 10;
/// As above.
const RECENT_BYTES: u64 = 16 << 20;
/// Lines of each log in messages.
const LAST_WORDS: usize = 8;
/// The resource that takes orders, and the address that goes with it.
const ORDERS: &str = "orders";
/// As above.
const MOVING: &str = "orders-address";

/// A node: its host, and what of Backstay runs there.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) host: Host,
    /// Launcher, guard, agent; empty while the power is off.
    pub(crate) parts: Vec<(&'static str, Program)>,
    watcher: Option<Program>,
}

/// Who is who.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scene {
    pub(crate) coordinator: usize,
    pub(crate) active: usize,
}

/// How a cluster is made.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// The program under test.
    pub(crate) binary: PathBuf,
    /// The timing profile.
    pub(crate) profile: String,
    /// Resources beside the service and its address: programs that do nothing.
    pub(crate) idle: usize,
    /// Each node has a binary of its own, whose pages it shares with no other node.
    pub(crate) own_binaries: bool,
    /// Each node's data lies on a disk that fails when it is told to.
    pub(crate) disks: bool,
    /// The last node votes and runs nothing.
    pub(crate) witness: bool,
    /// The last node runs something and has no vote.
    pub(crate) member: bool,
}

impl Setup {
    /// What a node's certificate says that it is.
    fn role(&self, node: usize) -> &'static str {
        match node + 1 == NODES.len() {
            true if self.witness => "witness",
            true if self.member => "member",
            _ => "voter",
        }
    }

    /// Nodes that run something.
    fn runners(&self) -> usize {
        NODES.len() - usize::from(self.witness)
    }
}

/// A whole cluster. Everything goes with it.
#[derive(Debug)]
pub(crate) struct Cluster {
    // In the order in which they go: programs, then cgroups and directories, then the network.
    client: Option<Program>,
    _store: Program,
    _client_host: Host,
    _judge_host: Host,
    pub(crate) nodes: Vec<Node>,
    /// Of each node, where it is one of the lab's.
    disks: Vec<Disk>,
    pub(crate) network: Network,
    /// Directories that are mounts of their own.
    mounts: Vec<String>,
    /// Cgroups that limit something.
    limits: Vec<String>,
    dir: TempDir,
    setup: Setup,
    /// A judge found that something was lost, doubled, or active twice.
    pub(crate) harmed: bool,
    /// A case's own judge has found no harm, where the usual one would find what the case brought
    /// about.
    pub(crate) judged: bool,
}

impl Cluster {
    /// Starts everything and waits until it is whole.
    pub(crate) fn start(setup: &Setup) -> Done<Cluster> {
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let mut dir =
            tempfile::Builder::new().prefix(&prefix).tempdir().map_err(|e| e.to_string())?;
        // For somebody who looks for the reason; the next lab clears it away.
        dir.disable_cleanup(std::env::var_os(KEEP).is_some());
        let network = Network::lay(&NODES, &OTHERS)?;
        let host = |name: &str| Host::new(&network, name, dir.path());
        let (client_host, judge_host) = (host("client")?, host("judge")?);
        let binary = setup.binary.to_string_lossy().into_owned();
        let records = dir.path().join("store.jsonl").to_string_lossy().into_owned();
        let words = [&binary, "example", "orders-store", "--listen", STORE, "--records", &records];
        let store = judge_host.start(&network, "store", &words)?;
        let mut nodes = Vec::new();
        for name in NODES {
            let watcher = own_program()?;
            let host = host(name)?;
            // Outside of the host's power switch: it goes on while the node is frozen or dead.
            let words = [watcher.as_str(), "watch-address", ADDRESS];
            let watcher = judge_host.observe(&network, name, "holding", &words)?;
            nodes.push(Node { host, parts: Vec::new(), watcher: Some(watcher) });
        }
        let mut cluster = Cluster {
            client: None,
            _store: store,
            _client_host: client_host,
            _judge_host: judge_host,
            nodes,
            disks: Vec::new(),
            network,
            mounts: Vec::new(),
            limits: Vec::new(),
            dir,
            setup: setup.clone(),
            harmed: false,
            judged: false,
        };
        cluster.found()?;
        cluster.until_whole()?;
        cluster.start_client()?;
        cluster.until_served()?;
        Ok(cluster)
    }

    fn found(&mut self) -> Done {
        for node in 0..if self.setup.disks { NODES.len() } else { 0 } {
            let (backing, data) = (self.of(node, "data.disk"), self.of(node, "data"));
            std::fs::create_dir(&backing).map_err(|e| e.to_string())?;
            std::fs::create_dir(&data).map_err(|e| e.to_string())?;
            self.disks.push(Disk::mount(backing.as_ref(), data.as_ref())?);
        }
        let file = self.path("cluster.toml");
        std::fs::write(&file, self.configuration()).map_err(|e| e.to_string())?;
        let data = self.of(0, "data");
        let found = ["init", "--config", &file, "--node", "a", "--data", &data, "--no-measure"];
        self.command("a", &found)?;
        self.power_on(0)?;
        // The operator keeps it elsewhere than on a disk that a case may take away.
        std::fs::copy(format!("{data}/operator.pem"), self.path("operator.pem"))
            .map_err(|e| format!("the operator's credential: {e}"))?;
        for node in 1..NODES.len() {
            self.join(node)?;
            self.power_on(node)?;
        }
        Ok(())
    }

    fn start_client(&mut self) -> Done {
        let (binary, records) = (self.binary(), self.path("client.jsonl"));
        let server = format!("{ADDRESS}:7500");
        let words = [
            binary.as_str(),
            "example",
            "orders-client",
            "--servers",
            &server,
            "--store",
            STORE,
            "--timeout-ms",
            "20",
            "--records",
            &records,
        ];
        self.client = Some(self._client_host.start(&self.network, "client", &words)?);
        Ok(())
    }

    fn binary(&self) -> String {
        self.setup.binary.to_string_lossy().into_owned()
    }

    /// The binary that a node runs.
    fn binary_of(&self, node: usize) -> Done<String> {
        if !self.setup.own_binaries {
            return Ok(self.binary());
        }
        let path = self.of(node, "backstay");
        if !std::path::Path::new(&path).exists() {
            std::fs::copy(&self.setup.binary, &path).map_err(|e| format!("{path}: {e}"))?;
        }
        Ok(path)
    }

    /// A file of the lab.
    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }

    /// A directory of a node.
    pub(crate) fn of(&self, node: usize, name: &str) -> String {
        self.path(&format!("{}/{name}", NODES[node]))
    }

    /// Switches a node on: its kernel knows nothing of before, its disk does.
    pub(crate) fn power_on(&mut self, node: usize) -> Done {
        let (data, run_dir) = (self.of(node, "data"), self.of(node, "run"));
        let binary = self.binary_of(node)?;
        for part in ["launcher", "guard", "agent"] {
            let words = [binary.as_str(), part, "--data", &data, "--run", &run_dir];
            let program = self.nodes[node].host.start(&self.network, part, &words)?;
            self.nodes[node].parts.push((part, program));
        }
        Ok(())
    }

    /// Cuts a node's power: everything on it is gone at once, and so are its frames, its address
    /// and what lay in memory.
    pub(crate) fn power_off(&mut self, node: usize) -> Done {
        let namespace = self.network.namespace(NODES[node]);
        for link in 0..crate::network::LINKS {
            ip(&format!("-n {namespace} link set eth{link} down"))?;
        }
        self.nodes[node].host.power.strike()?;
        // Whoever waits for its disk can't end before it is answered.
        if let Some(disk) = self.disks.get(node) {
            disk.abandon();
        }
        self.nodes[node].host.power.renew()?;
        // A real kernel would have gone with the power, and this with it. It may hold none.
        drop(ip(&format!("-n {namespace} address del {ADDRESS}/24 dev eth0")));
        self.nodes[node].parts.clear();
        Ok(())
    }

    /// Back to a kernel that has just started, without the programs.
    pub(crate) fn reboot(&mut self, node: usize) -> Done {
        let run_dir = self.of(node, "run");
        std::fs::remove_dir_all(&run_dir).map_err(|e| format!("{run_dir}: {e}"))?;
        self.plug(node)?;
        self.power_on(node)
    }

    /// The network of a node that was switched off.
    pub(crate) fn plug(&self, node: usize) -> Done {
        let namespace = self.network.namespace(NODES[node]);
        for link in 0..crate::network::LINKS {
            ip(&format!("-n {namespace} link set eth{link} up"))?;
        }
        Ok(())
    }

    /// One of the three processes of a node.
    pub(crate) fn part(&mut self, node: usize, part: &str) -> Done<&mut Program> {
        let found = self.nodes[node].parts.iter_mut().find(|(name, _)| *name == part);
        found.map(|(_, program)| program).ok_or_else(|| format!("{part} does not run"))
    }

    /// Starts one of the three processes again.
    pub(crate) fn restart_part(&mut self, node: usize, part: &'static str) -> Done {
        self.nodes[node].parts.retain(|(name, _)| *name != part);
        let (data, run_dir) = (self.of(node, "data"), self.of(node, "run"));
        let binary = self.binary_of(node)?;
        let words = [binary.as_str(), part, "--data", &data, "--run", &run_dir];
        let program = self.nodes[node].host.start(&self.network, part, &words)?;
        self.nodes[node].parts.push((part, program));
        Ok(())
    }

    /// What a node says of the cluster; nothing where it does not answer.
    pub(crate) fn status(&self, node: usize) -> Option<Value> {
        serde_json::from_str(&self.ask(node, &["status", "--json"]).ok()?).ok()
    }

    /// What a node's `status` warns of; nothing where it does not answer.
    pub(crate) fn alarms(&self, node: usize) -> Option<Vec<String>> {
        let status = self.status(node)?;
        let alarms = status["alarms"].as_array()?;
        Some(alarms.iter().filter_map(|alarm| alarm.as_str().map(str::to_owned)).collect())
    }

    /// Who is who, where a node has that from the coordinator and both resources are settled.
    pub(crate) fn scene(&self, node: usize) -> Option<Scene> {
        let status = self.status(node)?;
        let place = |name: &Value| NODES.iter().position(|n| name.as_str() == Some(n));
        let resources = status["resources"].as_array()?;
        let of = |name: &str| resources.iter().find(|r| r["name"] == name);
        let (orders, moving) = (of(ORDERS)?, of(MOVING)?);
        let settled = status["authoritative"] == true
            && [orders, moving].iter().all(|r| r["active"] == true)
            && orders["node"] == moving["node"];
        let places = place(&status["coordinator"]).zip(place(&orders["node"]));
        places.filter(|_| settled).map(|(coordinator, active)| Scene { coordinator, active })
    }

    /// Who is who, as soon as a node with power says so and it is as wanted.
    pub(crate) fn until_scene(&self, what: &str, wanted: impl Fn(&Scene) -> bool) -> Done<Scene> {
        until(what, PATIENCE, || self.seen(&wanted))
            .map_err(|error| format!("{error}\n{}", self.told()))
    }

    /// The first node's word that is wanted.
    fn seen(&self, wanted: &dyn Fn(&Scene) -> bool) -> Option<Scene> {
        let mut on = (0..NODES.len()).filter(|node| !self.nodes[*node].parts.is_empty());
        on.find_map(|node| self.scene(node).filter(wanted))
    }

    /// Waits until all nodes are healthy and ready, both resources active, and standbys wait on
    /// all others.
    pub(crate) fn until_whole(&self) -> Done<Scene> {
        let whole = |node: usize| {
            let status = self.status(node)?;
            let nodes = status["nodes"].as_array()?;
            let ready = |n: &Value| n["health"] == "healthy" && n["ready"] == true;
            let spares = |r: &Value| {
                let cold = r["name"].as_str().is_some_and(|name| name.starts_with("idle-"));
                let standbys = r["standbys"].as_array().map_or(0, Vec::len);
                r["active"] == true && (cold || standbys == self.setup.runners() - 1)
            };
            let resources = status["resources"].as_array()?;
            let all = nodes.len() == NODES.len()
                && nodes.iter().all(ready)
                && resources.len() == 2 + self.setup.idle
                && resources.iter().all(spares);
            self.scene(node).filter(|_| all)
        };
        until("a whole cluster", PATIENCE, || (0..NODES.len()).find_map(whole))
            .map_err(|error| format!("{error}\n{}", self.told()))
    }

    /// What the nodes say, for messages.
    fn told(&self) -> String {
        let of = |node: usize| self.ask(node, &["status"]).unwrap_or_else(|error| error);
        (0..NODES.len())
            .map(|node| format!("{}: {}\n{}", NODES[node], of(node), self.last_words(node)))
            .collect()
    }

    /// The last lines that the processes of a node logged.
    fn last_words(&self, node: usize) -> String {
        let of = |part: &&str| {
            let log = self.of(node, &format!("{part}.log"));
            let text = std::fs::read_to_string(log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(LAST_WORDS)..];
            format!("last words of {part} on {}:\n{}\n", NODES[node], last.join("\n"))
        };
        ["launcher", "guard", "agent"].iter().map(of).collect()
    }

    /// The process of the active instance of the service, found by its host's cgroup.
    pub(crate) fn instance(&self, node: usize) -> Done<u32> {
        let run_dir = self.of(node, "run");
        let pids = std::fs::read_to_string(format!("{run_dir}/launcher.pids"));
        let pids = pids.map_err(|e| e.to_string())?;
        let of = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/cmdline"));
        let mut all = pids.lines().filter_map(|line| line.split(' ').next()?.parse::<u32>().ok());
        all.find(|pid| of(pid).is_ok_and(|words| words.contains("orders-server")))
            .ok_or_else(|| "no instance of the service".to_owned())
    }

    /// The lines of a record, of its last bytes only where that is asked.
    fn lines<T: DeserializeOwned>(&self, file: &str, last: u64) -> Vec<T> {
        let text = tail(&self.path(file), last).unwrap_or_default();
        // The last line may be half written, the first cut.
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        whole.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The client's newest orders: minutes of them.
    pub(crate) fn recent_orders(&self) -> Vec<Order> {
        self.lines("client.jsonl", RECENT_BYTES)
    }

    /// What store, client and instances wrote down.
    pub(crate) fn records(&self) -> Records {
        Records {
            stored: self.lines("store.jsonl", u64::MAX),
            orders: self.lines("client.jsonl", u64::MAX),
            intervals: intervals(self.lines("active.jsonl", u64::MAX)),
        }
    }

    /// Waits until an order sent from now on is acknowledged.
    pub(crate) fn until_served(&self) -> Done<Moment> {
        let from = drivers::sys::now();
        let served = |o: &Order| o.acknowledged.filter(|_| o.sent > from);
        until("an acknowledged order", PATIENCE, || {
            self.lines::<Order>("client.jsonl", LAST_BYTES).iter().rev().find_map(served)
        })
        .map_err(|error| format!("{error}\n{}", self.told()))
    }

    /// Who held the address, and when.
    pub(crate) fn holdings(&self) -> Done<Vec<Holding>> {
        let now = drivers::sys::now();
        let mut all = Vec::new();
        for name in NODES {
            let log = self.dir.path().join("judge").join(format!("holding-{name}.log"));
            all.extend(holdings(name, &log, now)?);
        }
        Ok(all)
    }

    /// Ends the client in order, so that it asks the store about all that stayed unknown.
    pub(crate) fn end_client(&mut self) -> Done {
        self.client.take().map_or(Ok(()), |mut client| client.wait())
    }

    /// The last of the events, from any node.
    pub(crate) fn events(&self) -> Done<Value> {
        let ask = |node: usize| self.ask(node, &["events", "--json"]).ok();
        let text = (0..NODES.len()).find_map(ask).ok_or("no node tells its events")?;
        serde_json::from_str(&text).map_err(|e| e.to_string())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.disks.iter().for_each(Disk::heal);
        for node in &mut self.nodes {
            // What is frozen can't end.
            drop(node.host.power.wake());
            for (_, program) in &node.parts {
                drop(program.signal(Signal::CONT));
            }
            drop(node.host.power.kill());
            node.parts.clear();
            node.watcher = None;
        }
        self.disks.clear();
        for limit in &self.limits {
            if let Err(error) = std::fs::remove_dir(limit) {
                eprintln!("{limit} stays: {error}");
            }
        }
        for mount in &self.mounts {
            if let Err(error) = run(Command::new("umount").arg(mount)) {
                eprintln!("a mount stays: {error}");
            }
        }
    }
}

/// This very program, to run on hosts.
pub(crate) fn own_program() -> Done<String> {
    let path = std::env::current_exe().map_err(|e| e.to_string())?;
    Ok(path.to_string_lossy().into_owned())
}

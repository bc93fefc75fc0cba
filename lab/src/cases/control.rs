//! The control API while agents are killed and links cut: what several operators did and were
//! told must make sense in one order.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use drivers::sys::now;
use rustix::process::Signal;
use serde_json::Value;

use crate::cluster::calls::api;
use crate::cluster::{Cluster, NODES};
use crate::judge::verdict;
use crate::linear::{Deed, Judgement, Operation, Register, judge};
use crate::shell::{Done, pass};

/// Operators that look, and operators that change, each at a node of its own.
const CLIENTS: usize = 6;
/// How long each fault lasts.
const LASTS: Duration = Duration::from_millis(1_200);
/// Values that are put there; all beyond what a configuration would say by itself.
const VALUES: u64 = 1_000_000;
/// Of `backstay`: refused, nobody answered, outcome unknown.
const REFUSED: i32 = 4;
/// As above.
const NOBODY: i32 = 5;

/// One who asks one node.
#[derive(Debug, Clone)]
struct Client {
    /// Up to its words.
    program: Vec<String>,
    credential: String,
    api: String,
    /// The configuration, with a place for the value.
    template: String,
    /// Its own file.
    file: String,
}

impl Client {
    fn new(cluster: &Cluster, number: usize) -> Done<Client> {
        let node = number % NODES.len();
        let text = std::fs::read_to_string(cluster.path("cluster.toml"));
        let text = text.map_err(|e| e.to_string())?;
        let on = cluster.network.on(NODES[node]);
        let word = |word: &std::ffi::OsStr| word.to_string_lossy().into_owned();
        let mut program = vec![word(on.get_program())];
        program.extend(on.get_args().map(word));
        program.push(cluster.program().to_string_lossy().into_owned());
        Ok(Client {
            program,
            credential: cluster.path("operator.pem"),
            api: api(node),
            template: text.replacen("standby = \"hot\"", "standby = \"hot\"\nrto_ms = VALUE", 1),
            file: cluster.path(&format!("client-{number}.toml")),
        })
    }

    fn call(&self, words: &[&str]) -> Done<(i32, Value)> {
        let mut command = Command::new(&self.program[0]);
        command.args(&self.program[1..]).args(words).arg("--json");
        command.args(["--credential", &self.credential, "--api", &self.api]);
        let output = command.output().map_err(|e| e.to_string())?;
        let code = output.status.code().ok_or("a command was killed")?;
        Ok((code, serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)))
    }

    /// Looks. Only what a node says for the cluster counts, unless any word is believed.
    fn read(&self, believe_all: bool) -> Done<Option<Deed>> {
        let (_, status) = self.call(&["status"])?;
        let resources = status["resources"].as_array().into_iter().flatten();
        let value = resources.filter(|r| r["name"] == "orders").find_map(|r| r["rto_ms"].as_u64());
        let seen = status["spec_version"].as_u64().zip(value);
        let counts = believe_all || status["authoritative"] == true;
        let of = |(version, value)| Deed::Read(Register { version, value });
        Ok(seen.filter(|_| counts).map(of))
    }

    /// Puts a value there; nothing where it surely was not.
    fn put(&self, value: u64) -> Done<Option<Deed>> {
        let text = self.template.replace("VALUE", &value.to_string());
        std::fs::write(&self.file, text).map_err(|e| e.to_string())?;
        let (code, answer) = self.call(&["apply", &self.file])?;
        let version = answer["version"].as_u64();
        Ok(match (code, version) {
            (0, Some(_)) if answer["outcome"] == "unchanged" => Some(Deed::Unchanged { value }),
            (0, Some(version)) => Some(Deed::Put { value, version }),
            (REFUSED | NOBODY, _) => None,
            _ => Some(Deed::PutPerhaps { value }),
        })
    }

    /// Looks and changes until it is told to end. Every third change is one of before: where that
    /// is what stands there, nothing is to be done.
    fn work(
        &self,
        number: usize,
        goes_on: &AtomicBool,
        values: &AtomicU64,
    ) -> Done<Vec<Operation>> {
        let mut all = Vec::new();
        for turn in 0.. {
            if !goes_on.load(Ordering::Relaxed) {
                break;
            }
            let begun = now();
            let deed = match (number % 2, turn % 3) {
                (0, _) => self.read(false)?,
                (_, 2) => self.put(values.load(Ordering::Relaxed))?,
                _ => self.put(values.fetch_add(1, Ordering::Relaxed) + 1)?,
            };
            all.extend(deed.map(|deed| Operation { deed, begun, ended: now() }));
        }
        Ok(all)
    }
}

/// Agents killed, frozen and cut off, the coordinator's first of all.
fn faults(cluster: &mut Cluster) -> Done {
    for round in 0..2 {
        let coordinator = cluster.until_scene("a coordinator", |_| true)?.coordinator;
        cluster.part(coordinator, "agent")?.signal(Signal::STOP)?;
        pass(LASTS);
        cluster.part(coordinator, "agent")?.signal(Signal::CONT)?;
        pass(LASTS / 2);
        let coordinator = cluster.until_scene("a coordinator", |_| true)?.coordinator;
        cluster.network.isolate(NODES[coordinator])?;
        pass(LASTS);
        cluster.network.heal()?;
        pass(LASTS / 2);
        let killed = (coordinator + round + 1) % NODES.len();
        cluster.part(killed, "agent")?.signal(Signal::KILL)?;
        cluster.restart_part(killed, "agent")?;
        pass(LASTS / 2);
    }
    Ok(())
}

/// All that happened, in the order of its begin.
fn history(cluster: &mut Cluster) -> Done<(Register, Vec<Operation>)> {
    let clients: Vec<Client> =
        (0..CLIENTS).map(|number| Client::new(cluster, number)).collect::<Done<_>>()?;
    // A value to begin with.
    let Some(Deed::Put { value, version }) = clients[0].put(VALUES)? else {
        return Err("the first value was not taken".into());
    };
    let begin = Register { version, value };
    let (goes_on, values) = (AtomicBool::new(true), AtomicU64::new(VALUES));
    let (worked, struck) = std::thread::scope(|scope| {
        let work = |(number, client): (usize, &Client)| {
            let (client, goes_on, values) = (client.clone(), &goes_on, &values);
            scope.spawn(move || client.work(number, goes_on, values))
        };
        let workers: Vec<_> = clients.iter().enumerate().map(work).collect();
        let struck = faults(cluster);
        goes_on.store(false, Ordering::Relaxed);
        let worked: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        (worked, struck)
    });
    struck?;
    let mut all = Vec::new();
    for operations in worked {
        all.extend(operations.map_err(|_| "a client panicked")??);
    }
    all.sort_by_key(|operation| operation.begun);
    Ok((begin, all))
}

/// What a lone node says of itself, believed as if it spoke for all: the checker must notice.
fn planted(cluster: &mut Cluster) -> Done {
    let scene = cluster.until_whole()?;
    let lone = (scene.coordinator + 1) % NODES.len();
    let (one, other) = (Client::new(cluster, lone)?, Client::new(cluster, scene.coordinator)?);
    let Some(Deed::Read(begin)) = other.read(false)? else {
        return Err("the coordinator does not tell".into());
    };
    cluster.network.isolate(NODES[lone])?;
    let mut all = Vec::new();
    let mut note = |deed: &dyn Fn() -> Done<Option<Deed>>| -> Done {
        let begun = now();
        let deed = deed()?.ok_or("nothing was answered")?;
        all.push(Operation { deed, begun, ended: now() });
        Ok(())
    };
    note(&|| other.put(begin.value + VALUES))?;
    if let Some(deed) = one.read(false)? {
        return Err(format!("cut off, {} speaks for the cluster: {deed:?}", NODES[lone]));
    }
    note(&|| one.read(true))?;
    // Until it has noticed that it hears nobody: before, it would wait for an answer.
    pass(LASTS);
    // That nothing is to be done is no word for one that is cut off either.
    if let Some(Deed::Unchanged { value }) = one.put(begin.value)? {
        return Err(format!("cut off, {} says that {value} is in force", NODES[lone]));
    }
    cluster.network.heal()?;
    match judge(begin, &all) {
        Judgement::Not(_) => Ok(()),
        other => Err(format!("a stale read passed for {other:?}: {all:?}")),
    }
}

pub(super) fn the_control_state_is_linearizable_while_agents_fall(
    cluster: &mut Cluster,
) -> Done<String> {
    let (begin, all) = history(cluster)?;
    let count = |wanted: fn(&Deed) -> bool| all.iter().filter(|o| wanted(&o.deed)).count();
    let reads = count(|deed| matches!(deed, Deed::Read(_)));
    let puts = count(|deed| matches!(deed, Deed::Put { .. }));
    let perhaps = count(|deed| matches!(deed, Deed::PutPerhaps { .. }));
    if reads < 10 || puts < 10 {
        return Err(format!("{reads} reads and {puts} changes prove nothing"));
    }
    match judge(begin, &all) {
        Judgement::Linearizable => {}
        Judgement::Not(at) => {
            let around = &all[at.saturating_sub(5)..(at + 3).min(all.len())];
            return Err(format!("no order makes sense of it; around {at}: {around:#?}"));
        }
        Judgement::Undecided => return Err(format!("{} operations: undecided", all.len())),
    }
    cluster.until_whole()?;
    planted(cluster)?;
    cluster.until_whole()?;
    Ok(format!(
        "{reads} reads, {puts} changes and {perhaps} of unknown outcome have an order; a stale \
         read planted among them is found; {}",
        verdict(cluster)?
    ))
}

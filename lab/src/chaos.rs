//! Faults by chance on one cluster: one after another strikes, the cluster must serve again, all
//! is healed, and in the end everything that was written down is judged.

use std::time::{Duration, Instant};

use drivers::sys::now;
use rustix::process::{Pid, Signal, kill_process};

use crate::cluster::{Cluster, NODES, Setup};
use crate::judge::{outage, verdict};
use crate::network::Flaw;
use crate::random::Random;
use crate::shell::{Done, pass};

/// Longest time that a fault is left alone.
const LASTS_MS: usize = 3_000;

/// What may strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Power,
    Process,
    Isolated,
    OneWay,
    PairCut,
    Loss,
    AgentFrozen,
    LauncherKilled,
    GuardKilled,
    Switchover,
}

const FAULTS: [Fault; 10] = [
    Fault::Power,
    Fault::Process,
    Fault::Isolated,
    Fault::OneWay,
    Fault::PairCut,
    Fault::Loss,
    Fault::AgentFrozen,
    Fault::LauncherKilled,
    Fault::GuardKilled,
    Fault::Switchover,
];

/// Plays for so many minutes.
pub(crate) fn run(setup: &Setup, minutes: u64, seed: u64) -> Done<bool> {
    let mut random = Random::new(seed);
    let mut cluster = Cluster::start(setup)?;
    let end = Instant::now() + Duration::from_secs(minutes * 60);
    let mut struck = 0;
    while Instant::now() < end {
        let fault = FAULTS[random.below(FAULTS.len())];
        let node = random.below(NODES.len());
        let lasts = Duration::from_millis(random.below(LASTS_MS) as u64);
        let from = now();
        let told = |error| format!("seed {seed}, fault {struck} ({fault:?} at {node}): {error}");
        strike(&mut cluster, fault, node, lasts, &mut random).map_err(told)?;
        cluster.until_served().map_err(told)?;
        cluster.until_whole().map_err(told)?;
        struck += 1;
        let ms = outage(&cluster, from).as_ms();
        println!("{struck}: {fault:?} at {}, longest pause {ms} ms", NODES[node]);
    }
    let judged = verdict(&mut cluster);
    match &judged {
        Ok(proved) => println!("{struck} faults in {minutes} min of seed {seed}; {proved}"),
        Err(why) => println!("seed {seed}: after {struck} faults {why}"),
    }
    let failed = judged.is_err();
    println!("{} passed, {} failed", u8::from(!failed), u8::from(failed));
    Ok(!failed)
}

fn strike(
    cluster: &mut Cluster,
    fault: Fault,
    node: usize,
    lasts: Duration,
    random: &mut Random,
) -> Done {
    let lone = NODES[node];
    let other = NODES[(node + 1 + random.below(NODES.len() - 1)) % NODES.len()];
    match fault {
        Fault::Power => {
            cluster.power_off(node)?;
            pass(lasts);
            cluster.reboot(node)
        }
        Fault::Process => {
            let pid = Pid::from_raw(cluster.instance(node)?.cast_signed()).ok_or("no process")?;
            kill_process(pid, Signal::KILL).map_err(|e| e.to_string())
        }
        Fault::Isolated => {
            cluster.network.isolate(lone)?;
            pass(lasts);
            cluster.network.heal()
        }
        Fault::OneWay => {
            let others = NODES.iter().filter(|n| **n != lone);
            let deaf = random.below(2) == 0;
            let flaw = |n: &&str| if deaf { Flaw::cut(n, lone) } else { Flaw::cut(lone, n) };
            cluster.network.add(others.map(flaw).collect::<Vec<_>>())?;
            pass(lasts);
            cluster.network.heal()
        }
        Fault::PairCut => {
            cluster.network.part(&[lone], &[other])?;
            pass(lasts);
            cluster.network.heal()
        }
        Fault::Loss => {
            let lost_percent = 10 + random.below(30) as u8;
            let both = [Flaw::cut(lone, other), Flaw::cut(other, lone)];
            cluster.network.add(both.map(|flaw| Flaw { lost_percent, ..flaw }))?;
            pass(lasts);
            cluster.network.heal()
        }
        Fault::AgentFrozen => {
            cluster.part(node, "agent")?.signal(Signal::STOP)?;
            pass(lasts);
            cluster.part(node, "agent")?.signal(Signal::CONT)
        }
        Fault::LauncherKilled => replaced(cluster, node, "launcher", lasts),
        Fault::GuardKilled => replaced(cluster, node, "guard", lasts),
        Fault::Switchover => {
            let scene = cluster.until_whole()?;
            let to = NODES[(scene.active + 1) % NODES.len()];
            // The cluster may refuse, and says why; that it serves is asked afterwards.
            if let Err(why) = cluster.ask(scene.coordinator, &["switchover", "orders", "--to", to])
            {
                println!("refused: {why}");
            }
            Ok(())
        }
    }
}

fn replaced(cluster: &mut Cluster, node: usize, part: &'static str, lasts: Duration) -> Done {
    cluster.part(node, part)?.signal(Signal::KILL)?;
    pass(lasts);
    cluster.restart_part(node, part)
}

//! The cluster of the demo: its nine processes, and the questions that they are asked.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::calls::{self, Part, RESOURCE};
use super::children::{self, start};
use super::config;
use super::error::{DemoError, system};
use super::options::{DemoOptions, Plant};
use super::premises::{NODES, Premises};
use super::view::View;
use super::wait;

/// Longest wait for a command of ours.
const COMMAND_WAIT: Duration = Duration::from_secs(30);
/// Longest wait until the cluster is whole.
const WHOLE_WAIT: Duration = Duration::from_secs(60);
/// Pause between two looks at the cluster: each look starts a process, which costs.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// Most bytes of a failed command's output that are shown.
const OUTPUT_SHOWN: usize = 2_000;

/// The processes of one node.
#[derive(Debug, Clone, Copy, Default)]
struct Node {
    parts: [Option<u32>; Part::ALL.len()],
}

/// The cluster.
pub(super) struct Cluster {
    premises: Premises,
    no_fencing: bool,
    nodes: [Node; NODES.len()],
}

impl Cluster {
    /// Writes the configuration, makes the cluster, and starts everything.
    ///
    /// # Errors
    /// [`DemoError`]
    pub(super) fn found(premises: &Premises, options: &DemoOptions) -> Result<Cluster, DemoError> {
        let program = std::env::current_exe().map_err(system("find our own binary"))?;
        let heedless = options.plant.is_some();
        let text = config::cluster_toml(premises, options.profile, &program, heedless);
        write(&premises.file("cluster.toml"), &text)?;
        for node in 0..NODES.len() {
            let dir = premises.node_dir(node);
            fs::create_dir_all(dir.join("data")).map_err(system("make a node's directory"))?;
            write(&dir.join("data").join("local.toml"), &config::dial_toml(premises, node))?;
        }
        let no_fencing = options.plant == Some(Plant::NoFencing);
        let mut cluster =
            Cluster { premises: premises.clone(), no_fencing, nodes: Default::default() };
        cluster.call(calls::init(premises))?;
        cluster.ensure_running(0)?;
        for node in 1..NODES.len() {
            let token = cluster.token(node)?;
            cluster.call(calls::join(premises, node, token.trim()))?;
            cluster.ensure_running(node)?;
        }
        Ok(cluster)
    }

    /// A token for a node, as soon as the cluster can give one: its first node has just started,
    /// or has just gained a voter.
    fn token(&self, node: usize) -> Result<String, DemoError> {
        let pace = Duration::from_millis(50);
        wait::until("the cluster to give a join token", COMMAND_WAIT, pace, || {
            match self.call(calls::token(&self.premises, node)) {
                Ok(token) => Ok(Some(token)),
                Err(DemoError::Command { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    /// Starts what doesn't run on a node, as a service manager would.
    ///
    /// # Errors
    /// [`DemoError::System`]
    pub(super) fn ensure_running(&mut self, node: usize) -> Result<(), DemoError> {
        for (place, part) in Part::ALL.into_iter().enumerate() {
            let slot = &mut self.nodes[node].parts[place];
            if slot.is_some_and(children::is_running) {
                continue;
            }
            let call = calls::part(&self.premises, node, part, self.no_fencing);
            let log = self.premises.node_dir(node).join(format!("{}.log", part.as_str()));
            *slot = Some(start(children::backstay()?.args(call), &log)?);
        }
        Ok(())
    }

    /// Starts what doesn't run anywhere.
    ///
    /// # Errors
    /// [`DemoError::System`]
    pub(super) fn ensure_all_running(&mut self) -> Result<(), DemoError> {
        (0..NODES.len()).try_for_each(|node| self.ensure_running(node))
    }

    /// Sends a signal to agent, launcher and guard of a node, in this order.
    pub(super) fn signal_parts(&self, node: usize, signal: Signal) {
        for part in [Part::Agent, Part::Launcher, Part::Guard] {
            if let Some(pid) = self.nodes[node].parts[part as usize] {
                children::signal(pid, signal);
            }
        }
    }

    /// Runs one of our commands to its end and returns what it printed.
    ///
    /// # Errors
    /// [`DemoError::Command`] where it fails or takes longer than [`COMMAND_WAIT`].
    pub(super) fn call(&self, arguments: Vec<String>) -> Result<String, DemoError> {
        wait::check_interrupted()?;
        let mut command = children::backstay()?;
        command.args(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(system("run a command"))?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let pid = children::adopt(child)?;
        let readers = [std::thread::spawn(|| drain(out)), std::thread::spawn(|| drain(err))];
        let begun = Instant::now();
        let good = loop {
            match children::ended(pid) {
                Some(good) => break good,
                None if begun.elapsed() > COMMAND_WAIT => {
                    children::signal(pid, Signal::KILL);
                    break false;
                }
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        // A panic of a reader leaves its half empty; it can't panic.
        let [output, errors] = readers.map(|reader| reader.join().unwrap_or_default());
        if good {
            return Ok(output);
        }
        let all = format!("{errors}{output}");
        let shown = all.char_indices().rev().nth(OUTPUT_SHOWN).map_or(0, |(at, _)| at);
        Err(DemoError::Command { command: arguments.join(" "), output: all[shown..].to_owned() })
    }

    /// Asks the nodes in turn until one gives an answer that is good enough, else returns the
    /// last one.
    fn ask<T>(
        &self,
        call: impl Fn(usize) -> Vec<String>,
        read: impl Fn(Value) -> Result<T, DemoError>,
        enough: impl Fn(&T) -> bool,
    ) -> Result<T, DemoError> {
        let mut last = Err(DemoError::Answer("a node that answers"));
        for node in 0..NODES.len() {
            let agent = self.nodes[node].parts[Part::Agent as usize];
            if !agent.is_some_and(children::is_running) {
                continue;
            }
            let answer = self.call(call(node)).and_then(|text| {
                let path = "the answer".into();
                serde_json::from_str(&text).map_err(|source| DemoError::Record { path, source })
            });
            match answer.and_then(&read) {
                Ok(answer) if enough(&answer) => return Ok(answer),
                Err(DemoError::Interrupted) => return Err(DemoError::Interrupted),
                other => last = other,
            }
        }
        last
    }

    /// How the cluster is: the coordinator's view where it is to be had.
    ///
    /// # Errors
    /// [`DemoError`] where no node answers.
    pub(super) fn view(&self) -> Result<View, DemoError> {
        let read = |status| View::read(&status, RESOURCE);
        self.ask(|node| calls::status(&self.premises, node), read, |view| view.authoritative)
    }

    /// What happened, as the API tells it.
    ///
    /// # Errors
    /// [`DemoError`] where no node answers.
    pub(super) fn events(&self) -> Result<Value, DemoError> {
        self.ask(|node| calls::events(&self.premises, node), Ok, |_| true)
    }

    /// Waits until the cluster is whole, starting again what ended meanwhile.
    ///
    /// # Errors
    /// [`DemoError::TooSlow`] and what else stops the demo.
    pub(super) fn until_whole(&mut self) -> Result<View, DemoError> {
        let mut last = None;
        let whole = wait::until("a whole cluster", WHOLE_WAIT, LOOK_PAUSE, || {
            self.ensure_all_running()?;
            last = patient(self.view())?;
            Ok(last.clone().filter(View::is_whole))
        });
        whole.map_err(|error| match error {
            DemoError::TooSlow { what, within } => {
                DemoError::TooSlow { what: format!("{what} (last seen: {last:?})"), within }
            }
            other => other,
        })
    }

    /// Waits for a view that passes a test, with nothing started again.
    ///
    /// # Errors
    /// [`DemoError::TooSlow`] and what else stops the demo.
    pub(super) fn until_seen(
        &self,
        what: &str,
        test: impl Fn(&View) -> bool,
    ) -> Result<View, DemoError> {
        wait::until(what, WHOLE_WAIT, LOOK_PAUSE, || Ok(patient(self.view())?.filter(&test)))
    }

    /// Moves the service as planned.
    ///
    /// # Errors
    /// [`DemoError::Command`]
    pub(super) fn switchover(&self, asked: usize, to: usize) -> Result<(), DemoError> {
        self.call(calls::switchover(&self.premises, asked, to)).map(drop)
    }
}

/// A cluster that is changing may not answer: that is a reason to look again, not to stop.
fn patient<T>(answer: Result<T, DemoError>) -> Result<Option<T>, DemoError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(DemoError::Command { .. } | DemoError::Answer(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn drain(pipe: Option<impl std::io::Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // A pipe that breaks has ended: what came until then is all there is.
        _ = pipe.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn write(path: &std::path::Path, text: &str) -> Result<(), DemoError> {
    fs::write(path, text).map_err(system(format!("write {}", path.display())))
}

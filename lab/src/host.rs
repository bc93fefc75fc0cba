//! A host: a network namespace with a cgroup, and the programs that run on it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::cgroup::Cgroup;
use crate::network::Network;
use crate::shell::Done;

/// A program that runs on a host.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
}

impl Program {
    pub(crate) fn signal(&self, signal: Signal) -> Done {
        kill_process(Pid::from_child(&self.child), signal).map_err(|e| e.to_string())
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> Done {
        drop(self.child.stdin.take());
        self.child.wait().map(drop).map_err(|e| e.to_string())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that ended already was waited for here or before.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A host.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    pub(crate) power: Cgroup,
}

impl Host {
    pub(crate) fn new(network: &Network, name: &str, dir: &Path) -> Done<Host> {
        let dir = dir.join(name);
        std::fs::create_dir_all(&dir).map_err(|e| e.to_string())?;
        let power = Cgroup::make(&network.namespace(name))?;
        Ok(Host { name: name.to_owned(), dir, power })
    }

    /// Starts a program on this host, in its cgroup from the first moment; its output goes to
    /// `<what>.log`.
    pub(crate) fn start(&self, network: &Network, what: &str, words: &[&str]) -> Done<Program> {
        self.start_in(network, &self.name, what, words)
    }

    /// Starts a program of this host that sees another host's network: an observer there, whom
    /// nothing that happens to that host touches.
    pub(crate) fn observe(
        &self,
        network: &Network,
        other: &str,
        what: &str,
        words: &[&str],
    ) -> Done<Program> {
        self.start_in(network, other, &format!("{what}-{other}"), words)
    }

    fn start_in(
        &self,
        network: &Network,
        whose: &str,
        what: &str,
        words: &[&str],
    ) -> Done<Program> {
        let path = self.dir.join(format!("{what}.log"));
        let log = File::options().create(true).append(true).open(&path);
        let log = log.map_err(|e| format!("{}: {e}", path.display()))?;
        let mut command: Command = network.on(whose);
        let enter = "echo $$ > \"$0\" && exec \"$@\"";
        command
            .args(["sh", "-c", enter])
            .arg(self.power.processes())
            .args(words)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().map_err(|e| e.to_string())?)
            .stderr(log);
        Ok(Program { child: command.spawn().map_err(|e| format!("{words:?}: {e}"))? })
    }
}

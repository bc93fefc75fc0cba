//! A cgroup (v2) for each host, which is its power switch: all of it is frozen, woken or killed
//! at once.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::shell::{Done, until};

/// Where the second version of cgroups may be mounted.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// The first version of cgroups, where memory is limited on machines that have both.
pub(crate) const MEMORY: &str = "/sys/fs/cgroup/memory";
/// The same for the processor.
pub(crate) const PROCESSOR: &str = "/sys/fs/cgroup/cpu";
const LIMIT: Duration = Duration::from_secs(10);

/// One cgroup. It goes with the value, and everything in it.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
}

/// The mount of cgroups that the lab uses, where there is one.
pub(crate) fn root() -> Option<&'static Path> {
    let root = ROOTS.iter().map(Path::new).find(|root| root.join("cgroup.procs").exists())?;
    root.join("cgroup.controllers").exists().then_some(root)
}

impl Cgroup {
    pub(crate) fn make(name: &str) -> Done<Cgroup> {
        let path = root().ok_or("no cgroups (v2) here")?.join(name);
        fs::create_dir(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Cgroup { path })
    }

    /// One that another lab left.
    pub(crate) fn adopt(name: &str) -> Done<Cgroup> {
        Ok(Cgroup { path: root().ok_or("no cgroups (v2) here")?.join(name) })
    }

    /// The file to which a process writes itself.
    pub(crate) fn processes(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// Every process in it, and below it.
    pub(crate) fn everything(&self) -> Done<Vec<u32>> {
        processes_below(&self.path)
    }

    fn write(&self, file: &str, text: &str) -> Done {
        fs::write(self.path.join(file), text).map_err(|e| format!("{file}: {e}"))
    }

    fn has(&self, line: &str) -> bool {
        let text = fs::read_to_string(self.path.join("cgroup.events")).unwrap_or_default();
        text.lines().any(|l| l == line)
    }

    /// Everything in it stands still. Returns once it does.
    pub(crate) fn freeze(&self) -> Done {
        self.write("cgroup.freeze", "1")?;
        until("the freeze", LIMIT, || self.has("frozen 1").then_some(()))
    }

    /// Everything in it goes on.
    pub(crate) fn wake(&self) -> Done {
        self.write("cgroup.freeze", "0")
    }

    /// As after a reboot: a new one in its place. Linux counts the kills of a cgroup, and (at
    /// least 6.18) kills children that a process of a once killed cgroup clones into another.
    pub(crate) fn renew(&self) -> Done {
        self.kill()?;
        remove(&self.path)?;
        fs::create_dir(&self.path).map_err(|e| e.to_string())
    }

    /// Everything in it is killed, at once.
    pub(crate) fn strike(&self) -> Done {
        self.write("cgroup.kill", "1")
    }

    /// The same. Returns once it is.
    pub(crate) fn kill(&self) -> Done {
        self.strike()?;
        until("the end of everything", LIMIT, || self.has("populated 0").then_some(()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = self.kill().and_then(|()| remove(&self.path)) {
            eprintln!("{} stays: {error}", self.path.display());
        }
    }
}

fn processes_below(path: &Path) -> Done<Vec<u32>> {
    let failed = |e: std::io::Error| format!("{}: {e}", path.display());
    let text = fs::read_to_string(path.join("cgroup.procs")).map_err(failed)?;
    let mut all: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            all.extend(processes_below(&entry.path())?);
        }
    }
    Ok(all)
}

fn remove(path: &Path) -> Done {
    let failed = |e: std::io::Error| e.to_string();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(path).map_err(failed)
}

//! The launcher's cgroup subtree (v2): found, made, its limits set, what a dead launcher left
//! in it killed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use model::spec::LimitsSpec;
use rustix::fs::{Mode, OFlags};

use super::containment::CgroupHandle;

/// Controllers used for limits, where the kernel and the parent cgroup offer them.
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];
/// Deepest nesting of cgroups below an instance that is removed after it.
const DEPTH_MAX: u32 = 8;
/// Period of the processor quota in microseconds (the kernel's default).
const CPU_PERIOD_US: u64 = 100_000;

/// Where the instances' cgroups go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CgroupChoice {
    /// Below the launcher's own cgroup, if that is writable; else none are used.
    #[default]
    Auto,
    /// None: process groups and the launcher as subreaper.
    Off,
    /// Below this directory; the launcher doesn't start where that can't be used.
    At(PathBuf),
}

/// The directory that holds the instances' cgroups.
#[derive(Debug)]
pub struct CgroupRoot {
    path: PathBuf,
    controllers: BTreeSet<&'static str>,
}

impl CgroupRoot {
    /// Makes (or finds again) the root of this launcher; `None` where cgroups can't be used and
    /// need not be.
    ///
    /// # Errors
    /// What the kernel says where a directory was named and can't be used.
    pub fn prepare(choice: &CgroupChoice, name: &str) -> io::Result<Option<CgroupRoot>> {
        match choice {
            CgroupChoice::Off => Ok(None),
            CgroupChoice::At(parent) => Self::make(parent, name).map(Some),
            CgroupChoice::Auto => {
                let Some(parent) = own_cgroup()? else { return Ok(None) };
                match Self::make(&parent, name) {
                    Ok(root) => Ok(Some(root)),
                    Err(error) => {
                        tracing::info!(
                            parent = %parent.display(), %error,
                            "no cgroups for instances; process groups are used"
                        );
                        Ok(None)
                    }
                }
            }
        }
    }

    fn make(parent: &Path, name: &str) -> io::Result<CgroupRoot> {
        let path = parent.join(name);
        make_dir(&path)?;
        // Opening proves that the kernel has what is needed, before anything relies on it.
        CgroupHandle::open(&path)?;
        enable_controllers(parent);
        enable_controllers(&path);
        let enabled = fs::read_to_string(path.join("cgroup.subtree_control"))?;
        let controllers = CONTROLLERS
            .into_iter()
            .filter(|c| enabled.split_ascii_whitespace().any(|e| e == *c))
            .collect();
        Ok(CgroupRoot { path, controllers })
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a controller's limits can be set here.
    #[must_use]
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.contains(controller)
    }

    /// Makes one instance's cgroup with its limits; also its directory, to start a program in.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn create(&self, name: &str, limits: &LimitsSpec) -> io::Result<(CgroupHandle, OwnedFd)> {
        let path = self.path.join(name);
        fs::create_dir(&path)?;
        let set = |controller: &str, file: &str, value: Option<String>| match value {
            Some(value) if self.has(controller) => fs::write(path.join(file), value),
            _ => Ok(()),
        };
        set("memory", "memory.max", limits.memory_bytes.map(|b| b.to_string()))?;
        set("pids", "pids.max", limits.processes.map(|p| p.to_string()))?;
        let quota = |percent: u32| u64::from(percent) * CPU_PERIOD_US / 100;
        let cpu = limits.cpu_percent.map(|p| format!("{} {CPU_PERIOD_US}", quota(p).max(1_000)));
        set("cpu", "cpu.max", cpu)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(&path, flags, Mode::empty())?;
        Ok((CgroupHandle::open(&path)?, dir))
    }

    /// The root's own files: killing it kills every instance.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn whole(&self) -> io::Result<CgroupHandle> {
        CgroupHandle::open(&self.path)
    }

    /// Removes the empty cgroups below the root.
    ///
    /// # Errors
    /// What the kernel says; `ResourceBusy` where one is not empty.
    pub fn remove_children(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Removes the root itself, when the launcher leaves.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove_self(&self) -> io::Result<()> {
        remove(&self.path)
    }
}

/// Removes an empty cgroup and those below it.
///
/// # Errors
/// What the kernel says.
pub fn remove(path: &Path) -> io::Result<()> {
    remove_below(path, DEPTH_MAX)
}

fn remove_below(path: &Path, depth: u32) -> io::Result<()> {
    if depth > 0 {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                remove_below(&entry.path(), depth - 1)?;
            }
        }
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn make_dir(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

/// Passes controllers on to the cgroups below. What the parent doesn't have, or may not pass on
/// because processes live in it, is left out: resource limits of the process take its place.
fn enable_controllers(path: &Path) {
    for controller in CONTROLLERS {
        let done = fs::write(path.join("cgroup.subtree_control"), format!("+{controller}"));
        if let Err(error) = done {
            tracing::debug!(path = %path.display(), controller, %error, "controller not enabled");
        }
    }
}

/// The launcher's own cgroup (v2) as a directory, wherever that hierarchy is mounted.
fn own_cgroup() -> io::Result<Option<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let own = fs::read_to_string("/proc/self/cgroup")?;
    Ok(locate(&mounts, &own))
}

/// From `/proc/self/mountinfo` and `/proc/self/cgroup`.
fn locate(mounts: &str, own: &str) -> Option<PathBuf> {
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        if right.split(' ').next()? != "cgroup2" {
            return None;
        }
        let mut field = left.split(' ').skip(3);
        let (root, point) = (field.next()?, field.next()?);
        // In a container the mount may show a part of the hierarchy only.
        let below = if root == "/" { own } else { own.strip_prefix(root)? };
        Some(Path::new(point).join(below.trim_start_matches('/')))
    })
}

/// A name for this launcher's root that is its own on this machine: node and run directory.
#[must_use]
pub fn root_name(node: &str, run_dir: &Path) -> String {
    // FNV-1a: only to tell directories apart, and always the same for one directory.
    let hash = run_dir.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, {
        |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    format!("backstay-{node}-{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_is_found_wherever_it_is_mounted() {
        let table = [
            ("0::/", "31 24 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw", "/sys/fs/cgroup"),
            (
                "4:memory:/a\n0::/system.slice/x.service",
                "30 1 0:2 / /sys/fs/cgroup rw - tmpfs t rw\n\
                 31 24 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
                "/sys/fs/cgroup/unified/system.slice/x.service",
            ),
            ("0::/pod/c", "31 24 0:27 /pod /sys/fs/cgroup rw - cgroup2 c rw", "/sys/fs/cgroup/c"),
        ];
        for (own, mounts, want) in table {
            assert_eq!(locate(mounts, own), Some(want.into()), "{own}");
        }
        assert_eq!(locate("31 24 0:27 / /x rw - tmpfs t rw", "0::/"), None);
        assert_eq!(locate("31 24 0:27 / /x rw - cgroup2 c rw", "4:memory:/"), None);
    }

    #[test]
    fn two_run_directories_never_share_a_root() {
        let name = |dir: &str| root_name("a", Path::new(dir));
        assert_ne!(name("/run/one"), name("/run/two"));
        assert_eq!(name("/run/one"), name("/run/one"));
    }
}

//! From a specification to everything a start needs: environment, limits, identity.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use model::spec::{LimitsSpec, ProcessSpec, Ready};
use model::{Epoch, ResourceName};
use rustix::process::Resource;

use super::user::{self, Account, UserError};
use crate::protocol::Role;
use crate::run_dir::RunDir;
use crate::sys::SpawnPlan;

/// `PATH` of every program, unless its specification sets another.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a start can't be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// No command.
    #[error("the command is empty or its program is no absolute path")]
    Command,
    /// A NUL byte, which no program can be given.
    #[error("a NUL byte in its command, environment or directory")]
    Nul(#[from] std::ffi::NulError),
    /// The stop signal.
    #[error("there is no signal {0:?}")]
    Signal(String),
    /// The user.
    #[error(transparent)]
    User(#[from] UserError),
    /// A file or socket.
    #[error("its files can't be made")]
    Io(#[from] io::Error),
}

/// What the environment says about an instance.
#[derive(Debug, Clone, Copy)]
pub struct Naming<'a> {
    /// The run directory that its sockets lie in.
    pub run_dir: &'a RunDir,
    /// The resource.
    pub resource: &'a ResourceName,
    /// Role at the start.
    pub role: Role,
    /// Epoch at the start.
    pub epoch: Epoch,
}

/// Prepares a start.
///
/// # Errors
/// [`PlanError`].
pub fn plan(
    spec: &ProcessSpec,
    naming: Naming<'_>,
    output: OwnedFd,
    cgroup: Option<OwnedFd>,
    limited_by_cgroup: impl Fn(&str) -> bool,
) -> Result<(SpawnPlan, Account), PlanError> {
    check(spec)?;
    let account = user::account(spec)?;
    let c = |text: &str| CString::new(text);
    let argv = spec.command.iter().map(|a| c(a)).collect::<Result<_, _>>()?;
    let env = environment(spec, naming, &account)
        .into_iter()
        .map(|(name, value)| c(&format!("{name}={value}")))
        .collect::<Result<_, _>>()?;
    let plan = SpawnPlan {
        argv,
        env,
        directory: c(spec.directory.as_deref().unwrap_or("/"))?,
        identity: account.identity.clone(),
        limits: limits(&spec.limits, limited_by_cgroup),
        output,
        cgroup,
        orphan_signal: libc::SIGKILL,
    };
    Ok((plan, account))
}

/// The same identity, directory and environment for the command of a health check.
///
/// # Errors
/// [`PlanError`].
pub fn plan_probe(
    spec: &ProcessSpec,
    command: &[String],
    naming: Naming<'_>,
    output: OwnedFd,
    cgroup: Option<OwnedFd>,
) -> Result<SpawnPlan, PlanError> {
    let probe = ProcessSpec { command: command.to_vec(), ready: Ready::Started, ..spec.clone() };
    Ok(plan(&probe, naming, output, cgroup, |_| false)?.0)
}

fn check(spec: &ProcessSpec) -> Result<(), PlanError> {
    if !spec.command.first().is_some_and(|program| program.starts_with('/')) {
        return Err(PlanError::Command);
    }
    if super::signals::signal_by_name(&spec.stop_signal).is_none() {
        return Err(PlanError::Signal(spec.stop_signal.clone()));
    }
    Ok(())
}

fn environment(
    spec: &ProcessSpec,
    naming: Naming<'_>,
    account: &Account,
) -> std::collections::BTreeMap<String, String> {
    let path = |p: &Path| p.to_string_lossy().into_owned();
    let mut env = std::collections::BTreeMap::from([
        ("PATH".to_owned(), PATH.to_owned()),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ("HOME".to_owned(), account.home.clone()),
    ]);
    env.extend(spec.environment.clone());
    let Naming { run_dir, resource, role, epoch } = naming;
    // Ours come last: by them an instance's processes are found.
    env.extend([
        ("BACKSTAY_RESOURCE".to_owned(), resource.to_string()),
        ("BACKSTAY_ROLE".to_owned(), role.as_str().to_owned()),
        ("BACKSTAY_EPOCH".to_owned(), epoch.to_string()),
        ("BACKSTAY_SOCKET".to_owned(), path(&run_dir.instance_socket(resource))),
        ("BACKSTAY_LEASE".to_owned(), path(&run_dir.instance_lease(resource))),
    ]);
    if spec.ready == Ready::Notify {
        env.insert("NOTIFY_SOCKET".to_owned(), path(&run_dir.notify_socket(resource)));
    }
    env
}

fn limits(spec: &LimitsSpec, by_cgroup: impl Fn(&str) -> bool) -> Vec<(Resource, u64)> {
    let unless = |controller: &str, value: Option<u64>| value.filter(|_| !by_cgroup(controller));
    [
        (Resource::As, unless("memory", spec.memory_bytes)),
        (Resource::Nproc, unless("pids", spec.processes)),
        (Resource::Nofile, spec.open_files),
        (Resource::Core, spec.core_bytes),
    ]
    .into_iter()
    .filter_map(|(resource, value)| Some((resource, value?)))
    .collect()
}

/// Removes what an earlier instance left under a name.
///
/// # Errors
/// What the file system says, save that there is nothing.
pub fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naming_of(run_dir: &RunDir, resource: &ResourceName) -> Vec<(String, String)> {
        let epoch = Epoch { generation: 1, counter: 7 };
        let naming = Naming { run_dir, resource, role: Role::Active, epoch };
        let mut spec = ProcessSpec { ready: Ready::Notify, ..ProcessSpec::default() };
        spec.environment.insert("BACKSTAY_EPOCH".into(), "9.9".into());
        spec.environment.insert("PATH".into(), "/opt".into());
        let account = Account { identity: None, home: "/h".into(), uid: 0, gid: 0 };
        environment(&spec, naming, &account).into_iter().collect()
    }

    #[test]
    fn the_environment_is_clean_and_ours_can_not_be_overridden() {
        let env = naming_of(&RunDir::new("/r"), &ResourceName::new("gw").unwrap());
        let want = [
            ("BACKSTAY_EPOCH", "1.7"),
            ("BACKSTAY_LEASE", "/r/i/gw.lease"),
            ("BACKSTAY_RESOURCE", "gw"),
            ("BACKSTAY_ROLE", "active"),
            ("BACKSTAY_SOCKET", "/r/i/gw.sock"),
            ("HOME", "/h"),
            ("LANG", "C.UTF-8"),
            ("NOTIFY_SOCKET", "/r/i/gw.notify"),
            ("PATH", "/opt"),
        ];
        let have: Vec<_> = env.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(have, want);
    }

    #[test]
    fn what_a_cgroup_limits_is_not_limited_twice() {
        let spec = LimitsSpec {
            memory_bytes: Some(1),
            processes: Some(2),
            open_files: Some(3),
            ..LimitsSpec::default()
        };
        assert_eq!(limits(&spec, |_| true), [(Resource::Nofile, 3)]);
        assert_eq!(limits(&spec, |c| c == "pids").len(), 2);
    }
}

//! A lab that was killed can't clean up after itself: the next one does.

use std::path::Path;
use std::process::Command;

use crate::cgroup::{self, MEMORY, PROCESSOR};
use crate::shell::{Done, ip, run};

/// What all names of a lab begin with; its process follows.
pub(crate) const PREFIX: &str = "bsl";

/// The process whose lab a name belongs to, where it runs no more.
fn dead_owner(name: &str) -> Option<u32> {
    let (number, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    let owner = number.parse().ok()?;
    (!Path::new(&format!("/proc/{owner}")).exists()).then_some(owner)
}

/// Removes what labs of dead processes left: programs, mounts, namespaces, directories.
pub(crate) fn sweep() -> Done {
    let failed = |e: std::io::Error| e.to_string();
    if let Some(root) = cgroup::root() {
        for entry in std::fs::read_dir(root).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            if dead_owner(&name).is_some() {
                drop(cgroup::Cgroup::adopt(&name)?);
            }
        }
    }
    // Some machines have no such cgroups.
    for entry in [MEMORY, PROCESSOR].into_iter().flat_map(std::fs::read_dir).flatten() {
        let entry = entry.map_err(failed)?;
        if dead_owner(&entry.file_name().to_string_lossy()).is_some() {
            std::fs::remove_dir(entry.path()).map_err(failed)?;
        }
    }
    for name in ip("netns list")?.lines().filter_map(|line| line.split(' ').next()) {
        if dead_owner(name).is_some() {
            ip(&format!("netns del {name}"))?;
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").map_err(failed)?;
    for place in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
        let ours = |part: &std::ffi::OsStr| dead_owner(&part.to_string_lossy()).is_some();
        if Path::new(place).iter().any(ours) && !place.starts_with("/run/netns") {
            run(Command::new("umount").arg(place))?;
        }
    }
    for entry in std::fs::read_dir(std::env::temp_dir()).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if dead_owner(&entry.file_name().to_string_lossy()).is_some() {
            std::fs::remove_dir_all(entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_dead_labs_are_swept() {
        let own = format!("{PREFIX}{}-a", std::process::id());
        assert_eq!(dead_owner(&own), None, "this one lives");
        assert_eq!(dead_owner("bsl4194999-a"), Some(4_194_999), "beyond any process");
        for other in ["bsl-a", "bslx-a", "eth0", "user-1.slice", "bsl12"] {
            assert_eq!(dead_owner(other), None, "{other}");
        }
    }
}

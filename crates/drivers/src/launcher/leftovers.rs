//! What a dead launcher left running is killed before the next one serves: nobody knows its role
//! or its epoch any more.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;

use model::Span;

use super::{LEFTOVERS_LIMIT, LauncherError};
use crate::address;
use crate::plant::Plants;
use crate::process::cgroup::CgroupRoot;
use crate::process::table::{Family, ProcessTable, kill_exactly};
use crate::run_dir::RunDir;
use crate::sys;

/// Pause between two looks.
const LOOK_EVERY: Span = Span::from_ms(5);

/// Writes down the leading processes, for the next launcher.
pub(super) fn write_pids(
    run_dir: &RunDir,
    living: impl Iterator<Item = (i32, u64)>,
) -> io::Result<()> {
    let mut text = String::new();
    for (pid, started) in living {
        writeln!(text, "{pid} {started}").map_err(io::Error::other)?;
    }
    let fresh = run_dir.pids().with_extension("new");
    fs::write(&fresh, text)?;
    fs::rename(&fresh, run_dir.pids())
}

/// Kills everything that an earlier launcher of this run directory left, and sees it gone.
pub(super) fn kill(
    run_dir: &RunDir,
    cgroups: Option<&CgroupRoot>,
    table: &mut ProcessTable,
    plants: &Plants,
) -> Result<(), LauncherError> {
    let at = |e: io::Error| LauncherError::Io("kill what an earlier launcher left", e);
    let leaders = read_pids(run_dir).map_err(at)?;
    let begun = sys::now();
    loop {
        let mut left = strike(run_dir, &leaders, table).map_err(at)?;
        left += usize::from(plants.leftover_seen());
        if let Some(root) = cgroups {
            let whole = root.whole().map_err(at)?;
            if !whole.is_empty().map_err(at)? {
                whole.kill().map_err(at)?;
                left += usize::from(!whole.is_empty().map_err(at)?);
            }
        }
        // Whoever could bring an address back is gone before it is looked for.
        if left == 0 {
            left += address::take_down_leftovers(run_dir).map_err(at)?;
        }
        if left == 0 {
            break;
        }
        if sys::now().since(begun) > LEFTOVERS_LIMIT {
            return Err(LauncherError::Leftovers(left));
        }
        tracing::warn!(left, "processes of an earlier launcher are being killed");
        std::thread::sleep(std::time::Duration::from_millis(LOOK_EVERY.as_ms()));
    }
    cgroups.map_or(Ok(()), CgroupRoot::remove_children).map_err(at)
}

/// One round: kills what is found and returns how many that were.
fn strike(run_dir: &RunDir, leaders: &[(i32, u64)], table: &mut ProcessTable) -> io::Result<usize> {
    table.scan()?;
    let mut found = Vec::new();
    for (leader, started) in leaders {
        let family = Family {
            leader: *leader,
            started: *started,
            launcher: 0,
            // Found by their environment below, all at once.
            socket: "",
            known: None,
        };
        table.each(&family, |process| found.push(*process));
    }
    let mut below = run_dir.path().join("i").as_os_str().as_bytes().to_vec();
    below.push(b'/');
    if table.each_below(&below, |process| found.push(*process)).is_none() {
        return Err(io::Error::other("more processes than the table holds"));
    }
    for process in &found {
        kill_exactly(process)?;
    }
    Ok(found.len())
}

fn read_pids(run_dir: &RunDir) -> io::Result<Vec<(i32, u64)>> {
    let text = match fs::read_to_string(run_dir.pids()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read?,
    };
    let parse = |line: &str| {
        let (pid, started) = line.split_once(' ')?;
        Some((pid.parse().ok()?, started.parse().ok()?))
    };
    Ok(text.lines().filter_map(parse).collect())
}

//! The keeper as a program that the launcher runs, and what a dead launcher's keepers left.

use std::fs;
use std::io;

use model::spec::{ProcessSpec, ResourceKind};

use super::{AddressAt, AddressHandle, FindError, interface};
use crate::run_dir::RunDir;

/// The program of an instance, and for an address also the hold on it.
///
/// # Errors
/// [`FindError`].
pub(crate) fn of_instance(
    kind: &ResourceKind,
    keeper: &[String],
) -> Result<(ProcessSpec, Option<AddressHandle>), FindError> {
    let mut program = kind.program().into_owned();
    let ResourceKind::Address(address) = kind else { return Ok((program, None)) };
    let at = interface::find(address)?;
    let handle = AddressHandle::open(at)?;
    program.command = keeper.iter().cloned().chain([at.to_string()]).collect();
    Ok((program, Some(handle)))
}

/// Writes down which addresses may be up, for the next launcher.
pub(crate) fn write_down(
    run_dir: &RunDir,
    addresses: impl Iterator<Item = AddressAt>,
) -> io::Result<()> {
    let text: String = addresses.map(|at| format!("{at}\n")).collect();
    let fresh = run_dir.addresses().with_extension("new");
    fs::write(&fresh, text)?;
    fs::rename(&fresh, run_dir.addresses())
}

/// Takes down what an earlier launcher's keepers left. How many addresses are still up.
pub(crate) fn take_down_leftovers(run_dir: &RunDir) -> io::Result<usize> {
    let text = match fs::read_to_string(run_dir.addresses()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        read => read?,
    };
    let mut left = 0;
    for at in text.lines().filter_map(|line| line.parse::<AddressAt>().ok()) {
        let gone = AddressHandle::open(at)?.strike()?;
        tracing::warn!(%at, gone, "an address that an earlier launcher may have left");
        left += usize::from(!gone);
    }
    Ok(left)
}

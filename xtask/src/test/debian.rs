//! Installs what steps need: Debian packages with apt-get, cargo's own tools with cargo.

use std::collections::BTreeSet;
use std::process::Command;

use super::needs::{Needs, is_root, tool_works};
use crate::shell;

/// Whether a package is installed.
pub(crate) fn installed(name: &str) -> bool {
    let query = Command::new("dpkg-query").args(["-W", "-f=${Status}", name]).output();
    query.is_ok_and(|output| output.stdout == b"install ok installed")
}

/// Installs what is missing, and says what.
pub(crate) fn install(needs: &[&Needs]) -> Result<(), String> {
    let missing = |names: BTreeSet<&'static str>, there: fn(&str) -> bool| -> Vec<&'static str> {
        names.into_iter().filter(|name| !there(name)).collect()
    };
    let packages = needs.iter().flat_map(|needs| needs.packages.iter().copied()).collect();
    let packages = missing(packages, installed);
    if !packages.is_empty() {
        if !is_root() {
            return Err(format!("installing {} takes root", packages.join(", ")));
        }
        println!("installing Debian packages: {}", packages.join(", "));
        let apt = |arguments: &[&str]| {
            let mut command = Command::new("apt-get");
            shell::run(command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
        };
        apt(&["update", "-q"])?;
        apt(&[&["install", "-q", "-y", "--no-install-recommends"], packages.as_slice()].concat())?;
    }
    let tools = needs.iter().flat_map(|needs| needs.cargo_tools.iter().copied()).collect();
    for tool in missing(tools, tool_works) {
        println!("installing {tool} with cargo");
        // Unoptimised it takes a third of the time to build, and runs for seconds only.
        shell::run(&mut shell::cargo(&["install", "--locked", "--debug", tool]))?;
    }
    Ok(())
}

//! What a step needs beyond Rust, and what of it is not there.

use std::os::unix::fs::MetadataExt;

use super::debian;
use crate::shell;

/// What a step needs.
#[derive(Debug)]
pub(crate) struct Needs {
    /// Debian packages.
    pub(crate) packages: &'static [&'static str],
    /// Programs that `cargo install` brings, by the name of their crate.
    pub(crate) cargo_tools: &'static [&'static str],
    /// Parts of this tree.
    pub(crate) paths: &'static [&'static str],
    /// The rights of root: for network namespaces, cgroups, mounts.
    pub(crate) root: bool,
}

impl Needs {
    /// Rust alone.
    pub(crate) const NOTHING: Needs =
        Needs { packages: &[], cargo_tools: &[], paths: &[], root: false };

    /// What is not there, in words.
    pub(crate) fn missing(&self) -> Vec<String> {
        let packages = self.packages.iter().filter(|name| !debian::installed(name));
        let tools = self.cargo_tools.iter().filter(|name| !tool_works(name));
        let paths = self.paths.iter().filter(|path| !crate::root().join(path).exists());
        let mut missing: Vec<String> =
            packages.map(|name| format!("the Debian package {name}")).collect();
        missing.extend(tools.map(|name| format!("`cargo install {name}`")));
        missing.extend(paths.map(|path| format!("{path}, which is not in this tree")));
        if self.root && !is_root() {
            missing.push("root".to_string());
        }
        missing
    }

    /// All of it in words.
    pub(crate) fn words(&self) -> String {
        let mut all: Vec<&str> = self.packages.to_vec();
        all.extend(self.cargo_tools);
        all.extend(self.paths);
        if self.root {
            all.push("root");
        }
        all.join(", ")
    }
}

/// Whether a cargo tool is there: `cargo-deny` is called as `cargo-deny --version`.
pub(crate) fn tool_works(name: &str) -> bool {
    shell::works(name, &["--version"])
}

/// Whether this process may do what root may.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

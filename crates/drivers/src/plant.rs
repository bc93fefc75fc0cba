//! Planted faults: deliberate defects that tests and demonstrations switch on to prove that they
//! would be noticed. None is ever on by default, and each shouts when it is.

use std::path::PathBuf;

/// The planted faults of a launcher or guard. `Default` plants none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plants {
    /// Nobody is stopped when the lease ends, not even where the agent asks for it.
    pub no_fencing: bool,
    /// While this file exists, every check whether an instance is gone sees one process left.
    pub unkillable: Option<PathBuf>,
}

impl Plants {
    /// Reads `--plant` values: `no-fencing`, `unkillable=<file>`.
    ///
    /// # Errors
    /// A sentence that names the value which is neither.
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Plants, String> {
        let mut plants = Plants::default();
        for value in values {
            match value.split_once('=') {
                None if value == "no-fencing" => plants.no_fencing = true,
                Some(("unkillable", file)) => plants.unkillable = Some(file.into()),
                _ => {
                    return Err(format!(
                        "{value:?} is no planted fault; there are no-fencing and unkillable=<file>"
                    ));
                }
            }
        }
        Ok(plants)
    }

    /// Whether a check for emptiness is to see a process that isn't there.
    #[must_use]
    pub fn leftover_seen(&self) -> bool {
        self.unkillable.as_ref().is_some_and(|file| file.exists())
    }

    /// Says loudly what is planted.
    pub fn warn(&self, who: &str) {
        if *self == Plants::default() {
            return;
        }
        let line = "!".repeat(72);
        eprintln!("{line}\n{who}: A FAULT IS PLANTED, NEVER RUN A SERVICE LIKE THIS: {self:?}");
        if self.no_fencing {
            eprintln!("{who}: instances will NOT be stopped when their lease ends");
        }
        eprintln!("{line}");
        tracing::warn!(plants = ?self, "{who} runs with planted faults");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planted_faults_are_named_exactly() {
        let plants = Plants::parse(["no-fencing", "unkillable=/x"]).unwrap();
        assert!(plants.no_fencing);
        assert_eq!(plants.unkillable, Some("/x".into()));
        assert!(Plants::parse(["no_fencing"]).is_err());
        assert_eq!(Plants::parse([]), Ok(Plants::default()));
    }
}

//! Names the profile in `cluster.toml`: `init` has measured, and the file is what the operator
//! edits next, so that what was picked must stand there.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use model::{ClusterSpec, Profile};

use crate::load::load;
use crate::sink::Places;
use crate::source::Place;

/// Longest reason that is written behind the profile, in characters.
const REASON_SHOWN_MAX: usize = 200;

/// Why the file was left as it was.
#[derive(Debug, thiserror::Error)]
pub enum NamingError {
    /// There is no plain place for the line.
    #[error(
        "{path} has no [cluster] with a line for the name, where the profile could be written: \
         add `profile = \"{profile}\"` to it, then run this again"
    )]
    NoPlace {
        /// The file.
        path: String,
        /// The profile.
        profile: Profile,
    },
    /// The file can't be replaced.
    #[error(
        "the profile can't be written to {path}: add `profile = \"{profile}\"` to its [cluster] \
         yourself, then run this again"
    )]
    Write {
        /// The file.
        path: String,
        /// The profile.
        profile: Profile,
        /// The cause.
        source: std::io::Error,
    },
}

/// Writes the profile and why below the cluster's name. The file is replaced whole or not at all,
/// and only where reading it again gives the same specification with that profile.
///
/// # Errors
/// [`NamingError`]; the file stays as it was.
pub fn name_profile(
    path: &Path,
    places: &Places,
    spec: &ClusterSpec,
    reason: &str,
) -> Result<(), NamingError> {
    let name = path.display().to_string();
    let nowhere = || NamingError::NoPlace { path: name.clone(), profile: spec.profile };
    let failed = |source| NamingError::Write { path: name.clone(), profile: spec.profile, source };
    let place = places.first(&["cluster.name"]).ok_or_else(nowhere)?;
    let text = with_profile(place, spec.profile, reason);
    // Behind a link is the file that is meant.
    let path = fs::canonicalize(path).map_err(failed)?;
    let beside = beside(&path);
    let written = write_beside(&path, &beside, &text).map_err(failed);
    let same = written.map(|()| load(&beside).spec.as_ref() == Some(spec));
    match same {
        Ok(true) => fs::rename(&beside, &path).map_err(failed),
        other => {
            // What could not be made is not there to be removed.
            let _ = fs::remove_file(&beside);
            other.and(Err(nowhere()))
        }
    }
}

/// The text of the file with one line more.
fn with_profile(name: &Place, profile: Profile, reason: &str) -> String {
    let text = &name.source.text;
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let line_end = text[name.span.end..].find('\n').map_or(text.len(), |at| name.span.end + at + 1);
    let (before, after) = text.split_at(line_end);
    let gap = if before.ends_with('\n') { "" } else { newline };
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let reason: String = reason.chars().map(plain).take(REASON_SHOWN_MAX).collect();
    let line = format!("profile = \"{profile}\"  # by `backstay init`: {}", reason.trim_end());
    format!("{before}{gap}{line}{newline}{after}")
}

/// In the same directory, so that what it includes is found from there too.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

fn write_beside(path: &Path, beside: &Path, text: &str) -> std::io::Result<()> {
    let old = fs::metadata(path)?;
    let mut file = fs::File::create(beside)?;
    file.set_permissions(old.permissions())?;
    let new = file.metadata()?;
    if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
        chown(beside, Some(old.uid()), Some(old.gid()))?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "[[node]]\nname = \"a\"\nlinks = [\"10.1.0.1\"]\n";

    fn name(text: &str) -> (Result<(), NamingError>, String) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("cluster.toml");
        fs::write(&path, text).expect("a file");
        let loaded = load(&path);
        let spec = loaded.spec.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
        let spec = ClusterSpec { profile: Profile::Lan, ..spec };
        let named = name_profile(&path, &loaded.places, &spec, "\"fast\" does not fit:\nno");
        assert_eq!(dir.path().read_dir().expect("it is there").count(), 1, "nothing is left over");
        (named, fs::read_to_string(&path).expect("a file"))
    }

    #[test]
    fn the_profile_stands_below_the_name_and_nothing_else_changes() {
        let line = "profile = \"lan\"  # by `backstay init`: \"fast\" does not fit: no\n";
        for (before, after) in [
            ("# mine\n[cluster]\nname = \"t\" # it\n", "# the nodes\n"),
            ("[cluster]\nports = { api = 9 }\nname = \"t\"\n", "\n"),
        ] {
            let (named, text) = name(&format!("{before}{after}{NODE}"));
            assert!(named.is_ok(), "{named:?}");
            assert_eq!(text, format!("{before}{line}{after}{NODE}"));
        }
        let windows = format!("[cluster]\nname = \"t\"\n{NODE}").replace('\n', "\r\n");
        let (named, text) = name(&windows);
        assert!(named.is_ok() && text.contains(&line.replace('\n', "\r\n")), "{named:?} {text}");
    }

    #[test]
    fn a_file_with_no_plain_place_for_it_stays_as_it_was() {
        for head in ["cluster.name = \"t\"\n", "cluster = { name = \"t\" }\n"] {
            let before = format!("{head}{NODE}");
            let (named, after) = name(&before);
            let told = named.expect_err("there is no [cluster]").to_string();
            assert!(told.contains("add `profile = \"lan\"`"), "{told}");
            assert_eq!(after, before);
        }
    }
}

//! Finds the texts of the tree.

use std::path::Path;

/// Directories that hold nothing of ours.
const SKIPPED: &[&str] = &["target", ".git", "node_modules", "vendor"];
/// Endings of texts.
const ENDINGS: &[&str] = &["rs", "md", "toml", "sh", "txt", "yml", "yaml", "service", "py", "html"];
/// Texts without an ending.
const NAMES: &[&str] = &["run"];
/// Most directories in one another.
const DEPTH_MAX: usize = 32;
/// Larger files are data, not text that someone wrote.
const BYTES_MAX: u64 = 4 << 20;

/// Path from the root, and text, of every file that tidy looks at, in order.
pub(super) fn texts(root: &Path) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    directory(root, "", 0, &mut found)?;
    found.sort();
    Ok(found)
}

fn directory(
    root: &Path,
    below: &str,
    depth: usize,
    found: &mut Vec<(String, String)>,
) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err(format!("{below} lies deeper than {DEPTH_MAX} directories"));
    }
    let failed = |error: std::io::Error| format!("can't read {below}: {error}");
    for entry in std::fs::read_dir(root.join(below)).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
            directory(root, &path, depth + 1, found)?;
        } else if kind.is_file() && is_text(&name) {
            let size = entry.metadata().map_err(failed)?.len();
            if size <= BYTES_MAX {
                let bytes = std::fs::read(entry.path()).map_err(failed)?;
                found.push((path, String::from_utf8_lossy(&bytes).into_owned()));
            }
        }
    }
    Ok(())
}

fn is_text(name: &str) -> bool {
    match name.rsplit_once('.') {
        Some((_, ending)) => ENDINGS.contains(&ending),
        None => NAMES.contains(&name),
    }
}

//! `bench`: whatever lies in a crate's `benches` directory can be measured by its name, and
//! whatever the lab measures on whole clusters.

use std::path::Path;

use crate::{chaos, shell};

/// What the lab measures.
const OF_THE_LAB: &[&str] =
    &["failover", "false-failover", "partitions", "coordinator-deaths", "idle"];

/// Runs one measurement, or lists them.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let benches = find(&crate::root())?;
    let list = || {
        let whole = OF_THE_LAB.iter().map(|name| format!("  {name} (lab)"));
        let names: Vec<String> =
            benches.iter().map(|(n, c)| format!("  {n} ({c})")).chain(whole).collect();
        names.join("\n")
    };
    let Some((name, rest)) = arguments.split_first() else {
        println!("{}", list());
        return Ok(());
    };
    if OF_THE_LAB.contains(&name.as_str()) {
        return shell::run(chaos::lab(name)?.args(rest));
    }
    let Some((_, package)) = benches.iter().find(|(bench, _)| bench == name) else {
        return Err(format!("there is no bench {name:?}:\n{}", list()));
    };
    shell::run(shell::cargo(&["bench", "-p", package, "--bench", name, "--"]).args(rest))
}

/// Names of benches and the packages that hold them.
fn find(root: &Path) -> Result<Vec<(String, String)>, String> {
    let crates = root.join("crates");
    let failed = |error: std::io::Error| format!("can't list {}: {error}", crates.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&crates).map_err(failed)? {
        let directory = entry.map_err(failed)?;
        let package = format!("backstay-{}", directory.file_name().to_string_lossy());
        // A crate without benches has no such directory.
        let Ok(benches) = std::fs::read_dir(directory.path().join("benches")) else { continue };
        for bench in benches {
            let path = bench.map_err(failed)?.path();
            if let (Some("rs"), Some(name)) =
                (path.extension().and_then(|e| e.to_str()), path.file_stem())
            {
                found.push((name.to_string_lossy().into_owned(), package.clone()));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn benches_are_found_by_their_files() {
        let root = std::env::temp_dir().join(format!("xtask-bench-{}", std::process::id()));
        let benches = root.join("crates/vault/benches");
        std::fs::create_dir_all(&benches).expect("a directory");
        std::fs::create_dir_all(root.join("crates/model/src")).expect("a directory");
        std::fs::write(benches.join("chunks.rs"), "").expect("a file");
        std::fs::write(benches.join("notes.md"), "").expect("a file");
        let found = find(&root);
        std::fs::remove_dir_all(&root).expect("it can be removed");
        assert_eq!(found, Ok(vec![("chunks".to_string(), "backstay-vault".to_string())]));
        assert!(find(Path::new("no-such-directory")).is_err());
    }
}

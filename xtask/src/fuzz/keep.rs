//! Keeps in the repository what a target's corpus has grown to: as few and as small inputs as
//! reach all that it reaches, within a limit.

use std::fs;

use super::build::{Fuzzer, Target};
use super::run::{self, Places};

/// Most bytes that are kept of one target. The largest inputs go first.
const KEPT_BYTES_MAX: u64 = 48 << 10;

/// Merges grown and kept inputs, and replaces those that are kept.
pub(super) fn keep(fuzzer: &Fuzzer, target: &Target) -> Result<(), String> {
    let places = Places::of(&target.name)?;
    let failed = |error: std::io::Error| format!("can't keep {}: {error}", target.name);
    let merged = places.grown.with_extension("merged");
    if merged.exists() {
        fs::remove_dir_all(&merged).map_err(failed)?;
    }
    fs::create_dir_all(&merged).map_err(failed)?;
    let mut command = fuzzer.command(&target.name);
    command.env("BACKSTAY_FUZZ_SEEDS", &places.seeds).arg("-merge=1");
    command.args([&merged, &places.kept, &places.grown, &places.seeds]);
    run::limits(&mut command, target.input_max, &places.crashes);
    let output = command.output().map_err(failed)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("the inputs of {} can't be merged:\n{said}", target.name));
    }
    let mut sized = Vec::new();
    for path in run::files(&merged)? {
        sized.push((fs::metadata(&path).map_err(failed)?.len(), path));
    }
    sized.sort();
    for old in run::files(&places.kept)? {
        fs::remove_file(old).map_err(failed)?;
    }
    let (mut count, mut bytes) = (0, 0);
    for (length, path) in sized {
        if bytes + length > KEPT_BYTES_MAX {
            break;
        }
        let name = path.file_name().unwrap_or_default();
        fs::copy(&path, places.kept.join(name)).map_err(failed)?;
        (count, bytes) = (count + 1, bytes + length);
    }
    println!("{}: {count} inputs of {bytes} bytes in all", target.name);
    Ok(())
}

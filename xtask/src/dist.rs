//! `dist`: the static release binary, and the proof that it is static.

use std::path::{Path, PathBuf};

use crate::flags::Flags;
use crate::shell;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds, checks, and prints path and size.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    Flags::read(arguments, &[], &[])?;
    let path = build()?;
    let bytes = std::fs::metadata(&path).map_err(|e| format!("{}: {e}", path.display()))?.len();
    println!("{} is static, {:.1} MiB", path.display(), bytes as f64 / 1_048_576.0);
    Ok(())
}

/// Builds the binary and answers its path, once it is known to be static.
pub(crate) fn build() -> Result<PathBuf, String> {
    let mut command = shell::cargo(&["build", "--release", "--target", TARGET, "-p", "backstay"]);
    // With --target, the flags reach the binary alone and not the build scripts.
    shell::run(command.env("RUSTFLAGS", "-C target-feature=+crt-static"))?;
    let path = shell::target_directory().join(TARGET).join("release/backstay");
    check(&path)?;
    Ok(path)
}

fn check(path: &Path) -> Result<(), String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    match interpreter(&bytes) {
        Ok(None) => Ok(()),
        Ok(Some(name)) => Err(format!("{} is not static: it needs {name}", path.display())),
        Err(problem) => Err(format!("{}: {problem}", path.display())),
    }
}

/// The dynamic linker that a 64-bit little-endian ELF file asks for, if it does. A static one
/// has no program header of type PT_INTERP (ELF-64 object file format, section 8).
fn interpreter(bytes: &[u8]) -> Result<Option<String>, &'static str> {
    const PT_INTERP: u64 = 3;
    if bytes.get(..6) != Some(b"\x7fELF\x02\x01".as_slice()) {
        return Err("not a 64-bit little-endian ELF file");
    }
    let number = |at: usize, size: usize| -> Result<u64, &'static str> {
        let field = at.checked_add(size).and_then(|end| bytes.get(at..end)).ok_or("cut short")?;
        Ok(field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    let place = |value: u64| usize::try_from(value).map_err(|_| "an offset is too large");
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..count {
        let header = place(table.checked_add(index * size).ok_or("an offset is too large")?)?;
        if number(header, 4)? == PT_INTERP {
            let (offset, length) =
                (place(number(header + 8, 8)?)?, place(number(header + 32, 8)?)?);
            let end = offset.checked_add(length).ok_or("an offset is too large")?;
            let name = bytes.get(offset..end).ok_or("cut short")?;
            let name = String::from_utf8_lossy(name);
            return Ok(Some(name.trim_end_matches('\0').to_string()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(kind: u8) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (bytes[32], bytes[54], bytes[56]) = (64, 56, 1);
        bytes[64] = kind;
        (bytes[64 + 8], bytes[64 + 32]) = (120, 7);
        bytes.extend(b"/lib/l\0");
        bytes
    }

    #[test]
    fn a_file_with_an_interpreter_is_not_static() {
        assert_eq!(interpreter(&elf(3)), Ok(Some("/lib/l".to_string())));
        assert_eq!(interpreter(&elf(1)), Ok(None));
        assert!(interpreter(b"#!/bin/sh").is_err());
        for end in 0..127 {
            let cut = &elf(3)[..end];
            assert!(interpreter(cut).is_err(), "cut at {end}");
        }
    }

    /// What this test runs in is a dynamic program of the same compiler.
    #[test]
    fn the_test_itself_is_not_static() {
        let me = std::env::current_exe().expect("a test has a file");
        assert!(check(&me).is_err_and(|problem| problem.contains("is not static")));
    }
}

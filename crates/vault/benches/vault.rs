//! The vault's figures, beside the tools that people use today, on the same data in one run.
//!
//! `cargo xtask bench vault [MIB] [RUNS]`: directories, beside restic, borg and `cp -a`.
//! `cargo xtask bench vault postgres [SCALE] [RUNS]`: a database, beside pgBackRest.
//! `cargo xtask bench vault million [FILES]`: listing, planning and finding among many files.
//!
//! The program measures itself: it is also the vault's command line. `BACKSTAY_BENCH_PROGRAM` names
//! another binary to measure.

#[path = "../tests/postgres/cluster.rs"]
#[allow(dead_code, reason = "the tests' own part of it")]
mod cluster;
#[path = "../tests/common/command_line.rs"]
mod command_line;
#[path = "../tests/common/mod.rs"]
mod common;
#[path = "vault/directories.rs"]
mod directories;
#[path = "vault/million.rs"]
mod million;
#[path = "vault/postgres.rs"]
mod postgres;

use directories::Outcome;
use std::process::ExitCode;

fn main() -> Outcome<ExitCode> {
    if command_line::is_wanted() {
        return Ok(command_line::run());
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).filter(|w| *w != "--bench").collect();
    let number = |at: usize, usual: u64| words.get(at).map_or(Ok(usual), |text| text.parse());
    let scratch = cluster::scratch();
    let other = std::env::var_os("BACKSTAY_BENCH_PROGRAM").map(std::path::PathBuf::from);
    let program = other.map_or_else(std::env::current_exe, Ok)?;
    match words.first() {
        Some(&"postgres") => {
            postgres::run(&program, scratch.path(), number(1, 50)?, number(2, 3)?)?;
        }
        Some(&"million") => million::run(&program, scratch.path(), number(1, 1_000_000)?)?,
        _ => directories::run(&program, scratch.path(), number(0, 2048)?, number(1, 3)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

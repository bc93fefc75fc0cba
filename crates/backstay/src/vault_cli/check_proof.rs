//! `vault check-proof`: checks a proof, with neither repository nor key.

use super::list::CopyRow;
use super::output::{Output, hex, moment};
use super::{CliResult, EXIT_FOUND};
use clap::Args;
use serde::Serialize;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use vault::VaultError;
use vault::proof::Proof;

/// A proof is at most this long.
const PROOF_BYTES_MAX: u64 = 64 << 20;

/// Check a proof that a file was in a backup.
#[derive(Debug, Args)]
pub(crate) struct CheckProofArgs {
    /// The proof.
    pub(crate) proof: PathBuf,
    /// The file that it is said to be about.
    pub(crate) file: Option<PathBuf>,
    /// The key that must have signed it, in hexadecimal, as `vault status` prints it.
    #[arg(long, value_name = "KEY")]
    pub(crate) signed_by: Option<String>,
}

#[derive(Serialize)]
struct Shown {
    holds: bool,
    path: String,
    bytes: u64,
    blake3: String,
    file_matches: Option<bool>,
    backup: u64,
    time: String,
    copied: Option<CopyRow>,
    root: String,
    signed_by: String,
    signer_is_expected: Option<bool>,
}

/// Runs the command.
///
/// # Errors
/// Where the proof does not hold.
pub(crate) fn run(args: &CheckProofArgs, output: Output) -> CliResult {
    let open =
        |path: &PathBuf| std::fs::File::open(path).map_err(VaultError::file("open", path.clone()));
    let mut text = String::new();
    let read = open(&args.proof)?.take(PROOF_BYTES_MAX).read_to_string(&mut text);
    read.map_err(VaultError::file("read", args.proof.clone()))?;
    let proof: Proof = serde_json::from_str(&text)
        .map_err(|e| VaultError::Refused(format!("this is no proof: {e}")))?;
    let proven = proof.check()?;
    let file_matches = match &args.file {
        None => None,
        Some(path) => {
            let mut hasher = blake3::Hasher::new();
            let read = hasher.update_reader(open(path)?);
            read.map_err(VaultError::file("read", path.clone()))?;
            Some(*hasher.finalize().as_bytes() == proven.hash)
        }
    };
    let signed_by = hex(&proven.key);
    let signer_is_expected =
        args.signed_by.as_ref().map(|key| key.eq_ignore_ascii_case(&signed_by));
    let shown = Shown {
        holds: file_matches != Some(false) && signer_is_expected != Some(false),
        path: String::from_utf8_lossy(&proven.path).into_owned(),
        bytes: proven.size_bytes,
        blake3: hex(&proven.hash),
        file_matches,
        backup: proven.statement.seq,
        time: moment(proven.subject.begun_ms),
        copied: proven.subject.copied.as_ref().map(CopyRow::of),
        root: hex(&proven.subject.root),
        signed_by,
        signer_is_expected,
    };
    output.show(&shown, say);
    Ok(if shown.holds { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FOUND) })
}

fn say(shown: &Shown) -> String {
    let mut text = format!(
        "`{}`, {} bytes, BLAKE3 {}\n  was in backup {} of {}\n  root {}\n  signed by {}",
        shown.path,
        shown.bytes,
        shown.blake3,
        shown.backup,
        shown.time,
        shown.root,
        shown.signed_by,
    );
    if let Some(copied) = &shown.copied {
        text += &format!("\n  which is {copied}");
    }
    text += match shown.file_matches {
        None => "",
        Some(true) => "\n  the file given is that file",
        Some(false) => "\n  the file given is ANOTHER file",
    };
    text += match shown.signer_is_expected {
        None => "\n  the proof holds, provided that you trust this key",
        Some(true) => "\n  the proof holds",
        Some(false) => "\n  signed by ANOTHER key than expected",
    };
    text
}

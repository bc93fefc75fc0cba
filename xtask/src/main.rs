//! The project's own tasks: `cargo xtask NAME`. Each is a file; this is the list of them. It
//! needs Rust and nothing else; what a task needs beyond that, it says.

mod bench;
mod chaos;
mod dist;
mod flags;
mod fuzz;
mod mutants;
mod seeds;
mod shell;
mod test;
mod tidy;
mod vault;

use std::path::PathBuf;
use std::process::ExitCode;

/// One task.
struct Task {
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Result<(), String>,
}

const TASKS: &[Task] = &[
    Task {
        name: "test",
        usage: "[--all [--install]] [--only STEP]… [--list]",
        about: "checks everything that Rust alone can check; --all: what needs other software too",
        run: test::run,
    },
    Task {
        name: "tidy",
        usage: "",
        about: "holds the code against STYLE.md: lengths, words, documentation",
        run: tidy::run,
    },
    Task {
        name: "seeds",
        usage: "--count N [--seed S] [--fast | --guided] [--class C] [--plant P] [--only N,N] \
                [--faults F,F] [--search DISTURBANCES] [--trace] [--json]",
        about: "runs N simulated clusters with faults, from seed S on; --fast: built for many;\n\
                \x20     --guided: by what a run of it showed, too (needs rustup's llvm-tools)",
        run: seeds::run,
    },
    Task {
        name: "chaos",
        usage: "[ARGUMENT]…",
        about: "breaks real processes in the lab and checks what they did",
        run: chaos::run,
    },
    Task {
        name: "fuzz",
        usage: "[--target NAME]… [--inputs N | --seconds N] [--jobs N] [--json] [--list]\n      \
                fuzz --keep | --prove",
        about: "tries decoders with inputs that grow; --keep: minimises the corpora that are kept",
        run: fuzz::run,
    },
    Task {
        name: "mutants",
        usage: "[--sample N] [--seed S] [--jobs N] [--seconds N] [--list | --again]",
        about: "changes lines of brain and of the log, and counts what no test notices;\n      \
                --again: tries what survived the last time",
        run: mutants::run,
    },
    Task {
        name: "bench",
        usage: "[NAME [ARGUMENT]…]",
        about: "measures; without a name: lists what can be measured",
        run: bench::run,
    },
    Task {
        name: "vault",
        usage: "[--points N] [--flips N]",
        about: "the vault's long runs: 500 points in time restored, a million bits flipped",
        run: vault::run,
    },
    Task {
        name: "dist",
        usage: "",
        about: "builds the static binary and proves that it is static",
        run: dist::run,
    },
];

fn usage() -> String {
    let mut out = String::from("cargo xtask TASK, where TASK is one of\n");
    for task in TASKS {
        out += &format!("  {} {}\n      {}\n", task.name, task.usage, task.about);
    }
    out
}

/// The repository's root.
fn root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map(PathBuf::from).unwrap_or(manifest)
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let arguments: Vec<String> = arguments.collect();
    let Some(task) = TASKS.iter().find(|task| task.name == name) else {
        eprint!("{}", usage());
        return ExitCode::from(2);
    };
    match (task.run)(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // An empty message means that the task has said everything itself.
            if !message.is_empty() {
                eprintln!("xtask {name}: {message}");
            }
            ExitCode::FAILURE
        }
    }
}

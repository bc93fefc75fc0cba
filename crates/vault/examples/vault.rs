//! The vault's commands alone, without the cluster.
//!
//! `cargo run --release -p backstay-vault --example vault -- backup …`

#[path = "../tests/common/command_line.rs"]
mod command_line;

fn main() -> std::process::ExitCode {
    command_line::run()
}

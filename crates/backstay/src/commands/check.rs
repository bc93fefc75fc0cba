//! `backstay check`: every error of a configuration at its line, every risk in words.

use std::io::IsTerminal;
use std::path::PathBuf;

use config::Diagnostic;
use config::measurement::Measurement;

use super::{Done, Failure, output};

/// Options of `check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration
    #[arg(value_name = "FILE", default_value = "cluster.toml")]
    config: PathBuf,
    /// What `init` measured on these machines
    #[arg(long, value_name = "FILE")]
    measurement: Option<PathBuf>,
    /// Also print the timers that follow from the profile
    #[arg(long)]
    timers: bool,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

/// Prints diagnostics; fails with status 3 where one is an error.
pub(crate) fn show(diagnostics: &[Diagnostic], json: bool) -> Done {
    let errors = diagnostics.iter().any(Diagnostic::is_error);
    if json {
        if errors {
            output::json(&config::to_json(diagnostics))?;
        }
    } else if !diagnostics.is_empty() {
        eprint!("{}", config::render(diagnostics, std::io::stderr().is_terminal()));
    }
    if errors { Err(Failure::with(3, "")) } else { Ok(()) }
}

pub(crate) fn run(args: &Args) -> Done {
    let mut loaded = config::load(&args.config);
    let measured = match &args.measurement {
        Some(path) => Some(Measurement::load(path).map_err(Failure::new)?),
        None => None,
    };
    if let (Some(spec), Some(measured)) = (&loaded.spec, &measured) {
        loaded.diagnostics.extend(config::risk::check_measured(spec, &loaded.places, measured));
    }
    let errors = loaded.diagnostics.iter().any(Diagnostic::is_error);
    if args.json {
        output::json(&config::to_json(&loaded.diagnostics))?;
        return if errors { Err(Failure::with(3, "")) } else { Ok(()) };
    }
    print!("{}", config::render(&loaded.diagnostics, std::io::stdout().is_terminal()));
    if errors {
        return Err(Failure::with(3, ""));
    }
    let Some(spec) = &loaded.spec else { return Err(Failure::with(3, "")) };
    if let Some(measured) = &measured {
        let voters = spec.voters().count();
        println!("{}", config::lapse::expect(spec.profile, measured, voters));
    }
    if args.timers {
        print!("{}", config::timers::render(spec.profile));
    }
    println!(
        "{}: {} nodes, {} resources, profile {}: no errors.",
        args.config.display(),
        spec.nodes.len(),
        spec.resources.len(),
        spec.profile
    );
    Ok(())
}

//! `backstay check`: every error of a configuration at its line, every risk in words.

use std::io::IsTerminal;
use std::path::PathBuf;

use agent::node::files::DataDir;
use config::{Diagnostic, Measurement};

use super::{Done, Failure, output};

/// Options of `check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration
    #[arg(value_name = "FILE", default_value = "cluster.toml")]
    config: PathBuf,
    /// What `init` or `measure` measured; where it lies in the data directory it is found by itself
    #[arg(long, value_name = "FILE")]
    measurement: Option<PathBuf>,
    /// Data directory of a node on this machine
    #[arg(long, value_name = "DIR", env = "BACKSTAY_DATA", default_value = "/var/lib/backstay")]
    data: PathBuf,
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

/// The measurement to judge by: the one that is named, or the one next to the data where it was
/// made for this cluster.
fn measurement(args: &Args, cluster: Option<&str>) -> Result<Option<Measurement>, Failure> {
    let found = DataDir::new(&args.data).measurement();
    let path = match &args.measurement {
        Some(path) => path,
        None if found.exists() => &found,
        None => return Ok(None),
    };
    let measured = Measurement::load(path).map_err(Failure::new)?;
    let meant = args.measurement.is_some() || cluster == Some(measured.cluster.as_str());
    Ok(meant.then_some(measured))
}

pub(crate) fn run(args: &Args) -> Done {
    let mut loaded = config::load(&args.config);
    let measured = measurement(args, loaded.spec.as_ref().map(|spec| spec.name.as_str()))?;
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
        print!("{}", config::lapse::render(spec.profile, measured, voters));
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

//! `backstay init`: founds a cluster; this machine becomes its first node. It measures first, and
//! picks the profile that fits.

use std::path::PathBuf;
use std::time::Duration;

use agent::node::files::DataDir;
use agent::node::found::{FoundOptions, found};
use config::{Code, Loaded, Measurement};
use model::{NodeName, Profile};
use serde_json::json;

use super::measure::{self, How};
use super::{Done, Failure, check, output};

/// Options of `init`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The cluster's configuration
    #[arg(long, value_name = "FILE", default_value = "cluster.toml")]
    config: PathBuf,
    /// Which of its nodes this machine is
    #[arg(long, value_name = "NAME")]
    node: NodeName,
    /// Where the node's data goes
    #[arg(long, value_name = "DIR", env = "BACKSTAY_DATA", default_value = "/var/lib/backstay")]
    data: PathBuf,
    /// How long to measure the machines; run `backstay measure --answer` on the others first
    #[arg(
        long,
        value_name = "DURATION",
        default_value = measure::DURATION,
        value_parser = measure::span
    )]
    measure: Duration,
    /// How long the other nodes may take to answer
    #[arg(
        long,
        value_name = "DURATION",
        default_value = measure::WAIT,
        value_parser = measure::wait
    )]
    wait: Duration,
    /// Measure nothing: the profile is the one that the configuration names, or `cloud`
    #[arg(long, conflicts_with_all = ["measure", "wait"])]
    no_measure: bool,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

/// What was measured and what follows.
struct Picked {
    measured: Measurement,
    /// The profile, and why it is that one.
    reason: String,
    /// The configuration named it.
    named: bool,
}

pub(crate) fn run(args: &Args) -> Done {
    let mut loaded = config::load(&args.config);
    if !args.no_measure {
        // It will be picked and named.
        loaded.diagnostics.retain(|d| d.code != Code::ProfileNotNamed);
    }
    check::show(&loaded.diagnostics, args.json)?;
    let Some(spec) = loaded.spec.take() else { return Err(Failure::with(3, "")) };
    let mut options = FoundOptions {
        spec,
        text: std::mem::take(&mut loaded.text),
        node: args.node.clone(),
        data: DataDir::new(&args.data),
    };
    // Before a minute is spent on measuring.
    options.place().map_err(Failure::new)?;
    let picked = match args.no_measure {
        true => None,
        false => Some(pick(args, &loaded, &mut options)?),
    };
    let (cluster, profile) = (options.spec.name.clone(), options.spec.profile);
    let voters = options.spec.voters().count();
    let founded = found(options).map_err(Failure::new)?;
    if args.json {
        let lapses =
            picked.as_ref().and_then(|p| config::lapse::expect(profile, &p.measured, voters));
        return output::json(&json!({
            "cluster": cluster, "node": args.node, "operator": founded.operator,
            "profile": profile, "reason": picked.as_ref().map(|p| &p.reason),
            "measurement": picked.as_ref().map(|p| &p.measured), "lapses": lapses,
        }));
    }
    if let Some(picked) = &picked {
        told(args, picked, profile, voters);
    }
    println!("Cluster {cluster} is founded; {} is its first node.", args.node);
    println!("The operator's credential is {}: keep it safe.", founded.operator.display());
    println!(
        "Next: run launcher, guard and agent here (packaging/ has the systemd units), then \
         `backstay token` for each further node."
    );
    Ok(())
}

/// Measures, and settles the profile: the one that fits where the configuration names none, else
/// the named one unless the measurement breaks it.
fn pick(args: &Args, loaded: &Loaded, options: &mut FoundOptions) -> Result<Picked, Failure> {
    measure::make(&options.data)?;
    let how = How { duration: args.measure, wait: args.wait, quiet: args.json };
    let measured = measure::here(&options.spec, &args.node, &options.data, &how)?;
    let (fits, why) = config::pick_profile(&measured, options.spec.voters().count());
    let named = loaded.places.says("cluster.profile");
    let mut reason = why.clone();
    if named {
        reason = format!("the configuration names it; measured, \"{fits}\" would fit ({why})");
    } else {
        options.spec.profile = fits;
    }
    let judged = config::risk::check_measured(&options.spec, &loaded.places, &measured);
    check::show(&judged, args.json).map_err(|_| {
        Failure::with(
            3,
            format!(
                "nothing was founded. Mend what is said above and run this again, or found it \
                 unmeasured with --no-measure. The figures are in {}",
                options.data.measurement().display()
            ),
        )
    })?;
    if !named {
        config::name_profile(&args.config, &loaded.places, &options.spec, &reason)
            .map_err(Failure::new)?;
        options.text = config::to_toml(&options.spec);
    }
    Ok(Picked { measured, reason, named })
}

fn told(args: &Args, picked: &Picked, profile: Profile, voters: usize) {
    print!("{}", measure::figures(&picked.measured));
    println!("Profile \"{profile}\": {}.", picked.reason);
    print!("{}", config::lapse::render(profile, &picked.measured, voters));
    if !picked.named {
        println!("The profile was written to {}.", args.config.display());
    }
    println!("The figures are in {}.", DataDir::new(&args.data).measurement().display());
}

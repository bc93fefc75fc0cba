//! `backstay measure`: what the machines and links bear, and which profile fits them.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use agent::identity::write_file;
use agent::node::files::DataDir;
use agent::node::measure::{self, ANSWER_MAX, Answered, Answerer, DURATION_MAX, DURATION_MIN};
use config::Measurement;
use indicatif::{ProgressBar, ProgressStyle};
use model::{ClusterSpec, NodeName};
use serde_json::json;

use super::{Done, Failure, check, output};

/// How long is measured unless said otherwise.
pub(crate) const DURATION: &str = "1m";
/// How long the others may take to answer unless said otherwise.
pub(crate) const WAIT: &str = "5s";

/// Options of `measure`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The cluster's configuration
    #[arg(long, value_name = "FILE", default_value = "cluster.toml")]
    config: PathBuf,
    /// Which of its nodes this machine is
    #[arg(long, value_name = "NAME")]
    node: NodeName,
    /// Where the node's data goes: its disk is measured there
    #[arg(long, value_name = "DIR", env = "BACKSTAY_DATA", default_value = "/var/lib/backstay")]
    data: PathBuf,
    /// Answer while another node measures; ends when that one is done
    #[arg(long, conflicts_with_all = ["duration", "wait"])]
    answer: bool,
    /// How long to measure
    #[arg(long = "for", value_name = "DURATION", default_value = DURATION, value_parser = span)]
    duration: Duration,
    /// How long the other nodes may take to answer
    #[arg(long, value_name = "DURATION", default_value = WAIT, value_parser = wait)]
    wait: Duration,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

/// Reads how long to measure.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let span = Duration::from_millis(output::duration_ms(text)?);
    if span < DURATION_MIN || span > DURATION_MAX {
        return Err(format!(
            "measuring takes between {} ms and {} s",
            DURATION_MIN.as_millis(),
            DURATION_MAX.as_secs()
        ));
    }
    Ok(span)
}

/// Reads how long to wait for answers.
pub(crate) fn wait(text: &str) -> Result<Duration, String> {
    output::duration_ms(text).map(Duration::from_millis)
}

pub(crate) fn run(args: &Args) -> Done {
    let mut loaded = config::load(&args.config);
    // What can go wrong with the rest of it, `check` says.
    loaded.diagnostics.retain(config::Diagnostic::is_error);
    check::show(&loaded.diagnostics, args.json)?;
    let Some(spec) = loaded.spec else { return Err(Failure::with(3, "")) };
    let data = DataDir::new(&args.data);
    if !spec.nodes.contains_key(&args.node) {
        let why = format!("node {} is not in {}", args.node, args.config.display());
        return Err(Failure::new(format!("{why}; `--node` names one of its [[node]] entries")));
    }
    make(&data)?;
    if args.answer {
        return answer(args, &spec, &data);
    }
    let how = How { duration: args.duration, wait: args.wait, quiet: args.json };
    let measured = here(&spec, &args.node, &data, &how)?;
    let voters = spec.voters().count();
    let (fits, reason) = config::pick_profile(&measured, voters);
    if args.json {
        return output::json(&json!({
            "measurement": measured, "file": data.measurement(), "profile": fits,
            "reason": reason, "lapses": config::lapse::expect(fits, &measured, voters),
        }));
    }
    print!("{}", figures(&measured));
    println!("Profile \"{fits}\" fits: {reason}.");
    print!("{}", config::lapse::render(fits, &measured, voters));
    println!("The figures are in {}.", data.measurement().display());
    Ok(())
}

/// Makes the data directory, so that the disk below it can be measured.
pub(crate) fn make(data: &DataDir) -> Done {
    let path = data.path().display();
    data.create().map_err(|error| {
        Failure::new(format!("{path} can't be made ({error}): name another with --data"))
    })
}

fn answer(args: &Args, spec: &ClusterSpec, data: &DataDir) -> Done {
    let node = &spec.nodes[&args.node];
    let port = node.ports.unwrap_or(spec.ports).heartbeat;
    let sockets = measure::listen(&node.links, port).map_err(Failure::new)?;
    if !args.json {
        let (me, others) = (&args.node, "`backstay init` or `backstay measure` on another node");
        eprintln!("{me} answers on UDP port {port} of every link. Now run {others}.");
    }
    let answerer = Answerer { me: &args.node, data: data.path(), sockets };
    let answered = answerer.run(ANSWER_MAX).map_err(Failure::new)?;
    let Answered { datagrams, complete } = answered;
    if !complete {
        return Err(Failure::new(format!(
            "no measurement came to its end within {}; {datagrams} datagrams were answered",
            output::span(ANSWER_MAX.as_millis() as u64)
        )));
    }
    if args.json {
        return output::json(&json!({ "node": args.node, "datagrams": datagrams }));
    }
    println!("Done: {datagrams} datagrams answered, and this machine's figures handed over.");
    Ok(())
}

/// How long, and whether anything is shown meanwhile.
pub(crate) struct How {
    pub(crate) duration: Duration,
    pub(crate) wait: Duration,
    pub(crate) quiet: bool,
}

/// Measures from here and writes the figures next to the data.
pub(crate) fn here(
    spec: &ClusterSpec,
    me: &NodeName,
    data: &DataDir,
    how: &How,
) -> Result<Measurement, Failure> {
    let say = |text: String| {
        if !how.quiet {
            eprintln!("{text}");
        }
    };
    let contacts = measure::contact(spec, me, how.wait).map_err(Failure::new)?;
    for silent in contacts.silent() {
        say(format!(
            "{silent} does not answer. To measure it too, stop this and run there first:\n  \
             backstay measure --answer --config cluster.toml --node {silent}"
        ));
    }
    let names: Vec<&str> = contacts.answering().iter().map(|name| name.as_str()).collect();
    let what = if names.is_empty() { "nobody else".to_owned() } else { names.join(", ") };
    say(format!(
        "Measuring {me} and the links to {what} for {}.",
        output::span(how.duration.as_millis() as u64)
    ));
    let bar = if how.quiet { ProgressBar::hidden() } else { bar(how.duration) };
    let measured = std::thread::scope(|scope| {
        let (ended, end) = std::sync::mpsc::channel::<()>();
        let shown = &bar;
        scope.spawn(move || {
            // Until the sender is gone.
            while end.recv_timeout(Duration::from_millis(200))
                == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                shown.set_position(shown.elapsed().as_millis() as u64);
            }
        });
        let measured = contacts.measure(data.path(), how.duration);
        drop(ended);
        measured
    });
    bar.finish_and_clear();
    let measured = measured.map_err(Failure::new)?;
    write_file(&data.measurement(), measured.to_toml().as_bytes(), 0o644).map_err(Failure::new)?;
    Ok(measured)
}

fn bar(duration: Duration) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(duration.as_millis() as u64);
    match ProgressStyle::with_template("  {bar:50} {elapsed} of the time") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// The figures, a line for each machine and each link.
pub(crate) fn figures(measured: &Measurement) -> String {
    let mut out = format!("Measured for {} s:\n", measured.seconds);
    for node in &measured.nodes {
        let priority = if node.realtime { "granted" } else { "not granted" };
        out += &format!(
            "  {:<12} stood still {:.1} ms at most; fsync 99 % within {:.1} ms, slowest {:.1} ms; \
             real-time priority {priority}\n",
            node.name, node.stall_max_ms, node.fsync_p99_ms, node.fsync_max_ms
        );
    }
    for link in &measured.links {
        out += &format!(
            "  {:<12} link {}: {:.2} % lost, 99.9 % back within {:.1} ms, silent {:.1} ms at \
             most\n",
            format!("{}-{}", link.from, link.to),
            link.link,
            link.loss_percent,
            link.late_p999_ms,
            link.silence_max_ms
        );
        if link.loss_percent >= 100.0 {
            out += "               nothing came back on it: look at its cable, route, firewall\n";
        }
    }
    for name in &measured.unknown {
        out += &format!("  {name:<12} not known: it did not answer\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_to_measure_has_its_limits() {
        assert_eq!(span(DURATION), Ok(Duration::from_secs(60)));
        assert_eq!(span("1h"), Ok(Duration::from_secs(3_600)));
        for text in ["2h", "100ms", "0s", "soon", ""] {
            assert!(span(text).is_err(), "{text}");
        }
        assert_eq!(wait(WAIT), Ok(Duration::from_secs(5)));
    }
}

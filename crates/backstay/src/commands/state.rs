//! `backstay state`: the control state in a file. Export, look, found anew.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use agent::identity::read_authority;
use agent::node::files::DataDir;
use agent::node::generation::{Begun, Import, import};
use agent::node::state_file::{self, FILE_MAX, Source, StateFile};
use agent::node::stopped;
use clap::Subcommand;
use model::NodeName;
use serde_json::json;

use super::confirm::{self, Confirm};
use super::connect::Connect;
use super::{Done, Failure, output, survey};

/// Options of `state`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Write the control state into a file
    Export(ExportArgs),
    /// Show what is in such a file, and whether it is whole
    Show(ShowArgs),
    /// Found the cluster anew from such a file, under a higher generation
    Import(Box<ImportArgs>),
}

#[derive(Debug, clap::Args)]
struct ExportArgs {
    /// Where to; standard output otherwise. A file that is there is never replaced
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Read the data directory of a node whose agent does not run
    #[arg(long)]
    stopped: bool,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// The file
    file: PathBuf,
    /// Print the text of the specification in it, and nothing else
    #[arg(long, conflicts_with = "json")]
    spec: bool,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ImportArgs {
    /// The file
    file: PathBuf,
    /// Which of its nodes this machine is
    #[arg(long, value_name = "NAME")]
    node: NodeName,
    /// Where the node's data goes; it must hold no node
    #[arg(long, value_name = "DIR", env = "BACKSTAY_DATA", default_value = "/var/lib/backstay")]
    data: PathBuf,
    /// The old authority (a kept `identity/authority.key`): the other nodes' certificates stay
    /// good. Without it a new authority is made, and every other node joins with a token
    #[arg(long, value_name = "FILE")]
    authority: Option<PathBuf>,
    #[command(flatten)]
    confirm: Confirm,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Done {
    match &args.what {
        What::Export(args) => export(args),
        What::Show(args) => show(args),
        What::Import(args) => begin(args),
    }
}

fn export(args: &ExportArgs) -> Done {
    let text = if args.stopped {
        let stopped = stopped::read(&args.connect.data()).map_err(Failure::new)?;
        let (node, coordinator) = (stopped.node.node.clone(), None);
        let wall_ms = agent::node::core::now().wall_ms;
        state_file::write(&stopped.committed, &Source { node, coordinator, wall_ms })
    } else {
        let answer = args.connect.open()?.get("/v1/state")?;
        answer["file"]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| Failure::new("the node's answer holds no file; compare versions"))?
    };
    // What was received is read back before it is called an export.
    let file = state_file::read(&text).map_err(Failure::new)?;
    let Some(out) = &args.out else {
        if args.connect.json {
            return output::json(&json!({
                "text": text, "blake3": file.digest, "header": file.header
            }));
        }
        print!("{text}");
        return Ok(());
    };
    write_new(out, &text)?;
    if file.header.coordinator.is_none() {
        eprintln!(
            "backstay: no coordinator was known: what was acknowledged last may not be in the file"
        );
    }
    if args.connect.json {
        return output::json(&json!({
            "file": out, "blake3": file.digest, "header": file.header
        }));
    }
    println!("{}", out.display());
    describe(&file);
    println!(
        "\nKeep it with what it does not hold: a copy of identity/authority.key, locked away."
    );
    Ok(())
}

/// Writes a file that only its owner reads, and that was not there.
fn write_new(path: &Path, text: &str) -> Done {
    let failed = |error: std::io::Error| Failure::new(format!("{}: {error}", path.display()));
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

fn read(path: &Path) -> Result<StateFile, Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("{}: {error}", path.display()));
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = String::new();
    file.take(FILE_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_MAX {
        let why = format!("{} has more than {FILE_MAX} bytes: no export has", path.display());
        return Err(Failure::new(why));
    }
    state_file::read(&text).map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

fn show(args: &ShowArgs) -> Done {
    let file = read(&args.file)?;
    if args.spec {
        print!("{}", file.state.spec_text);
        return Ok(());
    }
    if args.json {
        return output::json(&json!({ "blake3": file.digest, "header": file.header }));
    }
    describe(&file);
    Ok(())
}

/// A file in words.
fn describe(file: &StateFile) {
    let h = &file.header;
    println!("cluster     {} ({})", h.cluster, h.cluster_id);
    println!("generation  {}, highest epoch {}", h.generation, h.last_epoch);
    println!("index       {}, last entry {}", h.index, output::time(h.state_wall_ms));
    let coordinator = h.coordinator.as_ref().map_or("none known".to_owned(), ToString::to_string);
    println!(
        "exported    {} from {} (coordinator: {coordinator})",
        output::time(h.exported_wall_ms),
        h.node
    );
    println!("blake3      {}, verified", file.digest);
    println!("in it:");
    h.contains.iter().for_each(|what| println!("  {what}"));
    println!("not in it:");
    h.omits.iter().for_each(|what| println!("  {what}"));
}

/// Founds anew: shows first, does it with both confirmations.
fn begin(args: &ImportArgs) -> Done {
    let file = read(&args.file)?;
    let authority = match &args.authority {
        Some(path) => Some(read_authority(path).map_err(Failure::new)?),
        None => None,
    };
    let fingerprint = authority.as_ref().map(|authority| authority.fingerprint().to_string());
    let target = Import {
        state: file.state.clone(),
        node: args.node.clone(),
        data: DataDir::new(&args.data),
        authority,
    };
    target.check().map_err(|error| Failure::with(4, error))?;
    let members = file.state.members.keys().chain(file.state.awaited.keys());
    let off: BTreeSet<NodeName> = members.filter(|name| **name != args.node).cloned().collect();
    nobody_answers(&file, &off, &args.node)?;
    let shown = json!({
        "import": file.digest, "node": args.node, "data": args.data, "authority": fingerprint,
        "off": off,
    });
    let token = confirm::token(&shown)?;
    if !args.confirm.is_given() {
        return announce(args, &file, &off, &token);
    }
    let told = args.confirm.check(&file.header.cluster, &off, &token)?;
    let begun = import(target, &told).map_err(Failure::new)?;
    finished(args, &file, &begun)
}

/// Refuses as long as any node of the old generation listens, the one on this machine included.
fn nobody_answers(file: &StateFile, off: &BTreeSet<NodeName>, here: &NodeName) -> Done {
    for node in off.iter().chain([here]) {
        if let Ok(door) = survey::knock(&file.state.spec, node) {
            return Err(Failure::with(
                4,
                format!(
                    "{node} answers at {door}: it is not off. Two generations at once are what \
                     must never be; if the cluster lives, nothing needs an import. Stop it first. \
                     Nothing was changed"
                ),
            ));
        }
    }
    Ok(())
}

fn announce(args: &ImportArgs, file: &StateFile, off: &BTreeSet<NodeName>, token: &str) -> Done {
    let wait_ms = brain::cluster::refound::longest_lease_ms();
    if args.json {
        return output::json(&json!({
            "blake3": file.digest, "header": file.header, "off": off, "token": token,
            "wait_ms": wait_ms, "new_authority": args.authority.is_none(),
        }));
    }
    describe(file);
    println!("\nNothing was done yet. If you go on:");
    println!("  {} founds the cluster anew from this, under a higher generation.", args.node);
    println!("  Every change after index {} is gone: it is not in the file.", file.header.index);
    println!("  Every lease, assignment and join token of the old generation is void.");
    println!("  Nothing is placed for {} after the first election.", output::span(wait_ms));
    for window in state_file::windows(&file.state) {
        println!("  A {window} goes on: end it if it keeps a resource from starting.");
    }
    match &args.authority {
        Some(_) => println!("  The other nodes come back by their certificates, as new ones."),
        None => println!("  A new authority is made: every other node is wiped and joins anew."),
    }
    let names: Vec<&str> = off.iter().map(NodeName::as_str).collect();
    println!(
        "  These have to be off, and stay off until they are set up anew: {}. Go and look: nothing \
         here can see a machine that is cut off from this one.",
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    );
    println!("\nTo go on, repeat the command with:");
    println!("  {}", confirm::next(off, token));
    Ok(())
}

fn finished(args: &ImportArgs, file: &StateFile, begun: &Begun) -> Done {
    if args.json {
        return output::json(begun);
    }
    println!("Generation {} of {} begins here.", begun.generation, file.header.cluster);
    if let Some(operator) = &begun.operator {
        println!("The operator's credential is {}: keep it safe.", operator.display());
    }
    println!("Next: start launcher, guard and agent here. Nothing is placed before");
    println!("{} have passed; `backstay events --follow` shows it.", output::span(begun.wait_ms));
    match args.authority {
        Some(_) => println!("Then start the other nodes: each comes back as a new incarnation."),
        None => println!("Then wipe the other nodes' data and let each join with a new token."),
    }
    Ok(())
}

//! `backstay recover-quorum`: a majority of the voters is lost for good; a survivor begins a new
//! generation from its log. Shows exactly what that means first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use agent::identity::IdentityFiles;
use agent::node::files::DataDir;
use agent::node::generation::{Begun, complete, recover};
use agent::node::state_file;
use agent::node::stopped::{self, End, Stopped};
use model::NodeName;
use model::state::{ClusterState, MemberRole};
use serde_json::json;

use super::confirm::{self, Confirm};
use super::survey::{self, Found, Position};
use super::{Done, Failure, output};

/// Options of `recover-quorum`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The survivor's data directory; its agent must be stopped
    #[arg(long, value_name = "DIR", env = "BACKSTAY_DATA", default_value = "/var/lib/backstay")]
    data: PathBuf,
    #[command(flatten)]
    confirm: Confirm,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Done {
    let data = DataDir::new(&args.data);
    if complete(&data).map_err(Failure::new)? {
        println!("A recovery that had been broken off is complete now. Start the agent.");
        return Ok(());
    }
    let stopped = stopped::read(&data).map_err(|error| Failure::with(4, error))?;
    let found = survey_others(&data, &stopped)?;
    let lost = judge(&stopped, &found)?;
    let token = confirm::token(&shown(&stopped, &found, &lost))?;
    if !args.confirm.is_given() {
        return announce(args, &stopped, &found, &lost, &token);
    }
    let told = args.confirm.check(&stopped.whole.spec.name, &lost, &token)?;
    let begun = recover(&data, stopped, &told).map_err(Failure::new)?;
    finished(args, &begun)
}

type Others = BTreeMap<NodeName, Found>;

fn survey_others(data: &DataDir, stopped: &Stopped) -> Result<Others, Failure> {
    let identity = IdentityFiles::new(data.path()).load().map_err(Failure::new)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let state = &stopped.whole;
    let others = state.members.keys().filter(|name| **name != stopped.node.node);
    let credential = &identity.credential;
    let ask = |name: &NodeName| survey::ask(&runtime, credential, &state.spec, name);
    Ok(others.map(|name| (name.clone(), ask(name))).collect())
}

/// Who is lost; or why nothing may be recovered here.
fn judge(stopped: &Stopped, found: &Others) -> Result<BTreeSet<NodeName>, Failure> {
    let no = |why: String| Err(Failure::with(4, format!("{why}. Nothing was changed")));
    let (state, me) = (&stopped.whole, &stopped.node.node);
    if state.members.get(me).is_none_or(|member| member.replica != stopped.node.replica) {
        return no(format!(
            "{me} is {} here, and its own log knows it as another incarnation or as none: its log \
             is not that of a whole member. Use another survivor",
            stopped.node.replica
        ));
    }
    if state.members[me].role != MemberRole::Voter {
        return no(format!(
            "{me} is no voter that runs resources, so it can't lead the first steps. Export its \
             state (`backstay state export --stopped`) and import it on a voter's machine"
        ));
    }
    for (name, found) in found {
        match found {
            Found::Listens(door, why) => {
                return no(format!(
                    "{name} listens at {door} and can't be asked where it stands ({why}). Find \
                     out what it is: a node that lives is not lost"
                ));
            }
            Found::Stands(position) => may_begin_beside(name, position, stopped)?,
            Found::Silent(_) => {}
        }
    }
    let silent = |name: &NodeName| matches!(found.get(name), Some(Found::Silent(_)));
    let voters = state.members.iter().filter(|(_, member)| member.role != MemberRole::Member);
    let (lost, up): (Vec<_>, Vec<_>) = voters.map(|(name, _)| name).partition(|n| silent(n));
    if up.len() > lost.len() {
        let names: Vec<&str> = up.iter().map(|name| name.as_str()).collect();
        return no(format!(
            "{} of {} voters are there ({}): that is a quorum. Start the agent here, and they \
             elect a coordinator",
            up.len(),
            up.len() + lost.len(),
            names.join(", ")
        ));
    }
    Ok(found.keys().filter(|name| silent(name)).cloned().collect())
}

/// A survivor that answers: it must be of the same generation, know no coordinator, and hold no
/// more than this one.
fn may_begin_beside(name: &NodeName, at: &Position, stopped: &Stopped) -> Done {
    let no = |why: String| Err(Failure::with(4, format!("{why}. Nothing was changed")));
    if at.cluster_id != stopped.node.cluster_id {
        return no(format!("{name} is of another cluster"));
    }
    if at.generation > stopped.whole.generation {
        return no(format!(
            "{name} is of generation {} already: start the agent here, and it comes back into it",
            at.generation
        ));
    }
    if let Some(coordinator) = &at.coordinator {
        return no(format!(
            "{name} knows a coordinator ({coordinator}): the cluster has a quorum. Start the agent"
        ));
    }
    let theirs = End { term: at.last_term, index: at.last_index };
    if at.generation == stopped.whole.generation && theirs > stopped.end {
        return no(format!(
            "{name}'s log goes further (term {}, index {}) than the one here (term {}, index {}): \
             recover there, or what it holds is lost",
            theirs.term, theirs.index, stopped.end.term, stopped.end.index
        ));
    }
    Ok(())
}

/// All that a token binds to.
fn shown(stopped: &Stopped, found: &Others, lost: &BTreeSet<NodeName>) -> serde_json::Value {
    let survivors: Vec<&Position> = found
        .values()
        .filter_map(|found| match found {
            Found::Stands(position) => Some(position),
            _ => None,
        })
        .collect();
    json!({
        "cluster_id": stopped.node.cluster_id,
        "generation": stopped.whole.generation,
        "node": stopped.node.node,
        "replica": stopped.node.replica,
        "last_term": stopped.end.term,
        "last_index": stopped.end.index,
        "committed": stopped.committed.index,
        "unsure": stopped.unsure_count,
        "chain": stopped.chain.to_string(),
        "lost": lost,
        "survivors": survivors,
    })
}

fn announce(
    args: &Args,
    stopped: &Stopped,
    found: &Others,
    lost: &BTreeSet<NodeName>,
    token: &str,
) -> Done {
    let state = &stopped.whole;
    if args.json {
        let unsure: Vec<_> = stopped.unsure.iter().map(|u| (u.index, &u.what)).collect();
        return output::json(&json!({
            "shown": shown(stopped, found, lost), "token": token, "cluster": state.spec.name,
            "last_wall_ms": state.wall_ms, "unsure": unsure,
            "wait_ms": brain::cluster::refound::longest_lease_ms(),
        }));
    }
    println!("cluster     {}, generation {}", state.spec.name, state.generation);
    println!("survivor    {} ({})", stopped.node.node, stopped.node.replica);
    println!("its log     ends at index {}, term {}", stopped.end.index, stopped.end.term);
    println!("            chain {}", stopped.chain);
    println!(
        "            last entry {}, {} ago",
        output::time(state.wall_ms),
        output::ago(state.wall_ms)
    );
    show_nodes(state, found);
    show_losses(stopped);
    println!("\nNothing was done yet. If you go on:");
    println!("  a higher generation begins with this node as its only voter;");
    println!("  every other node is barred as what it was, and comes back as a new incarnation;");
    println!("  every lease, assignment and join token is void, every new epoch is higher;");
    let wait = output::span(brain::cluster::refound::longest_lease_ms());
    println!("  nothing is placed for {wait} after the first election.");
    let names: Vec<&str> = lost.iter().map(NodeName::as_str).collect();
    println!(
        "\nBefore that, go and look: {} must be off, and none of them may be running somewhere \
         that this machine can't reach. If one of them still has its disk, start it instead: with \
         a quorum nothing is lost at all.",
        names.join(", ")
    );
    println!("\nTo go on, repeat the command with:");
    println!("  {}", confirm::next(lost, token));
    Ok(())
}

fn show_nodes(state: &ClusterState, found: &Others) {
    println!("nodes:");
    for (name, found) in found {
        let role = state.members.get(name).map_or("?", |member| match member.role {
            MemberRole::Voter => "voter",
            MemberRole::Witness => "witness",
            MemberRole::Member => "member",
        });
        match found {
            Found::Stands(at) => println!(
                "  {name:<12} {role:<8} survives, term {}, index {}",
                at.last_term, at.last_index
            ),
            Found::Silent(why) => println!("  {name:<12} {role:<8} not heard ({why})"),
            Found::Listens(door, why) => println!("  {name:<12} {role:<8} {door}: {why}"),
        }
    }
}

/// What is kept, and what nobody can know.
fn show_losses(stopped: &Stopped) {
    let state = &stopped.whole;
    println!("kept although this node does not know whether it was committed:");
    if stopped.unsure_count == 0 {
        println!("  nothing: it knows all that it holds to be committed");
    }
    if stopped.unsure_count > stopped.unsure.len() as u64 {
        println!("  {} entries, of which the newest:", stopped.unsure_count);
    }
    for entry in &stopped.unsure {
        println!("  {:>10}  {}", entry.index, entry.what);
    }
    println!("may be lost, if the others had acknowledged it:");
    println!("  every entry after index {}, that is:", stopped.end.index);
    println!("  changes of the specification after version {},", state.spec_version);
    println!("  joins after {}, orders of operators, placements,", state.next_replica - 1);
    println!("  everything that was decided after {}.", output::time(state.wall_ms));
    println!("last known places:");
    for (name, held) in &state.resources {
        match &held.holder {
            Some(holder) if holder.stuck => println!(
                "  {name} on {} under {}, stuck: it stays so until `backstay failover {name} \
                 --confirm-stopped {0}`",
                holder.node, holder.epoch
            ),
            Some(holder) => println!("  {name} on {} under {}", holder.node, holder.epoch),
            None => println!("  {name} nowhere"),
        }
    }
    for window in state_file::windows(state) {
        println!("a {window} goes on");
    }
}

fn finished(args: &Args, begun: &Begun) -> Done {
    if args.json {
        return output::json(begun);
    }
    println!("Generation {} begins here, as {}.", begun.generation, begun.replica);
    if let Some(aside) = &begun.aside {
        println!("The old log is kept in {}.", aside.display());
    }
    println!("Next: start the agent here. Nothing is placed before");
    println!("{} have passed; `backstay events --follow` shows it.", output::span(begun.wait_ms));
    println!("Other nodes come back by themselves when they are started; `backstay forget NODE`");
    println!("for one that never will, `backstay token --node NODE` for one that lost its disk.");
    Ok(())
}

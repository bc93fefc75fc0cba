//! The cases: each is a sentence, meets real processes on hosts of its own, and says what it
//! proved.

mod certificates;
mod clocks;
mod control;
mod disks;
mod failing;
mod flapping;
mod frozen;
mod generations;
mod hostile;
pub(crate) mod links;
mod logs;
pub(crate) mod lost;
mod operators;
mod parts;
mod planned;
mod replayed;
mod rotated;
mod scarce;
mod watched;
mod witness;

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::cluster::{Cluster, Setup};
use crate::judge::verdict;
use crate::shell::Done;

/// What kind of hosts a case wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hosts {
    /// Nothing is special about them.
    Plain,
    /// Their data lies on disks that fail when they are told to.
    OnDisks,
    /// The last one is a witness.
    WithWitness,
    /// The last one has no vote.
    WithMember,
}

impl Hosts {
    fn of(self, setup: &Setup) -> Setup {
        let (disks, witness) = (self == Hosts::OnDisks, self == Hosts::WithWitness);
        Setup { disks, witness, member: self == Hosts::WithMember, ..setup.clone() }
    }
}

/// One case.
pub(crate) struct Case {
    /// The sentence that it proves.
    pub(crate) name: &'static str,
    /// Where it is played.
    hosts: Hosts,
    /// Plays it; what it proved, with figures.
    pub(crate) play: fn(&mut Cluster) -> Done<String>,
}

macro_rules! cases {
    ($($hosts:ident { $($file:ident::$name:ident),* $(,)? })*) => {
        /// All cases.
        pub(crate) const ALL: &[Case] = &[$($(Case {
            name: stringify!($name),
            hosts: Hosts::$hosts,
            play: $file::$name,
        }),*),*];
    };
}

cases! {
    Plain {
        planned::a_switchover_loses_nothing,
        lost::a_killed_process_is_replaced_by_its_standby,
        lost::a_node_without_power_gives_its_address_to_another,
        lost::a_coordinator_s_death_disturbs_no_service_elsewhere,
        lost::coordinator_and_active_node_at_once_are_survived,
        lost::power_lost_everywhere_brings_everything_back,
        links::a_node_cut_on_every_link_never_shares_its_address,
        links::many_partitions_never_make_two_holders,
        links::a_node_that_is_heard_and_hears_nobody_gives_up,
        links::a_node_that_hears_and_is_not_heard_gives_up,
        links::two_nodes_that_miss_each_other_alone_start_no_election_loop,
        links::lost_heartbeats_and_doubled_frames_move_nothing,
        links::a_healed_partition_costs_nothing,
        frozen::a_frozen_agent_loses_its_address_to_the_guard,
        frozen::a_frozen_node_is_replaced_and_refused_when_it_wakes,
        parts::a_killed_launcher_takes_its_address_with_it,
        parts::a_launcher_that_stays_away_loses_its_service_to_another_node,
        parts::a_launcher_that_is_replaced_under_a_frozen_agent_runs_nothing_twice,
        parts::a_killed_guard_takes_the_address_with_it,
        parts::a_killed_agent_that_returns_in_time_costs_nothing,
        disks::a_full_disk_of_the_coordinator_costs_no_order,
        logs::a_node_without_its_disk_joins_as_another_incarnation,
        logs::a_flipped_bit_in_the_log_is_found_and_nothing_of_it_is_believed,
        logs::yesterday_s_image_of_a_disk_gets_no_second_vote,
        flapping::a_node_that_comes_and_goes_moves_the_service_away_once,
        replayed::captured_heartbeats_keep_no_lease_alive,
        scarce::a_slow_processor_moves_nothing,
        scarce::an_agent_without_a_descriptor_left_keeps_its_lease,
        scarce::a_service_that_eats_all_memory_dies_and_not_its_agent,
        operators::a_bad_configuration_is_refused_whole_and_the_old_one_stays,
        operators::an_upgrade_under_load_moves_nothing,
        control::the_control_state_is_linearizable_while_agents_fall,
        generations::a_lost_quorum_is_recovered_and_the_old_majority_is_superseded,
        generations::an_exported_state_founds_the_cluster_anew,
        certificates::a_certificate_that_runs_out_costs_no_service_and_is_renewed_afterwards,
        clocks::a_wall_clock_that_jumps_moves_nothing,
        clocks::a_runaway_clock_takes_over_too_early_and_no_old_epoch_is_stored,
        clocks::a_machine_whose_clock_stood_still_while_it_was_paused_is_refused,
        watched::whoever_watches_the_address_misses_no_change,
    }
    OnDisks {
        failing::a_stalled_disk_costs_the_coordinator_its_office_and_no_order,
        failing::an_agent_that_dies_in_any_of_its_syncs_goes_on_from_there,
        failing::a_failed_sync_stops_the_agent_which_never_syncs_that_file_again,
        failing::a_disk_that_refuses_stops_its_own_node_alone,
        failing::writes_that_a_disk_lost_are_found,
        failing::power_lost_everywhere_with_all_that_was_not_synced_loses_no_order,
    }
    WithMember {
        hostile::a_member_in_hostile_hands_is_held_to_its_role,
    }
    WithWitness {
        witness::a_lost_witness_raises_an_alarm_and_moves_nothing,
        rotated::an_authority_is_replaced_twice_and_nothing_moves,
    }
}

/// What is played: names that contain a word, and of these one part of several.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) word: &'a str,
    /// Every so many-th, beginning with this one.
    pub(crate) part: (usize, usize),
}

/// Why a case did not hold.
enum Failure {
    /// It may have been the machine, which others use too: a wait was too short, a figure off.
    Perhaps(String),
    /// Something was lost, doubled or active twice. No machine is an excuse.
    Harm(String),
}

fn once(case: &Case, setup: &Setup) -> Result<String, Failure> {
    let mut cluster = Cluster::start(setup).map_err(Failure::Perhaps)?;
    let why = match (case.play)(&mut cluster) {
        Ok(proved) => return Ok(proved),
        Err(why) if cluster.harmed => return Err(Failure::Harm(why)),
        Err(why) if cluster.judged => return Err(Failure::Perhaps(why)),
        Err(why) => why,
    };
    // It ended before it was judged, or its judge overlooks what this one does not.
    match verdict(&mut cluster) {
        Err(harm) if cluster.harmed => Err(Failure::Harm(format!("{why}; {harm}"))),
        _ => Err(Failure::Perhaps(why)),
    }
}

/// Plays a case; once more where it failed and harmed nothing, which is told as well.
fn at_most_twice(
    mut play: impl FnMut() -> Result<String, Failure>,
    mut told: impl FnMut(&str, &str),
) -> bool {
    let mut done = play();
    if let Err(Failure::Perhaps(why)) = &done {
        told("again ", why);
        done = play();
    }
    match &done {
        Ok(proved) => told("ok    ", proved),
        Err(Failure::Perhaps(why) | Failure::Harm(why)) => told("FAILED", why),
    }
    done.is_ok()
}

/// Plays what is wanted. Prints a line for each play, and the counts last.
pub(crate) fn play(setup: &Setup, wanted: Wanted<'_>) -> bool {
    let (mut passed, mut failed) = (0u32, 0u32);
    let (first, every) = wanted.part;
    let named = ALL.iter().filter(|case| case.name.contains(wanted.word));
    for case in named.skip(first).step_by(every) {
        let setup = case.hosts.of(setup);
        let mut begun = Instant::now();
        let told = |word: &str, said: &str| {
            println!(
                "{word} {} ({:.0} s)\n       {said}",
                case.name,
                begun.elapsed().as_secs_f32()
            );
            begun = Instant::now();
        };
        match at_most_twice(|| once(case, &setup), told) {
            true => passed += 1,
            false => failed += 1,
        }
    }
    println!("{passed} passed, {failed} failed");
    failed == 0 && passed > 0
}

/// Plays what is wanted in so many processes of this program, as cases wait most of the time; each
/// prints what it played, the counts of all come last. They share nothing: names begin with the
/// process.
pub(crate) fn play_beside(words: &[String], jobs: usize) -> Done<bool> {
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let start = |job: usize| {
        let mut command = Command::new(&own);
        command.args(words).args(["--part", &format!("{job}/{jobs}")]);
        command.stdout(Stdio::piped()).spawn().map_err(|e| e.to_string())
    };
    let children: Vec<Child> = (0..jobs).map(start).collect::<Done<_>>()?;
    let (mut passed, mut failed) = (0u32, 0u32);
    for child in children {
        let output = child.wait_with_output().map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (told, last) = text.trim_end().rsplit_once('\n').unwrap_or(("", &text));
        let Some((good, bad)) = counts(last) else {
            let how = output.status;
            return Err(format!("one of {jobs} ended without a count ({how}): {text}"));
        };
        println!("{told}");
        (passed, failed) = (passed + good, failed + bad);
    }
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0 && passed > 0)
}

/// `5 passed, 0 failed`.
fn counts(line: &str) -> Option<(u32, u32)> {
    let (passed, failed) = line.trim().strip_suffix(" failed")?.split_once(" passed, ")?;
    Some((passed.parse().ok()?, failed.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_harmed_nothing_is_played_once_more_and_harm_is_final() {
        let outcome = |plays: &[Result<&str, Failure>]| {
            let (mut left, mut told) = (plays.iter(), Vec::new());
            let next = || match left.next().expect("no further play") {
                Ok(proved) => Ok((*proved).to_owned()),
                Err(Failure::Perhaps(why)) => Err(Failure::Perhaps(why.clone())),
                Err(Failure::Harm(why)) => Err(Failure::Harm(why.clone())),
            };
            let passed = at_most_twice(next, |word, said| told.push(format!("{word} {said}")));
            (passed, left.len(), told.join(", "))
        };
        let perhaps = || Err(Failure::Perhaps("late".to_owned()));
        let harm = || Err(Failure::Harm("lost".to_owned()));
        assert_eq!(outcome(&[Ok("x"), harm()]), (true, 1, "ok     x".to_owned()));
        assert_eq!(outcome(&[perhaps(), Ok("x")]), (true, 0, "again  late, ok     x".to_owned()));
        assert_eq!(outcome(&[harm(), Ok("x")]), (false, 1, "FAILED lost".to_owned()));
        let twice = "again  late, FAILED late".to_owned();
        assert_eq!(outcome(&[perhaps(), perhaps(), Ok("x")]), (false, 1, twice));
        assert!(!outcome(&[perhaps(), harm()]).0);
    }

    #[test]
    fn parts_together_are_all_cases_and_their_counts_are_read() {
        let of = |first: usize| ALL.iter().skip(first).step_by(2).map(|case| case.name);
        assert_eq!(of(0).chain(of(1)).count(), ALL.len());
        assert_eq!(counts("5 passed, 1 failed\n"), Some((5, 1)));
        assert_eq!(counts("ok     a_case (5 s)"), None);
    }
}

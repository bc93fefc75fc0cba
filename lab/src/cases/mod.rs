//! The cases: each is a sentence, meets real processes on hosts of its own, and says what it
//! proved.

mod control;
mod disks;
mod flapping;
mod frozen;
mod generations;
pub(crate) mod links;
mod logs;
pub(crate) mod lost;
mod operators;
mod parts;
mod planned;
mod replayed;
mod scarce;

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::cluster::{Cluster, Setup};
use crate::shell::Done;

/// One case.
pub(crate) struct Case {
    /// The sentence that it proves.
    pub(crate) name: &'static str,
    /// Plays it; what it proved, with figures.
    pub(crate) play: fn(&mut Cluster) -> Done<String>,
}

macro_rules! cases {
    ($($file:ident::$name:ident),* $(,)?) => {
        /// All cases.
        pub(crate) const ALL: &[Case] =
            &[$(Case { name: stringify!($name), play: $file::$name }),*];
    };
}

cases! {
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
    parts::a_killed_guard_takes_the_address_with_it,
    parts::a_killed_agent_that_returns_in_time_costs_nothing,
    disks::a_full_disk_of_the_coordinator_costs_no_order,
    logs::a_node_without_its_disk_joins_as_another_incarnation,
    logs::a_flipped_bit_in_the_log_is_found_and_nothing_of_it_is_believed,
    logs::yesterday_s_image_of_a_disk_gets_no_second_vote,
    flapping::a_node_that_comes_and_goes_moves_the_service_away_once,
    replayed::captured_heartbeats_keep_no_lease_alive,
    scarce::an_agent_without_a_descriptor_left_keeps_its_lease,
    scarce::a_service_that_eats_all_memory_dies_and_not_its_agent,
    operators::a_bad_configuration_is_refused_whole_and_the_old_one_stays,
    operators::an_upgrade_under_load_moves_nothing,
    control::the_control_state_is_linearizable_while_agents_fall,
    generations::a_lost_quorum_is_recovered_and_the_old_majority_is_superseded,
    generations::an_exported_state_founds_the_cluster_anew,
}

/// What is played: names that contain a word, and of these one part of several.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) word: &'a str,
    /// Every so many-th, beginning with this one.
    pub(crate) part: (usize, usize),
}

/// Plays what is wanted. Prints a line for each case, and the counts last.
pub(crate) fn play(setup: &Setup, wanted: Wanted<'_>) -> bool {
    let (mut passed, mut failed) = (0u32, 0u32);
    let (first, every) = wanted.part;
    let named = ALL.iter().filter(|case| case.name.contains(wanted.word));
    for case in named.skip(first).step_by(every) {
        let begun = Instant::now();
        let done = Cluster::start(setup).and_then(|mut cluster| (case.play)(&mut cluster));
        let seconds = begun.elapsed().as_secs_f32();
        match done {
            Ok(proved) => {
                passed += 1;
                println!("ok     {} ({seconds:.0} s)\n       {proved}", case.name);
            }
            Err(why) => {
                failed += 1;
                println!("FAILED {} ({seconds:.0} s)\n       {why}", case.name);
            }
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
    fn parts_together_are_all_cases_and_their_counts_are_read() {
        let of = |first: usize| ALL.iter().skip(first).step_by(2).map(|case| case.name);
        assert_eq!(of(0).chain(of(1)).count(), ALL.len());
        assert_eq!(counts("5 passed, 1 failed\n"), Some((5, 1)));
        assert_eq!(counts("ok     a_case (5 s)"), None);
    }
}

//! Databases: backed up, streamed, damaged, restored to any point, against Debian's PostgreSQL.
//!
//! Where its programs are missing, every test that needs one says that it was ignored. The binary
//! is also the vault's command line, so that servers under test can call it as their
//! restore_command.

mod ahead;
mod base;
mod cluster;
#[path = "../common/command_line.rs"]
mod command_line;
#[path = "../common/mod.rs"]
mod common;
mod crashes;
mod demo;
mod directory;
mod equality;
mod increments;
mod kills;
mod log;
mod points;
mod proof;
mod replicated;
mod tls;

use libtest_mimic::{Arguments, Failed, Trial};
use std::process::{Command, ExitCode};

/// Those that need `strace`, too.
const RESTORE_KILLED: &str = "a_restore_killed_at_every_write_goes_on";
const DIRECTORY_KILLED: &str = "a_directorys_restore_killed_at_every_write_goes_on";
const IN_PLACE_KILLED: &str = "a_restore_in_place_killed_at_every_write_goes_on";
const STRACED: &[&str] = &[RESTORE_KILLED, DIRECTORY_KILLED, IN_PLACE_KILLED];

/// Those that need no server.
const WITHOUT_SERVER: &[(&str, fn())] = &[
    (
        "what_is_ready_for_a_server_is_the_log_and_no_more",
        ahead::what_is_ready_is_the_log_and_no_more,
    ),
    ("the_demo_plays_with_a_directory", demo::with_a_directory),
    ("a_demo_told_to_end_leaves_nothing", demo::a_signal_leaves_nothing),
    ("a_log_is_fetched_ahead_on_another_timeline", ahead::another_timeline_is_followed),
    (
        "a_damaged_segment_ahead_stops_recovery_where_it_is",
        ahead::a_damaged_segment_ahead_stops_where_it_is,
    ),
    (
        "what_cannot_be_handed_over_is_no_end_of_the_log",
        ahead::what_cannot_be_handed_over_is_no_end_of_the_log,
    ),
    ("what_is_fetched_ahead_goes_with_its_server", ahead::a_queue_goes_with_its_server),
    (DIRECTORY_KILLED, directory::a_restore_killed_at_every_write),
    (IN_PLACE_KILLED, directory::a_restore_in_place_killed_at_every_write),
    (
        "devices_are_no_obstacle_to_a_proof_of_restore",
        directory::devices_are_no_obstacle_to_a_proof,
    ),
    (
        "a_dry_run_and_a_statement_say_what_is_restored",
        directory::a_dry_run_and_a_statement_say_what_is_restored,
    ),
    (
        "what_a_dead_process_fetched_ahead_harms_nothing",
        ahead::what_a_dead_process_left_harms_nothing,
    ),
];

/// Every other test: its name as a sentence, and what it does.
const TESTS: &[(&str, fn())] = &[
    ("a_base_backup_made_under_load_opens_and_adds_up", base::under_load),
    ("an_increment_stores_changed_blocks_and_is_whole", base::increment),
    ("increments_miss_no_page_whatever_happens", increments::none_misses_a_page),
    ("a_server_is_equal_to_its_backup_whatever_it_does", equality::whatever_a_server_does),
    (
        "every_page_that_differs_from_the_backup_is_named",
        equality::every_planted_difference_is_named,
    ),
    ("primary_standby_and_backup_have_one_root", equality::primary_standby_and_backup_are_equal),
    ("an_increment_reads_little", increments::little_is_read),
    (
        "the_archive_is_read_where_the_server_has_let_go",
        increments::the_archive_is_read_where_the_server_has_let_go,
    ),
    ("another_past_is_noticed", increments::another_past_is_noticed),
    ("minimal_logging_is_noticed", increments::minimal_logging_is_noticed),
    ("hint_bits_alone_are_no_change", increments::hint_bits_alone_are_no_change),
    ("nothing_acknowledged_is_lost_with_the_machine", log::nothing_acknowledged_is_lost),
    ("what_the_spool_holds_is_not_lost", log::what_the_spool_holds_is_not_lost),
    (
        "a_stream_that_dies_at_every_change_loses_nothing",
        crashes::a_stream_that_dies_at_every_change_loses_nothing,
    ),
    (
        "an_increment_killed_at_every_change_harms_nothing",
        kills::an_increment_that_dies_at_every_change,
    ),
    (RESTORE_KILLED, kills::a_restore_that_is_killed_at_every_write),
    ("every_removed_or_altered_piece_is_missed", log::every_removed_piece_is_missed),
    ("a_promotion_is_followed_through_its_timelines", log::a_promotion_is_followed),
    ("a_stalled_archive_lets_go_and_says_what_it_cost", log::a_stalled_archive_lets_go),
    ("the_demo_plays_with_a_database", demo::with_a_database),
    ("a_demo_told_to_end_leaves_no_server", demo::a_signal_leaves_no_server),
    ("the_next_demo_removes_what_a_killed_one_left", demo::the_next_removes_what_a_killed_one_left),
    ("segments_are_pushed_by_the_server", log::segments_are_pushed),
    ("only_what_restores_is_called_proven", proof::only_what_restores_is_proven),
    ("status_says_what_a_restore_of_now_takes", proof::status_says_what_a_restore_takes),
    (
        "a_damaged_increment_is_found_with_all_that_stands_on_it",
        proof::a_damaged_increment_is_found,
    ),
    ("the_command_line_restores_a_database_in_place", proof::the_command_line_restores_in_place),
    ("every_restored_point_is_what_it_was", points::every_point_is_what_it_was),
    ("a_server_fetches_its_log_and_stops_where_it_lacks", points::the_server_fetches_its_log),
    ("a_backup_of_a_standby_opens", base::of_a_standby),
    ("a_backup_over_replication_opens_at_every_point", replicated::opens_at_every_point),
    ("what_a_server_sends_is_what_lies_there", replicated::what_is_sent_is_what_lies_there),
    (
        "nothing_altered_or_broken_off_on_its_way_is_recorded",
        replicated::nothing_altered_or_broken_off_is_recorded,
    ),
    ("a_server_that_cannot_be_backed_up_is_refused", base::refused),
    ("a_server_on_another_machine_is_backed_up_in_tls", tls::backed_up),
    ("who_is_not_the_server_is_not_talked_to", tls::who_is_not_the_server),
];

fn main() -> ExitCode {
    if command_line::is_wanted() {
        return command_line::run();
    }
    let arguments = Arguments::from_args();
    let missing = cluster::programs().is_none();
    if missing {
        println!("IGNORED postgres: install the Debian package postgresql-15");
    }
    let no_strace = Command::new("strace").arg("-V").output().is_err();
    if no_strace {
        println!("IGNORED {}: install the Debian package strace", STRACED.join(", "));
    }
    let trial = |(name, test): &(&'static str, fn()), needs_server: bool| {
        let test = *test;
        let run = move || {
            test();
            Ok::<(), Failed>(())
        };
        let ignored = (missing && needs_server) || (no_strace && STRACED.contains(name));
        Trial::test(*name, run).with_ignored_flag(ignored)
    };
    let with = TESTS.iter().map(|test| trial(test, true));
    let without = WITHOUT_SERVER.iter().map(|test| trial(test, false));
    libtest_mimic::run(&arguments, with.chain(without).collect()).exit_code()
}

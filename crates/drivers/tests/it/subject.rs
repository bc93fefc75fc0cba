//! The driver `process` under test: habits as arguments of this binary.

use std::path::Path;

use drivers::contract::{Ability, Bench, Habit, Subject, process_resource};
use model::spec::{ProcessSpec, Promote, Ready, ResourceKind};
use model::{Moment, ResourceSpec};

/// Programs.
pub(crate) struct Programs;

/// A program with these arguments.
pub(crate) fn program(args: &[&str]) -> ProcessSpec {
    let exe = std::env::current_exe().expect("this binary").to_string_lossy().into_owned();
    let own = [exe.as_str(), "program"];
    ProcessSpec {
        command: own.iter().chain(args).map(|a| (*a).to_owned()).collect(),
        start_ms: 10_000,
        stop_ms: 5_000,
        promote_ms: 5_000,
        stop_signal: "SIGTERM".into(),
        ..ProcessSpec::default()
    }
}

impl Subject for Programs {
    fn resource(&self, habit: &Habit) -> ResourceSpec {
        let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
        let by_socket = |spec| ProcessSpec { promote: Promote::Socket, ..spec };
        process_resource(match habit {
            Habit::Plain { ticks } => program(&["--ticks", &text(ticks)]),
            Habit::ChangesRoles { ticks } => {
                by_socket(program(&["--talk", "yes", "--ticks", &text(ticks)]))
            }
            Habit::FailsToPromote => by_socket(program(&["--talk", "fail"])),
            Habit::NeverAnswers => by_socket(program(&["--talk", "mute"])),
            Habit::IgnoresStop { ticks } => {
                program(&["--ignore-stop", "yes", "--ticks", &text(ticks)])
            }
            Habit::LeavesChild { ticks } => {
                program(&["--child-ticks", &text(ticks), "--leave", "3"])
            }
            Habit::LeavesAtOnce { code } => program(&["--leave", &code.to_string()]),
            Habit::ShowsEnvironment { to } => program(&["--env", &text(to)]),
            Habit::NotifiesWhen { exists } => {
                ProcessSpec { ready: Ready::Notify, ..program(&["--notify-when", &text(exists)]) }
            }
            Habit::Missing => {
                ProcessSpec { command: vec!["/no/such/program".into()], ..program(&[]) }
            }
        })
    }

    fn has(&self, _ability: Ability) -> bool {
        true
    }

    fn last_act(&self, ticks: &Path) -> Option<Moment> {
        Bench::last_tick(ticks)
    }

    fn refusal(&self) -> &str {
        "not today"
    }
}

/// The program of a resource of kind `process`.
pub(crate) fn of(spec: &mut ResourceSpec) -> &mut ProcessSpec {
    match &mut spec.kind {
        ResourceKind::Process(process) => process,
        other => panic!("{other:?} is no program"),
    }
}

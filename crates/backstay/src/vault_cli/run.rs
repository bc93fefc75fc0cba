//! `vault run`: does what the schedule says, in the foreground. What runs when is decided by
//! `vault::schedule`; this carries it out: a child for each run, the book before it.

use super::beside;
use super::cluster::ClusterArgs;
use super::opening::{RepositoryArgs, schedule_file};
use super::output::{Output, moment};
use super::run_child::{Children, carry_out};
use super::schedule_status::JobRow;
use super::{CliResult, EXIT_FOUND};
use clap::Args;
use jiff::tz::TimeZone;
use model::vault::RepositoryId;
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use vault::cluster::Cluster;
use vault::repository::wall_clock;
use vault::schedule::{
    Action, Book, BookLock, Event, JobKey, Machine, Now, Outcome, Plan, ScheduleFile, Seen,
    book_path, orders,
};
use vault::{Result, VaultError};

/// However far away the next run is: a clock that was set is noticed after this.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How often the cluster is asked where things are to be done.
const WATCH_EVERY: Duration = Duration::from_secs(10);
/// Ended by a second signal.
const EXIT_SIGNAL: i32 = 130;

/// Run backups, proofs, verification, tests of the key and clean-up when they are due, as the
/// schedule says. The first signal to end lets the runs under way end, the second ends them.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) opening: RepositoryArgs,
    /// The schedule.
    #[arg(long, value_name = "FILE", default_value_os_t = schedule_file())]
    pub(crate) schedule: PathBuf,
    /// Do what is due now, and end: for cron and timers.
    #[arg(long)]
    pub(crate) once: bool,
    /// For whoever keeps it alive: work below everything else, tell as JSON what will be done, and
    /// end with standard input
    #[arg(long, conflicts_with = "once")]
    pub(crate) supervised: bool,
}

/// What is told, one line each.
#[derive(Serialize)]
struct Told<'a> {
    time_ms: i64,
    job: String,
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

/// What is to be done, for whoever keeps this alive.
#[derive(Serialize)]
struct Foreseen {
    outlook: Vec<JobRow>,
}

/// What reaches the loop.
pub(crate) enum Input {
    /// A run ended.
    Ended(JobKey, Outcome),
    /// A signal to end.
    Signal,
    /// The cluster was asked.
    Cluster(Option<Seen>),
}

/// Runs the command.
///
/// # Errors
/// Where the schedule, the book or the repository cannot be used at all.
pub(crate) fn run(args: &RunArgs, output: Output) -> CliResult {
    let mut file = ScheduleFile::read(&args.schedule)?;
    let cluster = args.opening.cluster.with(file.cluster.as_ref());
    if cluster.cluster {
        file.cluster.get_or_insert_default();
    }
    let opening = RepositoryArgs { cluster, ..args.opening.clone() };
    // A wrong key or place is said now, and not at night.
    let repository = RepositoryId(opening.open_whoever_is_silent()?.ring().repository);
    let book = Book::new(book_path(&opening.state_dir, &opening.repository));
    let lock = book.lock()?;
    let zone = TimeZone::system();
    let now = Now { ms: wall_clock()(), zone: &zone };
    let machine = Machine::new(file.plan(), book.read()?, &now);
    let (inputs_in, inputs) = channel();
    if !args.once {
        watch_signals(inputs_in.clone())?;
    }
    if args.supervised {
        beside::work_below_everything();
        beside::end_with_standard_input(inputs_in.clone());
    }
    let output = if args.supervised { Output::Json } else { output };
    let children = Arc::new(Children::default());
    let watch = Watch::new(&opening.cluster, file.plan(), repository);
    let mut runner = Runner {
        args,
        opening,
        file,
        book,
        lock,
        zone,
        machine,
        output,
        inputs_in,
        children,
        worst: 0,
    };
    if watch.is_needed() {
        runner.step(Event::Cluster(watch.look()))?;
        if !args.once {
            watch.go_on(runner.inputs_in.clone());
        }
    }
    runner.run(&inputs)
}

/// What asks the cluster where things are to be done.
pub(crate) struct Watch {
    cluster: Arc<dyn Cluster>,
    plan: Plan,
    repository: RepositoryId,
}

impl Watch {
    /// Nothing is asked yet.
    pub(crate) fn new(args: &ClusterArgs, plan: Plan, repository: RepositoryId) -> Watch {
        Watch { cluster: args.connect(), plan, repository }
    }

    /// Whether any job has a place in the cluster.
    pub(crate) fn is_needed(&self) -> bool {
        self.plan.jobs.iter().any(|job| job.only.is_some())
    }

    /// This machine's own node knows enough: what it says late is made up for by turns.
    pub(crate) fn look(&self) -> Option<Seen> {
        match self.cluster.view(true) {
            Ok(view) => {
                Some(Seen::of(&view, &self.plan, self.cluster.me().as_ref(), self.repository))
            }
            Err(_) => None,
        }
    }

    fn go_on(self, inputs: Sender<Input>) {
        std::thread::spawn(move || {
            while inputs.send(Input::Cluster(self.look())).is_ok() {
                std::thread::sleep(WATCH_EVERY);
            }
        });
    }
}

struct Runner<'a> {
    args: &'a RunArgs,
    /// How the repository is opened, with what the schedule says of the cluster.
    opening: RepositoryArgs,
    file: ScheduleFile,
    book: Book,
    lock: BookLock,
    zone: TimeZone,
    machine: Machine,
    output: Output,
    inputs_in: Sender<Input>,
    children: Arc<Children>,
    /// The exit code so far.
    worst: u8,
}

impl Runner<'_> {
    fn run(mut self, inputs: &Receiver<Input>) -> CliResult {
        let mut signals = 0;
        self.step(Event::Look)?;
        loop {
            let ended = self.args.once || signals > 0;
            if ended && self.machine.is_idle() {
                return Ok(ExitCode::from(self.worst));
            }
            let event = match inputs.recv_timeout(self.pause()) {
                Ok(Input::Ended(key, outcome)) => {
                    self.tell_end(&key, &outcome);
                    Event::Ended(key, outcome)
                }
                Ok(Input::Signal) => {
                    signals += 1;
                    if signals > 1 {
                        self.children.kill();
                        std::process::exit(EXIT_SIGNAL);
                    }
                    eprintln!("ending when what is under way has ended; again to break it off");
                    Event::Stop
                }
                Ok(Input::Cluster(seen)) => Event::Cluster(seen),
                Err(RecvTimeoutError::Timeout) => Event::Look,
                Err(RecvTimeoutError::Disconnected) => return Ok(ExitCode::from(self.worst)),
            };
            self.step(event)?;
        }
    }

    fn pause(&self) -> Duration {
        let now = Now { ms: wall_clock()(), zone: &self.zone };
        let until = self.machine.next_look_ms(&now).map(|ms| ms.saturating_sub(now.ms));
        let until = until.map(|ms| Duration::from_millis(ms.max(0) as u64));
        until.map_or(LOOK_EVERY, |until| until.min(LOOK_EVERY))
    }

    fn step(&mut self, event: Event) -> Result<()> {
        let now = Now { ms: wall_clock()(), zone: &self.zone };
        for action in self.machine.step(&now, event) {
            match action {
                Action::Remember => self.book.write(self.machine.past())?,
                Action::Start(key) => self.start(key)?,
            }
        }
        if self.args.supervised {
            let outlook = self.machine.outlook(&now).into_iter().map(JobRow::of).collect();
            let line = serde_json::to_string(&Foreseen { outlook });
            println!("{}", line.expect("a line always encodes"));
        }
        Ok(())
    }

    fn start(&self, key: JobKey) -> Result<()> {
        self.tell(&key, "begins", None);
        let runs = self.machine.past().get(&key).map_or(0, |past| past.runs);
        let orders = orders(&self.file, &key, runs);
        let opening = self.opening.clone();
        let share = || self.lock.share().map_err(VaultError::file("keep", "the lock"));
        let locks: Result<Vec<_>> = orders.iter().map(|_| share()).collect();
        let (locks, inputs, children) = (locks?, self.inputs_in.clone(), self.children.clone());
        std::thread::spawn(move || {
            let outcome = carry_out(&opening, &orders, locks, &children);
            // The loop is gone only when the program ends.
            let _ = inputs.send(Input::Ended(key, outcome));
        });
        Ok(())
    }

    fn tell_end(&mut self, key: &JobKey, outcome: &Outcome) {
        match outcome {
            Outcome::Done => self.tell(key, "done", None),
            Outcome::Found(what) => {
                self.tell(key, "done, and SOMETHING IS WRONG", Some(what));
                self.worst = self.worst.max(EXIT_FOUND);
            }
            Outcome::Failed(why) => {
                self.tell(key, "FAILED", Some(why));
                // It could not be done: that is worse than what was found.
                self.worst = 1;
            }
        }
    }

    fn tell(&self, key: &JobKey, event: &str, detail: Option<&str>) {
        let time_ms = wall_clock()();
        match self.output {
            Output::Json => {
                let told = Told { time_ms, job: key.to_string(), event, detail };
                println!("{}", serde_json::to_string(&told).expect("a line always encodes"));
            }
            Output::Text => {
                let detail = detail.map_or(String::new(), |d| format!(": {d}"));
                println!("{}  {key}: {event}{detail}", moment(time_ms));
            }
        }
    }
}

/// Every signal to end becomes an input.
fn watch_signals(inputs: Sender<Input>) -> Result<()> {
    let failed = || VaultError::file("watch", "signals");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let runtime = runtime.map_err(failed())?;
    let entered = runtime.enter();
    let mut terminate = signal(SignalKind::terminate()).map_err(failed())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed())?;
    drop(entered);
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if inputs.send(Input::Signal).is_err() {
                    return;
                }
            }
        });
    });
    Ok(())
}

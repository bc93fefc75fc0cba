//! The agent's side of the launcher: keeps a connection, turns its events into inputs of the
//! kernel and the member machine's actions into requests.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use brain::member::{Action, InstanceEvent, Running, StartRole, Undone};
use drivers::client::{ClientError, LauncherClient};
use drivers::lease::{LeasePage, PageError};
use drivers::protocol::{Asked, Event, Gone, Phase, Refusal, Request, Role, Status, Why};
use drivers::run_dir::RunDir;
use kernel::Input;
use model::report::{Failure, InstancePhase};
use model::state::ClusterState;
use model::{Epoch, ResourceName, Span};

use super::checks::Checks;
use super::reconnecting::Reconnecting;
use super::shared::{Shared, lock};

/// Pause between attempts to reach a launcher that is not there.
const RETRY: Duration = Duration::from_millis(50);
/// A guard that saw this long ago that nothing is left may have died since.
const CLEAR_FOR: Span = Span::from_ms(1_000);

/// Where requests to the launcher go in; it leads nowhere while the connection is down.
#[derive(Clone, Default)]
pub struct LauncherPort(Arc<Mutex<Port>>);

#[derive(Default)]
struct Port {
    client: Option<LauncherClient>,
    lists: Lists,
}

/// Which of the launcher's lists of what it runs is the newest that was asked for. Whatever was
/// decided on an older one is not carried out: the launcher would do it after it had made the
/// list, and the member machine takes what is not in the list for gone.
#[derive(Debug, Default)]
struct Lists {
    asked: u64,
    /// Asked for on this connection, and not answered yet.
    awaited: VecDeque<u64>,
}

impl Lists {
    /// A list is asked for, on a new connection or not.
    fn ask(&mut self, anew: bool) {
        if anew {
            self.awaited.clear();
        }
        self.asked += 1;
        self.awaited.push_back(self.asked);
    }

    /// Which one came.
    fn came(&mut self) -> u64 {
        self.awaited.pop_front().unwrap_or_default()
    }

    /// Whether what was decided on this list still holds.
    fn holds(&self, session: u64) -> bool {
        session == self.asked
    }
}

impl LauncherPort {
    /// Sends an order that was decided on a list, unless a newer one was asked for.
    fn order(&self, session: u64, request: &Request) {
        let port = lock(&self.0);
        if !port.lists.holds(session) {
            return tracing::debug!(session, newest = port.lists.asked, "not ordered");
        }
        port.send(request);
    }

    /// What we know is not what is: the list says what is.
    fn relist(&self) {
        let mut port = lock(&self.0);
        port.lists.ask(false);
        port.send(&Request::List);
    }

    /// Sends a request.
    ///
    /// # Errors
    /// A sentence, where the launcher can't be asked now.
    pub fn ask(&self, request: &Request) -> Result<(), String> {
        lock(&self.0).ask(request)
    }

    /// Sends a request. Where the connection is down, nothing is lost: the list that follows the
    /// next connection tells the member machine what is, and it asks again.
    pub fn send(&self, request: &Request) {
        lock(&self.0).send(request);
    }
}

impl Port {
    fn ask(&self, request: &Request) -> Result<(), String> {
        match &self.client {
            Some(client) => client.send(request).map_err(|error| error.to_string()),
            None => Err("the launcher is not there".to_owned()),
        }
    }

    fn send(&self, request: &Request) {
        if let Err(why) = self.ask(request) {
            tracing::debug!(%why, "not asked");
        }
    }
}

/// The connection to the launcher, kept up by a thread of its own.
pub struct LauncherLink {
    port: LauncherPort,
    specified: Arc<Mutex<Request>>,
}

impl LauncherLink {
    /// Starts the thread that keeps the connection.
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn start(
        run: RunDir,
        shared: Arc<Shared>,
        checks: Arc<Checks>,
        port: LauncherPort,
    ) -> std::io::Result<LauncherLink> {
        let empty = Request::Specify { version: 0, resources: std::collections::BTreeMap::new() };
        let link = LauncherLink { port, specified: Arc::new(Mutex::new(empty)) };
        let (port, specified) = (link.port.clone(), Arc::clone(&link.specified));
        std::thread::Builder::new().name("launcher-link".into()).spawn(move || {
            keep(&run, &shared, &checks, &port, &specified);
        })?;
        Ok(link)
    }

    /// Tells the launcher what the committed specification names.
    pub fn specify(&self, state: &ClusterState) {
        let resources = state.spec.resources.clone();
        let request = Request::Specify { version: state.spec_version, resources };
        *lock(&self.specified) = request.clone();
        self.port.send(&request);
    }

    /// Has the launcher carry out an action that was decided on its list `session`.
    pub fn act(&self, action: Action, session: u64, state: &ClusterState) {
        let request = match action {
            Action::Start { resource, number, role: StartRole::Standby } => {
                let known = state.resources.get(&resource);
                let epoch = known.map_or(Epoch::default(), |held| held.epoch);
                Request::Start { resource, number, role: Role::Standby, epoch }
            }
            Action::Start { resource, number, role: StartRole::Active(epoch) } => {
                Request::Start { resource, number, role: Role::Active, epoch }
            }
            Action::Promote { resource, epoch } => Request::Promote { resource, epoch },
            Action::Demote { resource, epoch } => Request::Demote { resource, epoch },
            Action::Stop { resource, number, epoch, at_once } => {
                let reason = match at_once {
                    true => "its epoch has ended or its health checks fail",
                    false => "it is no longer wanted here",
                };
                Request::Stop { resource, number, epoch, reason: reason.to_owned(), at_once }
            }
        };
        self.port.order(session, &request);
    }
}

fn keep(
    run: &RunDir,
    shared: &Arc<Shared>,
    checks: &Arc<Checks>,
    port: &LauncherPort,
    specified: &Mutex<Request>,
) {
    let (mut again, mut clear) = (Reconnecting::default(), false);
    loop {
        let (client, ended) = match connect(run, shared, checks, port) {
            Ok(connected) => connected,
            Err(error) => {
                if again.is_news(&error.to_string()) {
                    tracing::warn!("{error}");
                }
                let seen = is_clear(run);
                if seen != std::mem::replace(&mut clear, seen) {
                    tracing::info!(clear, "what a lost launcher ran");
                    shared.give(Input::Instance(InstanceEvent::Clear(clear)));
                }
                // One that is not there may be at any moment; one that refuses goes on refusing.
                let absent = matches!(error, ClientError::Io(_));
                std::thread::sleep(if absent { RETRY } else { again.after_refusal() });
                continue;
            }
        };
        clear = false;
        let since = Instant::now();
        let why = match serve(run, shared, port, client, specified) {
            Ok(()) => {
                // Ends with the connection; the sender lives in the event function.
                ended.recv().unwrap_or_else(|_| "its events have ended".to_owned())
            }
            Err(why) => why,
        };
        lock(&port.0).client = None;
        let pause = again.after(since.elapsed());
        if again.is_news(&why) {
            tracing::warn!(reason = why, "the connection to the launcher has ended");
        }
        std::thread::sleep(pause);
    }
}

/// Connects, and has the events become inputs; why the connection ended comes at its end.
fn connect(
    run: &RunDir,
    shared: &Arc<Shared>,
    checks: &Arc<Checks>,
    port: &LauncherPort,
) -> Result<(LauncherClient, Receiver<String>), ClientError> {
    let (gone, ended): (Sender<String>, Receiver<String>) = channel();
    let (events, to) = (Arc::clone(shared), Arc::clone(checks));
    let (guard, relisting) = (Mutex::new(None), port.clone());
    let client = LauncherClient::connect(&run.launcher_socket(), move |event| {
        if let Event::Disconnected { reason } = event {
            events.give(Input::Instance(InstanceEvent::LauncherDown));
            // The keeper may have ended with the agent.
            if gone.send(reason).is_err() {
                tracing::debug!("nobody waits for the launcher any more");
            }
            return;
        }
        to.on_event(&event);
        if let Event::Refused { why: Refusal::AlreadyRunning, .. } = &event {
            relisting.relist();
        }
        let session = match &event {
            Event::Instances { .. } => lock(&relisting.0).lists.came(),
            _ => 0,
        };
        let alive = living_guard(&mut lock(&guard), &event);
        for input in inputs(event, session, alive) {
            events.give(Input::Instance(input));
        }
    })?;
    Ok((client, ended))
}

/// Takes the connection into use; why not, where it can't be.
fn serve(
    run: &RunDir,
    shared: &Shared,
    port: &LauncherPort,
    client: LauncherClient,
    specified: &Mutex<Request>,
) -> Result<(), String> {
    let page =
        LeasePage::open(&run.lease_page()).map_err(|error| super::start::with_cause(&error))?;
    lock(&shared.lease).set_page(page);
    shared.publish_lease(drivers::sys::now());
    open(port, client, specified).map_err(|error| error.to_string())
}

/// Whether somebody sees, while there is no launcher, that nothing of it is active any more: its
/// guard, or the machine's boot, which nothing outlives.
fn is_clear(run: &RunDir) -> bool {
    match LeasePage::open(&run.lease_page()) {
        Ok(page) => page.is_clear(drivers::sys::now(), CLEAR_FOR),
        Err(PageError::OldBoot) => true,
        Err(error) => {
            tracing::debug!(%error, "nobody says what a lost launcher left");
            false
        }
    }
}

/// Tells the launcher what is specified, asks what it runs, and opens the port, in one: what the
/// list leads to must find the port open, and a specification that comes in between must not be
/// lost.
fn open(
    port: &LauncherPort,
    client: LauncherClient,
    specified: &Mutex<Request>,
) -> Result<(), ClientError> {
    let mut port = lock(&port.0);
    let specification = lock(specified).clone();
    client.send(&specification)?;
    // Before it can be answered.
    port.lists.ask(true);
    client.send(&Request::List)?;
    port.client = Some(client);
    Ok(())
}

/// The guard that lives after this event, kept for the events that don't speak of it.
fn living_guard(known: &mut Option<u64>, event: &Event) -> Option<u64> {
    match event {
        Event::Hello { guard, .. } | Event::GuardBack { guard } => {
            *known = (*guard != 0).then_some(*guard);
        }
        Event::GuardLost => *known = None,
        _ => {}
    }
    *known
}

/// What an event of the launcher means to the member machine.
fn inputs(event: Event, session: u64, guard: Option<u64>) -> Vec<InstanceEvent> {
    match event {
        Event::Instances { running, burnt, .. } => {
            let running = running
                .into_iter()
                .map(|view| {
                    let active = view.role == Role::Active || view.phase == Phase::Promoting;
                    let epoch = active.then_some(view.epoch);
                    let (resource, number) = (view.resource, view.number);
                    Running { resource, number, phase: phase(view.phase), epoch }
                })
                .collect();
            let mut events = vec![InstanceEvent::LauncherUp { session, guard, running }];
            let old = |(resource, epoch)| InstanceEvent::Burnt { resource, epoch, gone: false };
            events.extend(burnt.into_iter().map(old));
            events
        }
        Event::Ready { resource, .. } => vec![InstanceEvent::Ready(resource)],
        Event::Standby { resource, .. } => vec![InstanceEvent::Standby(resource)],
        Event::Active { resource, epoch } => vec![InstanceEvent::Active(resource, epoch)],
        Event::Exited(gone) | Event::Stopped(gone) => vec![ended(gone)],
        Event::StopFailed { resource, .. } => vec![InstanceEvent::StopFailed(resource)],
        Event::GuardAlarm { resource, .. } => vec![InstanceEvent::Stuck(resource)],
        Event::Burnt { resource, epoch, empty, .. } => {
            vec![InstanceEvent::Burnt { resource, epoch, gone: empty }]
        }
        Event::GuardLost => vec![InstanceEvent::Guard(None)],
        Event::GuardBack { guard } => vec![InstanceEvent::Guard(Some(guard))],
        Event::Refused { asked, resource: Some(resource), epoch, why } => {
            refused(asked, resource, epoch, why)
        }
        Event::Refused { .. }
        | Event::Hello { .. }
        | Event::Specified { .. }
        | Event::Started { .. }
        | Event::PromoteFailed { .. }
        | Event::ProbeResult { .. }
        | Event::Disconnected { .. } => Vec::new(),
    }
}

fn phase(phase: Phase) -> InstancePhase {
    match phase {
        Phase::Starting => InstancePhase::Starting,
        Phase::Standby => InstancePhase::Standby,
        Phase::Promoting => InstancePhase::Promoting,
        Phase::Active => InstancePhase::Active,
        Phase::Demoting | Phase::Stopping => InstancePhase::Stopping,
        Phase::Unkillable => InstancePhase::Stuck,
    }
}

fn ended(gone: Gone) -> InstanceEvent {
    let age = drivers::sys::now().since(gone.evidence.at);
    let (resource, number) = (gone.evidence.resource, gone.evidence.number);
    let exited = match gone.status {
        Status::Code(code) => Failure::Exited { status: Some(code), signal: None },
        Status::Signal(signal) => Failure::Exited { status: None, signal: Some(signal) },
        Status::Unknown => Failure::Exited { status: None, signal: None },
    };
    let (failure, asked) = match gone.why {
        Why::ItsOwn => (exited, false),
        Why::StartFailed(why) => (Failure::StartFailed(why), false),
        Why::NotReady => (Failure::NotReady, false),
        Why::PromoteFailed(why) => (Failure::PromoteFailed(why), false),
        Why::DemoteFailed | Why::Asked(_) | Why::LeaseEnd | Why::GuardLost => (exited, true),
        Why::RoleChange | Why::Shutdown => (exited, true),
    };
    InstanceEvent::Gone { resource, number, failure, asked, age }
}

fn refused(asked: Asked, resource: ResourceName, epoch: Epoch, why: Refusal) -> Vec<InstanceEvent> {
    tracing::debug!(?asked, %resource, %epoch, %why, "the launcher refused");
    let what = match asked {
        Asked::Start => Undone::Start,
        Asked::Promote => Undone::Promote,
        Asked::Demote | Asked::Stop => Undone::End,
        Asked::Specify | Asked::Ready | Asked::ExecProbe => return Vec::new(),
    };
    let event = match (asked, why) {
        (_, Refusal::StaleEpoch { .. } | Refusal::BurntEpoch) => {
            InstanceEvent::EpochRefused(resource, epoch, what)
        }
        (Asked::Start | Asked::Promote, Refusal::Host(why)) => {
            InstanceEvent::Refused { resource, failure: Failure::StartFailed(why), runs: false }
        }
        _ => InstanceEvent::NotNow(resource, what),
    };
    vec![event]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_decided_on_an_older_list_holds_no_more() {
        let mut lists = Lists::default();
        lists.ask(true);
        let first = lists.came();
        assert!(lists.holds(first));
        // Asked again twice: neither what is known nor the first answer is the newest.
        lists.ask(false);
        lists.ask(false);
        assert!(!lists.holds(first));
        let (second, third) = (lists.came(), lists.came());
        assert!(!lists.holds(second) && lists.holds(third));
        // A launcher that died owes an answer that never comes.
        lists.ask(false);
        lists.ask(true);
        assert!(!lists.holds(third));
        let fifth = lists.came();
        assert!(lists.holds(fifth));
        // Nothing else was asked for.
        let unasked = lists.came();
        assert!(!lists.holds(unasked));
    }
}

//! Exhaustive search of the lease and epoch rules: three voters, time in ticks, every way in which
//! links fail, voters restart and coordinators are elected, up to a bound.
//!
//! Decisions about promises, authority, leases and grants are the real [`Pulse`]'s. The log is
//! abstract: what a coordinator commits while it reaches a follower is known to both and to
//! whoever they elect. Clocks don't drift here; the simulator's do.

use std::collections::BTreeSet;

use brain::invariants::Violation;
use brain::invariants::authority::{Office, at_most_one};
use brain::plant::{Plant, Plants};
use brain::pulse::promise::Ballot;
use brain::pulse::{Pulse, PulseConfig, RaftView, Succession};
use model::{Heartbeat, Moment, ReplicaId, Span, Timers};

/// The voters.
const NODES: usize = 3;
/// One heartbeat interval.
const TICK: Span = Span::from_ms(10);
/// Promise and grace in ticks; the lease is both.
const PROMISE: u64 = 6;
/// Ticks without faults before the search begins.
const WARM_UP: u64 = 4;

/// How far to search.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// Ticks after the first few.
    pub ticks: u64,
    /// Disturbances on one path: changes of the links, restarts.
    pub disturbances: u32,
    /// Elections on one path.
    pub elections: u32,
}

/// What a search found.
#[derive(Debug, Clone)]
pub struct Searched {
    /// Steps taken, each from one state to another.
    pub steps: u64,
    /// The first broken rule, and what led to it, one line a disturbance.
    pub broken: Option<(Violation, Vec<String>)>,
    /// Takeovers on all paths: without any the search would prove nothing.
    pub takeovers: u64,
}

/// Which messages pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Links {
    /// A bit for each ordered pair that is cut.
    cut: u16,
    /// What is cut comes a tick later instead of never.
    late: bool,
}

impl Links {
    fn passes(self, from: usize, to: usize) -> bool {
        self.cut & (1 << (from * NODES + to)) == 0
    }

    /// All whole; one node isolated, mute or deaf; one pair apart; lost or late.
    fn all() -> Vec<Links> {
        let bit = |from: usize, to: usize| 1u16 << (from * NODES + to);
        let others = |n: usize| (0..NODES).filter(move |other| *other != n);
        let mut cuts = Vec::new();
        for n in 0..NODES {
            let mute: u16 = others(n).map(|other| bit(n, other)).sum();
            let deaf: u16 = others(n).map(|other| bit(other, n)).sum();
            let (a, b) = ((n + 1) % NODES, (n + 2) % NODES);
            cuts.extend([mute, deaf, mute | deaf, bit(a, b) | bit(b, a)]);
        }
        let lost = cuts.iter().map(|cut| Links { cut: *cut, late: false });
        let late = cuts.iter().map(|cut| Links { cut: *cut, late: true });
        [Links::default()].into_iter().chain(lost).chain(late).collect()
    }
}

/// One disturbance.
#[derive(Debug, Clone, Copy)]
enum Move {
    Links(Links),
    Elect(usize),
    Restart(usize),
}

/// One voter.
#[derive(Clone)]
struct Voter {
    pulse: Pulse,
    boot: u64,
    term: u64,
    leader: Option<usize>,
    leader_heard: Moment,
    /// Entries of the log that it has applied.
    applied: usize,
    /// The epoch under which its instance acts.
    active: Option<usize>,
    burnt: Option<usize>,
    lapses: u64,
}

/// Everything at one tick.
#[derive(Clone)]
struct State {
    tick: u64,
    links: Links,
    voters: Vec<Voter>,
    /// Who holds the resource: the epoch is the place in this list.
    log: Vec<usize>,
    late: Vec<(usize, Heartbeat)>,
    takeovers: u64,
}

fn id(n: usize) -> ReplicaId {
    ReplicaId(n as u64 + 1)
}

fn timers() -> Timers {
    let ticks = |n: u64| TICK * n;
    Timers {
        heartbeat: TICK,
        promise: ticks(PROMISE),
        grace: ticks(PROMISE),
        lease: ticks(PROMISE * 2),
        stopping: Span::ZERO,
        drift_ppm: 0,
        barrier_every: ticks(PROMISE * 2),
        barrier_limit: ticks(1_000),
        stall_limit: ticks(1_000),
        back_off: ticks(1),
    }
}

fn moment(tick: u64) -> Moment {
    Moment(1_000_000_000_000) + TICK * tick
}

impl Voter {
    fn new(n: usize, boot: u64, term: u64, plants: Plants, now: Moment, recorded: Span) -> Voter {
        let config = PulseConfig {
            me: id(n),
            boot,
            timers: timers(),
            recorded_promise: recorded,
            term,
            witness: false,
            plants,
        };
        let pulse = Pulse::new(config, now);
        let (leader, leader_heard) = (None, Moment::ZERO);
        let (active, burnt) = (None, None);
        Voter { pulse, boot, term, leader, leader_heard, applied: 0, active, burnt, lapses: 0 }
    }

    fn refresh(&mut self) {
        let voters: BTreeSet<ReplicaId> = (0..NODES).map(id).collect();
        self.pulse.set_raft(RaftView {
            term: self.term,
            leader: self.leader.map(id),
            leader_heard: self.leader_heard,
            configurations: Some(vec![voters]),
            commit: self.applied as u64,
        });
    }

    /// Follows a coordinator of its term or a later one.
    fn follow(&mut self, leader: usize, term: u64, now: Moment) {
        if term >= self.term {
            (self.term, self.leader, self.leader_heard) = (term, Some(leader), now);
            self.refresh();
        }
    }
}

impl State {
    /// Voter 0 coordinates and voter `holder` holds the resource, undisturbed for a while.
    fn new(holder: usize, plants: Plants) -> State {
        let now = moment(0);
        let long_ago = Moment(1);
        let voter = |n| Voter::new(n, 1, 1, plants, long_ago, timers().promise);
        let mut state = State {
            tick: 0,
            links: Links::default(),
            voters: (0..NODES).map(voter).collect(),
            log: vec![holder],
            late: Vec::new(),
            takeovers: 0,
        };
        for voter in &mut state.voters {
            voter.applied = 1;
            voter.follow(0, 1, now);
        }
        state.voters[0].pulse.lead(now, 1, Succession::Elected, (0..NODES).map(id));
        for _ in 0..WARM_UP {
            state.step();
        }
        state
    }

    fn now(&self) -> Moment {
        moment(self.tick)
    }

    fn reach(&self, a: usize, b: usize) -> bool {
        self.links.passes(a, b) && self.links.passes(b, a)
    }

    fn leads(&self, n: usize) -> bool {
        self.voters[n].leader == Some(n)
    }

    /// One tick: everyone beats, messages arrive, coordinators decide, members act.
    fn step(&mut self) {
        self.tick += 1;
        let now = self.now();
        let mut sent = Vec::new();
        for n in 0..NODES {
            let pulse = &mut self.voters[n].pulse;
            pulse.raft_thread_lives(now);
            pulse.beat(now);
            for to in (0..NODES).filter(|to| *to != n) {
                sent.push((n, to, pulse.heartbeat_for(now, id(to))));
            }
        }
        for (to, beat) in std::mem::take(&mut self.late) {
            self.voters[to].pulse.receive(now, 0, &beat);
        }
        self.replicate(now);
        for (from, to, beat) in sent {
            if self.links.passes(from, to) {
                self.voters[to].pulse.receive(now, 0, &beat);
            } else if self.links.late {
                self.late.push((to, beat));
            }
        }
        for n in 0..NODES {
            self.decide(n, now);
        }
        self.replicate(now);
        for n in 0..NODES {
            self.act(n, now);
        }
    }

    /// The log's own messages: followers learn who leads, and what is committed.
    fn replicate(&mut self, now: Moment) {
        for leader in 0..NODES {
            if !self.leads(leader) {
                continue;
            }
            let (term, applied) = (self.voters[leader].term, self.voters[leader].applied);
            let mut reached = false;
            for n in (0..NODES).filter(|n| *n != leader) {
                if !self.reach(leader, n) {
                    continue;
                }
                let voter = &mut self.voters[n];
                if voter.term <= term {
                    reached = true;
                    voter.applied = voter.applied.max(applied);
                    voter.follow(leader, term, now);
                } else {
                    // It hears of a later term, and leads no more.
                    let later = voter.term;
                    let deposed = &mut self.voters[leader];
                    (deposed.term, deposed.leader) = (later, None);
                    deposed.refresh();
                    break;
                }
            }
            if reached && self.leads(leader) {
                self.voters[leader].pulse.barrier_committed(now);
                self.voters[leader].refresh();
            }
        }
    }

    /// The coordinator takes the resource from a holder whose last grant has passed.
    fn decide(&mut self, n: usize, now: Moment) {
        let reaches = (0..NODES).any(|other| {
            other != n && self.reach(n, other) && self.voters[other].term == self.voters[n].term
        });
        let voter = &mut self.voters[n];
        let Some(&holder) = voter.applied.checked_sub(1).and_then(|last| self.log.get(last)) else {
            return;
        };
        let rules = voter.leader == Some(n)
            && voter.pulse.in_office()
            && voter.pulse.has_barrier()
            && voter.pulse.authority_left(now) > Span::ZERO;
        if rules && reaches && holder != n && voter.pulse.bar_if_lapsed(now, id(holder)) {
            // What it did not apply was never committed: it is replaced.
            self.log.truncate(voter.applied);
            self.log.push(n);
            voter.applied = self.log.len();
            voter.refresh();
            self.takeovers += 1;
        }
    }

    /// A lapsed lease burns its epoch; the holder acts under an epoch that is not burnt.
    fn act(&mut self, n: usize, now: Moment) {
        let voter = &mut self.voters[n];
        let lapses = voter.pulse.check_lease(now);
        let epoch = voter.applied - 1;
        let holds = self.log.get(epoch) == Some(&n);
        if lapses > voter.lapses {
            voter.lapses = lapses;
            voter.burnt = voter.active.take().or(holds.then_some(epoch)).max(voter.burnt);
        }
        let leased = voter.pulse.lease_end().is_some_and(|end| end > now)
            && voter.applied as u64 >= voter.pulse.lease_fresh_from();
        let free = voter.burnt.is_none_or(|burnt| epoch > burnt);
        match voter.active {
            Some(active) if !holds || active != epoch => voter.active = None,
            None if holds && leased && free => voter.active = Some(epoch),
            _ => {}
        }
    }

    /// Everything that could disturb it now.
    fn moves(&self) -> Vec<Move> {
        let links = Links::all().into_iter().filter(|links| *links != self.links);
        let elections = (0..NODES).filter(|n| self.may_be_elected(*n)).map(Move::Elect);
        let restarts = (0..NODES).map(Move::Restart);
        links.map(Move::Links).chain(elections).chain(restarts).collect()
    }

    fn term(&self) -> u64 {
        self.voters.iter().map(|voter| voter.term).max().unwrap_or(0)
    }

    /// Those who would vote for it: unbound, reached, and with no longer log.
    fn supporters(&self, n: usize) -> Vec<usize> {
        let ballot = Ballot { candidate: id(n), term: self.term() + 1, proof: None };
        let votes = |v: &usize| {
            (*v == n || self.reach(n, *v))
                && self.voters[*v].applied <= self.voters[n].applied
                && self.voters[*v].pulse.may_support(self.now(), ballot)
        };
        (0..NODES).filter(votes).collect()
    }

    fn may_be_elected(&self, n: usize) -> bool {
        let votes = self.supporters(n);
        votes.contains(&n) && votes.len() > NODES / 2
    }

    fn make(&mut self, disturbance: Move, plants: Plants) {
        let now = self.now();
        match disturbance {
            Move::Links(links) => self.links = links,
            Move::Elect(n) => {
                let (term, supporters) = (self.term() + 1, self.supporters(n));
                for v in supporters {
                    self.voters[v].follow(n, term, now);
                }
                // Whoever elected it is there to commit its first entry.
                let pulse = &mut self.voters[n].pulse;
                pulse.lead(now, term, Succession::Elected, (0..NODES).map(id));
                pulse.barrier_committed(now);
            }
            Move::Restart(n) => {
                // The instance lives on, and the lease page with it.
                let old = &self.voters[n];
                let end = old.pulse.lease_end();
                let recorded = timers().promise;
                let new = Voter::new(n, old.boot + 1, old.term, plants, now, recorded);
                let kept = Voter { active: old.active, burnt: old.burnt, ..new };
                let applied = old.applied;
                self.voters[n] = Voter { applied, ..kept };
                let voter = &mut self.voters[n];
                voter.pulse.adopt_lease(now, end);
                voter.refresh();
            }
        }
    }

    fn check(&self) -> Result<(), Violation> {
        let now = self.now();
        let offices: Vec<Office> = (0..NODES)
            .filter(|n| self.voters[*n].pulse.in_office())
            .map(|n| {
                let voter = &self.voters[n];
                let left = voter.pulse.authority_left(now);
                Office { replica: id(n), term: voter.term, left }
            })
            .collect();
        at_most_one(&offices)?;
        let acts = |n: &usize| {
            let voter = &self.voters[*n];
            voter.active.is_some() && voter.pulse.lease_end().is_some_and(|end| end > now)
        };
        let active: Vec<usize> = (0..NODES).filter(acts).collect();
        if active.len() > 1 {
            let what = format!("voters {active:?} are active under leases that run");
            return Err(Violation { rule: "S2", what });
        }
        Ok(())
    }
}

/// Searches everything within a bound, or until a rule breaks.
#[must_use]
pub fn search(plant: Option<Plant>, bound: Bound) -> Searched {
    let plants = plant.map_or(Plants::NONE, crate::plan::plants);
    let mut searched = Searched { steps: 0, broken: None, takeovers: 0 };
    for holder in 0..NODES {
        let first = State::new(holder, plants);
        let end = first.tick + bound.ticks;
        let mut walk = Walk {
            plants,
            end,
            path: vec![format!("voter 0 coordinates, voter {holder} holds")],
            searched,
        };
        walk.go_on(&first, bound.disturbances, bound.elections);
        searched = walk.searched;
    }
    searched
}

/// A walk through all paths, depth first.
struct Walk {
    plants: Plants,
    end: u64,
    path: Vec<String>,
    searched: Searched,
}

impl Walk {
    /// From a state on: nothing happens until the next tick, or one thing comes first.
    fn go_on(&mut self, state: &State, disturbances: u32, elections: u32) {
        if state.tick >= self.end || self.searched.broken.is_some() {
            self.searched.takeovers += state.takeovers;
            return;
        }
        self.go(state.clone(), disturbances, elections);
        for chosen in state.moves() {
            let (disturbances, elections) = match chosen {
                Move::Elect(_) => (Some(disturbances), elections.checked_sub(1)),
                _ => (disturbances.checked_sub(1), Some(elections)),
            };
            let (Some(disturbances), Some(elections)) = (disturbances, elections) else {
                continue;
            };
            let mut next = state.clone();
            next.make(chosen, self.plants);
            self.path.push(format!("tick {}: {chosen:?}", next.tick));
            self.go(next, disturbances, elections);
            self.path.pop();
        }
    }

    fn go(&mut self, mut next: State, disturbances: u32, elections: u32) {
        if self.searched.broken.is_some() {
            return;
        }
        next.step();
        self.searched.steps += 1;
        match next.check() {
            Ok(()) => self.go_on(&next, disturbances, elections),
            Err(violation) => self.searched.broken = Some((violation, self.path.clone())),
        }
    }
}

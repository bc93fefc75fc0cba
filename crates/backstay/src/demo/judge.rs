//! The judge: from what store, client and servers wrote down to the figures of the table.
//!
//! Pure: records in, figures out. It believes the store about what is stored, the client about
//! what was acknowledged, and each instance about when it would have acknowledged; where they
//! contradict each other, the figures show it.

use std::collections::{BTreeMap, HashMap};

use model::{Epoch, Moment, Span};

use crate::orders::records::{ActiveMoment, OrderRecord, Outcome, StoreRecord};
use crate::orders::wire::Verdict;

/// One instance's own active interval: one process under one epoch, from the first to the last
/// moment at which it would have acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interval {
    /// The instance.
    pub instance: String,
    /// Its process.
    pub pid: u32,
    /// The epoch it held.
    pub epoch: Epoch,
    /// The first moment.
    pub first: Moment,
    /// The last moment.
    pub last: Moment,
}

/// The time that a fault is judged over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The cluster was healthy, the fault is about to come: orders count from here on.
    pub begin: Moment,
    /// The fault.
    pub fault: Moment,
    /// The service was seen to work again; healing begins.
    pub healing: Moment,
    /// The cluster was healthy again: orders count up to here.
    pub end: Moment,
}

impl Window {
    fn holds(&self, moment: Moment) -> bool {
        self.begin <= moment && moment < self.end
    }
}

/// A deliberate freeze of a whole node, whose overlap is told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freeze {
    /// The instance that was frozen.
    pub instance: String,
    /// When.
    pub from: Moment,
    /// When it was awake again and had been stopped or demoted.
    pub to: Moment,
}

/// What a fault did to the service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Figures {
    /// The gap between successful completions around the fault.
    pub outage: Span,
    /// Orders that the client saw acknowledged.
    pub acknowledged: u64,
    /// Acknowledged, but not in the store.
    pub lost: u64,
    /// Stored more than once as separate orders.
    pub duplicated: u64,
    /// Never acknowledged, and the store could not be asked.
    pub unknown: u64,
    /// Not acknowledged in time, settled by asking the store.
    pub settled: u64,
    /// Attempts that the store refused for an old epoch.
    pub refused_stale: u64,
    /// Time during which two instances would both have acknowledged.
    pub two_active: Span,
    /// The part of such time that is due to a deliberate freeze; not in `two_active`.
    pub freeze_overlap: Span,
    /// The store accepted an epoch that goes back, or two instances under one epoch.
    pub epochs_broken: u64,
}

impl Figures {
    /// Whether nothing was lost, doubled or active twice.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost == 0
            && self.duplicated == 0
            && self.two_active == Span::ZERO
            && self.epochs_broken == 0
    }
}

/// Everything that was written down.
#[derive(Debug, Clone, Default)]
pub struct Records {
    /// By the store.
    pub stored: Vec<StoreRecord>,
    /// By the client.
    pub orders: Vec<OrderRecord>,
    /// By all instances.
    pub intervals: Vec<Interval>,
}

/// Judges one fault.
#[must_use]
pub fn judge(records: &Records, window: Window, freeze: Option<&Freeze>) -> Figures {
    let orders: Vec<&OrderRecord> =
        records.orders.iter().filter(|order| window.holds(order.sent)).collect();
    let times_stored = times_stored(&records.stored);
    let times = |order: &str| times_stored.get(order).copied().unwrap_or(0);
    let count = |test: &dyn Fn(&OrderRecord) -> bool| {
        orders.iter().filter(|order| test(order)).count() as u64
    };
    let acknowledged = |order: &OrderRecord| order.outcome == Outcome::Acknowledged;
    let overlaps = overlaps(&records.intervals, window, freeze);
    Figures {
        outage: outage(&records.orders, window),
        acknowledged: count(&acknowledged),
        lost: count(&|o| acknowledged(o) && times(&o.order) == 0),
        duplicated: orders.iter().map(|o| times(&o.order).saturating_sub(1)).sum(),
        unknown: count(&|o| !acknowledged(o) && o.stored.is_none()),
        settled: count(&|o| !acknowledged(o) && o.stored.is_some()),
        refused_stale: records
            .stored
            .iter()
            .filter(|r| r.verdict == Verdict::Stale && window.holds(r.moment))
            .count() as u64,
        two_active: overlaps.0,
        freeze_overlap: overlaps.1,
        epochs_broken: epochs_broken(&records.stored, window),
    }
}

/// How often each order was stored as an order of its own.
fn times_stored(stored: &[StoreRecord]) -> HashMap<&str, u64> {
    let mut times = HashMap::new();
    for record in stored.iter().filter(|r| r.verdict == Verdict::Stored) {
        *times.entry(record.order.as_str()).or_insert(0) += 1;
    }
    times
}

/// The longest gap between successful completions that ends after the fault and begins before
/// healing. Where nothing completes any more, the gap lasts to the window's end.
fn outage(orders: &[OrderRecord], window: Window) -> Span {
    let mut completed: Vec<Moment> = orders
        .iter()
        .filter_map(|order| order.acknowledged)
        .filter(|moment| window.holds(*moment))
        .collect();
    completed.sort_unstable();
    let ends = completed.iter().copied().chain([window.end]);
    let begins = [window.begin].into_iter().chain(completed.iter().copied());
    begins
        .zip(ends)
        .filter(|(begin, end)| *end >= window.fault && *begin < window.healing)
        .map(|(begin, end)| end.since(begin))
        .max()
        .unwrap_or(Span::ZERO)
}

/// Time with two active instances: apart from freezes, and due to them. Where three overlap,
/// every pair counts: it is a count of harm, not of a clock.
fn overlaps(intervals: &[Interval], window: Window, freeze: Option<&Freeze>) -> (Span, Span) {
    let (mut plain, mut frozen) = (Span::ZERO, Span::ZERO);
    for (i, one) in intervals.iter().enumerate() {
        for other in &intervals[i + 1..] {
            if (&one.instance, one.pid) == (&other.instance, other.pid) {
                continue;
            }
            let from = one.first.max(other.first).max(window.begin);
            let to = one.last.min(other.last).min(window.end);
            let involved = freeze.filter(|f| {
                (f.instance == one.instance || f.instance == other.instance)
                    && from < f.to
                    && f.from < to
            });
            match involved {
                Some(f) => {
                    let inside = to.min(f.to).since(from.max(f.from));
                    frozen = frozen + inside;
                    plain = plain + (to.since(from) - inside);
                }
                None => plain = plain + to.since(from),
            }
        }
    }
    (plain, frozen)
}

/// Accepted attempts whose epoch is lower than one accepted before, or is held by another
/// instance (faults.md, S1).
fn epochs_broken(stored: &[StoreRecord], window: Window) -> u64 {
    let (mut highest, mut holders, mut broken) = (Epoch::default(), BTreeMap::new(), 0);
    for record in stored.iter().filter(|r| r.verdict.has_order()) {
        let holder = holders.entry(record.epoch).or_insert(record.instance.as_str());
        let wrong = record.epoch < highest || *holder != record.instance;
        broken += u64::from(wrong && window.holds(record.moment));
        highest = highest.max(record.epoch);
    }
    broken
}

/// Joins the moments that instances wrote down to intervals.
#[derive(Debug, Default)]
pub struct Intervals {
    by_holder: BTreeMap<(String, u32, Epoch), (Moment, Moment)>,
}

impl Intervals {
    /// Takes one more moment into account.
    pub fn add(&mut self, moment: ActiveMoment) {
        let ActiveMoment { instance, pid, epoch, moment } = moment;
        let (first, last) =
            self.by_holder.entry((instance, pid, epoch)).or_insert((moment, moment));
        *first = (*first).min(moment);
        *last = (*last).max(moment);
    }

    /// All intervals so far.
    #[must_use]
    pub fn list(&self) -> Vec<Interval> {
        let of = |(key, ends): (&(String, u32, Epoch), &(Moment, Moment))| Interval {
            instance: key.0.clone(),
            pid: key.1,
            epoch: key.2,
            first: ends.0,
            last: ends.1,
        };
        self.by_holder.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window {
        begin: Moment(ms(1_000)),
        fault: Moment(ms(2_000)),
        healing: Moment(ms(3_000)),
        end: Moment(ms(4_000)),
    };

    const fn ms(ms: u64) -> u64 {
        ms * 1_000_000
    }

    fn epoch(counter: u64) -> Epoch {
        Epoch { generation: 1, counter }
    }

    fn order(n: u64, sent_ms: u64, acknowledged_ms: Option<u64>) -> OrderRecord {
        let outcome =
            if acknowledged_ms.is_some() { Outcome::Acknowledged } else { Outcome::Unknown };
        OrderRecord {
            order: format!("o-{n}"),
            sent: Moment(ms(sent_ms)),
            acknowledged: acknowledged_ms.map(|at| Moment(ms(at))),
            outcome,
            attempts: 1,
            stored: None,
        }
    }

    fn stored(n: u64, at_ms: u64, counter: u64, instance: &str, verdict: Verdict) -> StoreRecord {
        StoreRecord {
            order: format!("o-{n}"),
            epoch: epoch(counter),
            attempt: n,
            instance: instance.to_owned(),
            moment: Moment(ms(at_ms)),
            verdict,
        }
    }

    fn interval(instance: &str, counter: u64, first_ms: u64, last_ms: u64) -> Interval {
        Interval {
            instance: instance.to_owned(),
            pid: 1,
            epoch: epoch(counter),
            first: Moment(ms(first_ms)),
            last: Moment(ms(last_ms)),
        }
    }

    /// A service that answers every 5 ms but not between the two moments.
    fn with_gap(from_ms: u64, to_ms: u64) -> Records {
        let mut records = Records::default();
        for (n, at) in (900..4_100).step_by(5).enumerate() {
            let done = if (from_ms..to_ms).contains(&at) { to_ms } else { at };
            records.orders.push(order(n as u64, at, Some(done)));
            records.stored.push(stored(n as u64, done, 7, "a", Verdict::Stored));
        }
        records
    }

    fn check_outage(from_ms: u64, to_ms: u64, expect_ms: u64) {
        let figures = judge(&with_gap(from_ms, to_ms), WINDOW, None);
        assert_eq!(figures.outage.as_ms(), expect_ms, "gap {from_ms}..{to_ms}");
        assert!(figures.is_clean(), "{figures:?}");
    }

    #[test]
    fn the_outage_is_the_longest_gap_between_fault_and_healing() {
        check_outage(2_000, 2_000, 5);
        check_outage(2_005, 2_600, 600);
        // A cut node serves on until its lease ends: the gap begins after the fault.
        check_outage(2_405, 2_900, 500);
        // A gap over the fault counts whole; one before it, or during healing, is not its own.
        check_outage(1_900, 2_100, 205);
        check_outage(1_200, 1_700, 5);
        check_outage(3_100, 3_700, 5);
    }

    #[test]
    fn a_service_that_never_comes_back_is_out_to_the_end() {
        let mut records = with_gap(2_005, 2_005);
        records.orders.retain(|o| o.acknowledged < Some(Moment(ms(2_300))));
        assert_eq!(judge(&records, WINDOW, None).outage.as_ms(), 1_705);
        assert_eq!(judge(&Records::default(), WINDOW, None).outage.as_ms(), 3_000);
    }

    #[test]
    fn an_acknowledged_order_that_the_store_lacks_is_lost() {
        let mut records = with_gap(2_000, 2_000);
        records.stored.retain(|r| r.order != "o-300");
        let figures = judge(&records, WINDOW, None);
        assert_eq!(figures.lost, 1);
        assert!(!figures.is_clean());
        // A refused or repeated attempt is no stored order.
        records.stored.push(stored(300, 2_400, 7, "a", Verdict::Stale));
        records.stored.push(stored(300, 2_400, 7, "a", Verdict::Duplicate));
        assert_eq!(judge(&records, WINDOW, None).lost, 1);
    }

    #[test]
    fn an_order_stored_twice_is_duplicated_and_a_retry_under_its_own_id_is_not() {
        let mut records = with_gap(2_000, 2_000);
        records.stored.push(stored(300, 2_402, 7, "a", Verdict::Duplicate));
        assert!(judge(&records, WINDOW, None).is_clean());
        records.stored.push(stored(300, 2_403, 7, "a", Verdict::Stored));
        let figures = judge(&records, WINDOW, None);
        assert_eq!(figures.duplicated, 1);
        assert!(!figures.is_clean());
    }

    #[test]
    fn an_unknown_order_counts_until_the_store_was_asked() {
        let mut records = with_gap(2_000, 2_000);
        records.orders.push(order(9_000, 2_100, None));
        records.orders.push(OrderRecord { stored: Some(false), ..order(9_001, 2_100, None) });
        let figures = judge(&records, WINDOW, None);
        assert_eq!((figures.unknown, figures.settled), (1, 1));
    }

    #[test]
    fn orders_outside_the_window_are_another_faults() {
        let mut records = with_gap(2_000, 2_000);
        records.orders.push(order(9_000, 900, Some(950)));
        records.orders.push(order(9_001, 4_000, Some(4_050)));
        let figures = judge(&records, WINDOW, None);
        assert_eq!((figures.acknowledged, figures.lost), (600, 0));
    }

    #[test]
    fn only_refusals_within_the_window_are_counted() {
        let mut records = Records::default();
        for at in [999, 1_000, 3_999, 4_000] {
            records.stored.push(stored(at, at, 7, "a", Verdict::Stale));
        }
        assert_eq!(judge(&records, WINDOW, None).refused_stale, 2);
    }

    fn check_two_active(intervals: Vec<Interval>, freeze: Option<&Freeze>, expect: (u64, u64)) {
        let records = Records { intervals, ..Records::default() };
        let figures = judge(&records, WINDOW, freeze);
        assert_eq!((figures.two_active.as_ms(), figures.freeze_overlap.as_ms()), expect);
        assert_eq!(figures.is_clean(), expect.0 == 0);
    }

    #[test]
    fn two_actives_are_seen_and_successors_are_not() {
        let a = interval("a", 7, 0, 2_010);
        check_two_active(vec![a.clone(), interval("b", 8, 2_500, 9_000)], None, (0, 0));
        check_two_active(vec![a.clone(), interval("b", 8, 2_000, 9_000)], None, (10, 0));
        // Three at once: every pair counts.
        let three = vec![a.clone(), interval("b", 8, 2_000, 9_000), interval("c", 9, 2_005, 9_000)];
        check_two_active(three, None, (10 + 5 + 1_995, 0));
        // Overlap outside the window is another fault's.
        check_two_active(vec![a, interval("b", 8, 0, 1_010)], None, (10, 0));
        // One process that goes from epoch to epoch is no two instances.
        let (old, new) = (interval("a", 7, 0, 2_010), interval("a", 8, 2_000, 9_000));
        check_two_active(vec![old.clone(), new.clone()], None, (0, 0));
        // But a second process of one node is.
        check_two_active(vec![old, Interval { pid: 2, ..new }], None, (10, 0));
    }

    #[test]
    fn the_overlap_of_a_deliberate_freeze_is_told_apart() {
        let both = vec![interval("a", 7, 0, 2_700), interval("b", 8, 2_500, 9_000)];
        let freeze = |instance: &str, from, to| Freeze {
            instance: instance.to_owned(),
            from: Moment(ms(from)),
            to: Moment(ms(to)),
        };
        check_two_active(both.clone(), Some(&freeze("a", 2_000, 2_800)), (0, 200));
        check_two_active(both.clone(), Some(&freeze("a", 2_000, 2_600)), (100, 100));
        check_two_active(both, Some(&freeze("c", 2_000, 2_800)), (200, 0));
    }

    #[test]
    fn an_epoch_that_goes_back_or_has_two_holders_is_seen() {
        let check = |second: StoreRecord, expect| {
            let first = stored(1, 2_000, 8, "b", Verdict::Stored);
            let records = Records { stored: vec![first, second], ..Records::default() };
            assert_eq!(judge(&records, WINDOW, None).epochs_broken, expect);
        };
        check(stored(2, 2_001, 9, "c", Verdict::Stored), 0);
        check(stored(2, 2_001, 7, "a", Verdict::Stored), 1);
        check(stored(2, 2_001, 7, "a", Verdict::Stale), 0);
        check(stored(2, 2_001, 8, "a", Verdict::Stored), 1);
    }

    #[test]
    fn moments_become_intervals_by_process_and_epoch() {
        let mut intervals = Intervals::default();
        for (pid, counter, at) in [(1, 7, 10), (1, 7, 12), (1, 8, 20), (2, 8, 21), (1, 7, 11)] {
            let (instance, moment) = ("a".to_owned(), Moment(at));
            intervals.add(ActiveMoment { instance, pid, epoch: epoch(counter), moment });
        }
        let ends: Vec<_> = intervals.list().iter().map(|i| (i.first.0, i.last.0)).collect();
        assert_eq!(ends, [(10, 12), (20, 20), (21, 21)]);
    }
}

//! What a case may claim: outages as the client saw them, and a verdict over everything that
//! store, client, instances and watchers wrote down. It believes the store about what is stored,
//! the client about what it was promised, and each instance about when it was active.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use model::{Epoch, Moment, Span};

use crate::cluster::Cluster;
use crate::records::{Interval, Order, Records, Stored};
use crate::shell::{Done, pass};
use crate::watch::{most_at_once, shared_holdings};

/// Acknowledgements before a fault that its outage is measured from.
const BEFORE: Span = Span::from_ms(500);
/// By then the client wrote down what it was told before.
const WRITTEN: Duration = Duration::from_millis(20);

/// A whole node was frozen: what its instance meant to be is told apart, as nothing stops a
/// machine that stands still. The store's word counts all the same.
#[derive(Debug, Clone)]
pub(crate) struct Freeze {
    pub(crate) instance: String,
    pub(crate) from: Moment,
    pub(crate) to: Moment,
}

/// What the records show.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Figures {
    /// Orders that the client saw acknowledged.
    acknowledged: usize,
    /// Of these, those that the store does not have.
    lost: usize,
    /// Orders that the store has more than once.
    doubled: usize,
    /// Never acknowledged, and the store could not be asked.
    unknown: usize,
    /// Accepted by the store under an epoch lower than one before, or of another holder (S1).
    epochs_broken: usize,
    /// For how long two instances were active at once.
    two_active: Span,
}

/// The longest time between two acknowledgements around a fault, until now.
pub(crate) fn outage(cluster: &Cluster, fault: Moment) -> Span {
    let end = drivers::sys::now();
    // Reading takes longer the more there is to read: that is no outage.
    pass(WRITTEN);
    longest_gap(&cluster.recent_orders(), fault.before(BEFORE), fault, end)
}

/// The longest gap that ends after the fault; it lasts to the end where nothing came any more.
fn longest_gap(orders: &[Order], begin: Moment, fault: Moment, end: Moment) -> Span {
    let inside = |at: &Moment| begin <= *at && *at < end;
    let mut done: Vec<Moment> =
        orders.iter().filter_map(|o| o.acknowledged).filter(inside).collect();
    done.extend([begin, end]);
    done.sort_unstable();
    let after = done.windows(2).filter(|pair| pair[1] >= fault);
    after.map(|pair| pair[1].since(pair[0])).max().unwrap_or(Span::ZERO)
}

/// Judges the whole life of a cluster.
fn figures(records: &Records, freeze: Option<&Freeze>) -> Figures {
    let mut times: HashMap<&str, usize> = HashMap::new();
    for stored in records.stored.iter().filter(|s| s.verdict == "stored") {
        *times.entry(stored.order.as_str()).or_default() += 1;
    }
    let is_stored = |order: &str| times.contains_key(order);
    let acknowledged = || records.orders.iter().filter(|o| o.acknowledged.is_some());
    let unknown = |o: &&crate::records::Order| o.acknowledged.is_none() && o.stored.is_none();
    Figures {
        acknowledged: acknowledged().count(),
        lost: acknowledged().filter(|o| !is_stored(&o.order)).count(),
        doubled: times.values().filter(|times| **times > 1).count(),
        unknown: records.orders.iter().filter(unknown).count(),
        epochs_broken: epochs_broken(&records.stored),
        two_active: two_active(&records.intervals, freeze),
    }
}

fn epochs_broken(stored: &[Stored]) -> usize {
    let (mut highest, mut holders) = (Epoch::default(), BTreeMap::new());
    let accepted = stored.iter().filter(|s| s.verdict == "stored" || s.verdict == "duplicate");
    accepted
        .filter(|s| {
            let holder = holders.entry(s.epoch).or_insert(s.instance.as_str());
            let wrong = s.epoch < highest || *holder != s.instance;
            highest = highest.max(s.epoch);
            wrong
        })
        .count()
}

fn two_active(intervals: &[Interval], freeze: Option<&Freeze>) -> Span {
    let mut shared = Span::ZERO;
    for (number, one) in intervals.iter().enumerate() {
        for other in intervals[number + 1..].iter().filter(|o| o.pid != one.pid) {
            let (from, to) = (one.first.max(other.first), one.last.min(other.last));
            let frozen = freeze.is_some_and(|f| {
                [one, other].iter().any(|i| i.instance == f.instance)
                    && f.from <= from
                    && to <= f.to
            });
            if !frozen {
                shared = shared + to.since(from);
            }
        }
    }
    shared
}

/// Ends the client and judges the whole life of a cluster: nothing acknowledged is lost, nothing
/// is stored twice, no epoch went back, never were two instances or two addresses active.
pub(crate) fn verdict(cluster: &mut Cluster) -> Done<String> {
    let holdings = cluster.holdings()?;
    let (most, shared) = most_at_once(&holdings);
    if most > 1 {
        let both: Vec<String> = shared_holdings(&holdings).map(|h| h.to_string()).collect();
        let ms = shared.as_ms();
        cluster.harmed = true;
        return Err(format!(
            "{most} hosts held the address at once, for {ms} ms: {}",
            both.join(", ")
        ));
    }
    verdict_but_for_the_address(cluster, None)
}

/// The same where a frozen host's kernel goes on holding the address, as no real one would.
pub(crate) fn verdict_but_for_the_address(
    cluster: &mut Cluster,
    freeze: Option<&Freeze>,
) -> Done<String> {
    cluster.end_client()?;
    let found = figures(&cluster.records(), freeze);
    told(cluster, &found)
}

/// The same where clocks are so wrong that two believe in their leases at once: what is stored
/// must be right all the same.
pub(crate) fn verdict_of_the_store(cluster: &mut Cluster) -> Done<String> {
    cluster.end_client()?;
    let found = figures(&cluster.records(), None);
    told(cluster, &Figures { two_active: Span::ZERO, ..found })
}

fn told(cluster: &mut Cluster, found: &Figures) -> Done<String> {
    let clean = Figures { acknowledged: found.acknowledged, ..Figures::default() };
    cluster.harmed |= *found != clean;
    if *found != clean || found.acknowledged == 0 {
        return Err(format!("the records say: {found:?}"));
    }
    Ok(format!("{} orders acknowledged, all of them stored once", found.acknowledged))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(order: &str, counter: u64, instance: &str) -> Stored {
        let epoch = Epoch { generation: 1, counter };
        let (order, instance) = (order.to_owned(), instance.to_owned());
        Stored { order, epoch, instance, moment: Moment(0), verdict: "stored".into() }
    }

    fn order(name: &str, acknowledged: Option<u64>) -> Order {
        let acknowledged = acknowledged.map(Moment);
        Order { order: name.to_owned(), sent: Moment(0), acknowledged, stored: None }
    }

    fn interval(instance: &str, pid: u32, first: u64, last: u64) -> Interval {
        let (first, last) = (Moment(first), Moment(last));
        Interval { instance: instance.to_owned(), pid, epoch: Epoch::default(), first, last }
    }

    #[test]
    fn each_kind_of_harm_is_counted() {
        let clean = Records {
            stored: vec![stored("1", 1, "a"), stored("2", 2, "b")],
            orders: vec![order("1", Some(5)), order("2", Some(6))],
            intervals: vec![interval("a", 1, 0, 10), interval("b", 2, 11, 20)],
        };
        let good = Figures { acknowledged: 2, ..Figures::default() };
        assert_eq!(figures(&clean, None), good);
        let mut bad = clean.clone();
        bad.stored = vec![stored("1", 2, "a"), stored("1", 1, "a"), stored("3", 2, "b")];
        bad.orders.push(order("4", None));
        bad.intervals[1].first = Moment(7);
        let found = figures(&bad, None);
        let harm = Figures {
            acknowledged: 2,
            lost: 1,
            doubled: 1,
            unknown: 1,
            epochs_broken: 2,
            two_active: Span(3),
        };
        assert_eq!(found, harm);
        let freeze = Freeze { instance: "a".into(), from: Moment(5), to: Moment(15) };
        assert_eq!(figures(&bad, Some(&freeze)).two_active, Span::ZERO);
    }

    #[test]
    fn a_gap_counts_from_before_the_fault_to_the_end() {
        let orders = [1, 2, 9, 10].map(|at| order("x", Some(at))).to_vec();
        let records = Records { orders, ..Records::default() };
        let gap =
            |fault, end| longest_gap(&records.orders, Moment(1), Moment(fault), Moment(end)).0;
        assert_eq!(gap(3, 11), 7);
        assert_eq!(gap(10, 12), 2);
        assert_eq!(gap(3, 30), 20, "nothing came any more");
    }
}

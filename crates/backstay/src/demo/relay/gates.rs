//! Which directions are closed. A closed direction says nothing to anybody: datagrams vanish,
//! bytes of a connection wait, as behind a cable that was pulled.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// One direction of one link: nodes and links by their position in the demo's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Direction {
    /// The sending node.
    pub from: usize,
    /// The receiving node.
    pub to: usize,
    /// The link.
    pub link: usize,
}

impl Direction {
    /// The way back.
    #[must_use]
    pub const fn reversed(self) -> Direction {
        Direction { from: self.to, to: self.from, link: self.link }
    }

    /// Whether this direction begins or ends at a node.
    #[must_use]
    pub const fn touches(self, node: usize) -> bool {
        self.from == node || self.to == node
    }
}

/// What one call closed; `None` means every one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rule {
    from: Option<usize>,
    to: Option<usize>,
    link: Option<usize>,
}

impl Rule {
    fn matches(&self, direction: Direction) -> bool {
        let fits = |rule: Option<usize>, is: usize| rule.is_none_or(|wanted| wanted == is);
        fits(self.from, direction.from)
            && fits(self.to, direction.to)
            && fits(self.link, direction.link)
    }
}

/// The state of all directions, shared by all relays.
#[derive(Debug)]
pub struct Gates {
    closed: watch::Sender<BTreeSet<Rule>>,
    dropped: AtomicU64,
}

impl Default for Gates {
    fn default() -> Self {
        Gates { closed: watch::Sender::new(BTreeSet::new()), dropped: AtomicU64::new(0) }
    }
}

impl Gates {
    /// Closes one direction of one link.
    pub fn close(&self, direction: Direction) {
        let Direction { from, to, link } = direction;
        self.add([Rule { from: Some(from), to: Some(to), link: Some(link) }]);
    }

    /// Closes every link of a node, both ways.
    pub fn close_node(&self, node: usize) {
        let from = Rule { from: Some(node), to: None, link: None };
        self.add([from, Rule { from: None, to: Some(node), link: None }]);
    }

    /// Closes one link between all nodes.
    pub fn close_link(&self, link: usize) {
        self.add([Rule { from: None, to: None, link: Some(link) }]);
    }

    /// Opens everything again.
    pub fn open_all(&self) {
        self.closed.send_replace(BTreeSet::new());
    }

    fn add(&self, rules: impl IntoIterator<Item = Rule>) {
        self.closed.send_modify(|closed| closed.extend(rules));
    }

    /// Whether a direction is open now.
    #[must_use]
    pub fn is_open(&self, direction: Direction) -> bool {
        !self.closed.borrow().iter().any(|rule| rule.matches(direction))
    }

    /// Waits until a direction is open.
    pub async fn opened(&self, direction: Direction) {
        let mut changes = self.closed.subscribe();
        while !self.is_open(direction) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Counts a datagram that vanished.
    pub(super) fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// How many datagrams vanished so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(gates: &Gates, from: usize, to: usize, link: usize) -> bool {
        gates.is_open(Direction { from, to, link })
    }

    #[test]
    fn a_closed_direction_leaves_the_way_back_open() {
        let gates = Gates::default();
        gates.close(Direction { from: 0, to: 1, link: 1 });
        assert!(!open(&gates, 0, 1, 1));
        assert!(open(&gates, 1, 0, 1) && open(&gates, 0, 1, 0) && open(&gates, 0, 2, 1));
    }

    #[test]
    fn a_closed_node_is_alone_and_the_others_are_not() {
        let gates = Gates::default();
        gates.close_node(2);
        for link in 0..2 {
            for other in 0..2 {
                assert!(!open(&gates, 2, other, link) && !open(&gates, other, 2, link));
            }
            assert!(open(&gates, 0, 1, link) && open(&gates, 1, 0, link));
        }
        gates.open_all();
        assert!(open(&gates, 2, 0, 0));
    }

    #[test]
    fn a_closed_link_leaves_the_other_link_open() {
        let gates = Gates::default();
        gates.close_link(0);
        assert!(!open(&gates, 0, 1, 0) && open(&gates, 0, 1, 1));
    }
}

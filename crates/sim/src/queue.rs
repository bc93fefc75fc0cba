//! What happens next: events by their true time, those of one time in the order they came.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::event::Ev;

/// Events that are due. The heap moves small keys; the events themselves lie still.
#[derive(Default)]
pub(crate) struct Queue {
    /// Time, number, and place among the events.
    due: BinaryHeap<Reverse<(u64, u64, u32)>>,
    events: Vec<Option<Ev>>,
    free: Vec<u32>,
    numbers: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, at: u64, ev: Ev) {
        self.numbers += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            u32::try_from(self.events.len() - 1).expect("fewer events than memory has room for")
        });
        self.events[place as usize] = Some(ev);
        self.due.push(Reverse((at, self.numbers, place)));
    }

    /// The next event and its time, where it is due by `until`.
    pub(crate) fn pop_until(&mut self, until: u64) -> Option<(u64, Ev)> {
        let Reverse((at, _, place)) = *self.due.peek().filter(|next| next.0.0 <= until)?;
        self.due.pop();
        self.free.push(place);
        let ev = self.events[place as usize].take()?;
        Some((at, ev))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_as_they_were_put_in() {
        let mut queue = Queue::default();
        for (at, node) in [(5, 0), (3, 1), (5, 2), (3, 3), (9, 4)] {
            queue.push(at, Ev::Mend { node });
        }
        let mut order = Vec::new();
        while let Some((at, Ev::Mend { node })) = queue.pop_until(5) {
            order.push((at, node));
        }
        assert_eq!(order, [(3, 1), (3, 3), (5, 0), (5, 2)]);
        assert!(queue.pop_until(9).is_some() && queue.pop_until(9).is_none());
    }
}

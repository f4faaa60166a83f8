//! What is to happen, by time; of what is to happen at once, in the order in which it was said.

use std::collections::BTreeMap;

/// Things to happen. Time is nanoseconds.
#[derive(Debug)]
pub struct Queue<T> {
    all: BTreeMap<(u64, u64), T>,
    count: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { all: BTreeMap::new(), count: 0 }
    }
}

impl<T> Queue<T> {
    /// Something is to happen at a time.
    pub fn push(&mut self, at: u64, what: T) {
        self.count += 1;
        self.all.insert((at, self.count), what);
    }

    /// The next thing, if it happens until then.
    pub fn pop_until(&mut self, end: u64) -> Option<(u64, T)> {
        let entry = self.all.first_entry().filter(|entry| entry.key().0 <= end)?;
        let ((at, _), what) = entry.remove_entry();
        Some((at, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_at_once_happens_in_order() {
        let mut queue = Queue::default();
        for (at, what) in [(5, 'b'), (1, 'a'), (5, 'c'), (9, 'd')] {
            queue.push(at, what);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop_until(5)).collect();
        assert_eq!(order, [(1, 'a'), (5, 'b'), (5, 'c')]);
        assert_eq!(queue.pop_until(9), Some((9, 'd')));
    }
}

//! A trace, over and over.

use std::sync::Arc;

use super::Stream;
use crate::tiering::trace::Recorded;

pub struct Trace {
    recorded: Arc<Recorded>,
    next: usize,
}

impl Trace {
    pub const fn new(recorded: Arc<Recorded>) -> Self {
        Self { recorded, next: 0 }
    }
}

impl Stream for Trace {
    fn fill(&mut self, _phase: u64, mut into: &mut [u32]) {
        let visits = self.recorded.visits();
        while !into.is_empty() {
            let rest = &visits[self.next..];
            let count = rest.len().min(into.len());
            into[..count].copy_from_slice(&rest[..count]);
            into = &mut into[count..];
            self.next = (self.next + count) % visits.len();
        }
    }
}

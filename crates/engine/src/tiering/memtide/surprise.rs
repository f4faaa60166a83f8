//! Whether something that should be small is larger than it usually gets.
//!
//! A change of the program's behaviour shows as a number that jumps: accesses to the fast tier
//! fall, or pages that were expected to be sampled are not. But some programs never do as
//! expected, and to start learning anew each time would only cost. So what is remembered is how
//! large the number lately got, fading over seconds, and a surprise is what exceeds that clearly.

/// What the number must exceed at least.
const LEAST: f32 = 0.1;
/// How much larger than usual it must be.
const CLEARLY: f32 = 1.25;

/// How large a number gets.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Surprise {
    usual: f32,
}

impl Surprise {
    /// Takes the number in; whether it is a surprise.
    pub(super) fn take(&mut self, number: f32) -> bool {
        let surprise = number > LEAST + CLEARLY * self.usual;
        self.usual = self.usual.max(number);
        surprise
    }

    /// So many seconds have passed: a second takes half of what is remembered.
    pub(super) fn fade(&mut self, seconds: f32) {
        self.usual *= (1.0 - 0.5 * seconds).max(0.0);
    }
}

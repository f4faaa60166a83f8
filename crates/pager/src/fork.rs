//! fork keeps its meaning: the three handlers that run around it.
//!
//! The preload library registers them with `pthread_atfork`, before any other library can, so that
//! [`settle`] and [`prepare`] run last before the fork and [`parent`] and [`child`] first after it.
//! Between the two the allocator's own handler locks the allocator; nothing here uses it until it
//! has been unlocked again.

use crate::{
    memory::{Memory, PagerState},
    space::Lock,
    start,
};

/// Before the allocator's own handler locks it: the pager of a forked child that forks again must
/// have come (or been given up), and it uses the allocator on its way.
pub fn settle() {
    if let Some(memory) = Memory::get() {
        memory.settle_pager();
    }
}

/// Before the fork: freeze, and hold our locks.
pub fn prepare() {
    let Some(memory) = Memory::get() else { return };
    memory.fork_gate().hold_across_fork();
    memory.freeze();
    memory.hold_across_fork();
}

/// After it, in the parent (also when it failed).
pub fn parent() {
    let Some(memory) = Memory::get() else { return };
    memory.release_after_fork();
    if let Some((_, token)) = memory.lock().tokens.child.take() {
        // Only the child maps it now. If it could not be unmapped the child would seem to live on:
        // its pageblocks stay where they are, which is safe.
        let _ = token.unmap();
    }
    memory.fork_is_over();
    memory.fork_gate().release_after_fork();
}

/// After it, in the child: our mappings are as the parent's were, but nobody serves them.
pub fn child() {
    let Some(memory) = Memory::get() else { return };
    memory.set_pager_state(PagerState::Coming);
    memory.release_after_fork();
    memory.forget_posts();
    memory.fork_gate().release_after_fork();
    let mut state = memory.lock();
    let child = state.tokens.child.take();
    let has_token = child.is_some();
    if has_token && let Some((_, token)) = std::mem::replace(&mut state.tokens.life, child) {
        let _ = token.unmap();
    }
    // mlock(2): memory locks are not inherited by a child created via fork(2).
    let all = state.space.range();
    state.space.change(all, |run| run.lock = Lock::Unlocked);
    drop(state);
    if has_token {
        start::child(memory);
    } else {
        // The daemon counts us as our parent, whose token we go on mapping.
        memory.set_pager_state(PagerState::Absent);
    }
}

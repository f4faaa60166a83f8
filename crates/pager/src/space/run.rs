//! A stretch of pages with equal attributes.

use memtide_sys::{AddrRange, Prot};

/// Whether the pool promised memory for pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Charge {
    /// It did: they are, or were, writable.
    Charged,
    /// Not yet: they have never been writable.
    Uncharged,
    /// It need not: the program asked for no promise (`MAP_NORESERVE`), or they are no memory
    /// of the pool's.
    Exempt,
}

/// Whether pages are locked into memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lock {
    /// They are not.
    Unlocked,
    /// They are, all of them (`mlock`).
    Locked,
    /// They are, once they are touched (`MLOCK_ONFAULT`).
    LockedOnFault,
}

/// What lies at pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Private anonymous memory, of the pool's.
    Private,
    /// Private anonymous memory that the kernel keeps special advice or a key for
    /// (`MADV_DONTFORK`, `MADV_WIPEONFORK`, `pkey_mprotect`): its block is ordinary memory.
    Advised,
    /// Another mapping that the program put there (`MAP_FIXED` of a file, shared memory).
    Foreign,
    /// Private anonymous memory whose content is gone with its device: touching it is `SIGBUS`
    /// until the program gives the content up. Its block is ordinary memory.
    Lost,
}

/// A stretch of pages with equal attributes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// Where; whole pages.
    pub range: AddrRange,
    /// What the program may do there.
    pub prot: Prot,
    /// Whether memory is promised for it.
    pub charge: Charge,
    /// Whether it is locked.
    pub lock: Lock,
    /// What lies there.
    pub kind: Kind,
}

impl Run {
    /// Private memory as a fresh mapping has it.
    #[must_use]
    pub const fn private(range: AddrRange, prot: Prot, charge: Charge) -> Self {
        Self { range, prot, charge, lock: Lock::Unlocked, kind: Kind::Private }
    }

    /// Another mapping that the program put there.
    #[must_use]
    pub const fn foreign(range: AddrRange, prot: Prot) -> Self {
        Self { kind: Kind::Foreign, ..Self::private(range, prot, Charge::Exempt) }
    }

    /// Whether all but the place is equal.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        Self { range: other.range, ..*self } == *other
    }

    /// Whether memory is promised for it.
    #[must_use]
    pub fn is_charged(&self) -> bool {
        self.charge == Charge::Charged
    }

    /// Whether it is locked, now or once touched.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.lock != Lock::Unlocked
    }

    /// Whether it must stay where it is because the kernel keeps something for this mapping that
    /// moving it would lose, or because there is nothing left to move.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.kind != Kind::Private
    }

    pub(super) const fn split_at(self, addr: usize) -> (Self, Self) {
        let low = Self { range: AddrRange::between(self.range.start, addr), ..self };
        let high = Self { range: AddrRange::between(addr, self.range.end()), ..self };
        (low, high)
    }
}

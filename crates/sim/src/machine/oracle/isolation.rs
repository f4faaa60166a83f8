//! Who maps a pageblock, step by step; what must not follow what is refused.

use memtide_engine::onlining::OnlineZone;
use memtide_units::{ImageId, Pageblock};

use super::{Checked, Oracle, State};
use crate::machine::plan::Nanos;

impl Oracle {
    /// Somebody gets it.
    pub fn granted(&mut self, pageblock: Pageblock, image: ImageId) -> Checked<()> {
        self.must_be_free(pageblock, "granted")?;
        self.set(pageblock, State::Mapped(image, 1));
        Ok(())
    }

    /// Somebody is to move something there.
    pub fn coming(&mut self, pageblock: Pageblock, image: ImageId) -> Checked<()> {
        self.must_be_free(pageblock, "the destination of a move")?;
        self.set(pageblock, State::Coming(image));
        Ok(())
    }

    fn must_be_free(&self, pageblock: Pageblock, what: &str) -> Checked<()> {
        match self.state(pageblock) {
            State::Free => Ok(()),
            other => Err(format!("isolation: {pageblock} is {what} but is {other:?}")),
        }
    }

    /// A move to it ended: it is mapped from now on.
    pub fn arrived(&mut self, pageblock: Pageblock) -> Checked<()> {
        match self.state(pageblock) {
            State::Coming(image) => {
                self.set(pageblock, State::Mapped(image, 1));
                Ok(())
            }
            State::Gone => Ok(()),
            other => Err(format!("{pageblock} is moved to but is {other:?}")),
        }
    }

    /// A move to it did not happen, or whoever made it is gone.
    pub fn not_coming(&mut self, pageblock: Pageblock) {
        if let State::Coming(image) = self.state(pageblock) {
            self.set(pageblock, State::Dirty(image));
        }
    }

    /// One process more maps it.
    pub fn shared(&mut self, pageblock: Pageblock) {
        if let State::Mapped(image, maps) = self.state(pageblock) {
            self.set(pageblock, State::Mapped(image, maps + 1));
        }
    }

    /// One process fewer maps it.
    pub fn unmapped(&mut self, pageblock: Pageblock) {
        match self.state(pageblock) {
            State::Mapped(image, 1) => self.set(pageblock, State::Dirty(image)),
            State::Mapped(image, maps) => self.set(pageblock, State::Mapped(image, maps - 1)),
            _ => {}
        }
    }

    /// The store is told to zero it.
    pub fn zeroing(&mut self, pageblock: Pageblock, image: ImageId) -> Checked<()> {
        match self.state(pageblock) {
            State::Dirty(of) if of == image => {
                self.set(pageblock, State::Zeroing(image));
                Ok(())
            }
            other => Err(format!("isolation: {pageblock} is zeroed for {image} but is {other:?}")),
        }
    }

    /// The store has zeroed it; false if there is nothing to be said of it any more.
    pub fn zeroed(&mut self, pageblock: Pageblock) -> bool {
        let State::Zeroing(image) = self.state(pageblock) else { return false };
        let is_leaving = self.leaving.contains_key(&pageblock);
        self.set(pageblock, if is_leaving { State::Unanswered(image) } else { State::Free });
        true
    }

    /// It is to be moved away.
    pub fn leaving(&mut self, pageblock: Pageblock, now: Nanos) {
        self.leaving.insert(pageblock, now);
    }

    /// That is answered, or will never be. Says when it was ordered.
    pub fn answered(&mut self, pageblock: Pageblock) -> Option<Nanos> {
        let ordered = self.leaving.remove(&pageblock);
        if let State::Unanswered(_) = self.state(pageblock) {
            self.set(pageblock, State::Free);
        }
        ordered
    }

    /// It leaves.
    pub fn offlined(&mut self, pageblock: Pageblock) -> Checked<()> {
        match self.state(pageblock) {
            State::Free => self.set(pageblock, State::Offline),
            State::Gone if !self.poisoned.contains(&pageblock) => {
                self.set(pageblock, State::Offline);
            }
            State::Gone => {}
            other => return Err(format!("isolation: {pageblock} leaves but is {other:?}")),
        }
        Ok(())
    }

    /// It comes, into this zone.
    pub fn onlined(&mut self, pageblock: Pageblock, zone: OnlineZone) -> Checked<()> {
        match self.state(pageblock) {
            State::Offline => {
                self.comes_into(pageblock, zone);
                self.set(pageblock, State::Free);
            }
            State::Gone if self.poisoned.contains(&pageblock) => {}
            other => return Err(format!("{pageblock} comes but is {other:?}")),
        }
        Ok(())
    }

    /// It is gone with its device.
    pub fn gone(&mut self, pageblock: Pageblock) {
        self.set(pageblock, State::Gone);
    }

    /// Whether it is broken.
    pub fn is_poisoned(&self, pageblock: Pageblock) -> bool {
        self.poisoned.contains(&pageblock)
    }

    /// It is broken, for good.
    pub fn poisoned(&mut self, pageblock: Pageblock) {
        self.poisoned.insert(pageblock);
        self.set(pageblock, State::Gone);
    }
}

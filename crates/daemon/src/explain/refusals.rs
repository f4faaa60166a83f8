//! Programs that a rule refused something, where that leaves no trace in the engine.
//!
//! What a program asks for memory with is decided in the engine, which keeps the decision. But that
//! it may not join, pin or fork any further refuses an input as such, and a refused input changes
//! nothing there. So it is kept here: the last [`REFUSALS_MAX`] of every tenant, and as many of
//! programs that no tenant is for. What made no sense is not among them: no rule was against it.

use std::collections::{BTreeMap, VecDeque};

use memtide_engine::{Ground, Refusal};
use memtide_proto::{
    Refused,
    control::{Asked, Decision, Outcome, Reason},
};
use memtide_units::{ByteSize, ImageId, Instant, MemberId, TenantId};

use super::milliseconds;
use crate::{
    daemon::Daemon,
    program::{CHILDREN_MAX, refusal},
};

/// Refusals kept of one tenant, and of programs without one.
const REFUSALS_MAX: usize = 64;

/// One refusal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Kept {
    /// When it was last given.
    pub(super) at: Instant,
    /// How often in a row.
    times: u64,
    whose: Whose,
    asked: Asked,
    bytes: ByteSize,
    because: Reason,
}

/// Who was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Whose {
    pub(crate) pid: u32,
    /// None: it was not let in.
    pub(crate) image: Option<ImageId>,
    pub(crate) name: String,
}

/// The latest refusals.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Refusals(BTreeMap<Option<TenantId>, VecDeque<Kept>>);

impl Refusals {
    fn keep(&mut self, tenant: Option<TenantId>, new: Kept) {
        let all = self.0.entry(tenant).or_default();
        if let Some(last) = all.back_mut()
            && (&last.whose, last.asked, last.bytes) == (&new.whose, new.asked, new.bytes)
            && last.because == new.because
        {
            last.times += 1;
            last.at = new.at;
            return;
        }
        if all.len() == REFUSALS_MAX {
            all.pop_front();
        }
        all.push_back(new);
    }

    /// All, with their tenants.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Option<TenantId>, &Kept)> {
        self.0.iter().flat_map(|(&tenant, all)| all.iter().map(move |kept| (tenant, kept)))
    }
}

impl Kept {
    /// Whether it is about the process of this number: of this image, or one that was not let in.
    pub(super) fn is_of(&self, pid: u32, image: Option<ImageId>) -> bool {
        self.whose.pid == pid && (self.whose.image.is_none() || self.whose.image == image)
    }

    /// As it goes out.
    pub(super) fn told(&self, tenant: String, now: Instant) -> Decision {
        Decision {
            tenant,
            pid: self.whose.pid,
            image: self.whose.image.unwrap_or(ImageId(0)),
            program: self.whose.name.clone(),
            ago_ms: milliseconds(now.0.saturating_sub(self.at.0)),
            times: self.times,
            asked: self.asked,
            bytes: self.bytes,
            from: None,
            outcome: Outcome::Refused,
            nodes: Vec::new(),
            wait_ms: 0,
            because: vec![self.because.clone()],
        }
    }
}

/// A reason without numbers.
fn reason(rule: &str, text: String) -> Reason {
    let (rule, node, amounts, count) = (rule.to_owned(), None, BTreeMap::new(), None);
    Reason { rule, node, amounts, count, text }
}

impl Daemon {
    /// A program was not let in, by this rule.
    pub(crate) fn keep_not_let_in(&mut self, pid: u32, name: String, rule: &str, why: &Refused) {
        let whose = Whose { pid, image: None, name };
        self.keep_refusal(None, whose, (Asked::Join, 0), reason(rule, why.to_string()));
    }

    /// A process has as many children as it may, and forks another.
    pub(crate) fn keep_too_many_children(&mut self, member: MemberId) {
        let text = format!("the process has {CHILDREN_MAX} children, and may have no more at once");
        let because = Reason { count: Some(CHILDREN_MAX as u64), ..reason("children", text) };
        self.keep_refusal_of(member, (Asked::Fork, 0), because);
    }

    /// The engine does not let a program pin so many pageblocks: what the program hears.
    pub(crate) fn pin_refused(
        &mut self,
        member: MemberId,
        pageblocks: u64,
        why: Refusal,
    ) -> Refused {
        if why.ground() == Ground::Rule {
            let because = self.reason_not_to_pin(&why);
            self.keep_refusal_of(member, (Asked::Pin, pageblocks), because);
        }
        refusal("pin", why)
    }

    fn reason_not_to_pin(&self, why: &Refusal) -> Reason {
        let size = ByteSize::from_pageblocks;
        match *why {
            Refusal::PinLimit { kind, by, pinned, max, .. } => {
                let amounts = [("by", by), ("pinned", pinned), ("max", max)];
                let amounts = amounts.map(|(name, count)| (name.to_owned(), size(count)));
                let (pinned, max) = (size(pinned), size(max));
                let text = format!(
                    "the tenant would have {pinned} of {kind} memory pinned, and may have {max} \
                     when it asks"
                );
                Reason { amounts: amounts.into(), ..reason("pin-limit", text) }
            }
            Refusal::PinNotPermitted { node, .. } => {
                let name = self.node_name(node);
                let text = format!("{name}: its owner does not permit pinning for long");
                Reason { node: Some(name), ..reason("pin-not-permitted", text) }
            }
            Refusal::PinInZone { node, zone, by, of, .. } => {
                let amounts = [("by", by), ("of", of)];
                let amounts = amounts.map(|(name, count)| (name.to_owned(), size(count)));
                let (name, by, of) = (self.node_name(node), size(by), size(of));
                let text = format!(
                    "{by} of {of} are, or will be, where only what can move may lie; the first in \
                     zone {zone} of {name}"
                );
                Reason { node: Some(name), amounts: amounts.into(), ..reason("pin-in-zone", text) }
            }
            _ => reason("limit", why.to_string()),
        }
    }

    fn keep_refusal_of(&mut self, member: MemberId, asked: (Asked, u64), because: Reason) {
        let Some(known) = self.members.get(&member) else { return };
        let (pid, image, name) = (known.pid, known.image, known.name.clone());
        let tenant = self.tenants.get(&image).copied();
        let whose = Whose { pid, image: Some(image), name };
        self.keep_refusal(tenant, whose, asked, because);
    }

    fn keep_refusal(
        &mut self,
        tenant: Option<TenantId>,
        whose: Whose,
        (asked, pageblocks): (Asked, u64),
        because: Reason,
    ) {
        let (at, bytes) = (self.engine_now(), ByteSize::from_pageblocks(pageblocks));
        self.refusals.keep(tenant, Kept { at, times: 1, whose, asked, bytes, because });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn kept(second: u64, pid: u32) -> Kept {
        Kept {
            at: Instant(Duration::from_secs(second)),
            times: 1,
            whose: Whose { pid, image: None, name: "sort".to_owned() },
            asked: Asked::Join,
            bytes: ByteSize(0),
            because: reason("no-tenant", "nobody".to_owned()),
        }
    }

    #[test]
    fn equal_refusals_in_a_row_are_kept_once() {
        let mut refusals = Refusals::default();
        for (second, pid) in [(1, 7), (2, 7), (3, 8), (4, 7)] {
            refusals.keep(None, kept(second, pid));
        }
        refusals.keep(Some(TenantId(0)), kept(5, 7));
        let told: Vec<_> = refusals
            .iter()
            .map(|(tenant, kept)| (tenant, kept.whose.pid, kept.times, kept.at.0.as_secs()))
            .collect();
        let of_one = (Some(TenantId(0)), 7, 1, 5);
        assert_eq!(told, [(None, 7, 2, 2), (None, 8, 1, 3), (None, 7, 1, 4), of_one]);
    }

    #[test]
    fn only_the_latest_refusals_are_kept() {
        let mut refusals = Refusals::default();
        for pid in 1..=200 {
            refusals.keep(None, kept(1, pid));
        }
        let pids: Vec<_> = refusals.iter().map(|(_, kept)| kept.whose.pid).collect();
        assert_eq!((pids.len(), pids[0], pids[63]), (REFUSALS_MAX, 137, 200));
    }

    #[test]
    fn a_refusal_is_of_a_process_or_of_one_that_was_not_let_in() {
        let mut refused = kept(1, 7);
        assert!(refused.is_of(7, None) && refused.is_of(7, Some(ImageId(2))));
        assert!(!refused.is_of(8, None));
        refused.whose.image = Some(ImageId(1));
        assert!(refused.is_of(7, Some(ImageId(1))));
        assert!(!refused.is_of(7, Some(ImageId(2))) && !refused.is_of(7, None));
    }
}

//! What was moved, as it is told beside what was decided.

use std::collections::BTreeMap;

use memtide_engine::{MigrateReason, Migrated};
use memtide_proto::control::{self, NodeBytes, Reason};
use memtide_units::{ByteSize, TenantId};

use super::{Past, milliseconds};
use crate::daemon::Daemon;

impl Daemon {
    pub(super) fn migration(&self, tenant: TenantId, migration: &Migrated) -> control::Decision {
        let Past { pid, image, name } = self.called(migration.member);
        let bytes = ByteSize::from_pageblocks(migration.pageblocks);
        let now = self.engine_now();
        control::Decision {
            tenant: self.tenant_name(tenant),
            pid,
            image,
            program: name,
            ago_ms: milliseconds(now.0.saturating_sub(migration.at.0)),
            times: migration.times,
            asked: control::Asked::Move,
            bytes,
            from: Some(self.node_name(migration.from)),
            outcome: control::Outcome::Moved,
            nodes: vec![NodeBytes { node: self.node_name(migration.to), bytes }],
            wait_ms: 0,
            because: vec![self.reason_to_move(migration)],
        }
    }

    fn reason_to_move(&self, migration: &Migrated) -> Reason {
        let from = self.node_name(migration.from);
        let text = migration.reason.text(&from, |tenant| self.tenant_name(tenant));
        let (rule, amounts, count) = parts(&migration.reason);
        let amount =
            |(name, count): (&str, u64)| (name.to_owned(), ByteSize::from_pageblocks(count));
        let amounts: BTreeMap<_, _> = amounts.into_iter().map(amount).collect();
        Reason { rule: rule.to_owned(), node: Some(from), amounts, count, text }
    }
}

/// A reason's name, its amount in pageblocks, and its other number.
fn parts(reason: &MigrateReason) -> (&'static str, Option<(&'static str, u64)>, Option<u64>) {
    match *reason {
        MigrateReason::Evacuation { .. } => ("evacuation", None, None),
        MigrateReason::GiveBack { .. } => ("give-back", None, None),
        MigrateReason::MoveTo { .. } => ("move-to", None, None),
        MigrateReason::Mbind { .. } => ("mbind", None, None),
        MigrateReason::Promotion { misplaced } => {
            ("promotion", Some(("misplaced", misplaced)), None)
        }
        MigrateReason::Demotion { idle_for, lacking, .. } => {
            ("demotion", Some(("lacking", lacking)), Some(milliseconds(idle_for)))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use memtide_units::{NodeKind, RequestId};

    use super::*;

    #[test]
    fn every_reason_to_move_has_a_name_of_its_own_and_its_numbers() {
        let request = RequestId(1);
        let (idle_for, kind, lacks) = (Duration::from_secs(3), NodeKind::Near, TenantId(0));
        let all = [
            MigrateReason::Evacuation { request },
            MigrateReason::GiveBack { request },
            MigrateReason::MoveTo { request },
            MigrateReason::Mbind { request },
            MigrateReason::Promotion { misplaced: 4 },
            MigrateReason::Demotion { idle_for, kind, lacking: 5, lacks },
        ];
        let names: BTreeSet<_> = all.iter().map(|reason| parts(reason).0).collect();
        assert_eq!(names.len(), all.len());
        assert_eq!(parts(&all[4]), ("promotion", Some(("misplaced", 4)), None));
        assert_eq!(parts(&all[5]), ("demotion", Some(("lacking", 5)), Some(3000)));
    }
}

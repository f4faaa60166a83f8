//! Event records of the shadow's, as QMP commands.

use memtide_cxl::command::events::{DynamicCapacityEvent, DynamicCapacityEventKind as Kind};
use memtide_units::{DpaRange, Tag};
use serde_json::{Value, json};

/// Event records that QEMU's log of a device holds (`CXL_TEST_EVENT_OVERFLOW`).
pub(super) const RECORDS_MAX: usize = 8;

/// What a guest is to be told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Order {
    /// Which.
    pub(super) host: u16,
    pub(super) what: What,
    region: u8,
    /// Where the region begins.
    base: u64,
    tag: Tag,
    /// Which of its addresses.
    extents: Vec<DpaRange>,
}

/// What is done with extents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    /// They are offered.
    Add,
    /// They are asked back.
    Release,
    /// They are taken.
    Take,
}

impl What {
    const fn of(kind: Kind) -> Option<Self> {
        match kind {
            Kind::Add => Some(Self::Add),
            Kind::Release => Some(Self::Release),
            Kind::ForcedRelease => Some(Self::Take),
            _ => None,
        }
    }
}

impl Order {
    /// What these records tell a guest, in as few commands as say it: each is for one region, and
    /// for no more extents than QEMU's log holds. `regions` are the shadow's.
    pub(super) fn of(
        host: u16,
        events: &[DynamicCapacityEvent],
        regions: &[DpaRange],
    ) -> Vec<Self> {
        let mut orders: Vec<Self> = Vec::new();
        for event in events {
            let extent = event.extent.range;
            let lies = regions.iter().position(|region| region.contains(extent));
            let (Some(what), Some(region)) = (What::of(event.kind), lies) else { continue };
            let base = regions[region].start;
            // There are 8 at most.
            let (region, tag) = (region as u8, event.extent.tag);
            let fits = |order: &&mut Self| {
                order.what == what
                    && order.region == region
                    && order.tag == tag
                    && (what == What::Add || order.extents.len() < RECORDS_MAX)
            };
            match orders.last_mut().filter(fits) {
                Some(order) => order.extents.push(extent),
                None => orders.push(Self { host, what, region, base, tag, extents: vec![extent] }),
            }
        }
        orders
    }

    /// How many extents.
    pub(super) fn len(&self) -> usize {
        self.extents.len()
    }

    /// Which.
    pub(super) fn extents(&self) -> &[DpaRange] {
        &self.extents
    }

    /// Leaves out the others.
    pub(super) fn retain(&mut self, is_meant: impl FnMut(&DpaRange) -> bool) {
        self.extents.retain(is_meant);
    }

    /// QMP's name for it.
    pub(super) const fn command(&self) -> &'static str {
        match self.what {
            What::Add => "cxl-add-dynamic-capacity",
            What::Release | What::Take => "cxl-release-dynamic-capacity",
        }
    }

    /// What QMP is told, for the device at this path. QEMU knows of host 0 only.
    pub(super) fn arguments(&self, path: &str) -> Value {
        let extent =
            |range: &DpaRange| json!({ "offset": range.start - self.base, "len": range.length });
        let mut arguments = json!({
            "path": path,
            "host-id": 0,
            "region": self.region,
            "extents": self.extents.iter().map(extent).collect::<Vec<_>>(),
        });
        match self.what {
            What::Add => arguments["selection-policy"] = json!("prescriptive"),
            What::Release | What::Take => {
                arguments["removal-policy"] = json!("prescriptive");
                arguments["forced-removal"] = json!(self.what == What::Take);
                arguments["sanitize-on-release"] = json!(true);
            }
        }
        if !self.tag.is_null() {
            arguments["tag"] = json!(self.tag.to_string());
        }
        arguments
    }
}

//! The scenario: `[tiering]`, checked.

use std::{collections::BTreeSet, sync::Arc};

use memtide_engine::tiering::by_name;
use memtide_units::ByteSize;
use serde::{Deserialize, Deserializer};

use super::{
    machine::{Costs, Machine, TIERS_MAX, TierModel},
    trace::Recorded,
    workload::Pattern,
};

/// Pages of a workload at most: 1 TiB of 4 KiB.
pub const PAGES_MAX: u32 = 1 << 28;
/// Accesses of a workload at most: visits by the burst. It is also how long the list of its runs
/// can get.
pub const ACCESSES_MAX: u64 = 1 << 42;
/// Visits of a phase at least: a run.
pub const PHASE_MIN: u64 = 1 << 15;
/// Edges of a graph at most.
pub const EDGES_MAX: u64 = 1 << 28;
/// Entries of a list at most.
const LIST_MAX: usize = 64;

/// Policies are compared on workloads.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tiering {
    /// What is moved at once: 4KiB, or a pageblock: 2MiB.
    #[serde(deserialize_with = "page")]
    pub page: ByteSize,
    /// The machine.
    pub machine: Machine,
    /// What is run on it.
    pub workloads: Vec<Workload>,
    /// Who places the pages.
    pub policies: Vec<Contender>,
}

/// A workload.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Workload {
    /// Its name in tables.
    pub name: String,
    /// Pages of the program. It touches them once in their order before it starts. Not given for
    /// a trace, which has its own.
    #[serde(default)]
    pub pages: u32,
    /// How long it runs: visits.
    pub visits: u64,
    /// Accesses that a visit stands for.
    pub burst: u32,
    /// Accesses that a thread has outstanding.
    pub parallelism: u32,
    /// Percent of the visits that write. Not given for a graph or a trace, which have their own
    /// writes.
    #[serde(default)]
    pub write_percent: u32,
    /// Which pages it visits.
    pub pattern: Pattern,
    /// The trace, when it is one and has been supplied.
    #[serde(skip)]
    pub recorded: Option<Arc<Recorded>>,
}

/// Who places the pages.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub enum Contender {
    /// Everything lies in the fastest tier, as if it were large enough.
    NearOnly,
    /// Everything lies in the slowest tier.
    FarOnly,
    /// The best placement that never changes, known beforehand.
    StaticOracle,
    /// The best placement for each phase, known beforehand and changed for free.
    Clairvoyant,
    /// A policy, by its name.
    Policy(String),
}

impl Contender {
    /// Its name in scenarios and tables.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::NearOnly => "near-only",
            Self::FarOnly => "far-only",
            Self::StaticOracle => "static-oracle",
            Self::Clairvoyant => "clairvoyant",
            Self::Policy(name) => name,
        }
    }
}

impl TryFrom<String> for Contender {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let bounds = [Self::NearOnly, Self::FarOnly, Self::StaticOracle, Self::Clairvoyant];
        if let Some(bound) = bounds.into_iter().find(|bound| bound.name() == name) {
            return Ok(bound);
        }
        match by_name(&name, 1, 2) {
            Some(_) => Ok(Self::Policy(name)),
            None => Err(format!("policy {name:?}; expected the name of a policy or of a bound")),
        }
    }
}

impl Tiering {
    /// The files of its traces, as the scenario names them: what is to be supplied.
    #[must_use]
    pub fn files(&self) -> BTreeSet<String> {
        let file = |workload: &Workload| match &workload.pattern {
            Pattern::Trace { file } => Some(file.clone()),
            _ => None,
        };
        self.workloads.iter().filter_map(file).collect()
    }

    /// Pages have 2^so many bytes; traces are read for that.
    #[must_use]
    pub const fn page_shift(&self) -> u8 {
        self.page.0.trailing_zeros() as u8
    }

    /// Supplies the trace of a file.
    pub fn supply(&mut self, file: &str, recorded: impl Into<Arc<Recorded>>) {
        let recorded = recorded.into();
        for workload in &mut self.workloads {
            if matches!(&workload.pattern, Pattern::Trace { file: named } if named == file) {
                workload.pages = recorded.pages();
                workload.recorded = Some(Arc::clone(&recorded));
            }
        }
    }

    /// Whether it can be run.
    ///
    /// # Errors
    /// What is wrong, with names, values and what was expected.
    pub fn check(&self) -> Result<(), String> {
        self.machine.check()?;
        length("workloads", self.workloads.len())?;
        length("policies", self.policies.len())?;
        self.workloads.iter().try_for_each(Workload::check)
    }
}

impl Machine {
    fn check(&self) -> Result<(), String> {
        let Self { threads, tiers, migration_gbps, costs, changes } = self;
        within("machine: threads", u64::from(*threads), 1, 1 << 16)?;
        if !(2..=TIERS_MAX).contains(&tiers.len()) {
            return Err(format!("machine: {} tiers; expected 2 to {TIERS_MAX}", tiers.len()));
        }
        for (number, tier) in tiers.iter().enumerate() {
            tier.check(number)?;
        }
        let room: u64 = tiers.iter().map(|tier| u64::from(tier.capacity_percent)).sum();
        if room < 100 {
            return Err(format!("machine: tiers for {room} % of the pages; expected 100 or more"));
        }
        positive("machine: migration-gbps", *migration_gbps, 1e4)?;
        costs.check()?;
        length_upto("machine: changes", changes.len())?;
        for change in changes {
            if change.tier >= tiers.len() {
                let last = tiers.len() - 1;
                return Err(format!("changes: tier {}; expected 0 to {last}", change.tier));
            }
            positive("changes: latency-ns", change.latency_ns, 1e6)?;
            positive("changes: bandwidth-gbps", change.bandwidth_gbps, 1e4)?;
        }
        if !changes.is_sorted_by_key(|change| change.at_ms) {
            return Err("changes: not in the order of time; expected rising at-ms".to_owned());
        }
        Ok(())
    }
}

impl TierModel {
    fn check(&self, number: usize) -> Result<(), String> {
        let at = |name: &str| format!("machine: tier {number}: {name}");
        positive(&at("latency-ns"), self.latency_ns, 1e6)?;
        positive(&at("bandwidth-gbps"), self.bandwidth_gbps, 1e4)?;
        not_negative(&at("load-factor"), self.load_factor, 10.0)?;
        within(&at("capacity-percent"), u64::from(self.capacity_percent), 0, 1000)
    }
}

impl Costs {
    fn check(&self) -> Result<(), String> {
        let Self { sample_ns, tick_ns, move_ns, copy_gbps, stall_ns } = *self;
        not_negative("costs: sample-ns", sample_ns, 1e9)?;
        not_negative("costs: tick-ns", tick_ns, 1e9)?;
        not_negative("costs: move-ns", move_ns, 1e9)?;
        not_negative("costs: stall-ns", stall_ns, 1e9)?;
        positive("costs: copy-gbps", copy_gbps, 1e4)
    }
}

impl Workload {
    /// Visits after which a phase ends and the next begins; none when all is one phase.
    #[must_use]
    pub const fn phase(&self) -> Option<u64> {
        match self.pattern {
            Pattern::HotSet { phase, .. } | Pattern::Zipf { phase, .. } => phase,
            _ => None,
        }
    }

    fn check(&self) -> Result<(), String> {
        let Self { name, pages, visits, burst, parallelism, write_percent, .. } = self;
        let at = |field: &str| format!("workload {name:?}: {field}");
        let own = |field: &str, value: u32| match value {
            0 => Ok(()),
            _ => Err(format!("{} {value}; expected none: it has its own", at(field))),
        };
        match self.pattern {
            Pattern::Trace { ref file } => {
                plain(&at("file"), file)?;
                own("pages", *pages)?;
            }
            _ => within(&at("pages"), u64::from(*pages), 2, u64::from(PAGES_MAX))?,
        }
        if let Pattern::Trace { .. } | Pattern::Graph { .. } = self.pattern {
            own("write-percent", *write_percent)?;
        }
        within(&at("burst"), u64::from(*burst), 1, 1 << 15)?;
        within(&at("visits"), *visits, 1, ACCESSES_MAX / u64::from(*burst))?;
        within(&at("parallelism"), u64::from(*parallelism), 1, 1 << 10)?;
        within(&at("write-percent"), u64::from(*write_percent), 0, 100)?;
        if let Some(phase) = self.phase() {
            within(&at("phase"), phase, PHASE_MIN, ACCESSES_MAX)?;
        }
        match self.pattern {
            Pattern::HotSet { hot_pages, hot_visits, .. } => {
                within(&at("hot-pages"), u64::from(hot_pages), 1, 100)?;
                within(&at("hot-visits"), u64::from(hot_visits), 0, 100)
            }
            Pattern::Zipf { theta, .. } if !(0.01..=0.999).contains(&theta) => {
                Err(format!("{} {theta}; expected 0.01 to 0.999", at("theta")))
            }
            Pattern::ScanAndHot { scan_visits } => {
                within(&at("scan-visits"), u64::from(scan_visits), 0, 100)
            }
            Pattern::Graph { scale, degree, .. } => {
                within(&at("scale"), u64::from(scale), 1, 24)?;
                within(&at("degree"), u64::from(degree), 1, EDGES_MAX >> scale)
            }
            _ => Ok(()),
        }
    }
}

/// Whether a name is one of a file beside the scenario, and leads nowhere else.
fn plain(name: &str, file: &str) -> Result<(), String> {
    if file.is_empty() || file == "." || file == ".." || file.contains(['/', '\\', '\0']) {
        let expected = "expected the plain name of a file beside the scenario";
        return Err(format!("{name} {file:?}; {expected}"));
    }
    Ok(())
}

fn within(name: &str, value: u64, least: u64, most: u64) -> Result<(), String> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(format!("{name} {value}; expected {least} to {most}"))
    }
}

fn positive(name: &str, value: f64, most: f64) -> Result<(), String> {
    if value > 0.0 && value <= most {
        Ok(())
    } else {
        Err(format!("{name} {value}; expected more than 0, {most} at most"))
    }
}

fn not_negative(name: &str, value: f64, most: f64) -> Result<(), String> {
    if (0.0..=most).contains(&value) {
        Ok(())
    } else {
        Err(format!("{name} {value}; expected 0 to {most}"))
    }
}

fn length(name: &str, length: usize) -> Result<(), String> {
    if length == 0 {
        Err(format!("{name}: none; expected some"))
    } else {
        length_upto(name, length)
    }
}

fn length_upto(name: &str, length: usize) -> Result<(), String> {
    if length <= LIST_MAX {
        Ok(())
    } else {
        Err(format!("{name}: {length} entries; expected {LIST_MAX} at most"))
    }
}

fn page<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
    use serde::de::Error as _;
    let text = String::deserialize(deserializer)?;
    match text.parse() {
        Ok(ByteSize(bytes)) if bytes == 4 << 10 || bytes == 2 << 20 => Ok(ByteSize(bytes)),
        Ok(size) => Err(D::Error::custom(format!("page {size}; expected 4KiB or 2MiB"))),
        Err(error) => Err(D::Error::custom(format!("{text:?} {error}"))),
    }
}

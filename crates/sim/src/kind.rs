//! The kinds of scenario. Each is a table of its own in a scenario's file, and one entry of the
//! list below.
//!
//! A kind cuts its work into *jobs* that know nothing of each other, so that they can run on all
//! cores at once. Rows are in the order of the jobs, whoever ran them: the number of threads
//! changes nothing in what comes out.

use core::num::NonZeroUsize;

use serde::{Serialize, de::DeserializeOwned};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    SimError, comes_back, dynamic_capacity, machine, onlining, parallel,
    plot::Plot,
    pool,
    scenario::{self, Wrong},
    tiering,
};

/// One job of a kind.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// Which, from 0.
    pub number: usize,
    /// Where chance starts.
    pub seed: u64,
    /// To be told, now and then, how many thousandths of the job are done.
    pub told: &'a dyn Fn(u64),
}

/// One kind of scenario: what its table says.
pub trait Kind: DeserializeOwned + Sync {
    /// What was measured. Its JSON is what programs read.
    type Row: Serialize + Send;

    /// The kind that a table describes.
    ///
    /// # Errors
    /// [`Wrong`]: what is wrong with it, and where.
    fn read(table: Spanned<DeValue<'_>>) -> Result<Self, Wrong> {
        let what: Self = scenario::typed(table)?;
        what.check()?;
        Ok(what)
    }

    /// Whether the table makes sense beyond its types.
    ///
    /// # Errors
    /// [`Wrong`]: what does not, and what was expected.
    fn check(&self) -> Result<(), Wrong>;

    /// Jobs that it takes.
    fn jobs(&self) -> usize;

    /// Does one of them.
    ///
    /// # Errors
    /// [`SimError`].
    fn run(&self, job: Job<'_>) -> Result<Vec<Self::Row>, SimError>;

    /// The rows under a heading, as cells of text.
    fn table(rows: &[Self::Row]) -> Vec<Vec<String>>;

    /// The rows as plots.
    ///
    /// # Errors
    /// [`SimError::Plot`] when the plotting library refuses one.
    fn plots(rows: &[Self::Row]) -> Result<Vec<Plot>, SimError>;
}

/// Does all jobs of a kind, so many at once.
fn run_all<K: Kind>(
    what: &K,
    seed: u64,
    threads: NonZeroUsize,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<K::Row>, SimError> {
    let job = |number, told: &dyn Fn(u64)| what.run(Job { number, seed, told });
    let rows = parallel::all(what.jobs(), threads, job, progress);
    let rows: Result<Vec<Vec<K::Row>>, SimError> = rows.into_iter().collect();
    Ok(rows?.into_iter().flatten().collect())
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident, $key:literal: $what:ty;)*) => {
        /// The kinds of scenario.
        #[derive(Clone, PartialEq, Debug)]
        pub enum What {
            $($(#[$doc])* $name($what),)*
        }

        /// Rows of a kind of scenario.
        #[derive(Clone, PartialEq, Debug, Serialize)]
        #[serde(tag = "kind", content = "rows", rename_all = "kebab-case")]
        pub enum Results {
            $($(#[$doc])* $name(Vec<<$what as Kind>::Row>),)*
        }

        impl What {
            /// Takes the one table of a kind that is there out of a file.
            pub(crate) fn take(file: &mut DeTable<'_>) -> Result<Self, Wrong> {
                let mut all = Vec::new();
                $(if let Some(table) = file.remove($key) {
                    let begin = table.span().start;
                    let at = |wrong: Wrong| Wrong { at: wrong.at.or(Some(begin)), ..wrong };
                    all.push(Self::$name(<$what as Kind>::read(table).map_err(at)?));
                })*
                let names = [$(concat!("[", $key, "]")),*].join(", ");
                match (all.pop(), all.is_empty()) {
                    (Some(what), true) => Ok(what),
                    _ => Err(format!("expected one of {names}").into()),
                }
            }

            pub(crate) fn run(
                &self,
                seed: u64,
                threads: NonZeroUsize,
                progress: &mut dyn FnMut(u64, u64),
            ) -> Result<Results, SimError> {
                Ok(match self {
                    $(Self::$name(what) => {
                        Results::$name(run_all(what, seed, threads, progress)?)
                    })*
                })
            }
        }

        impl Results {
            pub(crate) fn table(&self) -> Vec<Vec<String>> {
                match self {
                    $(Self::$name(rows) => <$what as Kind>::table(rows),)*
                }
            }

            pub(crate) fn plots(&self) -> Result<Vec<Plot>, SimError> {
                match self {
                    $(Self::$name(rows) => <$what as Kind>::plots(rows),)*
                }
            }
        }
    };
}

kinds! {
    /// Which zones plugged memory goes to.
    Onlining, "onlining": onlining::Onlining;
    /// How much of it comes back.
    ComesBack, "comes-back": comes_back::ComesBack;
    /// What a host gives back of what a fabric asks for.
    DynamicCapacity, "dynamic-capacity": dynamic_capacity::DynamicCapacity;
    /// What hosts that share a device have of what they need.
    Pool, "pool": pool::Pool;
    /// What policies of tiers are worth.
    Tiering, "tiering": tiering::Tiering;
    /// What a whole machine does.
    Machine, "machine": machine::Machine;
}

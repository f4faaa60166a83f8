//! Scenarios: TOML files, read whole or refused.
//!
//! A file has a `title`, a `claim` (what somebody says the answer is), a `seed`, and one table,
//! which is the scenario's kind ([`crate::kind`]). Unknown keys, impossible sizes and empty lists
//! are refused with line, reason and what was expected. `docs/sim.md` has all keys.

use memtide_units::{ByteSize, Order, PAGE_BYTES};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};
use toml::{
    Spanned,
    de::{DeTable, DeValue, ValueDeserializer},
};

use crate::{change, kind::What};

/// Entries of a list at most.
pub const LIST_MAX: usize = 64;

/// What to run.
#[derive(Clone, PartialEq, Debug)]
pub struct Scenario {
    /// Its name, for people.
    pub title: String,
    /// What somebody says the answer is.
    pub claim: String,
    /// The seed unless another is given.
    pub seed: u64,
    /// The kind.
    pub what: What,
}

/// Why a text is no scenario.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ScenarioError {
    /// Where, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

/// What a kind finds wrong with its table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wrong {
    /// Where in the text, in bytes; absent: where the table begins.
    pub at: Option<usize>,
    /// What is wrong.
    pub problem: String,
}

impl From<String> for Wrong {
    fn from(problem: String) -> Self {
        Self { at: None, problem }
    }
}

impl Scenario {
    /// The scenario that a text describes.
    ///
    /// # Errors
    /// [`ScenarioError`] with the line of the first mistake.
    pub fn read(text: &str) -> Result<Self, ScenarioError> {
        Self::read_with(text, &[])
    }

    /// The scenario that a text describes, with some of its values changed: `path` as
    /// `change` has it, and a value as it would stand in the text.
    ///
    /// # Errors
    /// [`ScenarioError`] with the line of the first mistake.
    pub fn read_with<'a>(
        text: &'a str,
        changes: &'a [(String, String)],
    ) -> Result<Self, ScenarioError> {
        let at = |wrong: Wrong| ScenarioError {
            line: text[..wrong.at.unwrap_or(0).min(text.len())].matches('\n').count() + 1,
            problem: wrong.problem,
        };
        let file = DeTable::parse(text).map_err(|error| at(error.into()))?;
        let (span, mut file) = (file.span(), file.into_inner());
        for (path, value) in changes {
            change::change(&mut file, path, value).map_err(at)?;
        }
        let what = What::take(&mut file);
        // What is unknown is told before what is missing.
        let head = typed(Spanned::new(span, DeValue::Table(file))).map_err(at)?;
        let Head { title, claim, seed } = head;
        Ok(Self { title, claim, seed, what: what.map_err(at)? })
    }
}

/// What every file has.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    title: String,
    claim: String,
    seed: u64,
}

/// A value of TOML as what it stands for.
pub(crate) fn typed<T: DeserializeOwned>(value: Spanned<DeValue<'_>>) -> Result<T, Wrong> {
    T::deserialize(ValueDeserializer::from(value)).map_err(Wrong::from)
}

impl From<toml::de::Error> for Wrong {
    fn from(error: toml::de::Error) -> Self {
        Self { at: error.span().map(|span| span.start), problem: error.message().to_owned() }
    }
}

/// Whether a machine has some memory of both sorts, and no more than it may.
pub(crate) fn total(early: ByteSize, plugged: ByteSize, max: ByteSize) -> Result<(), String> {
    match early.0.checked_add(plugged.0) {
        Some(total) if total <= max.0 && early.0 != 0 && plugged.0 != 0 => Ok(()),
        _ => Err(format!("early {early}, plugged {plugged}; expected more than 0, {max} at most")),
    }
}

/// Whether a size is whole units.
pub(crate) fn whole(name: &str, size: ByteSize, units: &str, unit: ByteSize) -> Result<(), String> {
    if unit.0 != 0 && size.0.is_multiple_of(unit.0) {
        Ok(())
    } else {
        Err(format!("{name} {size}; expected whole {units} of {unit}"))
    }
}

/// Whether a list has entries, and not too many.
pub(crate) fn length(name: &str, length: usize) -> Result<(), String> {
    if (1..=LIST_MAX).contains(&length) {
        Ok(())
    } else {
        Err(format!("{name}: {length} entries; expected 1 to {LIST_MAX}"))
    }
}

fn parse_size(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse().map_err(|error| format!("{text:?} {error}"))?;
    whole("size", size, "pages", ByteSize(PAGE_BYTES))?;
    Ok(size)
}

/// A size, as a text.
pub(crate) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
    parse_size(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// Sizes, as texts.
pub(crate) fn sizes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ByteSize>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| parse_size(text).map_err(D::Error::custom)).collect()
}

/// An order of frames, a pageblock at most.
pub(crate) fn order<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Order, D::Error> {
    let exponent = u8::deserialize(deserializer)?;
    Order::new(exponent)
        .filter(|&order| order <= Order::PAGEBLOCK)
        .ok_or_else(|| D::Error::custom(format!("order {exponent}; expected 0 to 9")))
}

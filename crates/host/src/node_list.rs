//! Lists of processors and nodes as the kernel writes them: `0-3,8`.
//!
//! Kept as runs, so that a list of all processors of a large machine is one run. Numbers stop at
//! 65535, far beyond what kernels are built for (1024 nodes, 8192 processors): a list of a
//! captured tree cannot make us count to four billion.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

/// The largest number in a list.
pub const ID_MAX: u32 = 65535;

/// Numbers of nodes or processors.
///
/// In JSON a list of all of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IdList {
    /// First and last of each run; ascending, apart from each other.
    runs: Vec<(u32, u32)>,
}

/// That a text is no list of numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected {}", IdList::EXPECTED)]
pub struct ParseIdListError;

impl IdList {
    /// What a list looks like, for messages.
    pub const EXPECTED: &str = "a list of numbers up to 65535, such as 0-3,8";

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs.iter().map(|(first, last)| (last - first) as usize + 1).sum()
    }

    /// All of them, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.runs.iter().flat_map(|&(first, last)| first..=last)
    }

    /// Whether `id` is one of them.
    #[must_use]
    pub fn has(&self, id: u32) -> bool {
        self.runs.iter().any(|&(first, last)| first <= id && id <= last)
    }
}

impl FromIterator<u32> for IdList {
    fn from_iter<I: IntoIterator<Item = u32>>(ids: I) -> Self {
        ids.into_iter().map(|id| (id, id)).collect()
    }
}

/// Of runs in any order, which may overlap.
impl FromIterator<(u32, u32)> for IdList {
    fn from_iter<I: IntoIterator<Item = (u32, u32)>>(runs: I) -> Self {
        let mut sorted: Vec<(u32, u32)> = runs.into_iter().collect();
        sorted.sort_unstable();
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for (first, last) in sorted {
            match runs.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last);
                }
                _ => runs.push((first, last)),
            }
        }
        Self { runs }
    }
}

impl FromStr for IdList {
    type Err = ParseIdListError;

    /// As the kernel's `%*pbl` writes it; nothing is an empty list.
    fn from_str(text: &str) -> Result<Self, ParseIdListError> {
        let id = |id| u32::try_from(id).ok().filter(|&id| id <= ID_MAX).ok_or(ParseIdListError);
        runs(text)
            .map(|run| run.map_err(|_| ParseIdListError))
            .map(|run| run.and_then(|(first, last)| Ok((id(first)?, id(last)?))))
            .collect()
    }
}

/// What is wrong with a run: its text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BadRun<'a> {
    /// It is neither a number nor two of them.
    NoNumbers(&'a str),
    /// It ends before it starts.
    Backwards(&'a str),
}

/// First and last of each run of a list, in its order.
pub(crate) fn runs(text: &str) -> impl Iterator<Item = Result<(u64, u64), BadRun<'_>>> {
    text.split(',').filter(|_| !text.is_empty()).map(|run| {
        let (first, last) = run.split_once('-').unwrap_or((run, run));
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => Ok((first, last)),
            (Some(_), Some(_)) => Err(BadRun::Backwards(run)),
            _ => Err(BadRun::NoNumbers(run)),
        }
    })
}

/// Digits, and nothing else: `parse` would take "+1".
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl fmt::Display for IdList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.runs.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for IdList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use memtide_units::Random;

    use super::*;

    #[test]
    fn lists_of_the_kernel_are_read_and_written() {
        for (text, ids) in
            [("", vec![]), ("0", vec![0]), ("0-3,8", vec![0, 1, 2, 3, 8]), ("5-5", vec![5])]
        {
            let list: IdList = text.parse().unwrap();
            assert_eq!(list.iter().collect::<Vec<_>>(), ids, "{text}");
            assert_eq!(list.len(), ids.len());
        }
        let list: IdList = "8,0-2,3,9".parse().unwrap();
        assert_eq!(list.to_string(), "0-3,8-9");
        assert!(list.has(3) && !list.has(4));
    }

    #[test]
    fn nonsense_is_no_list() {
        for text in
            ["x", "3-1", "0-65536", "4294967296", "0-4294967295", "1,,2", "-1", "1-", " ", "+1"]
        {
            assert_eq!(text.parse::<IdList>(), Err(ParseIdListError), "{text:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let ids: std::collections::BTreeSet<u32> =
                (0..random.below(40)).map(|_| random.below(60) as u32).collect();
            let list: IdList = ids.iter().copied().collect();
            assert!(list.iter().eq(ids.iter().copied()), "seed {seed}");
            assert_eq!(list.to_string().parse(), Ok(list), "seed {seed}");
        }
    }
}

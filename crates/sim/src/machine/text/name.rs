//! What is named and found by its name; and mistakes, with their place in the file.

use toml::Spanned;

use crate::scenario::Wrong;

/// Entries of a list at most.
pub(super) const LIST_MAX: usize = 256;

pub(super) fn wrong(at: usize, problem: impl Into<String>) -> Wrong {
    Wrong { at: Some(at), problem: problem.into() }
}

/// The number of a name, or what is wrong with it.
pub(super) fn find(names: &[String], what: &str, name: &Spanned<String>) -> Result<usize, Wrong> {
    names.iter().position(|known| known == name.get_ref()).ok_or_else(|| {
        let known = names.join(", ");
        wrong(name.span().start, format!("no {what} {:?}; there are: {known}", name.get_ref()))
    })
}

/// Names, each there once.
pub(super) fn unique<'a>(
    what: &str,
    names: impl Iterator<Item = (usize, &'a str)>,
) -> Result<Vec<String>, Wrong> {
    let mut known: Vec<String> = Vec::new();
    for (at, name) in names {
        if name.is_empty() || known.iter().any(|other| other == name) {
            let expected = "expected a name that no other has";
            return Err(wrong(at, format!("{what} {name:?}; {expected}")));
        }
        known.push(name.to_owned());
    }
    if known.len() > LIST_MAX {
        return Err(wrong(0, format!("{} {what}s; expected {LIST_MAX} at most", known.len())));
    }
    Ok(known)
}

/// What there is, by name.
pub(super) struct Names {
    pub processors: Vec<String>,
    pub nodes: Vec<String>,
    pub tenants: Vec<String>,
    pub programs: Vec<String>,
    pub links: Vec<String>,
}

//! Other values for keys of a scenario, by dotted path.
//!
//! `comes-back.workload.peak-percent` is a key; `onlining.case.1.ratio` is one of the second
//! `[[onlining.case]]`; `machine.program.cache.count` is one of the `[[machine.program]]` whose
//! `name` is `"cache"`. A key that is not there is added, and refused by whoever reads the table
//! if there is no such key. A value keeps the place of the one it replaces, so that what is wrong
//! with it is told with that line.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::scenario::Wrong;

/// Replaces the value at a path by what a text stands for; a text that is no value of TOML stands
/// for itself.
pub(crate) fn change<'i>(file: &mut DeTable<'i>, path: &str, value: &'i str) -> Result<(), Wrong> {
    let value = match DeValue::parse(value) {
        Ok(value) => value.into_inner(),
        Err(_) => DeValue::String(value.into()),
    };
    put(file, path, Spanned::new(0..0, value))
}

/// Replaces the value at a path, or adds it to the table that the path leads to. A value of no
/// place gets that of the one that it replaces.
pub(crate) fn put<'i>(
    file: &mut DeTable<'i>,
    path: &str,
    value: Spanned<DeValue<'i>>,
) -> Result<(), Wrong> {
    let (way, key) = path.rsplit_once('.').map_or((None, path), |(way, key)| (Some(way), key));
    let mut span = 0..0;
    let mut table = file;
    let mut steps = way.into_iter().flat_map(|way| way.split('.')).peekable();
    while let Some(step) = steps.next() {
        let lost = || Wrong::from(format!("{path}: there is no {step:?} to be found"));
        let mut next = table.get_mut(step).ok_or_else(lost)?;
        if next.get_ref().is_array() {
            let which = steps.next().ok_or_else(|| {
                Wrong::from(format!(
                    "{path}: {step:?} is a list; expected a number or a name after it"
                ))
            })?;
            next = element(next, which)
                .ok_or_else(|| Wrong::from(format!("{path}: {step:?} has no entry {which:?}")))?;
        }
        span = next.span();
        table = match next.get_mut() {
            DeValue::Table(table) => table,
            _ => return Err(lost()),
        };
    }
    let at =
        |old: core::ops::Range<usize>| if value.span().is_empty() { old } else { value.span() };
    match table.get_mut(key) {
        Some(old) => *old = Spanned::new(at(old.span()), value.into_inner()),
        None => {
            let name = Spanned::new(at(span.clone()), key.to_owned().into());
            let span = at(span);
            table.insert(name, Spanned::new(span, value.into_inner()));
        }
    }
    Ok(())
}

/// An entry of a list by its number, from 0, or by its `name`.
fn element<'t, 'i>(
    list: &'t mut Spanned<DeValue<'i>>,
    which: &str,
) -> Option<&'t mut Spanned<DeValue<'i>>> {
    let DeValue::Array(list) = list.get_mut() else { return None };
    let number = match which.parse::<usize>() {
        Ok(number) => number,
        Err(_) => list.iter().position(|entry| {
            entry.get_ref().get("name").and_then(|name| name.get_ref().as_str()) == Some(which)
        })?,
    };
    list.get_mut(number)
}

//! Keys of an event that it has no use for: refused, or they would do nothing without a word.
//!
//! What an event needs is told when it is made; this is the other half.

use toml::de::{DeTable, DeValue};

use crate::scenario::Wrong;

/// What every event has.
const ALWAYS: [&str; 2] = ["at", "do"];

/// Beside those, what one has that does this; absent for what nobody can do.
fn keys_of(what: &str) -> Option<&'static [&'static str]> {
    Some(match what {
        "give-back" => &["size", "node", "deadline"],
        "add" => &["size", "node", "zone"],
        "evacuate" => &["node", "deadline"],
        "move-to" => &["program", "node", "deadline"],
        "set-link" => &["link", "percent"],
        "lose-link" => &["link"],
        "remove" => &["node"],
        "poison" => &["node", "pageblock"],
        _ => return None,
    })
}

/// Whether every event of `[machine]` has keys of its own only. What is no event at all is left to
/// whoever makes them.
pub(super) fn check(machine: &DeTable<'_>) -> Result<(), Wrong> {
    let Some(DeValue::Array(events)) = machine.get("event").map(|events| events.get_ref()) else {
        return Ok(());
    };
    for event in events {
        let DeValue::Table(event) = event.get_ref() else { continue };
        let what = event.get("do").and_then(|what| what.get_ref().as_str());
        let Some((what, keys)) = what.and_then(|what| Some((what, keys_of(what)?))) else {
            continue;
        };
        let known = |key: &str| ALWAYS.contains(&key) || keys.contains(&key);
        if let Some((key, _)) = event.iter().find(|(key, _)| !known(key.get_ref())) {
            let (name, keys) = (key.get_ref(), keys.join(", "));
            let problem = format!("{name:?} of an event that does {what:?}; expected only {keys}");
            return Err(Wrong { at: Some(key.span().start), problem });
        }
    }
    Ok(())
}

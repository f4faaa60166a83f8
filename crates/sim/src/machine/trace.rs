//! What a violation tells of: the last inputs and effects, line by line, and what a panic said.

use core::any::Any;
use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::oracle::Checked;

/// Inputs and effects that a violation tells of.
const TRACE_MAX: usize = 60;

/// Whether inputs and effects are written down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tracing {
    /// They are.
    On,
    /// They are not, which is faster.
    Off,
}

/// A panic is one more thing that must not happen.
pub(super) fn caught<T>(work: impl FnOnce() -> Checked<T>) -> Checked<T> {
    // What is left half done is told of, and used for nothing else.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panic_text(&*panic)))
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let what = panic.downcast_ref::<String>().map(String::as_str);
    let what = what.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", what.unwrap_or("of which nothing is known"))
}

/// The name of a variant, without what is in it, which may be long.
pub(super) fn variant(of: &impl core::fmt::Debug) -> String {
    struct Name(String);
    impl core::fmt::Write for Name {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            let end = text.find([' ', '{', '(']);
            self.0.push_str(&text[..end.unwrap_or(text.len())]);
            // An error ends the writing.
            if end.is_some() { Err(core::fmt::Error) } else { Ok(()) }
        }
    }
    let mut name = Name(String::new());
    // It fails as soon as the name has ended.
    let _ = core::fmt::Write::write_fmt(&mut name, format_args!("{of:?}"));
    name.0
}

pub(crate) fn note(trace: &mut VecDeque<String>, mut line: String) {
    if let Some((end, _)) = line.char_indices().nth(400) {
        line.truncate(end);
        line.push('…');
    }
    if trace.len() == TRACE_MAX {
        trace.pop_front();
    }
    trace.push_back(line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_is_not_made_is_told_of() {
        let made = caught(|| -> Checked<()> { panic!("{}", "no such world") });
        assert_eq!(made, Err("panic: no such world".to_owned()));
        assert_eq!(caught(|| Err::<(), _>("wrong".to_owned())), Err("wrong".to_owned()));
    }
}

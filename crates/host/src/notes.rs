//! What could not be read on the way.
//!
//! One attribute that a kernel leaves out, locks away or garbles must not hide the rest of a
//! machine. So who reads a whole machine keeps such errors aside and goes on; who is about to
//! change something asks whether there were any ([`Notes::into_result`]).
//!
//! Without root's rights the kernel keeps addresses to itself, in many files at once: those are
//! one note, however many they are.

use std::{io, path::PathBuf};

use crate::ReadError;

/// Errors that are kept; of more than these only the number is.
const KEPT_MAX: usize = 200;

/// The errors of a reading that went on.
#[derive(Debug, Default)]
pub struct Notes {
    errors: Vec<ReadError>,
    /// Files that only root may read.
    locked: Vec<PathBuf>,
    left_out: usize,
}

impl Notes {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was read, if anything; an error is kept.
    pub fn keep<T>(&mut self, read: Result<Option<T>, ReadError>) -> Option<T> {
        read.unwrap_or_else(|error| {
            self.add(error);
            None
        })
    }

    /// The list that was read, an empty one after an error, which is kept.
    pub fn keep_list<T>(&mut self, read: Result<Vec<T>, ReadError>) -> Vec<T> {
        self.keep(read.map(Some)).unwrap_or_default()
    }

    /// Keeps an error.
    pub fn add(&mut self, error: ReadError) {
        if self.errors.len() + self.locked.len() == KEPT_MAX {
            self.left_out += 1;
            return;
        }
        match error {
            ReadError::Io { path, source } if source.kind() == io::ErrorKind::PermissionDenied => {
                self.locked.push(path);
            }
            error => self.errors.push(error),
        }
    }

    /// Whether everything could be read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty() && self.locked.is_empty()
    }

    /// Nothing, if everything could be read.
    ///
    /// # Errors
    /// The first error.
    pub fn into_result(self) -> Result<(), ReadError> {
        if let Some(error) = self.errors.into_iter().next() {
            return Err(error);
        }
        match self.locked.into_iter().next() {
            Some(path) => {
                Err(ReadError::Io { path, source: io::ErrorKind::PermissionDenied.into() })
            }
            None => Ok(()),
        }
    }

    /// A line for each, with the causes; one for all files that only root may read.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.errors.iter().map(with_cause).collect();
        if let Some(first) = self.locked.first() {
            lines.push(match self.locked.len() - 1 {
                0 => format!("only root may read {}", first.display()),
                more => format!("only root may read {} and {more} more files", first.display()),
            });
        }
        if self.left_out > 0 {
            lines.push(format!("{} more files could not be read", self.left_out));
        }
        lines
    }
}

fn with_cause(error: &ReadError) -> String {
    match error {
        ReadError::Io { source, .. } => format!("{error}: {source}"),
        ReadError::Value { .. } => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io(path: &str, kind: io::ErrorKind) -> Result<Option<()>, ReadError> {
        Err(ReadError::Io { path: path.into(), source: kind.into() })
    }

    #[test]
    fn locked_files_are_one_line() {
        let mut notes = Notes::new();
        assert!(notes.is_empty());
        notes.keep(io("/a", io::ErrorKind::PermissionDenied));
        notes.keep(io("/b", io::ErrorKind::PermissionDenied));
        notes.keep(io("/c", io::ErrorKind::InvalidInput));
        let lines = notes.lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("cannot read /c: "), "{lines:?}");
        assert_eq!(lines[1], "only root may read /a and 1 more files");
        assert!(notes.into_result().unwrap_err().to_string().contains("/c"));
    }

    #[test]
    fn a_million_errors_are_a_few_lines() {
        let mut notes = Notes::new();
        for n in 0..1_000_000 {
            notes.keep(io(&format!("/{n}"), io::ErrorKind::InvalidData));
        }
        let lines = notes.lines();
        assert_eq!(lines.len(), KEPT_MAX + 1);
        assert_eq!(lines[KEPT_MAX], "999800 more files could not be read");
    }
}

//! Names of devices and hosts.

use alloc::{borrow::ToOwned, string::String};
use core::{fmt, str::FromStr};

/// Longest name.
pub const MAX_NAME_BYTES: usize = 64;

/// A text that is no name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("name {text:?}; expected 1 to {MAX_NAME_BYTES} letters, digits, '-', '_' and '.'")]
pub struct NameError {
    /// What was given; its beginning, if it is long.
    pub text: String,
}

fn check(text: &str) -> Result<String, NameError> {
    let is_right = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if (1..=MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(is_right) {
        return Ok(text.to_owned());
    }
    Err(NameError { text: text.chars().take(MAX_NAME_BYTES).collect() })
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(try_from = "String", into = "String"))]
        pub struct $name(String);

        impl $name {
            /// The name.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                check(text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(
    /// A device, as operators call it.
    DeviceName
);
name!(
    /// A host, as operators call it. It may have a part in several devices.
    HostName
);

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_name_is_short_and_plain() {
        for right in ["h1", "Rack-3_host.7", &"x".repeat(64)] {
            assert_eq!(right.parse::<HostName>().expect("a name").to_string(), right);
        }
        for wrong in ["", "a b", "é", "a/b", "a\n", &"x".repeat(65)] {
            let error = wrong.parse::<DeviceName>().expect_err("no name");
            assert!(error.text.len() <= 64, "{error}");
        }
    }
}

//! The file as it is written: every key, its place, and nothing judged yet.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use memtide_units::ByteSize;
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};
use toml::Spanned;

use super::Problem;

/// A text and its place.
pub(super) type Text = Spanned<String>;
/// A number and its place.
pub(super) type Number = Spanned<i64>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    pub(super) socket: Option<Spanned<PathBuf>>,
    pub(super) mode: Option<Number>,
    pub(super) state: Option<Spanned<PathBuf>>,
    pub(super) on_full: Option<Text>,
    pub(super) block: Option<Text>,
    pub(super) deadline: Option<Text>,
    pub(super) grant_userfaultfd: Option<bool>,
    pub(super) placement: Option<RawPlacement>,
    pub(super) weights: Option<Spanned<RawWeights>>,
    #[serde(default, alias = "nodes")]
    pub(super) node: Vec<Spanned<RawNode>>,
    #[serde(default, alias = "tenants")]
    pub(super) tenant: Vec<Spanned<RawTenant>>,
    #[serde(default)]
    pub(super) accessor: Vec<Spanned<RawAccessor>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPlacement {
    pub(super) order: Vec<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNode {
    pub(super) name: Text,
    pub(super) kind: Text,
    pub(super) size: Option<Text>,
    pub(super) store: Option<Text>,
    pub(super) numa: Option<Number>,
    pub(super) online: Option<Text>,
    pub(super) class: Option<Text>,
    pub(super) zone: Option<Text>,
    pub(super) capabilities: Option<Spanned<Vec<Text>>>,
    pub(super) read_latency_ns: Option<Number>,
    pub(super) write_latency_ns: Option<Number>,
    pub(super) read_bandwidth: Option<Text>,
    pub(super) write_bandwidth: Option<Text>,
    pub(super) distances: Option<Spanned<BTreeMap<String, Number>>>,
    pub(super) fabric: Option<Text>,
    pub(super) host: Option<Number>,
    pub(super) accept: Option<Text>,
    pub(super) window: Option<Text>,
    pub(super) shared_with: Option<Text>,
    pub(super) manager: Option<Text>,
    pub(super) host_name: Option<Text>,
    pub(super) wants: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTenant {
    pub(super) name: Text,
    pub(super) uid: Option<Spanned<Listed>>,
    pub(super) gid: Option<Spanned<Listed>>,
    pub(super) cgroup: Option<Spanned<Listed>>,
    pub(super) label: Option<Spanned<Listed>>,
    pub(super) near: Option<Spanned<RawQuota>>,
    pub(super) far: Option<Spanned<RawQuota>>,
    pub(super) device: Option<Spanned<RawQuota>>,
    pub(super) weight: Option<Number>,
    pub(super) policy: Option<Text>,
    pub(super) nodes: Option<Spanned<Listed>>,
    pub(super) accessors: Option<Spanned<BTreeMap<Text, Number>>>,
    pub(super) extended: Option<Text>,
    pub(super) on_depletion: Option<Text>,
    pub(super) wait: Option<Text>,
    pub(super) emergency: Option<Text>,
    pub(super) migration: Option<Text>,
    pub(super) trusted: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawQuota {
    pub(super) access: Option<Text>,
    pub(super) max: Option<Text>,
    pub(super) min: Option<Text>,
    pub(super) pinned_max: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAccessor {
    pub(super) name: Text,
    #[serde(default)]
    pub(super) nodes: BTreeMap<Text, RawAccess>,
}

/// What an accessor has to a node.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAccess {
    pub(super) read_latency_ns: Option<Number>,
    pub(super) write_latency_ns: Option<Number>,
    pub(super) read_bandwidth: Option<Text>,
    pub(super) write_bandwidth: Option<Text>,
}

/// `weights = "automatic"`, or a table.
pub(super) enum RawWeights {
    Named(String),
    Table(BTreeMap<String, Number>),
}

/// A number, a text, or a list of them; each with its place where it is in a list.
pub(super) struct Listed(pub(super) Vec<Item>);

/// One of them.
pub(super) struct Item {
    /// Where it starts, if it stands in a list.
    pub(super) at: Option<usize>,
    pub(super) value: Scalar,
}

/// A number or a text.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Scalar {
    Number(i64),
    Text(String),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Scalar;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a string")
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar::Number(value))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(value.to_owned()))
            }
        }
        from.deserialize_any(Any)
    }
}

impl<'de> Deserialize<'de> for Listed {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        let one = |value| Listed(vec![Item { at: None, value }]);
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Result<Scalar, Listed>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a string, or a list of them")
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
                Ok(Ok(Scalar::Number(value)))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
                Ok(Ok(Scalar::Text(value.to_owned())))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element::<Spanned<Scalar>>()? {
                    items.push(Item { at: Some(item.span().start), value: item.into_inner() });
                }
                Ok(Err(Listed(items)))
            }
        }
        Ok(from.deserialize_any(OneOrMany)?.map_or_else(|list| list, one))
    }
}

impl<'de> Deserialize<'de> for RawWeights {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = RawWeights;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"automatic\", or a table of nodes and their weights")
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<RawWeights, E> {
                Ok(RawWeights::Named(value.to_owned()))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<RawWeights, A::Error> {
                let mut table = BTreeMap::new();
                while let Some((node, weight)) = map.next_entry::<String, Number>()? {
                    table.insert(node, weight);
                }
                Ok(RawWeights::Table(table))
            }
        }
        from.deserialize_any(Either)
    }
}

/// A problem and where it is.
pub(super) type Located = (usize, Problem);

/// What is wrong with the value of a field.
pub(super) fn wrong<T>(
    at: &Spanned<T>,
    field: &str,
    value: &str,
    problem: impl Into<String>,
) -> Located {
    wrong_at(at.span().start, field, value, problem)
}

/// The same, at this offset.
pub(super) fn wrong_at(
    at: usize,
    field: &str,
    value: impl fmt::Display,
    problem: impl Into<String>,
) -> Located {
    let (field, value) = (field.to_owned(), value.to_string());
    (at, Problem { field, value, problem: problem.into() })
}

/// A size.
pub(super) fn size(at: &Text, field: &str) -> Result<ByteSize, Located> {
    at.get_ref().parse::<ByteSize>().map_err(|e| wrong(at, field, at.get_ref(), e.to_string()))
}

/// A number from `least` to `most`.
pub(super) fn number<N: TryFrom<i64>>(
    at: &Number,
    field: &str,
    (least, most): (i64, i64),
    unit: &str,
) -> Result<N, Located> {
    let value = *at.get_ref();
    let in_range = (least..=most).contains(&value).then(|| N::try_from(value).ok()).flatten();
    in_range.ok_or_else(|| {
        let text = format!("is out of range; expected {least} to {most}{unit}");
        wrong(at, field, &value.to_string(), text)
    })
}

/// One of several words.
pub(super) fn word<T: Copy>(
    at: Option<&Text>,
    field: &str,
    usual: T,
    words: &[(&str, T)],
) -> Result<T, Located> {
    let Some(at) = at else { return Ok(usual) };
    let found = words.iter().find(|(word, _)| word == at.get_ref());
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let words: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        let text = format!("is unknown; expected {}", either(&words));
        wrong(at, field, at.get_ref(), text)
    })
}

/// "a, b or c".
pub(super) fn either(words: &[String]) -> String {
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((only, _)) => only.clone(),
        None => String::new(),
    }
}

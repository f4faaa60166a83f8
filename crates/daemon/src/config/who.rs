//! Whom a `[[tenant]]` is for: users and groups by number or name, control groups, labels.
//!
//! Names of users and groups are looked up in `/etc/passwd` and `/etc/group` when the file is read;
//! those that a directory service knows are written as numbers.

use std::{fs, path::Path};

use memtide_engine::tenant::Who;
use memtide_proto::label;
use toml::Spanned;

use super::{
    TenantConfig,
    raw::{Listed, Located, RawTenant, Scalar, wrong_at},
};

/// Whom a tenant is for; empty: everybody.
///
/// A program belongs to the first tenant that fits it: what an `earlier` one describes already is
/// never asked of this one.
pub(super) fn who(
    raw: &RawTenant,
    tenant: &str,
    earlier: &[TenantConfig],
) -> Result<Vec<Who>, Located> {
    let mut all = Vec::new();
    type Read = fn(&Scalar) -> Result<Who, String>;
    let keys: [(&str, &Option<Spanned<Listed>>, Read); 4] = [
        ("uid", &raw.uid, |value| id(value, "/etc/passwd", "user").map(Who::Uid)),
        ("gid", &raw.gid, |value| id(value, "/etc/group", "group").map(Who::Gid)),
        ("cgroup", &raw.cgroup, cgroup),
        ("label", &raw.label, labelled),
    ];
    for (key, list, read) in keys {
        let Some(list) = list else { continue };
        let field = format!("{key} of tenant {tenant}");
        let start = list.span().start;
        if list.get_ref().0.is_empty() {
            let text = "is an empty list; expected one or more, or no such key";
            return Err(wrong_at(start, &field, "", text));
        }
        for item in &list.get_ref().0 {
            let wrong = |text| wrong_at(item.at.unwrap_or(start), &field, &item.value, text);
            let one = read(&item.value).map_err(wrong)?;
            if let Some(first) = earlier.iter().find(|other| describes(other, &one)) {
                let text = "is for tenant {} before it; expected each in one tenant only";
                return Err(wrong(text.replace("{}", &first.name)));
            }
            all.push(one);
        }
    }
    Ok(all)
}

/// Whether a tenant is for all whom this describes.
fn describes(tenant: &TenantConfig, one: &Who) -> bool {
    let cgroup = match one {
        Who::Cgroup(path) => Some(path.trim_end_matches('/')),
        _ => None,
    };
    let below = |other: &Who| match (other, cgroup) {
        (Who::Cgroup(path), Some(cgroup)) => {
            let rest = cgroup.strip_prefix(path.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        _ => other == one,
    };
    tenant.who.iter().any(below)
}

fn id(value: &Scalar, file: &str, what: &str) -> Result<u32, String> {
    let id = match value {
        Scalar::Number(number) => u32::try_from(*number).ok().filter(|id| *id != u32::MAX),
        Scalar::Text(name) => look_up(Path::new(file), name),
    };
    id.ok_or_else(|| {
        format!("is no {what}; expected a number from 0 to 4294967294, or a name in {file}")
    })
}

/// The number of a name in a file of lines `name:password:number:…` (passwd(5), group(5)).
fn look_up(file: &Path, name: &str) -> Option<u32> {
    let text = fs::read_to_string(file).ok()?;
    let mut lines = text.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| {
        (fields.next()? == name).then_some(())?;
        fields.nth(1)?.parse().ok()
    })
}

fn cgroup(value: &Scalar) -> Result<Who, String> {
    match value {
        Scalar::Text(path) if path.starts_with('/') && path.split('/').all(|part| part != "..") => {
            Ok(Who::Cgroup(path.clone()))
        }
        _ => {
            Err("is no control group; expected a path from / such as \"/system.slice\"".to_owned())
        }
    }
}

fn labelled(value: &Scalar) -> Result<Who, String> {
    match value {
        Scalar::Text(text) if label::is_label(text) => Ok(Who::Label(text.clone())),
        _ => Err(format!("is no label; expected {}", label::EXPECTED)),
    }
}

//! What apt says and reads, as data: versions, kernel packages, sources.
//!
//! A source for backports is never written from nothing: it is the source of the distribution's own
//! suite, wherever that may lead on this computer, with the name of the suite changed.

/// Where apt looks for sources.
pub const APT_SOURCES: [&str; 2] = ["/etc/apt/sources.list", "/etc/apt/sources.list.d"];

/// The numbers at the front of a Debian version, without its epoch: `1:10.0.2+ds-2` is 10, 0, 2.
pub fn version(text: &str) -> Vec<u64> {
    let text = text.trim_start();
    let upstream = match text.split_once(':') {
        Some((epoch, rest)) if epoch.bytes().all(|byte| byte.is_ascii_digit()) => rest,
        _ => text,
    };
    let numbers = upstream.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or("");
    numbers.split('.').map_while(|number| number.parse().ok()).collect()
}

/// The rows of `apt-cache madison`: a version and the suite it is from.
fn rows(madison: &str) -> impl Iterator<Item = (Vec<u64>, String)> {
    madison.lines().filter_map(|line| {
        let mut columns = line.split('|').map(str::trim);
        let (_, version_text, origin) = (columns.next()?, columns.next()?, columns.next()?);
        // "URI SUITE/COMPONENT ARCHITECTURE Packages"
        let suite = origin.split_whitespace().nth(1)?.split('/').next()?;
        Some((version(version_text), suite.to_owned()))
    })
}

/// The newest version in what `apt-cache madison` prints; empty if there is none.
pub fn newest_version(madison: &str) -> Vec<u64> {
    rows(madison).map(|(version, _)| version).max().unwrap_or_default()
}

/// The suite that has the newest version.
pub fn suite_of_newest(madison: &str) -> Option<String> {
    rows(madison).max_by_key(|(version, _)| version.clone()).map(|(_, suite)| suite)
}

/// The package of the newest kernel that is at least so new, in what `apt-cache search` prints. Of
/// the flavours only the plain one: the cloud kernel lacks the hardware, the real-time one differs.
pub fn newest_kernel(search: &str, least: &[u64]) -> Option<String> {
    search
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter_map(|package| {
            let release = package.strip_prefix("linux-image-")?.strip_suffix("-amd64-unsigned")?;
            let is_plain = !release.contains("-cloud") && !release.contains("-rt");
            is_plain.then(|| (version(release), package))
        })
        .filter(|(version, _)| version.as_slice() >= least)
        .max()
        .map(|(_, package)| package.to_owned())
}

/// A source for the backports of this release, derived from the one of the release itself.
pub fn backports(sources: &[String], codename: &str) -> Option<String> {
    sources
        .iter()
        .find_map(|text| from_stanzas(text, codename).or_else(|| from_lines(text, codename)))
}

/// From the newer form: stanzas of `Key: value` (sources.list(5), deb822-style).
fn from_stanzas(text: &str, codename: &str) -> Option<String> {
    let is_comment = |line: &&str| !line.trim_start().starts_with('#');
    text.split("\n\n").find_map(|stanza| {
        let lines: Vec<_> = stanza.lines().filter(is_comment).collect();
        let field = |line: &str, name: &str| {
            let (key, value) = line.split_once(':')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        };
        let suites = lines.iter().find_map(|line| field(line, "Suites"))?;
        if !suites.split_whitespace().any(|suite| suite == codename) {
            return None;
        }
        let renamed = lines.iter().map(|line| {
            if field(line, "Suites").is_some() {
                format!("Suites: {codename}-backports\n")
            } else if field(line, "Components").is_some() {
                "Components: main\n".to_owned()
            } else {
                format!("{line}\n")
            }
        });
        Some(renamed.collect())
    })
}

/// From the older form, `deb [options] URI SUITE COMPONENTS…`, as a stanza: its options other than
/// the key that signs it do not matter here.
fn from_lines(text: &str, codename: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("deb ")?.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", rest),
        };
        let mut words = rest.split_whitespace();
        let (uri, suite) = (words.next()?, words.next()?);
        if suite != codename {
            return None;
        }
        let key = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
        let key = key.map(|key| format!("Signed-By: {key}\n")).unwrap_or_default();
        let suite = format!("Suites: {codename}-backports\nComponents: main\n");
        Some(format!("Types: deb\nURIs: {uri}\n{suite}{key}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers_without_epoch() {
        assert_eq!(version("1:10.0.2+ds-2+deb13u1~bpo12+1"), [10, 0, 2]);
        assert_eq!(version("10.0.2 (Debian 1:10.0.2+ds-2)"), [10, 0, 2]);
        assert!(version("1:7.2+dfsg-7") < vec![10]);
        assert!(version("none").is_empty());
    }

    #[test]
    fn the_newest_of_what_apt_knows() {
        let madison = " qemu-system-x86 | 1:10.0.2+ds-2~bpo12+1 | http://archive bookworm-backports/main amd64 Packages\n \
            qemu-system-x86 | 1:7.2+dfsg-7+deb12u18 | http://archive bookworm/main amd64 Packages\n";
        assert_eq!(newest_version(madison), [10, 0, 2]);
        assert_eq!(suite_of_newest(madison).as_deref(), Some("bookworm-backports"));
        assert!(newest_version("").is_empty());
    }

    #[test]
    fn the_newest_plain_kernel_that_is_new_enough() {
        let search = "linux-image-6.1.0-42-amd64-unsigned - Linux 6.1 for 64-bit PCs\n\
            linux-image-6.9.7+bpo-amd64-unsigned - Linux 6.9\n\
            linux-image-6.12.9+bpo-amd64-unsigned - Linux 6.12\n\
            linux-image-6.12.95+deb12-amd64-unsigned - Linux 6.12\n\
            linux-image-6.12.96+deb12-cloud-amd64-unsigned - Linux 6.12 for clouds\n\
            linux-image-6.12.96+deb12-rt-amd64-unsigned - Linux 6.12, PREEMPT_RT\n\
            linux-image-6.12.99+deb12-arm64-unsigned - Linux 6.12 for others\n";
        assert_eq!(
            newest_kernel(search, &[6, 12]).as_deref(),
            Some("linux-image-6.12.95+deb12-amd64-unsigned")
        );
        assert_eq!(newest_kernel(search, &[6, 13]), None);
    }

    #[test]
    fn backports_are_where_the_release_is() {
        let stanzas = "Types: deb\n# a snapshot\nURIs: mirror:/srv/one\nSuites: bookworm \
            bookworm-updates\nComponents: main contrib\nSigned-By: /k.gpg\n\nTypes: deb\n\
            URIs: mirror:/srv/security\nSuites: bookworm-security\nComponents: main\n";
        assert_eq!(
            backports(&[stanzas.to_owned()], "bookworm").as_deref(),
            Some(
                "Types: deb\nURIs: mirror:/srv/one\nSuites: bookworm-backports\n\
                 Components: main\nSigned-By: /k.gpg\n"
            )
        );
        let lines = "# deb mirror:/x bookworm main\ndeb [arch=amd64 signed-by=/k.gpg] \
            mirror:/srv/two bookworm main\n";
        assert_eq!(
            backports(&[String::new(), lines.to_owned()], "bookworm").as_deref(),
            Some(
                "Types: deb\nURIs: mirror:/srv/two\nSuites: bookworm-backports\n\
                 Components: main\nSigned-By: /k.gpg\n"
            )
        );
        assert_eq!(backports(&[stanzas.to_owned()], "trixie"), None);
    }
}

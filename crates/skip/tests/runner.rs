//! What the test runner shows of a test that skips.

use std::process::{Command, Output};

use memtide_skip::{VARIABLE, skip};

/// Tells the test that it is run by itself, and what the second variable is to be.
const INNER: &str = "MEMTIDE_SKIP_INNER";

/// Runs this very test once more, as cargo would: with its output captured.
fn again(forbidden: Option<&str>) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_skipped_test_is_heard_and_fails_where_it_must_not_skip"]);
    command.env(INNER, "1").env_remove(VARIABLE).env_remove("RUST_TEST_NOCAPTURE");
    command.envs(forbidden.map(|value| (VARIABLE, value)));
    command.output().unwrap()
}

#[test]
fn a_skipped_test_is_heard_and_fails_where_it_must_not_skip() {
    if std::env::var_os(INNER).is_some() {
        assert!(!skip("needs a moon"));
        return;
    }
    for (forbidden, passes) in
        [(None, true), (Some("0"), true), (Some(""), true), (Some("1"), false)]
    {
        let output = again(forbidden);
        assert_eq!(output.status.success(), passes, "{forbidden:?}: {output:?}");
        let heard = String::from_utf8(output.stderr).unwrap();
        let line = "SKIPPED: a_skipped_test_is_heard_and_fails_where_it_must_not_skip needs a moon";
        assert!(heard.lines().any(|said| said == line), "{forbidden:?}: {heard:?}");
    }
}

//! What a socket may say.

use std::io::Write;

use super::*;
use crate::manager::backend::qmp::tests::lines;

#[test]
fn answers_are_read_in_whatever_pieces_they_come() {
    let (mut qemu, mut lines) = lines();
    lines.begin("x", &json!({})).unwrap();
    let text = "{\"event\": \"STOP\"}\r\n{\"return\": {\"a\": 1}, \"id\": 1}\r\n";
    for (number, byte) in text.bytes().enumerate() {
        assert_eq!(lines.answer().unwrap(), None, "before byte {number}");
        qemu.write_all(&[byte]).unwrap();
    }
    assert_eq!(lines.answer().unwrap(), Some(Answer::Return(json!({ "a": 1 }))));
    assert_eq!(lines.answer().unwrap(), None);
    drop(qemu);
    assert!(matches!(lines.answer(), Err(QmpError::Closed)));
}

#[test]
fn what_is_no_answer_ends_the_connection() {
    for (said, what) in [
        ("[]", "an object"),
        ("7", "an object"),
        ("{\"return\": {}", "an object"),
        ("{}", "an answer"),
        ("{\"return\": {}, \"id\": 2}", "an answer"),
        ("{\"return\": {}, \"id\": \"1\"}", "an answer"),
        ("{\"id\": 1}", "an answer"),
        ("\u{1}\u{2}", "an object"),
    ] {
        let (mut qemu, mut lines) = lines();
        lines.begin("x", &json!({})).unwrap();
        writeln!(qemu, "{said}").unwrap();
        let error = lines.answer().unwrap_err().to_string();
        assert!(error.contains(&format!("expected {what}")), "{said}: {error}");
    }
    let (mut qemu, mut lines) = lines();
    lines.begin("x", &json!({})).unwrap();
    let deep = "[".repeat(1 << 16);
    writeln!(qemu, "{{\"return\": {deep}").unwrap();
    assert!(matches!(lines.answer(), Err(QmpError::Line { .. })));
}

#[test]
fn who_talks_without_end_keeps_nobody_from_a_turn() {
    let (mut qemu, mut lines) = lines();
    let talks = std::thread::spawn(move || {
        let events = "{\"event\": 1}\n".repeat(1 << 14);
        while qemu.write_all(events.as_bytes()).is_ok() {}
    });
    let (sender, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        lines.begin("x", &json!({})).unwrap();
        for _ in 0..8 {
            assert_eq!(lines.answer().unwrap(), None);
        }
        let soon = Instant::now() + Duration::from_millis(30);
        let never = lines.ask("x", &json!({}), soon).unwrap_err();
        sender.send(matches!(never, QmpError::Late { .. })).unwrap();
    });
    assert_eq!(ended.recv_timeout(Duration::from_secs(60)), Ok(true));
    talks.join().unwrap();
}

#[test]
fn who_does_not_greet_is_not_waited_for() {
    let (mut qemu, mut lines) = lines();
    let soon = Instant::now() + Duration::from_millis(30);
    assert!(matches!(lines.greet(soon), Err(QmpError::Late { .. })));
    writeln!(qemu, "{{\"hello\": 1}}").unwrap();
    let soon = Instant::now() + Duration::from_millis(300);
    let error = lines.greet(soon).unwrap_err().to_string();
    assert!(error.contains("expected QMP's greeting"), "{error}");
}

//! What a run of the binary said.

#![allow(dead_code, reason = "each test program uses some of it")]

use std::process::Output;

pub fn code(output: &Output) -> i32 {
    output.status.code().expect("an exit code")
}

pub fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

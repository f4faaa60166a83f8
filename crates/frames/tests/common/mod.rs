//! What the random tests and the fuzz target have in common: the operations, a plain model of a
//! node, and a walk that applies operations to both and compares.
//!
//! All of it is made of numbers: a test case is a list of records of four numbers, the first of
//! which is the shape of the node and the others operations. So a shrunken case of proptest, a
//! file of libFuzzer's and a regression written by hand are one and the same thing.

#![allow(dead_code)] // Each test includes all of it and uses what it needs.

pub mod faulty;
pub mod model;
pub mod named;
pub mod op;
pub mod plugged;
pub mod shape;
pub mod walk;

/// Runs a test case: a node of some shape, and operations on it.
pub fn run(records: &[[u16; 4]]) {
    let Some((&shape, ops)) = records.split_first() else { return };
    walk::walk(shape::Shape::of(shape), ops.iter().map(|&record| op::Op::of(record)));
}

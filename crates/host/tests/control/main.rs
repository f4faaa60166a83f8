//! Changing a machine, against a model of the kernel in a folder.

mod blocks;
mod dax;
mod model;
mod offlining;
mod region;

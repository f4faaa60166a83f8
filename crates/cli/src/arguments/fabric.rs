//! `memtide fabric`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use memtide_fabric::Address;
use memtide_units::ByteSize;

/// A CXL fabric without hardware: one device of dynamic capacity, shared by hosts on this machine
#[derive(Debug, Args)]
pub struct Fabric {
    #[command(subcommand)]
    pub what: FabricWhat,
}

#[derive(Debug, Subcommand)]
pub enum FabricWhat {
    Serve(FabricServe),
}

/// Serve a device to hosts and a manager until told to end (SIGTERM)
///
/// Hosts connect with a node of store "dcd" in memtide.toml, a manager with memtide fm serve. The
/// memory is this machine's, a file for each host, and arrives as zeroes. All of it ends with the
/// process: who holds what, and what was in it.
#[derive(Debug, Args)]
pub struct FabricServe {
    /// Bytes of the device: a multiple of 256MiB
    #[arg(long, value_name = "SIZE", default_value = "16GiB")]
    pub capacity: ByteSize,
    /// How many hosts share it: 1 to 255, numbered from 0
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub hosts: u16,
    /// Where to listen: for this user alone
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    pub socket: PathBuf,
    /// Listen here besides, for managers and hosts that need no memory: HOST:PORT. Nothing is
    /// encrypted and nobody is asked who he is
    #[arg(long, value_name = "HOST:PORT", value_parser = tcp)]
    pub tcp: Vec<Address>,
    /// What extents are multiples of: a power of two from 4KiB to 256MiB
    #[arg(long, value_name = "SIZE", default_value = "2MiB")]
    pub block: ByteSize,
    /// How many regions the capacity is divided into: 1 to 8
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub regions: u8,
    /// The device's name
    #[arg(long, default_value = "fabric")]
    pub name: String,
    /// The device's serial number [default: made of its name]
    #[arg(long, value_name = "NUMBER")]
    pub serial: Option<u64>,
}

fn tcp(text: &str) -> Result<Address, String> {
    format!("tcp:{text}")
        .parse()
        .map_err(|error: memtide_fabric::address::ParseAddressError| error.to_string())
}

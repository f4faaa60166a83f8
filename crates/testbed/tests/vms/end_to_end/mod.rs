//! From the device to its unplugging, on real kernels: regions, blocks, programs and what goes
//! wrong in between, all by the finished `memtide`.

mod cxl_whole_life;
mod dynamic_capacity;
mod fabric_manager;
mod kernel_zone;
mod kit;
mod managed_switch;
mod numa_nodes;
mod poison;
mod pool_on_device;
mod redis;
mod shrink;
mod wrong_orders;

//! Memory blocks and dax devices, as the kernel's drivers treat them.

use std::{fs, io};

use super::{BLOCK, DAX, EINVAL, ENODEV, MEMORY, Model, errno};

impl Model {
    /// `state_store` of drivers/base/memory.c.
    pub(super) fn block(&mut self, block: &str, value: &str) -> io::Result<()> {
        let number: u64 = block.trim_start_matches("memory").parse().unwrap();
        let folder = format!("{MEMORY}/{block}");
        if !self.root.exists(&folder) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let (now, _) = self.state(number);
        let zone = match value {
            "online" | "online_kernel" => "Normal",
            "online_movable" => "Movable",
            "offline" => "Normal Movable",
            _ => return Err(errno(EINVAL)),
        };
        let wanted = if value == "offline" { "offline" } else { "online" };
        if now == wanted {
            return Err(errno(EINVAL));
        }
        if let (Some(&error), "offline") = (self.held.get(&number), value) {
            return Err(errno(error));
        }
        self.set(&format!("{folder}/state"), wanted);
        self.set(&format!("{folder}/valid_zones"), zone);
        Ok(())
    }

    pub fn driver_of(&self, device: &str) -> Option<String> {
        self.root.link(format!("{DAX}/devices/{device}/driver"))
    }

    /// drivers/dax/bus.c and kmem.c.
    pub(super) fn dax(&mut self, driver: &str, what: &str, device: &str) -> io::Result<()> {
        let id = (driver.to_owned(), device.to_owned());
        match what {
            "new_id" => {
                self.dax_ids.insert(id);
                if self.driver_of(device).is_none() {
                    self.bind_dax(driver, device);
                }
                Ok(())
            }
            "remove_id" => {
                self.dax_ids.remove(&id);
                Ok(())
            }
            "bind" => {
                // A CXL region's device is kmem's by its type.
                let fits = driver == "kmem" || self.dax_ids.contains(&id);
                if self.driver_of(device).is_some() || !fits {
                    return Err(errno(ENODEV));
                }
                self.bind_dax(driver, device);
                Ok(())
            }
            "unbind" if self.driver_of(device).as_deref() == Some(driver) => {
                self.unbind_dax(device);
                Ok(())
            }
            "unbind" => Err(errno(ENODEV)),
            _ => panic!("{what}"),
        }
    }

    pub fn blocks_of(&self, device: &str) -> std::ops::Range<u64> {
        let start = self.number(&format!("{DAX}/devices/{device}/resource"));
        let size = self.number(&format!("{DAX}/devices/{device}/size"));
        start / BLOCK..(start + size) / BLOCK
    }

    pub(super) fn bind_dax(&self, driver: &str, device: &str) {
        self.link_to(&format!("{DAX}/devices/{device}/driver"), &format!("../{driver}"));
        if driver == "kmem" {
            let automatic = self.get(&format!("{MEMORY}/auto_online_blocks"));
            let (state, zones) = match automatic.as_str() {
                "offline" => ("offline", "Normal Movable"),
                "online_movable" => ("online", "Movable"),
                _ => ("online", "Normal"),
            };
            for number in self.blocks_of(device) {
                self.add_block(number, 1, state, zones);
            }
        }
    }

    /// Memory that is online stays for ever: the worst that can happen, so the model ends there.
    pub(super) fn unbind_dax(&self, device: &str) {
        if self.driver_of(device).as_deref() == Some("kmem") {
            for number in self.blocks_of(device) {
                assert_eq!(self.state(number).0, "offline", "memory{number} leaked");
                fs::remove_dir_all(self.root.at(format!("{MEMORY}/memory{number}"))).unwrap();
            }
        }
        fs::remove_file(self.root.at(format!("{DAX}/devices/{device}/driver"))).unwrap();
    }
}

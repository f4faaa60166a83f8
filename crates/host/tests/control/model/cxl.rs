//! Regions and decoders of CXL, as the kernel's drivers treat them.

use std::{fs, io, os::unix::fs::symlink, path::Path};

use super::{CXL, DAX, EBUSY, EINVAL, ENODEV, ENOSPC, ENXIO, GIB, MIB, Model, WINDOW, errno};

impl Model {
    /// drivers/cxl/core/region.c, for one region at a time.
    pub(super) fn cxl(&mut self, device: &str, attribute: &str, value: &str) -> io::Result<()> {
        let file = format!("{CXL}/{device}/{attribute}");
        match attribute {
            "create_ram_region" => self.create(device, value),
            "delete_region" => self.delete(value),
            "mode" => {
                self.set(&file, value);
                Ok(())
            }
            "dpa_size" => self.dpa(device, value),
            "interleave_granularity" | "interleave_ways" => {
                if self.number(&format!("{CXL}/{device}/size")) != 0 {
                    return Err(errno(EBUSY));
                }
                self.set(&file, value);
                if attribute == "interleave_ways" {
                    for position in 0..value.parse::<u32>().unwrap() {
                        self.set(&format!("{CXL}/{device}/target{position}"), "");
                    }
                }
                Ok(())
            }
            "size" => self.size(device, value),
            "commit" => self.commit(device, value),
            target if target.starts_with("target") => self.target(device, target, value),
            _ => panic!("{attribute}"),
        }
    }

    fn create(&self, window: &str, name: &str) -> io::Result<()> {
        if self.get(&format!("{CXL}/{window}/create_ram_region")) != name {
            return Err(errno(EBUSY));
        }
        let folder = format!("sys/devices/platform/ACPI0017:00/root0/{window}/{name}");
        let attributes = [
            ("mode", "ram"),
            ("size", "0x0"),
            ("resource", "0xffffffffffffffff"),
            ("interleave_ways", "0"),
            ("interleave_granularity", "0"),
            ("commit", "0"),
        ];
        self.device(name, &folder, &attributes);
        self.set(&format!("{CXL}/{window}/create_ram_region"), "region1");
        Ok(())
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        let link = format!("{CXL}/{name}");
        if !self.root.exists(&link) {
            return Err(errno(ENODEV));
        }
        assert_eq!(self.get(&format!("{link}/commit")), "0", "deleted while committed");
        for number in [2, 3] {
            let file = format!("{CXL}/decoder{number}.0/region");
            assert_ne!(self.get(&file), name, "deleted with a target");
        }
        let folder = fs::canonicalize(self.root.at(&link)).unwrap();
        fs::remove_dir_all(folder).unwrap();
        fs::remove_file(self.root.at(&link)).unwrap();
        self.set(&format!("{CXL}/decoder0.0/create_ram_region"), name);
        Ok(())
    }

    fn dpa(&self, decoder: &str, value: &str) -> io::Result<()> {
        let of = |name| format!("{CXL}/{decoder}/{name}");
        let size = parse(value)?;
        if !self.get(&of("region")).is_empty() {
            return Err(errno(EBUSY));
        }
        if size == 0 {
            self.set(&of("dpa_size"), "0x0");
            self.set(&of("dpa_resource"), "0xffffffffffffffff");
            return Ok(());
        }
        if self.get(&of("mode")) != "ram" || self.number(&of("dpa_size")) != 0 {
            return Err(errno(EBUSY));
        }
        if size > GIB {
            return Err(errno(ENOSPC));
        }
        self.set(&of("dpa_size"), &format!("{size:#x}"));
        self.set(&of("dpa_resource"), "0x0");
        Ok(())
    }

    fn size(&self, region: &str, value: &str) -> io::Result<()> {
        let of = |name| format!("{CXL}/{region}/{name}");
        let size = parse(value)?;
        let ways = self.number(&of("interleave_ways"));
        if size == 0 {
            self.set(&of("size"), "0x0");
            self.set(&of("resource"), "0xffffffffffffffff");
            return Ok(());
        }
        if ways == 0 || self.number(&of("interleave_granularity")) == 0 {
            return Err(errno(ENXIO));
        }
        if !size.is_multiple_of(256 * MIB * ways) {
            return Err(errno(EINVAL));
        }
        self.set(&of("size"), &format!("{size:#x}"));
        self.set(&of("resource"), &format!("{WINDOW:#x}"));
        Ok(())
    }

    fn target(&self, region: &str, target: &str, decoder: &str) -> io::Result<()> {
        let of = |name: &str| format!("{CXL}/{region}/{name}");
        let before = self.get(&of(target));
        if decoder.is_empty() {
            if !before.is_empty() {
                self.set(&format!("{CXL}/{before}/region"), "");
            }
            self.set(&of(target), "");
            return Ok(());
        }
        if self.number(&of("size")) == 0 || !before.is_empty() {
            return Err(errno(ENXIO));
        }
        let each = self.number(&format!("{CXL}/{decoder}/dpa_size"));
        if each == 0 {
            return Err(errno(ENXIO));
        }
        if each * self.number(&of("interleave_ways")) != self.number(&of("size")) {
            return Err(errno(EINVAL));
        }
        self.set(&format!("{CXL}/{decoder}/region"), region);
        self.set(&of(target), decoder);
        Ok(())
    }

    fn commit(&self, region: &str, value: &str) -> io::Result<()> {
        let of = |name: &str| format!("{CXL}/{region}/{name}");
        if value == "1" {
            let ways = self.number(&of("interleave_ways"));
            let missing = |at| self.get(&of(&format!("target{at}"))).is_empty();
            if ways == 0 || (0..ways).any(missing) {
                return Err(errno(ENXIO));
            }
        } else if self.root.link(of("driver")).is_some() {
            self.region_driver("unbind", region)?;
        }
        self.set(&of("commit"), value);
        Ok(())
    }

    /// A device leaves, and its decoders take their regions down (`cxl_decoder_kill_region`).
    pub fn vanish(&self, device: u32) {
        let number = 2 + device;
        let decoders = [0, 1].map(|index| format!("decoder{number}.{index}"));
        for decoder in &decoders {
            let region = self.get(&format!("{CXL}/{decoder}/region"));
            if region.is_empty() {
                continue;
            }
            self.commit(&region, "0").unwrap();
            for position in 0..self.number(&format!("{CXL}/{region}/interleave_ways")) {
                let target = format!("{CXL}/{region}/target{position}");
                if self.get(&target) == *decoder {
                    self.set(&target, "");
                }
            }
        }
        let others = [format!("endpoint{number}"), format!("mem{device}")];
        for name in decoders.iter().chain(&others) {
            fs::remove_file(self.root.at(format!("{CXL}/{name}"))).unwrap();
        }
    }

    pub(super) fn region_driver(&self, what: &str, region: &str) -> io::Result<()> {
        let folder = format!("{CXL}/{region}");
        let number = region.trim_start_matches("region");
        let device = format!("dax{number}.0");
        if what == "unbind" {
            if self.root.link(format!("{folder}/driver")).is_none() {
                return Err(errno(ENODEV));
            }
            self.unbind_dax(&device);
            fs::remove_file(self.root.at(format!("{DAX}/devices/{device}"))).unwrap();
            fs::remove_file(self.root.at(format!("{folder}/driver"))).unwrap();
            fs::remove_file(self.root.at(format!("{CXL}/dax_{region}"))).unwrap();
            fs::remove_dir_all(self.root.at(format!("{folder}/dax_{region}"))).unwrap();
            return Ok(());
        }
        if self.get(&format!("{folder}/commit")) != "1" {
            return Err(errno(ENXIO));
        }
        self.link_to(&format!("{folder}/driver"), "../cxl_region");
        let parent = format!("sys/devices/platform/ACPI0017:00/root0/decoder0.0/{region}");
        let dax_region = format!("{parent}/dax_{region}");
        self.device(&format!("dax_{region}"), &dax_region, &[]);
        let size = self.number(&format!("{folder}/size"));
        let attributes = [
            ("size", size.to_string()),
            ("align", "2097152".to_owned()),
            ("resource", format!("{WINDOW:#x}")),
            ("target_node", "1".to_owned()),
            ("numa_node", "0".to_owned()),
        ];
        for (attribute, value) in attributes {
            self.set(&format!("{dax_region}/{device}/{attribute}"), &value);
        }
        let target = Path::new("../../../..").join(&dax_region).join(&device);
        symlink(target, self.root.at(format!("{DAX}/devices/{device}"))).unwrap();
        self.bind_dax("kmem", &device);
        Ok(())
    }
}

/// As `kstrtoull` takes it.
fn parse(value: &str) -> io::Result<u64> {
    let number = match value.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => value.parse(),
    };
    number.map_err(|_| errno(EINVAL))
}

//! What the model's machine has: its host bridge, ports, devices and zones.

use super::{CXL, GIB, MIB, Model, WINDOW};

impl Model {
    pub(super) fn add_cxl(&self) {
        let host = "sys/devices/platform/ACPI0017:00/root0";
        self.device("root0", host, &[]);
        self.make(&format!("{host}/pci0000:0c"));
        self.link_to(&format!("{host}/dport12"), "../../../../pci0000:0c");
        let window = [
            ("devtype", "cxl_decoder_root"),
            ("cap_ram", "1"),
            ("interleave_ways", "1"),
            ("interleave_granularity", "256"),
            ("target_list", "12"),
            ("create_ram_region", "region0"),
            ("locked", "0"),
        ];
        self.device("decoder0.0", &format!("{host}/decoder0.0"), &window);
        self.set(&format!("{CXL}/decoder0.0/start"), &format!("{WINDOW:#x}"));
        self.set(&format!("{CXL}/decoder0.0/size"), &format!("{:#x}", 4 * GIB));
        let port = format!("{host}/port1");
        self.device("port1", &port, &[("decoders_committed", "0")]);
        self.link_to(&format!("{port}/uport"), "../../../../pci0000:0c");
        self.link_to(&format!("{port}/parent_dport"), "../../../../pci0000:0c");
        for number in 0..4 {
            self.decoder("port1", &port, 1, number, "cxl_decoder_switch");
        }
        for device in 0..2 {
            self.link_to(&format!("{port}/dport{device}"), &format!("../0000:0c:0{device}.0"));
            let memdev = format!("sys/devices/pci0000:0c/0000:0c:0{device}.0/0000:0d:0{device}.0");
            let memdev = format!("{memdev}/mem{device}");
            self.device(&format!("mem{device}"), &memdev, &[("ram/size", "0x40000000")]);
            self.link_to(&format!("{memdev}/driver"), "../cxl_mem");
            let number = 2 + device;
            let endpoint = format!("{port}/endpoint{number}");
            self.device(&format!("endpoint{number}"), &endpoint, &[("decoders_committed", "0")]);
            self.link_to(&format!("{endpoint}/uport"), &format!("../mem{device}"));
            self.link_to(&format!("{endpoint}/parent_dport"), &format!("../0000:0c:0{device}.0"));
            for index in 0..2 {
                let kind = "cxl_decoder_endpoint";
                self.decoder(&format!("endpoint{number}"), &endpoint, number, index, kind);
            }
        }
    }

    fn decoder(&self, _port: &str, folder: &str, port: u32, index: u32, kind: &str) {
        let name = format!("decoder{port}.{index}");
        let attributes =
            [("devtype", kind), ("start", "0x0"), ("size", "0x0"), ("locked", "0"), ("region", "")];
        self.device(&name, &format!("{folder}/{name}"), &attributes);
        if kind == "cxl_decoder_endpoint" {
            self.set(&format!("{CXL}/{name}/mode"), "none");
            self.set(&format!("{CXL}/{name}/dpa_size"), "0x0");
            self.set(&format!("{CXL}/{name}/dpa_resource"), "0xffffffffffffffff");
        } else {
            self.set(&format!("{CXL}/{name}/target_list"), "");
        }
    }
}

/// 2 GiB since boot on node 0, but for 8 MiB of holes; node 1 has nothing.
pub(super) fn zoneinfo() -> String {
    let present = (2 * GIB - 8 * MIB) / 4096;
    format!(
        "Node 0, zone    DMA32\n  pages free     1000\n  min 10\n  low 12\n  high 14\n  \
         spanned {present}\n  present {present}\n  managed {present}\n  cma 0\n  pagesets\n  \
         start_pfn: 1\n"
    )
}

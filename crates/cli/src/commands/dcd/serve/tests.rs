//! What is refused before the machine is changed.

use clap::Parser;
use memtide_host::dcd::pci::Above;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: DcdServe,
}

#[test]
fn a_manager_is_told_only_of_a_device_that_has_a_serial_number() {
    let folder = tempfile::tempdir().unwrap();
    let device = PciDevice {
        address: "0000:21:00.0".to_owned(),
        driver: None,
        above: Above::Decodes(String::new()),
    };
    let path = folder.path().join("sys/bus/pci/devices").join(&device.address);
    std::fs::create_dir_all(&path).unwrap();
    let mut config = vec![0; 4096];
    std::fs::write(path.join("config"), &config).unwrap();
    let root = Root::new(folder.path());
    let options = |line: &str| Line::parse_from(line.split(' ')).options;
    assert!(teller(&options("serve"), &device, &root).unwrap().is_none());
    let options = options("serve --manager tcp:127.0.0.1:1 --host-name h1");
    let Err(Failure::Failed(why)) = teller(&options, &device, &root) else { panic!("no refusal") };
    assert!(why.starts_with("device 0000:21:00.0 has no serial number"), "{why}");
    // The capability of a serial number (PCI Express base 5.0, 7.9.3), the first of its list.
    config[0x100..0x104].copy_from_slice(&0x0001_0003_u32.to_le_bytes());
    config[0x104] = 7;
    std::fs::write(path.join("config"), &config).unwrap();
    assert!(teller(&options, &device, &root).unwrap().is_some());
}

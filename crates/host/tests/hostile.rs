//! Trees and archives that nobody means well with: an error or a note, and an end.

use std::{
    fs,
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use memtide_host::{
    Root, Topology, address_map,
    capture::{self, Opened, UnpackError},
};
use memtide_units::Random;
use tar::{EntryType, Header};

fn data(machine: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/{machine}.tar.gz"))
}

fn open(machine: &str) -> Opened {
    capture::open(&data(machine)).unwrap()
}

/// All plain files below a folder, relative to it.
fn files(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let mut left = vec![folder.to_owned()];
    while let Some(at) = left.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => left.push(entry.path()),
                kind if kind.is_file() => {
                    let path = entry.path();
                    all.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
                }
                _ => {}
            }
        }
    }
    all.sort();
    all
}

/// What goes to a terminal or to another program has no control characters, and is valid.
fn is_fit_to_print(topology: &Topology) {
    let json = serde_json::to_string(topology).unwrap();
    assert!(!json.contains("\\u00"), "{json}");
}

#[test]
fn garbage_in_any_attribute_is_a_note_with_its_name() {
    let opened = open("cxl-switch");
    let folder = opened.root().at("");
    let mut unread = Vec::new();
    for file in files(&folder) {
        let path = folder.join(&file);
        let before = fs::read(&path).unwrap();
        fs::write(&path, b"\x1b]garbage 7-3\n\xff").unwrap();
        let topology = Topology::read(opened.root());
        is_fit_to_print(&topology);
        let name = file.rsplit('/').next().unwrap();
        if !topology.notes.iter().any(|note| note.contains(&format!("/{name} holds "))) {
            unread.push(file);
        }
        fs::write(&path, before).unwrap();
    }
    // What the topology has no use for; other commands have.
    unread.retain(|file| {
        ![
            "capture.txt",
            "proc/cmdline",
            "proc/cpuinfo",
            "proc/iomem",
            "sys/firmware/",
            "sys/devices/system/node/has_",
            "sys/module/memory_hotplug/parameters/",
        ]
        .iter()
        .any(|start| file.starts_with(start))
    });
    unread.retain(|file| {
        let name = file.rsplit('/').next().unwrap();
        !["CDAT", "create_pmem_region", "memmap_on_memory"].contains(&name)
            // All but decoders are known by their names.
            && name != "devtype"
            // Its mappings say more.
            && !file.ends_with("dax0.0/resource")
    });
    assert!(unread.is_empty(), "{unread:?}");
}

#[test]
fn trees_damaged_at_random_are_read_to_an_end() {
    for seed in 0..25 {
        let mut random = Random::new(seed);
        let machines = ["cxl-switch", "cxl-interleave2", "hmat", "virtio-mem", "numa-fake"];
        let opened = open(machines[random.below(machines.len() as u64) as usize]);
        let folder = opened.root().at("");
        let all = files(&folder);
        for _ in 0..1 + random.below(30) {
            let path = folder.join(&all[random.below(all.len() as u64) as usize]);
            damage(&path, &mut random);
        }
        is_fit_to_print(&Topology::read(opened.root()));
        // Tables and maps without measure are an error, all others are read.
        let _ = address_map::read(opened.root());
        // A damaged tree can be captured, and the capture read.
        let out = folder.join("again.tar.gz");
        capture::capture(opened.root(), &out, capture::Serials::Included).unwrap();
        is_fit_to_print(&Topology::read(capture::open(&out).unwrap().root()));
    }
}

fn damage(path: &Path, random: &mut Random) {
    let remove = |path: &Path| {
        let _ = fs::remove_file(path);
        let _ = fs::remove_dir(path);
    };
    remove(path);
    let _ = match random.below(9) {
        0 => Ok(()),
        1 => fs::write(path, ""),
        2 => fs::write(path, "18446744073709551615"),
        3 => fs::write(path, "0xffffffffffffffff\n"),
        4 => fs::write(path, "-9223372036854775808"),
        5 => fs::write(path, "0-4294967295,7"),
        6 => symlink(path.file_name().unwrap(), path),
        7 => fs::create_dir(path),
        _ => fs::write(path, (0..random.below(5000)).map(|n| (n * 37) as u8).collect::<Vec<_>>()),
    };
}

#[test]
fn ports_in_a_ring_come_to_an_end() {
    let opened = open("cxl-switch");
    let devices = opened.root().at("sys/bus/cxl/devices");
    for (port, parent) in [("port1", "port2"), ("port2", "port1")] {
        fs::remove_file(devices.join(port)).unwrap();
        let real = opened.root().at(format!("sys/ring/{parent}/{port}"));
        fs::create_dir_all(&real).unwrap();
        symlink(format!("../../../ring/{parent}/{port}"), devices.join(port)).unwrap();
    }
    let topology = Topology::read(opened.root());
    assert_eq!(topology.cxl.port("port1").unwrap().parent.as_deref(), Some("port2"));
    assert_eq!(topology.cxl.port("port2").unwrap().parent.as_deref(), Some("port1"));
    let endpoint = topology.cxl.endpoint_of("mem0").unwrap();
    assert_eq!(topology.cxl.ancestry(endpoint).len(), 8);
}

#[test]
fn a_region_with_four_billion_targets_has_sixteen_at_most() {
    let opened = open("cxl-switch");
    let region = opened.root().at("sys/bus/cxl/devices/region0");
    fs::write(region.join("target4000000000"), "decoder9.0\n").unwrap();
    fs::write(region.join("interleave_ways"), "4000000000\n").unwrap();
    let topology = Topology::read(opened.root());
    assert_eq!(topology.cxl.region("region0").unwrap().targets.len(), 16);
}

/// One entry of an archive, as raw as it gets.
fn entry(archive: &mut Vec<u8>, name: &str, kind: EntryType, target: &str, contents: &[u8]) {
    let mut header = Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_size(contents.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    archive.extend(header.as_bytes());
    archive.extend(contents);
    archive.resize(archive.len().next_multiple_of(512), 0);
}

fn opened(tar: &[u8]) -> Result<Opened, UnpackError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("machine.tar");
    fs::write(&file, tar).unwrap();
    capture::open(&file)
}

fn refused(name: &str, kind: EntryType, target: &str) -> UnpackError {
    let mut tar = Vec::new();
    entry(&mut tar, "sys/size", EntryType::Regular, "", b"1\n");
    entry(&mut tar, name, kind, target, b"");
    opened(&tar).expect_err(name)
}

#[test]
fn archives_do_not_leave_their_folder() {
    for name in ["../evil", "/etc/evil", "sys/../../evil", "a/../b", "", ".."] {
        let error = refused(name, EntryType::Regular, "");
        assert!(matches!(error, UnpackError::Name { .. }), "{name}: {error}");
    }
    for (name, target) in [
        ("link", "/etc/passwd"),
        ("link", "../x"),
        ("sys/link", "../../x"),
        // Goes down first: where up leads then is not known.
        ("sys/a/link", "b/../../../x"),
        ("link", ""),
    ] {
        let error = refused(name, EntryType::Symlink, target);
        assert!(matches!(error, UnpackError::Link { .. }), "{name} to {target}: {error}");
    }
    for kind in [EntryType::Link, EntryType::Char, EntryType::Block, EntryType::Fifo] {
        let error = refused("thing", kind, "sys/size");
        assert!(matches!(error, UnpackError::Kind { .. }), "{error}");
    }
    // The same name again, and a file behind a link.
    for (name, kind, target) in [
        ("sys/size", EntryType::Regular, ""),
        ("sys/size", EntryType::Symlink, "other"),
        ("sys", EntryType::Symlink, "other"),
    ] {
        let error = refused(name, kind, target);
        assert!(matches!(error, UnpackError::Name { .. }), "{name}: {error}");
    }
}

#[test]
fn archives_that_are_too_large_broken_or_absent_are_refused() {
    let mut header = Header::new_ustar();
    header.set_path("proc/iomem").unwrap();
    header.set_entry_type(EntryType::Regular);
    header.set_size(1 << 32);
    header.set_cksum();
    let error = opened(header.as_bytes()).unwrap_err();
    assert!(matches!(error, UnpackError::TooMuch { what: "bytes", .. }), "{error}");

    let whole = fs::read(data("hmat")).unwrap();
    for cut in [1, 2, 100, whole.len() / 2] {
        let error = opened(&whole[..cut]).unwrap_err();
        assert!(matches!(error, UnpackError::Format { .. }), "{cut}: {error}");
    }
    assert!(matches!(opened(&[7; 4096]), Err(UnpackError::Format { .. })));
    let nowhere = capture::open(Path::new("/nowhere/machine.tar.gz"));
    assert!(matches!(nowhere, Err(UnpackError::Read { .. })));
}

#[test]
fn archives_changed_at_random_are_refused_or_stay_inside() {
    let mut tar = Vec::new();
    std::io::copy(&mut GzDecoder::new(fs::File::open(data("cxl-switch")).unwrap()), &mut tar)
        .unwrap();
    let (mut read, mut refused) = (0, 0);
    for seed in 0..50 {
        let mut random = Random::new(seed);
        let mut changed = tar.clone();
        // In a header, with the checksum put right: otherwise all would be refused for that.
        for _ in 0..1 + random.below(4) {
            let block = random.below(changed.len() as u64 / 512) as usize * 512;
            let at = block + random.below(345) as usize;
            changed[at] = b"./a0\0\x80\xff2571L"[random.below(12) as usize];
            let header = Header::from_byte_slice(&changed[block..block + 512]);
            let mut header = header.clone();
            header.set_cksum();
            changed[block..block + 512].copy_from_slice(header.as_bytes());
        }
        match opened(&changed) {
            Ok(machine) => {
                read += 1;
                stays_inside(machine.root());
                is_fit_to_print(&Topology::read(machine.root()));
            }
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    assert!(read > 0 && refused > 0, "{read} read, {refused} refused: one of them was never tried");
}

/// No link of a tree leads out of it.
fn stays_inside(root: &Root) {
    let folder = fs::canonicalize(root.at("")).unwrap();
    let mut left = vec![folder.clone()];
    while let Some(at) = left.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if let Ok(real) = fs::canonicalize(&path) {
                assert!(real.starts_with(&folder), "{} is {}", path.display(), real.display());
            }
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                left.push(path);
            }
        }
    }
}

#[test]
fn a_bomb_is_not_unpacked() {
    // 320 MiB of nothing, in a megabyte or two.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bomb.tar.gz");
    let mut encoder = GzEncoder::new(fs::File::create(&file).unwrap(), Compression::fast());
    let mut headers = Vec::new();
    for number in 0..5 {
        entry(&mut headers, &format!("file{number}"), EntryType::Regular, "", &[]);
        let at = headers.len() - 512;
        let mut header = Header::from_byte_slice(&headers[at..]).clone();
        header.set_size(64 << 20);
        header.set_cksum();
        encoder.write_all(header.as_bytes()).unwrap();
        encoder.write_all(&vec![0; 64 << 20]).unwrap();
    }
    encoder.finish().unwrap();
    assert!(fs::metadata(&file).unwrap().len() < 4 << 20);
    let error = capture::open(&file).unwrap_err();
    assert!(matches!(error, UnpackError::TooMuch { what: "bytes", .. }), "{error}");
}

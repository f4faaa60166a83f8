//! Making and unmaking regions.

use std::time::Duration;

use memtide_host::{
    dax::DaxMode,
    dax_mode::{self, ModeWish},
    plan::{Action, Condition, StepError, Undone, run},
    region::{CreateError, DestroyError, RegionRefusal, RegionWish, create, destroy},
};
use memtide_units::ByteSize;

use crate::model::{GIB, MIB, Model, WINDOW};

fn wish() -> RegionWish {
    RegionWish::default()
}

fn made(wish: &RegionWish) -> Model {
    let mut model = Model::new();
    let created = create::plan(memtide_host::plan::Kernel::root(&model), wish).unwrap();
    run(&mut model, &created.plan, &mut |_, _| ()).unwrap();
    model
}

fn root(model: &Model) -> &memtide_host::Root {
    memtide_host::plan::Kernel::root(model)
}

#[test]
fn a_region_is_made_and_unmade_and_nothing_is_left() {
    let mut model = Model::new();
    let before = model.snapshot();
    let created = create::plan(root(&model), &wish()).unwrap();
    assert_eq!((created.region.as_str(), created.window.as_str()), ("region0", "decoder0.0"));
    assert_eq!((created.size, created.range.start().0), (ByteSize(GIB), WINDOW));
    assert_eq!(created.targets, [("mem0".to_owned(), "decoder2.0".to_owned())]);
    run(&mut model, &created.plan, &mut |_, _| ()).unwrap();
    assert_eq!(model.driver_of("dax0.0").as_deref(), Some("kmem"));
    assert_eq!(model.get("sys/bus/cxl/devices/region0/commit"), "1");
    let destroyed = destroy::plan(root(&model), "region0").unwrap();
    run(&mut model, &destroyed.plan, &mut |_, _| ()).unwrap();
    assert_eq!(model.snapshot(), before);
}

#[test]
fn two_devices_share_a_region() {
    let wish = RegionWish {
        devices: vec!["mem1".to_owned(), "mem0".to_owned()],
        granularity: Some(1024),
        ..wish()
    };
    let model = made(&wish);
    let of = |name: &str| model.get(&format!("sys/bus/cxl/devices/region0/{name}"));
    assert_eq!((of("target0"), of("target1")), ("decoder3.0".to_owned(), "decoder2.0".to_owned()));
    assert_eq!(
        (of("size"), of("interleave_granularity")),
        (format!("{:#x}", 2 * GIB), "1024".into())
    );
}

#[test]
fn a_second_region_on_the_same_device_is_refused_before_anything_is_written() {
    let model = made(&wish());
    let again = RegionWish { devices: vec!["mem0".to_owned()], ..wish() };
    let before = model.snapshot();
    let error = create::plan(root(&model), &again).unwrap_err();
    assert_eq!(error.to_string(), "mem0 has 0B of volatile memory free: expected at least 256MiB");
    assert_eq!(model.snapshot(), before);
    // The other one is free.
    let created = create::plan(root(&model), &wish()).unwrap();
    assert_eq!(created.targets[0].0, "mem1");
    assert_eq!(created.range.start().0, WINDOW + GIB);
}

#[test]
fn where_the_first_device_does_not_fit_the_next_one_is_taken() {
    let half = RegionWish { size: Some(ByteSize(GIB)), ..wish() };
    let model = Model::new();
    model.set("sys/bus/cxl/devices/mem0/ram/size", "0x20000000");
    let created = create::plan(root(&model), &half).unwrap();
    assert_eq!((created.targets[0].0.as_str(), created.size), ("mem1", ByteSize(GIB)));
    // With enough of neither, the first one is named.
    model.set("sys/bus/cxl/devices/mem1/ram/size", "0x30000000");
    let error = create::plan(root(&model), &half).unwrap_err().to_string();
    assert_eq!(error, "mem0 has 512MiB of volatile memory free: expected at least 1GiB");

    // A region above, of which half a device is left, and room below it.
    let model = Model::new();
    let region = "sys/bus/cxl/devices/region9";
    for (name, value) in [("size", 256 * MIB), ("resource", WINDOW + 2 * GIB)] {
        model.set(&format!("{region}/{name}"), &format!("{value:#x}"));
    }
    model.set(&format!("{region}/commit"), "1");
    let decoder = "sys/bus/cxl/devices/decoder2.0";
    for (name, value) in [("dpa_size", "0x10000000"), ("mode", "ram"), ("region", "region9")] {
        model.set(&format!("{decoder}/{name}"), value);
    }
    let named = RegionWish { devices: vec!["mem0".to_owned()], ..wish() };
    let error = create::plan(root(&model), &named).unwrap_err().to_string();
    assert!(error.contains("endpoint2 decodes region9 above"), "{error}");
    assert_eq!(create::plan(root(&model), &wish()).unwrap().targets[0].0, "mem1");
}

#[test]
fn sizes_off_by_one_block_are_refused_with_the_next_ones() {
    let model = Model::new();
    let text = |size: u64| {
        let wish = RegionWish { size: Some(ByteSize(size)), ..wish() };
        create::plan(root(&model), &wish).unwrap_err().to_string()
    };
    let error = text(256 * MIB + 128 * MIB);
    assert!(error.contains("expected a multiple of 256MiB (256MiB for each of 1 ways)"), "{error}");
    assert!(error.ends_with("such as 256MiB or 512MiB"), "{error}");
    assert!(text(0).starts_with("size 0B"));
    assert!(text(GIB + 256 * MIB).contains("mem0 has 1GiB of volatile memory free"));
    assert!(text(u64::MAX / (256 * MIB) * 256 * MIB).contains("expected at least"));
}

#[test]
fn what_makes_no_sense_names_field_value_and_expectation() {
    let model = Model::new();
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    for (wish, expected) in [
        (RegionWish { window: Some("decoder9.0".into()), ..wish() }, "expected one of decoder0.0"),
        (RegionWish { devices: names(&["mem7"]), ..wish() }, "expected one of mem0, mem1"),
        (RegionWish { devices: names(&["mem0", "mem0"]), ..wish() }, "mem0 is named twice"),
        (RegionWish { devices: names(&["mem0"]), ways: Some(2), ..wish() }, "ways 2 and 1 devices"),
        (RegionWish { ways: Some(5), ..wish() }, "ways 5: expected one of"),
        (RegionWish { ways: Some(4), ..wish() }, "2 devices below decoder0.0 have a free decoder"),
        (
            RegionWish { granularity: Some(300), ..wish() },
            "granularity 300: expected a power of two",
        ),
    ] {
        let error = create::plan(root(&model), &wish).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let error = destroy::plan(root(&model), "region3").unwrap_err();
    assert!(matches!(error, DestroyError::NoRegion { .. }), "{error}");
}

#[test]
fn a_port_without_a_free_decoder_is_named() {
    let model = Model::new();
    for number in 0..4 {
        model.set(&format!("sys/bus/cxl/devices/decoder1.{number}/region"), "region7");
    }
    let error = create::plan(root(&model), &wish()).unwrap_err().to_string();
    assert!(
        error.contains("port1, on the way to mem0, has no free decoder: its 4 serve"),
        "{error}"
    );
}

#[test]
fn decoders_out_of_order_are_named() {
    let model = Model::new();
    model.set("sys/bus/cxl/devices/decoder2.0/dpa_size", "0x10000000");
    let wish = RegionWish { devices: vec!["mem0".to_owned()], ..wish() };
    let error = create::plan(root(&model), &wish).unwrap_err().to_string();
    assert!(error.contains("decoder2.0 of mem0 has memory but is not committed"), "{error}");
    model.set("sys/bus/cxl/devices/decoder2.0/dpa_size", "0x0");
    model.set("sys/bus/cxl/devices/decoder2.0/locked", "1");
    let error = create::plan(root(&model), &wish).unwrap_err().to_string();
    assert!(error.contains("decoder2.0 of mem0 is locked"), "{error}");
}

#[test]
fn a_region_with_memory_online_stays() {
    let mut model = made(&wish());
    let first = WINDOW / (128 * MIB);
    for number in first..first + 8 {
        let file = format!("sys/devices/system/memory/memory{number}/state");
        memtide_host::plan::Kernel::write(&mut model, &file, "online_movable", Default::default())
            .unwrap();
    }
    let error = destroy::plan(root(&model), "region0").unwrap_err().to_string();
    let expected = format!("memtide offline {first}-{}", first + 7);
    assert!(error.contains("8 memory blocks (1GiB) of region0 are online"), "{error}");
    assert!(error.ends_with(&expected), "{error}");
}

#[test]
fn a_region_whose_device_a_program_has_mapped_stays() {
    let mut model = made(&wish());
    let mode = DaxMode::Devdax;
    let limit = Duration::from_secs(1);
    let devdax = ModeWish { device: "dax0.0".to_owned(), mode, online: None, limit };
    let change = dax_mode::plan(root(&model), &devdax).unwrap();
    run(&mut model, &change.plan, &mut |_, _| ()).unwrap();
    model.set("proc/77/comm", "database");
    model.set("proc/77/maps", "7f0000000000-7f0040000000 rw-s 00000000 00:06 340 /dev/dax0.0");
    let error = destroy::plan(root(&model), "region0").unwrap_err();
    let expected = "dax0.0 of region0 is in use: database (pid 77) has it open";
    assert!(error.to_string().contains(expected), "{error}");
    model.set("proc/77/maps", "7f0000000000-7f0040000000 rw-s 00000000 00:06 340 /dev/zero");
    assert!(destroy::plan(root(&model), "region0").is_ok());
}

#[test]
fn every_write_may_fail_and_the_machine_is_as_before() {
    let wish = RegionWish { ways: Some(2), ..wish() };
    let steps = create::plan(root(&Model::new()), &wish).unwrap().plan.steps.len();
    for number in 1..=steps {
        let mut model = Model::new();
        let before = model.snapshot();
        let created = create::plan(root(&model), &wish).unwrap();
        model.fail = Some((number, 6));
        let Err(error) = run(&mut model, &created.plan, &mut |_, _| ()) else {
            // The last steps are waits.
            assert_eq!(model.writes, number - 1, "write {number} did not fail");
            continue;
        };
        assert!(error.undone.failed.is_empty(), "{error}");
        assert_eq!(model.snapshot(), before, "write {number}: {error}");
    }
}

#[test]
fn who_is_stopped_on_the_way_leaves_the_machine_as_it_was() {
    for after in 0..8 {
        let mut model = Model::new();
        let before = model.snapshot();
        let created = create::plan(root(&model), &wish()).unwrap();
        model.stop = Some(after);
        let error = run(&mut model, &created.plan, &mut |_, _| ()).unwrap_err();
        assert_eq!(error.source.kind(), std::io::ErrorKind::Interrupted);
        assert_eq!(error.number, after + 1);
        assert!(error.undone.failed.is_empty(), "{error}");
        assert_eq!(model.snapshot(), before, "after {after} writes");
    }
}

#[test]
fn every_write_of_destroying_may_fail_and_the_region_is_as_before() {
    let wish = RegionWish { ways: Some(2), ..wish() };
    let steps = destroy::plan(root(&made(&wish)), "region0").unwrap().plan.steps.len();
    for number in 1..=steps {
        let mut model = made(&wish);
        let before = model.snapshot();
        let destroyed = destroy::plan(root(&model), "region0").unwrap();
        model.fail = Some((model.writes + number, 16));
        let error = run(&mut model, &destroyed.plan, &mut |_, _| ()).unwrap_err();
        assert!(error.undone.failed.is_empty(), "{error}");
        assert_eq!(model.snapshot(), before, "write {number}: {error}");
    }
}

#[test]
fn destroying_goes_forward_when_a_device_vanishes_in_between() {
    let wish = RegionWish { ways: Some(2), ..wish() };
    let mut model = made(&wish);
    let destroyed = destroy::plan(root(&model), "region0").unwrap();
    assert_eq!(run(&mut model, &destroyed.plan, &mut |_, _| ()).unwrap(), []);
    model.vanish(1);
    let after = model.snapshot();
    let steps = destroyed.plan.steps.len();
    for number in 1..=steps {
        let mut model = made(&wish);
        model.vanishes = Some((model.writes + number, 1));
        let passed = run(&mut model, &destroyed.plan, &mut |_, _| ()).unwrap();
        // Only what the device itself had to be rid of, and only if that was to come.
        let of_device = |action: &Action| action.to_string().contains("/decoder3.0/dpa_size");
        let comes = destroyed.plan.steps[number - 1..].iter();
        let comes = comes.filter(|step| of_device(&step.action)).count();
        assert_eq!(passed.len(), comes, "before write {number}: {passed:?}");
        assert!(passed.iter().all(of_device), "{passed:?}");
        // As if it had left after all was done; what it had stays in the folder, unnamed.
        let same = |(path, _): &(&std::path::PathBuf, &String)| {
            !path.to_string_lossy().contains("/endpoint3/")
        };
        let now = model.snapshot();
        assert!(now.iter().filter(same).eq(after.iter().filter(same)), "before write {number}");
    }
}

#[test]
fn enxio_at_commit_is_explained_by_the_machine() {
    let mut model = Model::new();
    let created = create::plan(root(&model), &wish()).unwrap();
    let commit = |step: &memtide_host::plan::Step| step.action.to_string().contains("/commit");
    let number = created.plan.steps.iter().position(commit).unwrap() + 1;
    model.fail = Some((number, 6));
    let error = run(&mut model, &created.plan, &mut |_, _| ()).unwrap_err();
    let refusal = RegionRefusal::of(root(&model), &error.action, &error.source);
    assert_eq!(refusal, RegionRefusal::NotReady { region: "region0".to_owned() });
    model.set("proc/cpuinfo", "flags\t\t: fpu hypervisor clflush");
    let refusal = RegionRefusal::of(root(&model), &error.action, &error.source).to_string();
    assert!(refusal.contains("cpu_cache_invalidate_memregion"), "{refusal}");
    assert!(refusal.contains("-hypervisor"), "{refusal}");
}

#[test]
fn a_device_that_left_is_the_cause_of_what_waits_in_vain() {
    let waits = || Action::WaitFor {
        file: "sys/bus/cxl/devices/dax_region0".to_owned(),
        condition: Condition::Exists,
        limit: Duration::from_secs(1),
    };
    let model = Model::new();
    let after = |failed| {
        let undone = Undone { failed };
        let source = std::io::ErrorKind::TimedOut.into();
        let error = StepError { number: 9, of: 9, action: waits(), undone, source };
        RegionRefusal::of_step(root(&model), &error)
    };
    assert_eq!(after(Vec::new()), RegionRefusal::NoDax { region: "region0".to_owned() });
    let back = Action::write("sys/bus/cxl/devices/decoder2.0/dpa_size", "0");
    let gone = after(vec![(back.clone(), std::io::ErrorKind::NotFound.into())]);
    assert_eq!(gone, RegionRefusal::Gone { device: "decoder2.0".to_owned() });
    let busy = after(vec![(back, std::io::Error::from_raw_os_error(16))]);
    assert_eq!(busy, RegionRefusal::NoDax { region: "region0".to_owned() });
}

#[test]
fn without_cxl_it_says_which_modules_to_load() {
    let folder = tempfile::tempdir().unwrap();
    let error = create::plan(&memtide_host::Root::new(folder.path()), &wish()).unwrap_err();
    assert!(matches!(error, CreateError::NoCxl), "{error}");
}

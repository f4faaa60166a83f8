//! Switching dax devices.

use std::time::Duration;

use memtide_host::{
    dax::DaxMode,
    dax_mode::{ModeError, ModeWish, plan},
    online::How,
    plan::{Kernel, run},
    region::{RegionWish, create},
};

use crate::model::{BLOCK, Model, WINDOW};

const FIRST: u64 = WINDOW / BLOCK;

fn with_dax() -> Model {
    let mut model = Model::new();
    let created = create::plan(model.root(), &RegionWish::default()).unwrap();
    run(&mut model, &created.plan, &mut |_, _| ()).unwrap();
    model
}

fn wish(mode: DaxMode, online: Option<How>) -> ModeWish {
    ModeWish { device: "dax0.0".to_owned(), mode, online, limit: Duration::from_secs(1) }
}

fn switch(model: &mut Model, wish: &ModeWish) {
    let change = plan(model.root(), wish).unwrap();
    run(model, &change.plan, &mut |_, _| ()).unwrap();
}

#[test]
fn there_and_back() {
    let mut model = with_dax();
    switch(&mut model, &wish(DaxMode::SystemRam, Some(How::Movable)));
    assert_eq!(model.state(FIRST).1, "Movable");
    assert!(plan(model.root(), &wish(DaxMode::SystemRam, None)).unwrap().plan.is_empty());
    let change = plan(model.root(), &wish(DaxMode::Devdax, None)).unwrap();
    assert_eq!(change.leaving.len(), 8);
    run(&mut model, &change.plan, &mut |_, _| ()).unwrap();
    assert_eq!(model.driver_of("dax0.0").as_deref(), Some("device_dax"));
    assert!(!model.root().exists(format!("sys/devices/system/memory/memory{FIRST}")));
    assert!(plan(model.root(), &wish(DaxMode::Devdax, None)).unwrap().plan.is_empty());
    switch(&mut model, &wish(DaxMode::SystemRam, Some(How::Kernel)));
    assert_eq!(model.driver_of("dax0.0").as_deref(), Some("kmem"));
    assert_eq!(model.state(FIRST + 7), ("online".to_owned(), "Normal".to_owned()));
}

#[test]
fn a_wanted_zone_is_had_although_the_kernel_onlines_by_itself() {
    let mut model = with_dax();
    switch(&mut model, &wish(DaxMode::Devdax, None));
    model.set("sys/devices/system/memory/auto_online_blocks", "online_kernel");
    switch(&mut model, &wish(DaxMode::SystemRam, Some(How::Movable)));
    assert_eq!(model.state(FIRST).1, "Movable");
    assert_eq!(model.get("sys/devices/system/memory/auto_online_blocks"), "online_kernel");
}

#[test]
fn every_write_may_fail_and_the_device_is_as_before() {
    for (from, to, online) in [
        (DaxMode::SystemRam, DaxMode::Devdax, None),
        (DaxMode::Devdax, DaxMode::SystemRam, Some(How::Movable)),
    ] {
        for number in 1.. {
            let mut model = with_dax();
            let before_online = (from == DaxMode::SystemRam).then_some(How::Movable);
            switch(&mut model, &wish(from, before_online));
            model.set("sys/devices/system/memory/auto_online_blocks", "online");
            let before = model.snapshot();
            let change = plan(model.root(), &wish(to, online)).unwrap();
            model.fail = Some((model.writes + number, 16));
            let Err(error) = run(&mut model, &change.plan, &mut |_, _| ()) else {
                assert!(number > 8, "only {number} writes");
                break;
            };
            assert!(error.undone.failed.is_empty(), "{error}");
            assert_eq!(model.snapshot(), before, "{to} write {number}: {error}");
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut model = with_dax();
    let error = |model: &Model, wish: &ModeWish| plan(model.root(), wish).unwrap_err();
    let other = ModeWish { device: "dax9.9".to_owned(), ..wish(DaxMode::Devdax, None) };
    assert!(error(&model, &other).to_string().contains("expected one of dax0.0"));
    let both = wish(DaxMode::Devdax, Some(How::Movable));
    assert!(matches!(error(&model, &both), ModeError::OnlineWithDevdax { .. }));
    switch(&mut model, &wish(DaxMode::Devdax, None));
    model.set("sys/bus/dax/devices/dax0.0/target_node", "-1");
    let ram = wish(DaxMode::SystemRam, None);
    assert!(matches!(error(&model, &ram), ModeError::NoNode { .. }));
    model.set("sys/bus/dax/devices/dax0.0/target_node", "1");
    model.set("sys/bus/dax/devices/dax0.0/size", "4096");
    assert!(matches!(error(&model, &ram), ModeError::NoWholeBlock { .. }));
    std::fs::remove_dir_all(model.root().at("sys/bus/dax/drivers/kmem")).unwrap();
    assert!(matches!(error(&model, &ram), ModeError::NoDriver { driver: "kmem" }));
}

#[test]
fn a_device_that_somebody_has_open_stays() {
    let mut model = with_dax();
    switch(&mut model, &wish(DaxMode::Devdax, None));
    model.set("proc/77/comm", "database");
    let link = model.root().at("proc/77/fd/3");
    std::fs::create_dir_all(link.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/dev/dax0.0", link).unwrap();
    let error = plan(model.root(), &wish(DaxMode::SystemRam, None)).unwrap_err().to_string();
    assert!(error.contains("database (pid 77) has it open"), "{error}");
}

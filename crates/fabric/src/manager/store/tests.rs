//! A store against a map, with a disk that fails at any write or sync.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use memtide_cxl::manager::{DeviceName, Former, HostName, Limits};
use memtide_units::{DpaRange, Random, RequestId, Tag};
use redb::StorageBackend;

use super::*;

/// More writes than any test makes.
pub const PLENTY: i64 = 1 << 40;

/// A file in memory.
#[derive(Debug, Default)]
pub struct Disk {
    now: Mutex<Vec<u8>>,
    /// How many more writes there are before the disk is full; below 0: it is.
    room: AtomicI64,
    /// Whether that showed in writing; otherwise, in nothing but syncing.
    refused_write: AtomicBool,
}

#[derive(Clone, Debug)]
struct Plugged(Arc<Disk>);

impl Disk {
    /// A disk on which so many more writes succeed.
    pub fn set_room(&self, writes: i64) {
        self.room.store(writes, Ordering::SeqCst);
    }

    fn take_room(&self) -> io::Result<()> {
        if self.room.fetch_sub(1, Ordering::SeqCst) <= 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn take_room_to_write(&self) -> io::Result<()> {
        self.take_room().inspect_err(|_| self.refused_write.store(true, Ordering::SeqCst))
    }
}

impl StorageBackend for Plugged {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.now.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.now.lock().unwrap();
        let start = offset as usize;
        let part = bytes.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(part);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut bytes = self.0.now.lock().unwrap();
        if len as usize > bytes.len() {
            self.0.take_room_to_write()?;
        }
        bytes.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.take_room()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.take_room_to_write()?;
        let start = offset as usize;
        self.0.now.lock().unwrap()[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}

pub fn on(disk: &Arc<Disk>) -> Result<Store, StoreError> {
    let disk = Plugged(Arc::clone(disk));
    let open = move |_: &Path| Database::builder().create_with_backend(disk.clone());
    Store::open_with(Path::new("disk"), Box::new(open))
}

fn some_record(random: &mut Random) -> Record {
    let device: DeviceName = format!("d{}", random.below(3)).parse().unwrap();
    let host: HostName = format!("h{}", random.below(3)).parse().unwrap();
    let extents = vec![DpaRange::new(random.below(99), 1); random.below(50) as usize];
    let (key, value) = match random.below(3) {
        0 => {
            let limits = Limits { weight: random.below(1000) as u32, ..Limits::default() };
            (Key::Limits(device, host), Value::Limits(limits))
        }
        1 => {
            let former = Former { host: random.below(3) as u16, name: Some(host) };
            (Key::Unsanitized(device, former), Value::Extents(extents))
        }
        _ => {
            let tag = Tag([random.below(9) as u8; 16]);
            (Key::Reference(device, tag), Value::Extents(extents))
        }
    };
    let value = (random.below(3) != 0).then_some(value);
    Record { key, value }
}

fn apply(model: &mut BTreeMap<Key, Value>, records: &[Record]) {
    for record in records {
        match &record.value {
            Some(value) => drop(model.insert(record.key.clone(), value.clone())),
            None => drop(model.remove(&record.key)),
        }
    }
}

#[test]
fn a_full_disk_at_any_write_changes_nothing_and_a_failed_sync_not_half() {
    let mut random = Random::new(11);
    let (mut refused_writes, mut refused_syncs) = (0, 0);
    for round in 0..60 {
        let disk = Arc::new(Disk::default());
        disk.set_room(PLENTY);
        let (mut store, mut model) = (on(&disk).unwrap(), BTreeMap::new());
        for _ in 0..12 {
            let records: Vec<_> =
                (0..1 + random.below(4)).map(|_| some_record(&mut random)).collect();
            let room = if random.below(2) == 0 { random.below(14) as i64 } else { PLENTY };
            disk.set_room(room);
            disk.refused_write.store(false, Ordering::SeqCst);
            let result = store.commit(&records);
            disk.set_room(PLENTY);
            let kept: BTreeMap<_, _> = store.load().unwrap().into_iter().collect();
            let mut after = model.clone();
            apply(&mut after, &records);
            match result {
                Ok(()) => model = after,
                Err(error) => {
                    let text = format!("{error:?}");
                    assert!(text.contains("StorageFull"), "round {round}: {text}");
                    if disk.refused_write.load(Ordering::SeqCst) {
                        refused_writes += 1;
                    } else {
                        refused_syncs += 1;
                        // All or none of it.
                        model = if kept == after { after } else { model };
                    }
                }
            }
            assert_eq!(kept, model, "round {round}");
            if random.below(4) == 0 {
                drop(store);
                store = on(&disk).unwrap();
            }
        }
    }
    assert!(refused_writes > 50 && refused_syncs > 5, "{refused_writes}, {refused_syncs}");
}

#[test]
fn what_is_held_goes_with_what_is_made_durable_next_and_newer_values_win() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let disk = Arc::new(Disk::default());
        disk.set_room(PLENTY);
        let mut store = on(&disk).unwrap();
        // On the disk, and as it is to be there in the end.
        let (mut kept, mut model) = (BTreeMap::new(), BTreeMap::new());
        for _ in 0..30 {
            let records: Vec<_> = (0..random.below(3)).map(|_| some_record(&mut random)).collect();
            apply(&mut model, &records);
            match random.below(4) {
                0 => {
                    store.commit(&records).unwrap();
                    kept = model.clone();
                }
                1 => {
                    store.hold(records);
                    disk.set_room(0);
                    assert_eq!(store.settle().is_err(), store.holds(), "seed {seed}");
                    disk.set_room(PLENTY);
                }
                2 => {
                    store.hold(records);
                    store.settle().unwrap();
                    assert!(!store.holds());
                    kept = model.clone();
                }
                _ => store.hold(records),
            }
            let now: BTreeMap<_, _> = store.load().unwrap().into_iter().collect();
            assert_eq!(now, kept, "seed {seed}");
            if random.below(8) == 0 {
                store.forget_held();
                model = kept.clone();
            }
        }
        store.settle().unwrap();
        let now: BTreeMap<_, _> = store.load().unwrap().into_iter().collect();
        assert_eq!(now, model, "seed {seed}");
    }
}

#[test]
fn a_store_is_read_back_and_used_by_one_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fm.redb");
    let mut random = Random::new(5);
    let records: Vec<_> = (0..20).map(|_| some_record(&mut random)).collect();
    let mut model = BTreeMap::new();
    apply(&mut model, &records);
    let mut store = Store::open(&path).unwrap();
    store.commit(&records).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    drop(store);
    let kept: BTreeMap<_, _> = Store::open(&path).unwrap().load().unwrap().into_iter().collect();
    assert_eq!(kept, model);
}

fn request_record(id: u64) -> Record {
    use memtide_cxl::manager::{
        Ending, Report, Request, State,
        journal::{Origin, RequestRecord},
    };
    let report = Report {
        id: RequestId(id),
        state: State::Ended(Ending::Done),
        asked: 0,
        returned: 0,
        held: 0,
        holders: Vec::new(),
        accepted: 0,
        refused: 0,
        pending: 0,
        missing: 0,
    };
    let record = RequestRecord {
        request: Request::Cancel { request: RequestId(0) },
        origin: Origin::Operator,
        since: std::time::Duration::ZERO,
        report,
        asked_back: Vec::new(),
        promised: Vec::new(),
    };
    Record { key: Key::Request(RequestId(id)), value: Some(Value::Request(Box::new(record))) }
}

#[test]
fn a_number_is_not_used_twice_after_a_failed_sync_either() {
    let (mut kept_all, mut kept_nothing) = (0, 0);
    for room in 0..40 {
        let disk = Arc::new(Disk::default());
        disk.set_room(PLENTY);
        let mut store = on(&disk).unwrap();
        disk.set_room(room);
        let failed = store.commit(&[request_record(1)]).is_err();
        disk.set_room(PLENTY);
        let kept = !store.load().unwrap().is_empty();
        assert_eq!(store.next_request(), 1 + u64::from(kept), "room for {room} writes");
        kept_all += u32::from(failed && kept);
        kept_nothing += u32::from(failed && !kept);
    }
    assert!(kept_all > 0 && kept_nothing > 0, "{kept_all}, {kept_nothing}");
}

#[test]
fn a_number_is_not_used_twice() {
    let disk = Arc::new(Disk::default());
    disk.set_room(PLENTY);
    let mut store = on(&disk).unwrap();
    assert_eq!(store.next_request(), 1);
    store.commit(&[request_record(1)]).unwrap();
    store.commit(&[request_record(FIRST_OWN_ID + 3)]).unwrap();
    assert_eq!(store.next_request(), 2);
    store.commit(&[Record { key: Key::Request(RequestId(1)), value: None }]).unwrap();
    drop(store);
    assert_eq!(on(&disk).unwrap().next_request(), 2);
}

#[test]
fn what_is_no_store_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("text");
    std::fs::write(&path, "not a database at all\n".repeat(1000)).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Open { .. }), "{error}");
    assert!(matches!(Store::open(directory.path()), Err(StoreError::Open { .. })));

    let path = directory.path().join("later");
    let store = Store::open(&path).unwrap();
    drop(store);
    let database = Database::create(&path).unwrap();
    write(&database, &[(vec![0xff; 3], Some(vec![1]))], &[]).unwrap();
    drop(database);
    let error = Store::open(&path).unwrap().load().unwrap_err();
    assert!(matches!(error, StoreError::Damaged { what: "a key", bytes: 3, .. }), "{error}");
    let database = Database::create(&path).unwrap();
    write(&database, &[], &[(FORMAT_KEY, 9)]).unwrap();
    drop(database);
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Format { format: 9, .. }), "{error}");
}

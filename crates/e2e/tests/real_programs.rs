//! python3 with multiprocessing, sqlite3 and a large sort, while blocks move: they print what they
//! print without memtide.

use std::{
    fs,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use memtide_e2e::{Machine, Pool, PoolSpec, Random, Running, Tides, machine, needs, seconds};

const LIMIT: Duration = Duration::from_secs(240);

/// Runs a program without memtide, then under it while blocks move, and compares what it prints.
fn compare(machine: &Machine, program: &str, arguments: &[&str], input: Option<&str>) {
    let feed = |mut running: Running| {
        if let Some(text) = input {
            running.send(text);
        }
        running.close_stdin();
        let finished = running.finish(LIMIT);
        finished.assert_success();
        finished.stdout
    };
    let plain = feed(Running::start(Command::new(program).args(arguments)));
    assert!(!plain.is_empty());
    let pool = Arc::new(Pool::start(machine, &PoolSpec::new(512, 1024)));
    let tides = Tides::begin(&pool, machine.seed(), 640);
    let end = Instant::now() + seconds(5);
    while Instant::now() < end {
        let managed = feed(pool.run(program, arguments));
        assert!(plain == managed, "{program} printed something else, seed {}", machine.seed());
    }
    let _ = tides.stop();
    pool.assert_all_free();
}

#[test]
fn python_with_multiprocessing() {
    if !needs(&[("python3", "python3")]) {
        return;
    }
    // Children by fork that share a large table copy-on-write, change it, and answer by pipe. Only
    // answers that do not depend on which worker did which other task before are printed.
    let script = "
import hashlib, multiprocessing as mp
mp.set_start_method('fork')
table = {i: hashlib.sha256(str(i).encode()).hexdigest() for i in range(300000)}
def work(part):
    for i in range(part, 300000, 40):
        table[i] = table[i][::-1]
    return hashlib.sha256(''.join(table[i] for i in range(0, 300000, 7)).encode()).hexdigest()
with mp.Pool(3) as pool:
    print(pool.map(work, range(12), chunksize=1)[0])
for round in range(3):
    with mp.Pool(2, maxtasksperchild=2) as pool:
        answers = pool.map(work, range(8), chunksize=8)
    print(len(answers), answers[0])
    for i in range(round, 300000, 50):
        table[i] = table[i] + 'x'
print(hashlib.sha256(repr(sorted(table.items())).encode()).hexdigest())
";
    let machine = machine();
    compare(&machine, "python3", &["-c", script], None);
}

#[test]
fn sqlite_in_memory() {
    if !needs(&[("sqlite3", "sqlite3")]) {
        return;
    }
    let sql = "
create table t(id integer primary key, a integer, b text);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 400000)
  insert into t select i, (i * 7919) % 100003, printf('%064d', i) from n;
create index ta on t(a);
select count(*), sum(a), min(b), max(b) from t;
update t set b = b || a where a % 3 = 0;
delete from t where a % 5 = 0;
select count(*), sum(length(b)), sum(id) from t;
select a, count(*) from t group by a order by 2 desc, 1 limit 20;
pragma integrity_check;
";
    compare(&machine(), "sqlite3", &[":memory:"], Some(sql));
}

#[test]
fn a_large_sort() {
    let machine = machine();
    let path = machine.directory().join("lines");
    let mut random = Random::new(machine.seed());
    let mut text = String::new();
    for _ in 0..1_500_000 {
        text += &format!("{:016x}{:08x}\n", random.next_u64(), random.next_u64() as u32);
    }
    fs::write(&path, text).expect("writing the lines");
    let sorted = machine.directory().join("sorted");
    let [path, sorted] = [&path, &sorted].map(|p| p.to_str().expect("a path of text"));
    let script =
        format!("LC_ALL=C sort -S 200M --parallel=2 {path} -o {sorted} && sha256sum < {sorted}");
    compare(&machine, "sh", &["-c", &script], None);
}

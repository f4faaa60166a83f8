//! Many jobs that know nothing of each other, on several cores.
//!
//! Results are in the order of the jobs, so that the number of threads changes nothing in them.

use core::{
    num::NonZeroUsize,
    sync::atomic::{AtomicUsize, Ordering},
};
use std::{sync::mpsc, thread};

/// What a worker says: so many thousandths of a job are done, or it is.
enum Said<T> {
    Permille(usize, u64),
    Done(usize, T),
}

/// Does jobs 0 to `count`, at most so many at once. A job is told how to say how many thousandths
/// of it are done; `progress` hears how many of all are, on the thread that called.
pub(crate) fn all<T: Send>(
    count: usize,
    threads: NonZeroUsize,
    job: impl Fn(usize, &dyn Fn(u64)) -> T + Sync,
    progress: &mut dyn FnMut(u64, u64),
) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let mut results: Vec<Option<T>> = (0..count).map(|_| None).collect();
    let mut permille = vec![0_u64; count];
    thread::scope(|scope| {
        let (say, hear) = mpsc::channel();
        for _ in 0..threads.get().min(count) {
            let (say, next, job) = (say.clone(), &next, &job);
            scope.spawn(move || {
                // Relaxed: the counter hands out numbers and nothing else.
                while let number = next.fetch_add(1, Ordering::Relaxed)
                    && number < count
                {
                    // Nobody hears it only if the caller panicked; then nothing matters.
                    let told = |of| drop(say.send(Said::Permille(number, of)));
                    let result = job(number, &told);
                    drop(say.send(Said::Done(number, result)));
                }
            });
        }
        drop(say);
        for said in hear {
            let (number, of) = match said {
                Said::Permille(number, of) => (number, of.min(1000)),
                Said::Done(number, result) => {
                    results[number] = Some(result);
                    (number, 1000)
                }
            };
            permille[number] = of;
            progress(permille.iter().sum(), count as u64 * 1000);
        }
    });
    results.into_iter().map(|result| result.expect("every job was done")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_and_progress_ends_at_all() {
        for threads in 1..5 {
            let threads = NonZeroUsize::new(threads).unwrap();
            let mut last = (0, 0);
            let job = |number: usize, told: &dyn Fn(u64)| {
                told(500);
                number * number
            };
            let results = all(50, threads, job, &mut |done, of| last = (done, of));
            assert_eq!(results, (0..50).map(|n| n * n).collect::<Vec<_>>());
            assert_eq!(last, (50_000, 50_000));
        }
        let none: Vec<u32> = all(0, NonZeroUsize::MIN, |_, _| 1, &mut |_, _| panic!());
        assert!(none.is_empty());
    }
}

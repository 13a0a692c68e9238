// SPDX-License-Identifier: Apache-2.0
//! The time of an operation: each thread gets the keys of a file in turn, each from a place of its
//! own, looks at the value it is given, and inserts a new one after a miss.
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use crate::caches::{id, AnyCache, Moka, Quick};
use crate::fail;

const BATCH: usize = 1024;
const TIMES_MAX: usize = 1 << 20; // batches of a thread that are timed one by one

#[derive(Default)]
struct Done {
    ops: u64,
    misses: u64,
    cpu_ns: u64,
    wall_ns: u64,
    wrong: u64,
    times: Vec<u32>, // of each batch, ns
}

fn thread_cpu_ns() -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: t is a timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

fn new_value(key: u32, bytes: usize) -> Arc<[u8]> {
    let mut value: Arc<[u8]> = std::iter::repeat_n(key as u8, bytes).collect();
    Arc::get_mut(&mut value).expect("new")[..4].copy_from_slice(&key.to_ne_bytes());
    value
}

fn batch<C: AnyCache<Arc<[u8]>>>(cache: &C, keys: &[u32], value: usize, done: &mut Done) {
    for &key in keys {
        match cache.get(&id(key)) {
            Some(v) => done.wrong += (v[..4] != key.to_ne_bytes()) as u64,
            None => {
                cache.insert(id(key), new_value(key, value));
                done.misses += 1;
            }
        }
    }
    done.ops += keys.len() as u64;
}

fn work<C: AnyCache<Arc<[u8]>>>(
    cache: C,
    keys: Arc<Vec<u32>>,
    first: usize,
    value: usize,
    stop: Arc<AtomicBool>,
    begin: Arc<Barrier>,
) -> Done {
    let mut at = first;
    let mut step = |done: &mut Done| {
        let end = (at + BATCH).min(keys.len());
        let begun = Instant::now();
        batch(&cache, &keys[at..end], value, done);
        if end - at == BATCH && done.times.len() < done.times.capacity() {
            done.times.push(begun.elapsed().as_nanos() as u32);
        }
        at = if end == keys.len() { 0 } else { end };
    };
    // a lap fills the cache
    let mut warm = Done::default();
    while warm.ops < keys.len() as u64 {
        step(&mut warm);
    }
    let mut done = Done { times: Vec::with_capacity(TIMES_MAX), ..Done::default() };
    begin.wait();
    let (cpu, wall) = (thread_cpu_ns(), Instant::now());
    while !stop.load(Ordering::Relaxed) {
        step(&mut done);
    }
    done.wrong += warm.wrong;
    done.cpu_ns = thread_cpu_ns() - cpu;
    done.wall_ns = wall.elapsed().as_nanos() as u64;
    done
}

/// The time of an operation in the batch that this part of all were quicker than; 0: none was timed.
fn quantile(times: &[u32], part: f64) -> f64 {
    times.get(((times.len().max(1) - 1) as f64 * part) as usize).map_or(0.0, |&t| t as f64 / BATCH as f64)
}

fn measure<C: AnyCache<Arc<[u8]>>>(
    cache: C,
    keys: Arc<Vec<u32>>,
    threads: usize,
    seconds: f64,
    value: usize,
) -> Done {
    let stop = Arc::new(AtomicBool::new(false));
    let begin = Arc::new(Barrier::new(threads + 1));
    let all: Vec<_> = (0..threads)
        .map(|t| {
            let (cache, keys, stop, begin) = (cache.clone(), keys.clone(), stop.clone(), begin.clone());
            let first = keys.len() / threads * t;
            std::thread::spawn(move || work(cache, keys, first, value, stop, begin))
        })
        .collect();
    begin.wait();
    std::thread::sleep(Duration::from_secs_f64(seconds));
    stop.store(true, Ordering::Relaxed);
    let mut sum = Done::default();
    for t in all {
        let d = t.join().expect("a thread ends");
        sum.ops += d.ops;
        sum.misses += d.misses;
        sum.cpu_ns += d.cpu_ns;
        sum.wall_ns = sum.wall_ns.max(d.wall_ns);
        sum.wrong += d.wrong;
        sum.times.extend(d.times);
    }
    sum.times.sort_unstable();
    sum
}

pub fn run(cache: &str, path: &str, capacity: u64, threads: usize, seconds: f64, value: usize) {
    let bytes = fs::read(path).unwrap_or_else(|e| fail(&format!("{path}: {e}")));
    let keys: Vec<u32> = bytes.chunks_exact(4).map(|b| u32::from_ne_bytes(b.try_into().expect("four"))).collect();
    if keys.len() < threads || threads == 0 || value < 4 {
        fail("too few keys, threads or bytes of a value")
    }
    let keys = Arc::new(keys);
    let items = capacity as usize / value;
    let d = match cache {
        "quick_cache" => measure(Quick::new(items, capacity, false), keys, threads, seconds, value),
        "moka" => measure(Moka::new(items, capacity), keys, threads, seconds, value),
        _ => fail(&format!("there is no cache {cache}; quick_cache and moka are")),
    };
    println!(
        "{{\"cache\": \"{cache}\", \"threads\": {threads}, \"ops\": {}, \"misses_percent\": {:.3}, \
         \"ops_per_s\": {:.0}, \"wall_ns\": {:.2}, \"cpu_ns\": {:.2}, \"p10_ns\": {:.2}, \"median_ns\": {:.2}, \"wrong\": {}}}",
        d.ops,
        100.0 * d.misses as f64 / d.ops as f64,
        d.ops as f64 * 1e9 / d.wall_ns as f64,
        d.wall_ns as f64 * threads as f64 / d.ops as f64,
        d.cpu_ns as f64 / d.ops as f64,
        quantile(&d.times, 0.1),
        quantile(&d.times, 0.5),
        d.wrong
    );
    if d.wrong > 0 {
        std::process::exit(1)
    }
}

// SPDX-License-Identifier: Apache-2.0
//! A trace through a cache: a get, and after a miss an insert of the key's size. A value is its size
//! alone, so that sizes may be larger than memory.
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};

use crate::caches::{id, AnyCache, Moka, Quick};
use crate::{fail, number};

struct Trace {
    keys: Vec<u32>,
    sizes: Vec<u32>,
}

/// A key's size is that of its first request, as everywhere in bench/.
fn load(path: &str) -> Trace {
    let file = File::open(path).unwrap_or_else(|e| fail(&format!("{path}: {e}")));
    let mut numbers = HashMap::new();
    let mut trace = Trace { keys: Vec::new(), sizes: Vec::new() };
    for line in BufReader::new(file).lines() {
        let line = line.unwrap_or_else(|e| fail(&format!("{path}: {e}")));
        let Some((name, bytes)) = line.split_once(',') else {
            fail(&format!("{path}: {line} is not key,bytes"))
        };
        let (name, bytes): (u64, u32) = (number(name), number(bytes));
        let next = trace.sizes.len() as u32;
        let key = *numbers.entry(name).or_insert(next);
        if key == next {
            trace.sizes.push(bytes);
        }
        trace.keys.push(key);
    }
    if trace.keys.is_empty() {
        fail(&format!("{path} holds no requests"))
    }
    trace
}

fn replay<C: AnyCache<u32>>(cache: C, trace: &Trace, skip: usize) -> f64 {
    let (mut hits, mut gets) = (0u64, 0u64);
    for (i, &key) in trace.keys.iter().enumerate() {
        let hit = cache.get(&id(key)).is_some();
        if !hit {
            cache.insert(id(key), trace.sizes[key as usize]);
            cache.settle();
        }
        gets += (i >= skip) as u64;
        hits += (hit && i >= skip) as u64;
    }
    hits as f64 / gets as f64
}

pub fn run(cache: &str, path: &str, skip: f64, sizes: &[&str]) {
    let trace = load(path);
    let skip = (trace.keys.len() as f64 * skip) as usize;
    let distinct: u64 = trace.sizes.iter().map(|&s| s as u64).sum();
    let mut out = Vec::new();
    for size in sizes {
        let bytes: u64 = number(size);
        let items = (bytes as f64 * trace.sizes.len() as f64 / distinct as f64) as usize + 1;
        let hits = match cache {
            "quick_cache" => replay(Quick::new(items, bytes, true), &trace, skip),
            "moka" => replay(Moka::new(items, bytes), &trace, skip),
            _ => fail(&format!("there is no cache {cache}; quick_cache and moka are")),
        };
        out.push(format!("\"{bytes}\": {:.3}", 100.0 * (1.0 - hits)));
    }
    println!("{{\"cache\": \"{cache}\", \"misses_percent\": {{{}}}}}", out.join(", "));
}

// SPDX-License-Identifier: Apache-2.0
//! quick_cache and moka on the traces and requests that libocache is measured on: hit ratios
//! (`replay`) and the time of an operation (`speed`). One JSON object on standard output.
mod caches;
mod replay;
mod speed;

use std::process::exit;

const USAGE: &str = "usage: rivals replay CACHE TRACE SKIP SIZE...   hit ratio of a trace of key,bytes lines
       rivals speed CACHE KEYS CAPACITY THREADS SECONDS VALUE
CACHE is quick_cache or moka; TRACE is not packed; SKIP is the part that is not counted; KEYS is a file of
32-bit key numbers in this machine's order; sizes are bytes";

pub fn fail(text: &str) -> ! {
    eprintln!("rivals: {text}");
    exit(2)
}

pub fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| fail(&format!("{text} is not a number\n{USAGE}")))
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["replay", cache, trace, skip, sizes @ ..] if !sizes.is_empty() => {
            replay::run(cache, trace, number(skip), sizes)
        }
        ["speed", cache, keys, capacity, threads, seconds, value] => speed::run(
            cache,
            keys,
            number(capacity),
            number(threads),
            number(seconds),
            number(value),
        ),
        _ => fail(USAGE),
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What tests/clients/rust-memcache runs: the crate `memcache` in text, binary, and binary with SASL.
//!     clients HOST:PORT ascii|binary [USER PASSWORD]
//! A connection has one request at a time; threads have connections of their own, from its pool.
use std::collections::HashMap;
use std::fmt::Debug;
use std::thread;
use std::time::Duration;

use memcache::{Client, CommandError, MemcacheError};

struct Tally {
    passed: u32,
    failed: u32,
}

impl Tally {
    fn same<T: PartialEq + Debug>(&mut self, what: &str, got: T, want: T) {
        if got == want {
            self.passed += 1;
            return;
        }
        self.failed += 1;
        let short = |x: &T| format!("{:?}", x).chars().take(200).collect::<String>();
        println!("FAILED {}\n  want {}\n  got  {}", what, short(&want), short(&got));
    }
}

/// What came of a command, in a word.
fn word<T>(r: Result<T, MemcacheError>) -> &'static str {
    match r {
        Ok(_) => "done",
        Err(MemcacheError::CommandError(CommandError::KeyExists)) => "there",
        Err(MemcacheError::CommandError(CommandError::KeyNotFound)) => "not there",
        Err(MemcacheError::CommandError(CommandError::ValueTooLarge)) => "too large",
        Err(MemcacheError::ServerError(_)) => "refused",
        Err(MemcacheError::CommandError(_)) => "refused",
        Err(_) => "error",
    }
}

fn get(c: &Client, key: &str) -> Option<String> {
    c.get(key).unwrap_or_else(|e| Some(e.to_string()))
}

fn all(t: &mut Tally, c: &Client, binary: bool) {
    // in text the crate takes NOT_STORED for done
    let there = if binary { "there" } else { "done" };

    t.same("a miss", get(c, "none"), None);
    t.same("set", word(c.set("k", "value", 0)), "done");
    t.same("get", get(c, "k"), Some("value".into()));
    t.same("set of the same", word(c.set("k", "value", 0)), "done");
    t.same("set of another", word(c.set("k", "other", 0)), there);
    t.same("is what it was", get(c, "k"), Some("value".into()));
    t.same("add of what is there", word(c.add("k", "value", 0)), there);
    t.same("add", word(c.add("new", "1", 0)), "done");
    t.same("get of what was added", get(c, "new"), Some("1".into()));
    t.same("delete", c.delete("k").ok(), Some(true));
    t.same("delete again", c.delete("k").ok(), Some(false));
    t.same("gone", get(c, "k"), None);
    t.same("set anew", word(c.set("k", "other", 0)), "done");
    t.same("touch", c.touch("k", 3600).ok(), Some(true));
    t.same("touch of a miss", c.touch("none", 3600).ok(), Some(false));

    t.same("an expiry of 30 days", word(c.set("month", "v", 2592000)), "done");
    t.same("is there", get(c, "month"), Some("v".into()));
    t.same("a date of 1970", word(c.set("past", "v", 2592001)), "done");
    t.same("is over", get(c, "past"), None);

    let large: Vec<u8> = (0..960_000u32).map(|i| (i.wrapping_mul(2654435761) >> 13) as u8).collect();
    t.same("a large value", word(c.set("large", &large[..], 0)), "done");
    t.same("comes back", c.get::<Vec<u8>>("large").ok().flatten() == Some(large.clone()), true);

    let keys: Vec<String> = (0..300).map(|i| format!("m{}", i)).collect();
    let want: HashMap<String, String> =
        keys.iter().step_by(3).map(|k| (k.clone(), format!("{} is there", k))).collect();
    for (k, v) in &want {
        t.same("set of many", word(c.set(k, &v[..], 0)), "done");
    }
    let names: Vec<&str> = keys.iter().map(|k| &k[..]).collect();
    t.same("a multi-get", c.gets(&names).unwrap_or_default(), want);

    let threads: Vec<_> = (0..8)
        .map(|n| {
            let c = c.clone();
            thread::spawn(move || {
                (0..200).filter(|i| {
                    let key = format!("t{}-{}", n, i);
                    word(c.set(&key, &key[..], 0)) == "done" && get(&c, &key) == Some(key)
                }).count()
            })
        })
        .collect();
    t.same("threads", threads.into_iter().map(|h| h.join().unwrap_or(0)).sum::<usize>(), 1600);

    t.same("increment is refused", word(c.increment("new", 1)), "refused");
    t.same("append is refused", word(c.append("new", "x")), "refused");
    t.same("replace is refused", word(c.replace("new", "2", 0)), "refused");
    let huge: Vec<u8> = (0..1_100_000u32).map(|i| (i.wrapping_mul(2654435761) >> 11) as u8).collect();
    t.same("too large", word(c.set("huge", &huge[..], 0)), if binary { "too large" } else { "refused" });
    t.same("in step", get(c, "new"), Some("1".into()));

    println!("restart");
    let _ = std::io::stdin().read_line(&mut String::new());
    for _ in 0..300 {
        if get(c, "k") == Some("other".into()) {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    t.same("after a restart of the server", get(c, "k"), Some("other".into()));
    t.same("the large one", c.get::<Vec<u8>>("large").ok().flatten() == Some(large), true);
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let mut t = Tally { passed: 0, failed: 0 };
    let user = if args.len() > 4 { format!("{}:{}@", args[3], args[4]) } else { String::new() };
    let url = format!("memcache://{}{}?timeout=10&connect_timeout=2&tcp_nodelay=true&protocol={}", user, args[1], args[2]);

    match Client::with_pool_size(url, 4) {
        Ok(c) if args.len() > 4 && args[4] == "wrong" => {
            t.same("a wrong password", word(c.set("k", "v", 0)) != "done", true)
        }
        Ok(c) => all(&mut t, &c, args[2] == "binary"),
        Err(e) => {
            let said = e.to_string();
            t.same("a connection", if args.len() > 4 && args[4] == "wrong" { "done" } else { &said[..] }, "done")
        }
    }
    println!("{} passed, {} failed", t.passed, t.failed);
    std::process::exit(if t.failed > 0 { 1 } else { 0 });
}

// SPDX-License-Identifier: Apache-2.0
//! Both caches behind one trait, with a weigher in bytes. Keys are the 16 bytes of a UUID, hashed by
//! foldhash: quick_cache's own default, and what moka is given instead of its slower SipHash.
use std::sync::Arc;

use foldhash::fast::RandomState;

/// The id that the C programs make of a key number (SplitMix64's finaliser, twice).
pub fn id(key: u32) -> (u64, u64) {
    fn mix(mut x: u64) -> u64 {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58476d1ce4e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d049bb133111eb);
        x ^ (x >> 31)
    }
    (mix(key as u64), mix(!(key as u64)))
}

pub type Key = (u64, u64);

pub trait Weighed: Clone + Send + Sync + 'static {
    fn bytes(&self) -> u32;
}

impl Weighed for u32 {
    fn bytes(&self) -> u32 {
        *self
    }
}

impl Weighed for Arc<[u8]> {
    fn bytes(&self) -> u32 {
        self.len() as u32
    }
}

pub trait AnyCache<V>: Clone + Send + 'static {
    fn get(&self, key: &Key) -> Option<V>;
    fn insert(&self, key: Key, value: V);
    /// Work that was put off, done now.
    fn settle(&self) {}
}

#[derive(Clone)]
struct Weighs;

impl<V: Weighed> quick_cache::Weighter<Key, V> for Weighs {
    fn weight(&self, _: &Key, value: &V) -> u64 {
        value.bytes() as u64
    }
}

#[derive(Clone)]
pub struct Quick<V: Weighed>(Arc<quick_cache::sync::Cache<Key, V, Weighs, RandomState>>);

impl<V: Weighed> Quick<V> {
    /// One shard is best for its hit ratio, its own number for its speed.
    pub fn new(items: usize, bytes: u64, one_shard: bool) -> Self {
        let mut options = quick_cache::OptionsBuilder::new();
        options.estimated_items_capacity(items).weight_capacity(bytes);
        if one_shard {
            options.shards(1);
        }
        Quick(Arc::new(quick_cache::sync::Cache::with_options(
            options.build().expect("options are complete"),
            Weighs,
            RandomState::default(),
            quick_cache::sync::DefaultLifecycle::default(),
        )))
    }
}

impl<V: Weighed> AnyCache<V> for Quick<V> {
    #[inline]
    fn get(&self, key: &Key) -> Option<V> {
        self.0.get(key)
    }
    #[inline]
    fn insert(&self, key: Key, value: V) {
        self.0.insert(key, value)
    }
}

#[derive(Clone)]
pub struct Moka<V: Weighed>(moka::sync::Cache<Key, V, RandomState>);

impl<V: Weighed> Moka<V> {
    pub fn new(items: usize, bytes: u64) -> Self {
        Moka(
            moka::sync::Cache::builder()
                .initial_capacity(items)
                .max_capacity(bytes)
                .weigher(|_: &Key, value: &V| value.bytes())
                .build_with_hasher(RandomState::default()),
        )
    }
}

impl<V: Weighed> AnyCache<V> for Moka<V> {
    #[inline]
    fn get(&self, key: &Key) -> Option<V> {
        self.0.get(key)
    }
    #[inline]
    fn insert(&self, key: Key, value: V) {
        self.0.insert(key, value)
    }
    fn settle(&self) {
        self.0.run_pending_tasks()
    }
}

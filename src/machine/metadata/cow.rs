//! A map that is cheap to copy and to change a little: entries are dealt into buckets, and copies share every
//! bucket that neither has changed since. Changing one entry copies one bucket, not the map.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use foldhash::fast::FixedState;

/// Many enough that a bucket stays in the hundreds at 100,000 entries, few enough that a copy of the map is a few
/// hundred reference counts.
const BUCKETS: usize = 256;
/// Any fixed seed: which bucket an entry is in shows nowhere but in the order of iteration.
const SEED: u64 = 0x52_69_6e_67_6c_6f_67;

/// A map whose copies share what they have in common.
#[derive(Clone, PartialEq, Eq)]
pub struct CowMap<K, V> {
    buckets: Vec<Arc<BTreeMap<K, V>>>,
    len: usize,
}

impl<K: Ord + Hash + Clone, V: Clone> CowMap<K, V> {
    /// An empty map.
    #[must_use]
    pub fn new() -> Self {
        let empty = Arc::new(BTreeMap::new());
        CowMap { buckets: vec![empty; BUCKETS], len: 0 }
    }

    fn bucket<Q: Hash + ?Sized>(key: &Q) -> usize {
        FixedState::with_seed(SEED).hash_one(key) as usize % BUCKETS
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value at this key.
    pub fn get<Q: Ord + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.buckets[Self::bucket(key)].get(key)
    }

    /// The value at this key, to be changed; copies its bucket if another map shares it.
    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let bucket = &mut self.buckets[Self::bucket(key)];
        if !bucket.contains_key(key) {
            return None;
        }
        Arc::make_mut(bucket).get_mut(key)
    }

    /// Puts a value at this key and returns the one before.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let before = Arc::make_mut(&mut self.buckets[Self::bucket(&key)]).insert(key, value);
        self.len += usize::from(before.is_none());
        before
    }

    /// Takes the entry at this key out.
    pub(super) fn remove<Q: Ord + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let bucket = &mut self.buckets[Self::bucket(key)];
        if !bucket.contains_key(key) {
            return None;
        }
        let removed = Arc::make_mut(bucket).remove(key);
        self.len -= usize::from(removed.is_some());
        removed
    }

    /// All entries, in an order that is the same for equal maps but otherwise means nothing.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.buckets.iter().flat_map(|bucket| bucket.iter())
    }

    /// Keys whose values may differ between the two maps; those in buckets that both share are left out unseen.
    pub(super) fn changed_keys<'a>(&'a self, later: &'a Self) -> Vec<&'a K> {
        let mut keys = Vec::new();
        for (old, new) in self.buckets.iter().zip(&later.buckets) {
            if !Arc::ptr_eq(old, new) {
                keys.extend(new.keys());
                keys.extend(old.keys().filter(|key| !new.contains_key(*key)));
            }
        }
        keys
    }
}

impl<K: Ord + Hash + Clone, V: Clone> Default for CowMap<K, V> {
    fn default() -> Self {
        CowMap::new()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for CowMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.buckets.iter().flat_map(|bucket| bucket.iter())).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_as_a_map_and_copies_are_independent(steps in prop::collection::vec((0u16..400, any::<bool>()), 1..300)) {
            let (mut map, mut model) = (CowMap::new(), BTreeMap::new());
            let mut copies = Vec::new();
            for (step, (key, insert)) in steps.into_iter().enumerate() {
                if insert {
                    prop_assert_eq!(map.insert(key, step), model.insert(key, step));
                } else {
                    prop_assert_eq!(map.remove(&key), model.remove(&key));
                }
                if step % 50 == 0 {
                    copies.push((map.clone(), model.clone()));
                }
            }
            copies.push((map.clone(), model));
            for (copy, model) in copies {
                prop_assert_eq!(copy.len(), model.len());
                let entries: BTreeMap<_, _> = copy.iter().map(|(k, v)| (*k, *v)).collect();
                prop_assert_eq!(&entries, &model);
                let changed = copy.changed_keys(&map);
                for key in 0..400 {
                    prop_assert!(copy.get(&key) == map.get(&key) || changed.contains(&&key));
                }
            }
        }
    }

    #[test]
    fn a_change_copies_one_bucket() {
        let mut map: CowMap<u32, u32> = CowMap::new();
        for key in 0..10_000 {
            map.insert(key, 0);
        }
        let before = map.clone();
        *map.get_mut(&77).unwrap() = 1;
        let shared = map.buckets.iter().zip(&before.buckets).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert_eq!(shared, BUCKETS - 1);
        assert_eq!(before.get(&77), Some(&0));
        assert!(before.changed_keys(&map).contains(&&77));
    }
}

//! A table with stable slots: what is in it is found by slot and generation, so that a stale key misses.

use std::marker::PhantomData;

use crate::ids::{SessionKey, TrackKey};
use crate::prefetch::prefetch;

/// A slot's number and which of its owners is meant.
pub trait SlotKey: Copy {
    /// Makes the key of an owner.
    fn new(slot: u32, generation: u32) -> Self;
    /// The slot's number.
    fn slot(self) -> u32;
    /// Which of the slot's owners.
    fn generation(self) -> u32;
}

macro_rules! slot_keys {
    ($($name:ident),*) => {$(
        impl SlotKey for $name {
            fn new(slot: u32, generation: u32) -> Self {
                Self { slot, generation }
            }
            fn slot(self) -> u32 {
                self.slot
            }
            fn generation(self) -> u32 {
                self.generation
            }
        }
    )*};
}

slot_keys!(SessionKey, TrackKey);

/// Values in numbered slots; a slot is used again under a new generation.
///
/// Values stay where they are: the table itself is small and dense, and growing it moves none.
pub struct Slots<K, T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    key: PhantomData<K>,
}

struct Entry<T> {
    generation: u32,
    value: Option<Box<T>>,
}

impl<K, T> Default for Slots<K, T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new(), key: PhantomData }
    }
}

impl<K: SlotKey, T> Slots<K, T> {
    /// Puts in what `make` builds from its key.
    pub fn insert_with(&mut self, make: impl FnOnce(K) -> T) -> K {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry { generation: 0, value: None });
            (self.entries.len() - 1) as u32
        });
        let entry = &mut self.entries[slot as usize];
        entry.generation = entry.generation.wrapping_add(1);
        let key = K::new(slot, entry.generation);
        entry.value = Some(Box::new(make(key)));
        key
    }

    /// Takes out what `key` names.
    pub fn remove(&mut self, key: K) -> Option<T> {
        self.get(key)?;
        self.free.push(key.slot());
        self.entries[key.slot() as usize].value.take().map(|value| *value)
    }

    /// What `key` names, unless it is gone.
    pub fn get(&self, key: K) -> Option<&T> {
        let entry = self.entries.get(key.slot() as usize)?;
        entry.value.as_deref().filter(|_| entry.generation == key.generation())
    }

    /// As [`Slots::get`], to change it.
    pub fn get_mut(&mut self, key: K) -> Option<&mut T> {
        let entry = self.entries.get_mut(key.slot() as usize)?;
        entry.value.as_deref_mut().filter(|_| entry.generation == key.generation())
    }

    /// Asks the core for the first `bytes` bytes of what is in `key`'s slot.
    pub fn prefetch(&self, key: K, bytes: usize) {
        if let Some(value) = self.entries.get(key.slot() as usize).and_then(|e| e.value.as_ref()) {
            prefetch::<T>(value, bytes);
        }
    }

    /// The key of what is in `slot`, if anything is.
    pub fn key_at(&self, slot: u32) -> Option<K> {
        let entry = self.entries.get(slot as usize)?;
        entry.value.as_ref()?;
        Some(K::new(slot, entry.generation))
    }

    /// Everything with its key.
    pub fn iter(&self) -> impl Iterator<Item = (K, &T)> {
        self.entries.iter().enumerate().filter_map(|(slot, entry)| {
            let key = K::new(slot as u32, entry.generation);
            entry.value.as_deref().map(|value| (key, value))
        })
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_misses_the_slots_next_owner() {
        let mut slots = Slots::<SessionKey, char>::default();
        let first = slots.insert_with(|_| 'a');
        assert_eq!(slots.remove(first), Some('a'));
        let second = slots.insert_with(|_| 'b');
        assert_eq!(first.slot, second.slot);
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get(second), Some(&'b'));
        assert_eq!((slots.len(), slots.iter().count()), (1, 1));
        assert_eq!(slots.key_at(second.slot), Some(second));
    }
}

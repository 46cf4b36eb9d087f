//! Names of groups and clients as labels, of which there is a bound.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Names that are told apart by a label, of groups and of clients each. Further ones are counted together as `other`. None is
/// forgotten, so that a gauge goes down under the label under which it went up.
pub const NAMES_MAX: usize = 256;

/// What stands for names beyond [`NAMES_MAX`].
const OTHER: &str = "other";

/// Names in the order in which they came, as many as may be told apart.
#[derive(Debug, Default)]
pub(super) struct Names {
    places: Mutex<HashMap<String, usize>>,
}

impl Names {
    /// The place of a name, which stays; [`NAMES_MAX`] for names beyond the bound.
    pub(super) fn place(&self, name: &str) -> usize {
        // A panic elsewhere leaves the map whole: nothing happens to it but an insertion.
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        match places.get(name) {
            Some(&place) => place,
            None if places.len() == NAMES_MAX => NAMES_MAX,
            None => {
                let place = places.len();
                places.insert(name.to_owned(), place);
                place
            }
        }
    }

    pub(super) fn label(&self, name: &str) -> String {
        if self.place(name) == NAMES_MAX { OTHER.to_owned() } else { name.to_owned() }
    }

    /// Every name with its place, and `other`.
    pub(super) fn all(&self) -> Vec<(usize, String)> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let known = places.iter().map(|(name, &place)| (place, name.clone()));
        known.chain([(NAMES_MAX, OTHER.to_owned())]).collect()
    }
}

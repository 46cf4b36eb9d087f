//! An offer of ours that got no answer. Source: RFC 9429 §4.1.10.2.

use super::negotiator::{Negotiator, Outstanding};
use super::state::{Section, State};

impl Negotiator {
    /// Takes our outstanding offer back: its tracks wait again, the next [`Negotiator::make_offer`] brings them under other SSRCs, and
    /// an answer to it is refused with `State`. Nothing happens without an outstanding offer.
    ///
    /// A client that was only late may have applied it. So the sections and numbers that it named keep their meaning in our next
    /// offer, which such a client can apply as well as one that never saw the first.
    pub fn rollback_offer(&mut self) {
        let Some(Outstanding { state, restarts, .. }) = self.outstanding.take() else { return };
        if restarts {
            // The engine has the new credentials already; the peer still has to hear of them.
            self.restart.get_or_insert(state.ice);
        }
        self.agreed.payloads = state.payloads;
        self.agreed.extension_ids = state.extension_ids;
        let without_leg = |section| Section { leg: None, ..section };
        self.withdrawn = state.sections.into_iter().map(without_leg).collect();
    }

    /// Puts the sections of a withdrawn offer where that offer had them, free for tracks.
    pub(super) fn restore_withdrawn(&self, next: &mut State) {
        for (index, withdrawn) in self.withdrawn.iter().enumerate() {
            match next.sections.get_mut(index) {
                None => next.sections.push(withdrawn.clone()),
                Some(slot) if slot.stopped && !withdrawn.stopped => *slot = withdrawn.clone(),
                Some(_) => {}
            }
        }
    }
}

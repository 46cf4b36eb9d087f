//! Which client's session is in which call: what messages are routed by, and what is told of sessions by HTTP.
//!
//! Names are a client's own: two clients may use the same ids, and neither reaches the other's.

use std::collections::{BTreeMap, HashMap};

use super::directory::{LookupError, SessionConfig};

/// The calls of all clients. `R` leads to a call.
pub(super) struct Registry<R> {
    groups: HashMap<String, Group<R>>,
}

struct Group<R> {
    calls: HashMap<String, Entry<R>>,
    /// Session → call.
    sessions: HashMap<String, String>,
}

struct Entry<R> {
    route: R,
    sessions: BTreeMap<String, SessionConfig>,
}

impl<R> Default for Registry<R> {
    fn default() -> Self {
        Self { groups: HashMap::new() }
    }
}

impl<R: Clone> Registry<R> {
    /// Notes a session that joins and gives the way to its call, which `make` makes when this is its first session.
    /// `None` when the client has a session of that id already.
    pub(super) fn join(&mut self, config: SessionConfig, make: impl FnOnce() -> R) -> Option<R> {
        let new = || Group { calls: HashMap::new(), sessions: HashMap::new() };
        let group = self.groups.entry(config.group.clone()).or_insert_with(new);
        if group.sessions.contains_key(&config.session) {
            return None;
        }
        group.sessions.insert(config.session.clone(), config.call.clone());
        let entry = group
            .calls
            .entry(config.call.clone())
            .or_insert_with(|| Entry { route: make(), sessions: BTreeMap::new() });
        entry.sessions.insert(config.session.clone(), config);
        Some(entry.route.clone())
    }

    /// The way to the call of a client's session.
    pub(super) fn route(&self, group: &str, session: &str) -> Option<R> {
        let group = self.groups.get(group)?;
        let call = group.sessions.get(session)?;
        Some(group.calls.get(call)?.route.clone())
    }

    /// Forgets a session; whether its call has none left and is forgotten too.
    pub(super) fn leave(&mut self, group: &str, session: &str) -> bool {
        let Some(of_client) = self.groups.get_mut(group) else { return false };
        let Some(call) = of_client.sessions.remove(session) else { return false };
        let Some(entry) = of_client.calls.get_mut(&call) else { return false };
        entry.sessions.remove(session);
        let is_empty = entry.sessions.is_empty();
        if is_empty {
            of_client.calls.remove(&call);
        }
        if of_client.calls.is_empty() {
            self.groups.remove(group);
        }
        is_empty
    }

    /// Forgets the calls whose way is such; what they had.
    pub(super) fn bury(&mut self, is_dead: impl Fn(&R) -> bool) -> Vec<SessionConfig> {
        let mut lost = Vec::new();
        for group in self.groups.values_mut() {
            for (_, entry) in group.calls.extract_if(|_, entry| is_dead(&entry.route)) {
                entry.sessions.keys().for_each(|session| drop(group.sessions.remove(session)));
                lost.extend(entry.sessions.into_values());
            }
        }
        self.groups.retain(|_, group| !group.calls.is_empty());
        lost
    }

    /// The ways to all calls.
    pub(super) fn routes(&self) -> Vec<R> {
        let calls = self.groups.values().flat_map(|group| group.calls.values());
        calls.map(|entry| entry.route.clone()).collect()
    }

    /// All sessions of a client's call.
    ///
    /// # Errors
    /// `UnknownGroup`, `UnknownCall`.
    pub(super) fn sessions(
        &self,
        group: &str,
        call: &str,
    ) -> Result<Vec<SessionConfig>, LookupError> {
        Ok(self.entry(group, call)?.sessions.values().cloned().collect())
    }

    /// One session.
    ///
    /// # Errors
    /// Every [`LookupError`].
    pub(super) fn session(
        &self,
        group: &str,
        call: &str,
        session: &str,
    ) -> Result<SessionConfig, LookupError> {
        let found = self.entry(group, call)?.sessions.get(session);
        found.cloned().ok_or(LookupError::UnknownSession)
    }

    fn entry(&self, group: &str, call: &str) -> Result<&Entry<R>, LookupError> {
        let group = self.groups.get(group).ok_or(LookupError::UnknownGroup)?;
        group.calls.get(call).ok_or(LookupError::UnknownCall)
    }
}

#[cfg(test)]
mod tests {
    use super::super::directory::SessionProps;
    use super::*;

    fn config(group: &str, call: &str, session: &str) -> SessionConfig {
        SessionConfig {
            group: group.to_owned(),
            call: call.to_owned(),
            user: "user".to_owned(),
            session: session.to_owned(),
            props: SessionProps::default(),
        }
    }

    #[test]
    fn a_call_comes_with_its_first_session_and_goes_with_its_last() {
        let mut registry = Registry::default();
        assert_eq!(registry.join(config("g", "c", "1"), || 7), Some(7));
        assert_eq!(registry.join(config("g", "c", "2"), || 8), Some(7));
        assert_eq!(registry.sessions("g", "c").map(|all| all.len()), Ok(2));
        assert_eq!(registry.routes(), [7]);
        assert!(!registry.leave("g", "1"));
        assert_eq!(registry.route("g", "1"), None);
        assert!(registry.leave("g", "2"));
        assert!(!registry.leave("g", "2"));
        assert_eq!(registry.sessions("g", "c"), Err(LookupError::UnknownGroup));
        assert_eq!(registry.join(config("g", "c", "1"), || 9), Some(9));
    }

    #[test]
    fn an_id_is_taken_once_in_all_calls_of_a_client() {
        let mut registry = Registry::default();
        registry.join(config("g", "c", "1"), || 1);
        assert_eq!(registry.join(config("g", "c", "1"), || 2), None);
        assert_eq!(registry.join(config("g", "d", "1"), || 2), None);
        assert_eq!(registry.sessions("g", "d"), Err(LookupError::UnknownCall));
    }

    #[test]
    fn a_dead_call_takes_its_own_sessions_and_no_others() {
        let mut registry = Registry::default();
        for (group, call, session, route) in
            [("g", "c", "1", 1), ("g", "c", "2", 1), ("g", "d", "3", 2), ("h", "c", "1", 3)]
        {
            registry.join(config(group, call, session), || route);
        }
        let lost = registry.bury(|route| *route == 1);
        assert_eq!(
            lost.iter().map(|config| config.session.as_str()).collect::<Vec<_>>(),
            ["1", "2"]
        );
        assert_eq!(registry.route("g", "1"), None);
        assert_eq!(registry.route("g", "3"), Some(2));
        assert_eq!(registry.route("h", "1"), Some(3));
        registry.bury(|route| *route == 3);
        assert_eq!(registry.sessions("h", "c"), Err(LookupError::UnknownGroup));
    }

    #[test]
    fn clients_do_not_reach_each_other() {
        let mut registry = Registry::default();
        registry.join(config("g", "c", "1"), || 1);
        assert_eq!(registry.join(config("h", "c", "1"), || 2), Some(2));
        assert_eq!(registry.route("g", "1"), Some(1));
        assert_eq!(registry.route("h", "1"), Some(2));
        assert!(registry.leave("h", "1"));
        assert_eq!(registry.route("g", "1"), Some(1));
        let found = registry.session("g", "c", "2");
        assert_eq!(found, Err(LookupError::UnknownSession));
    }
}

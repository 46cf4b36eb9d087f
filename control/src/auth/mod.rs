//! Who may use rtcd's API: registered clients by key or bearer token, and the admin.
//!
//! A key's way: `limiter` (has this source, or somebody at this client, been wrong too often?) →
//! `gate` (its turn to hash) → `password` (Argon2id against the `store`). A key that was right is
//! remembered for a while, so that most requests cost no hash, and neither wait nor count.

mod bounded;
mod error;
mod gate;
mod limiter;
mod password;
mod queue;
mod token;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::hmac;
use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use subtle::ConstantTimeEq as _;
use tokio::time::Instant;

use crate::config::{Secret, SecurityConfig};
use crate::service::fill_random;
use crate::store::{ID_BYTES_MAX, Store, StoreError};
use bounded::Bounded;
pub use error::{AuthError, RegisterError, UnregisterError};
use gate::{Busy, Gate};
use limiter::{Limited, Limiter, Source};
use password::Passwords;
pub use password::{KEY_BYTES_MAX, KEY_BYTES_MIN};
use token::Tokens;

/// How long a key that was right is right without another look.
const REMEMBERED_FOR: Duration = Duration::from_secs(10 * 60);

/// Keys that are remembered; of more, those that were used longest ago are hashed again.
const REMEMBERED_MAX: usize = 10_000;

/// When to come back if there was no turn to hash.
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// A token's random bytes: 32 characters of base64.
const TOKEN_BYTES: usize = 24;

/// Who a request comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Client {
    /// The id that it registered; empty for the admin.
    pub id: String,
    /// Whether it is the admin.
    pub is_admin: bool,
}

/// What is counted.
#[derive(Clone, Debug, Default)]
pub struct AuthCounters {
    /// Keys that clients sent, by what came of them.
    pub attempts: Family<OutcomeLabel, Counter>,
}

/// What came of a key.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct OutcomeLabel {
    /// `right`, `remembered`, `wrong`, `failed` (the store), `source_limited`, `client_limited` or
    /// `busy`.
    pub outcome: &'static str,
}

impl AuthCounters {
    fn count(&self, outcome: &'static str) {
        self.attempts.get_or_create(&OutcomeLabel { outcome }).inc();
    }
}

/// Registered clients, their tokens, and the rules.
#[derive(Clone, Debug)]
pub struct Auth(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Store,
    passwords: Passwords,
    admin: Option<Secret>,
    self_registration: bool,
    token_lifetime: Duration,
    gate: Arc<Gate>,
    limiter: Mutex<Limiter>,
    known: Mutex<Known>,
    /// Keys are remembered by their code under this one, which never leaves the process.
    code_key: hmac::Key,
    counters: AuthCounters,
}

/// What is known without the store.
#[derive(Debug)]
struct Known {
    tokens: Tokens,
    /// The code of the key that was right, and until when that holds.
    keys: Bounded<String, (hmac::Tag, Instant)>,
}

impl Auth {
    /// Over the clients in `store`.
    pub fn new(store: Store, config: &SecurityConfig) -> Self {
        Self::with_gate(store, config, Gate::new())
    }

    fn with_gate(store: Store, config: &SecurityConfig, gate: Arc<Gate>) -> Self {
        let mut code_key = [0; 32];
        fill_random(&mut code_key);
        let known = Known { tokens: Tokens::default(), keys: Bounded::new(REMEMBERED_MAX) };
        Self(Arc::new(Shared {
            store,
            passwords: Passwords::default(),
            admin: config.admin.clone(),
            self_registration: config.self_registration,
            token_lifetime: config.token_lifetime,
            gate,
            limiter: Mutex::default(),
            known: Mutex::new(known),
            code_key: hmac::Key::new(hmac::HMAC_SHA256, &code_key),
            counters: AuthCounters::default(),
        }))
    }

    /// Whether clients may register themselves.
    pub fn allows_self_registration(&self) -> bool {
        self.0.self_registration
    }

    /// Whether there is an admin.
    pub fn has_admin(&self) -> bool {
        self.0.admin.is_some()
    }

    /// What is counted.
    pub fn counters(&self) -> &AuthCounters {
        &self.0.counters
    }

    /// Entries of tables with a bound that made room for others so far.
    pub fn evicted(&self) -> u64 {
        self.limiter().evicted() + self.known().keys.evicted()
    }

    /// Finds out who sent a request, by its `Authorization`: `Bearer` and a token, or Basic with id
    /// and key, or with the admin's key under any name. `peer` is whom wrong keys count against.
    ///
    /// # Errors
    /// Every [`AuthError`].
    pub async fn authenticate(
        &self,
        headers: &HeaderMap,
        peer: IpAddr,
    ) -> Result<Client, AuthError> {
        let value = headers.get(header::AUTHORIZATION).ok_or(AuthError::InvalidHeader)?.as_bytes();
        if let Some(token) = value.strip_prefix(b"Bearer ") {
            let id = self.known().tokens.find(token, Instant::now())?;
            return Ok(Client { id, is_admin: false });
        }
        let (id, key) = basic(value).ok_or(AuthError::InvalidHeader)?;
        if self.is_admin(&key, peer) {
            return Ok(Client { id: String::new(), is_admin: true });
        }
        self.check_key(&id, &key, peer).await?;
        Ok(Client { id, is_admin: false })
    }

    /// Registers a client. A registration counts against `peer` as a wrong key does, unless the
    /// admin asks for it.
    ///
    /// # Errors
    /// Every [`RegisterError`], in rtcd's order.
    pub async fn register(
        &self,
        id: &str,
        key: &str,
        peer: IpAddr,
        by_admin: bool,
    ) -> Result<(), RegisterError> {
        match key.len() {
            ..KEY_BYTES_MIN => return Err(RegisterError::KeyTooShort),
            KEY_BYTES_MIN..=KEY_BYTES_MAX => {}
            _ => return Err(RegisterError::KeyTooLong),
        }
        if id.is_empty() {
            return Err(RegisterError::NoId);
        }
        if id.len() > ID_BYTES_MAX {
            return Err(RegisterError::Store(StoreError::IdTooLong));
        }
        let source = Source::of(peer);
        if !by_admin {
            let taken = self.limiter().take(source, id, Instant::now());
            taken.map_err(|limited| RegisterError::Limited(self.limited(limited)))?;
        }
        let turn = self.0.gate.enter(source).await;
        let turn = turn.map_err(|Busy| RegisterError::Limited(self.busy()))?;
        let (auth, id, key) = (self.clone(), id.to_owned(), key.to_owned());
        blocking(move || {
            let _turn = turn;
            if auth.0.store.get(&id).map_err(RegisterError::Store)?.is_some() {
                return Err(RegisterError::Exists);
            }
            let hash = auth.0.passwords.hash(&key).map_err(RegisterError::Hash)?;
            match auth.0.store.insert(&id, &hash).map_err(RegisterError::Store)? {
                true => Ok(()),
                false => Err(RegisterError::Exists),
            }
        })
        .await
    }

    /// Forgets a client and its token.
    ///
    /// # Errors
    /// Every [`UnregisterError`].
    pub async fn unregister(&self, id: &str) -> Result<(), UnregisterError> {
        let (auth, id) = (self.clone(), id.to_owned());
        blocking(move || {
            let was_there = auth.0.store.remove(&id).map_err(UnregisterError::Store)?;
            // After the store: whoever checked a key against it meanwhile looks again
            // (`still_registered`).
            auth.forget(&id);
            if was_there { Ok(()) } else { Err(UnregisterError::NotFound) }
        })
        .await
    }

    /// Checks a key and gives out a token, which replaces the client's last one.
    ///
    /// # Errors
    /// `NoName`, `WrongKey`, `TooMany`, `Store`.
    pub async fn login(&self, id: &str, key: &str, peer: IpAddr) -> Result<String, AuthError> {
        self.check_key(id, key, peer).await?;
        let mut bytes = [0; TOKEN_BYTES];
        fill_random(&mut bytes);
        let token = URL_SAFE_NO_PAD.encode(bytes);
        let now = Instant::now();
        // A lifetime beyond what the clock can count is one without end: a hundred years.
        let century = Duration::from_secs(100 * 365 * 24 * 3600);
        let expires = now + self.0.token_lifetime.min(century);
        let (auth, id) = (self.clone(), id.to_owned());
        blocking(move || {
            auth.known().tokens.issue(&id, &token, expires);
            auth.still_registered(&id).map(|()| token)
        })
        .await
    }

    /// Whether this is the admin's key. A source that was wrong too often is not asked.
    fn is_admin(&self, key: &str, peer: IpAddr) -> bool {
        let Some(admin) = &self.0.admin else { return false };
        self.limiter().may_try(Source::of(peer), Instant::now())
            && bool::from(key.as_bytes().ct_eq(admin.0.as_bytes()))
    }

    async fn check_key(&self, id: &str, key: &str, peer: IpAddr) -> Result<(), AuthError> {
        let source = Source::of(peer);
        if id.is_empty() {
            // It may be a guess at the admin's key.
            let taken = self.limiter().take_source(source, Instant::now());
            return Err(taken.map_or_else(|limited| self.limited(limited), |()| AuthError::NoName));
        }
        if self.is_remembered(id, key) {
            self.0.counters.count("remembered");
            return Ok(());
        }
        // Ids that nobody can have share a bucket.
        let bucket = if id.len() > ID_BYTES_MAX { "" } else { id };
        let taken = self.limiter().take(source, bucket, Instant::now());
        taken.map_err(|limited| self.limited(limited))?;
        let Ok(turn) = self.0.gate.enter(source).await else {
            self.limiter().give_back(source, bucket);
            return Err(self.busy());
        };
        let (auth, owned_id, key) = (self.clone(), id.to_owned(), key.to_owned());
        let checked = blocking(move || {
            let _turn = turn;
            auth.check_against_store(&owned_id, &key)
        })
        .await;
        let outcome = match &checked {
            Ok(()) => "right",
            Err(AuthError::Store) => "failed",
            Err(_) => "wrong",
        };
        self.0.counters.count(outcome);
        if checked.is_ok() {
            self.limiter().give_back(source, bucket);
        }
        checked
    }

    /// The slow part, on a blocking thread.
    fn check_against_store(&self, id: &str, key: &str) -> Result<(), AuthError> {
        // Somebody with the same key may have been through while this one waited.
        if self.is_remembered(id, key) {
            return Ok(());
        }
        let hash = self.read(id)?;
        if key.len() > KEY_BYTES_MAX || !self.0.passwords.verify(key, hash.as_deref()) {
            return Err(AuthError::WrongKey);
        }
        self.remember(id, key);
        self.still_registered(id)
    }

    /// The last step of whatever makes something known of a client. `unregister` deletes in the
    /// store first: either it is seen here, or it comes later and forgets what was made known.
    fn still_registered(&self, id: &str) -> Result<(), AuthError> {
        match self.read(id) {
            Ok(Some(_)) => Ok(()),
            other => {
                self.forget(id);
                other.and(Err(AuthError::WrongKey))
            }
        }
    }

    fn read(&self, id: &str) -> Result<Option<String>, AuthError> {
        self.0.store.get(id).map_err(|error| {
            tracing::error!(%error, "a client's key could not be looked up");
            AuthError::Store
        })
    }

    fn is_remembered(&self, id: &str, key: &str) -> bool {
        let now = Instant::now();
        let known = self.known();
        let Some((code, until)) = known.keys.get(id) else { return false };
        now < *until && hmac::verify(&self.0.code_key, key.as_bytes(), code.as_ref()).is_ok()
    }

    fn remember(&self, id: &str, key: &str) {
        let now = Instant::now();
        let code = hmac::sign(&self.0.code_key, key.as_bytes());
        let value = (code, now + REMEMBERED_FOR);
        *self.known().keys.entry(&id.to_owned(), now, || value) = value;
    }

    fn forget(&self, id: &str) {
        let mut known = self.known();
        known.keys.remove(id);
        known.tokens.revoke(id);
    }

    fn limited(&self, limited: Limited) -> AuthError {
        let (outcome, wait) = match limited {
            Limited::Source(wait) => ("source_limited", wait),
            Limited::Client(wait) => ("client_limited", wait),
        };
        self.0.counters.count(outcome);
        AuthError::TooMany(wait)
    }

    fn busy(&self) -> AuthError {
        self.0.counters.count("busy");
        AuthError::TooMany(BUSY_RETRY)
    }

    fn limiter(&self) -> MutexGuard<'_, Limiter> {
        self.0.limiter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs what takes time away from the asynchronous threads. It runs to its end even when the
/// request that wanted it is gone.
///
/// # Panics
/// When `work` does.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is being shut down, and nobody waits for this any longer.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Name and password. Source: RFC 7617 §2.
fn basic(value: &[u8]) -> Option<(String, String)> {
    let (scheme, encoded) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (name, password) = decoded.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests;

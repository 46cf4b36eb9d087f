//! Bearer tokens: in memory, one a client, for a while.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use tokio::time::Instant;

use super::AuthError;

/// A token is found by its digest, so that the time of a lookup says nothing of the token.
type Digest = Vec<u8>;

/// Tokens that were given out. There are no more than registered clients, which the store bounds.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    by_digest: HashMap<Digest, (String, Instant)>,
    by_client: HashMap<String, Digest>,
}

impl Tokens {
    /// Makes `token` the client's only one.
    pub(super) fn issue(&mut self, client: &str, token: &str, expires: Instant) {
        self.revoke(client);
        let digest = digest_of(token.as_bytes());
        self.by_client.insert(client.to_owned(), digest.clone());
        self.by_digest.insert(digest, (client.to_owned(), expires));
    }

    /// Whose token it is. One that has expired is dropped.
    pub(super) fn find(&mut self, token: &[u8], now: Instant) -> Result<String, AuthError> {
        let Some((client, expires)) = self.by_digest.get(&digest_of(token)) else {
            return Err(AuthError::UnknownToken);
        };
        let client = client.clone();
        if now < *expires {
            return Ok(client);
        }
        self.revoke(&client);
        Err(AuthError::ExpiredToken)
    }

    /// Takes the client's token back, if it has one.
    pub(super) fn revoke(&mut self, client: &str) {
        if let Some(digest) = self.by_client.remove(client) {
            self.by_digest.remove(&digest);
        }
    }
}

fn digest_of(token: &[u8]) -> Digest {
    digest(&SHA256, token).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_client_has_one_token_until_it_expires() {
        let mut tokens = Tokens::default();
        let now = Instant::now();
        let expires = now + Duration::from_secs(60);
        tokens.issue("a", "one", expires);
        tokens.issue("b", "other", expires);
        assert_eq!(tokens.find(b"one", now), Ok("a".to_owned()));
        tokens.issue("a", "two", expires);
        assert_eq!(tokens.find(b"one", now), Err(AuthError::UnknownToken));
        assert_eq!(tokens.find(b"two", now), Ok("a".to_owned()));
        assert_eq!(tokens.find(b"two", expires), Err(AuthError::ExpiredToken));
        assert_eq!(tokens.find(b"two", expires), Err(AuthError::UnknownToken), "it was dropped");
        tokens.revoke("b");
        assert_eq!(tokens.find(b"other", now), Err(AuthError::UnknownToken));
        assert!(tokens.by_digest.is_empty() && tokens.by_client.is_empty());
    }
}

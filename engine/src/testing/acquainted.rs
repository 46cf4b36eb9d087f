//! A session and its client, told of each other as signalling would.

use crate::dtls::{DtlsRole, Identity};
use crate::ice::Credentials;
use crate::ids::{CallId, SessionId, ShardId};
use crate::session::params::{RemoteParams, SessionParams};
use crate::testing::client::ClientParams;

/// Makes both halves of session `number` of `call` on `shard`: the server's with the identity `ours`, the client's with `theirs`. The
/// client begins the handshake; its seed is the session's number.
pub fn acquainted(
    number: u64,
    (call, shard): (CallId, ShardId),
    (ours, theirs): (&Identity, &Identity),
    rng: &mut fastrand::Rng,
) -> (SessionParams, ClientParams) {
    let mut credentials = || Credentials::generate(shard, &mut |bytes: &mut [u8]| rng.fill(bytes));
    let (local, remote) = (credentials(), credentials());
    let session = SessionParams {
        session: SessionId(number),
        call,
        local_ice: local.clone(),
        remote: Some(RemoteParams {
            ice: remote.clone(),
            fingerprints: vec![theirs.fingerprint().clone()],
            dtls_role: DtlsRole::Passive,
        }),
        cname: "server".to_owned(),
        data_channels: false,
    };
    let client = ClientParams {
        identity: theirs.clone(),
        local: remote,
        remote: local,
        fingerprint: ours.fingerprint().clone(),
        dtls_role: DtlsRole::Active,
        seed: number,
    };
    (session, client)
}

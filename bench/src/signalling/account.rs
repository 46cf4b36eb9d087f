//! Before and beside a run: an account with rtcd's API, and single questions to the server. These block.

use std::iter;

use serde_json::{Value, json};

use super::http::{Connections, Server};
use crate::conversation::{Account, Request, Response, Target, TargetApi};

/// How accounts that are made here begin; [`finish`] takes no others back.
const OWN_ACCOUNT: &str = "sluice-bench-";
/// As long as rtcd's plugin makes them, which is as short as is allowed.
const KEY_LEN: usize = 32;

/// Makes an account for a target that needs one and has none.
///
/// # Errors
/// No connection, or the server refused it; for people.
pub fn prepare(target: &mut Target) -> Result<(), String> {
    if target.api != TargetApi::Rtcd || target.account.is_some() {
        return Ok(());
    }
    let random = |len| iter::repeat_with(fastrand::alphanumeric).take(len).collect::<String>();
    let account = Account { client: format!("{OWN_ACCOUNT}{}", random(16)), key: random(KEY_LEN) };
    let body = json!({ "clientID": account.client, "authKey": account.key }).to_string();
    let response = ask(target, "POST", "/register", body)?;
    match response.status {
        201 => {
            target.account = Some(account);
            Ok(())
        }
        401 | 403 => Err(format!(
            "{}: self-registration is off: give --rtcd-client and --rtcd-key",
            target.url
        )),
        _ => Err(refused(target, "/register", &response)),
    }
}

/// Takes back the account that [`prepare`] made.
///
/// # Errors
/// No connection, or the server refused it; for people.
pub fn finish(target: &Target) -> Result<(), String> {
    let Some(account) = &target.account else { return Ok(()) };
    if !account.client.starts_with(OWN_ACCOUNT) {
        return Ok(());
    }
    let body = json!({ "clientID": account.client }).to_string();
    let response = ask(target, "POST", "/unregister", body)?;
    match response.status {
        200 => Ok(()),
        _ => Err(refused(target, "/unregister", &response)),
    }
}

/// Asks for a path of the server.
///
/// # Errors
/// No connection, no answer within 20 seconds, or one that is longer than 8 MiB.
pub fn get(target: &Target, path: &str) -> Result<Response, String> {
    ask(target, "GET", path, String::new())
}

fn ask(
    target: &Target,
    method: &'static str,
    path: &str,
    body: String,
) -> Result<Response, String> {
    let server = Server::find(target)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime for a request: {error}"))?;
    let content_type = if body.is_empty() { "" } else { "application/json" };
    let request = Request { method, path: path.to_owned(), content_type, body };
    runtime.block_on(Connections::new(server).exchange(&request))
}

fn refused(target: &Target, path: &str, response: &Response) -> String {
    let answer: Value = serde_json::from_str(&response.body).unwrap_or_default();
    let said = answer.get("error").and_then(Value::as_str).unwrap_or(response.body.trim());
    let said: String = said.chars().take(200).collect();
    format!("{}{path}: status {}: {said}", target.url, response.status)
}

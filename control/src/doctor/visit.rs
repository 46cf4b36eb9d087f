//! `--from`: the other host's side of a ticket.

use std::net::IpAddr;
use std::time::Duration;

use super::address::is_ours;
use super::announced::{self, Known};
use super::check::{Outcome, Subject, check};
use super::examine::{Trouble, check_announced};
use super::finding::Finding;
use super::interrupted;
use super::reach::{self, Around, Check, Vantage};
use super::report::Report;
use super::ticket::Ticket;
use crate::service::fill_random;

/// Checks the candidates of a ticket, and tells the server's side of the best by nominating it.
///
/// # Errors
/// The ticket is broken or its time is over.
pub(super) async fn by_ticket(
    text: &str,
    limit: Duration,
    now_unix_s: u64,
) -> Result<Report, Trouble> {
    let ticket = Ticket::parse(text).map_err(Trouble)?;
    ticket.check_time(now_unix_s).map_err(Trouble)?;
    let mut random = [0; 4];
    fill_random(&mut random);
    let our_ufrag = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let subject = Subject { server: ticket.server.clone(), our_ufrag };
    let checks = tokio::select! {
        checks = check_announced(&subject, &ticket.targets, &[], limit) => checks,
        () = interrupted() => return Err(Trouble::interrupted()),
    };
    // UDP stands before TCP.
    let best = checks.iter().find(|check| check.outcome.is_answered());
    if let Some(best) = best {
        // Lost, it costs the other side's line on our arrival alone.
        let _ = check(&subject, best.target, limit, true).await;
    }
    let is_mute = |check: &Check| check.outcome == Outcome::Mute;
    let mut findings = match best.is_none() && checks.iter().any(is_mute) {
        true => vec![session_is_gone()],
        false => {
            let vantage = Vantage::OtherHost;
            reach::judge(&checks, &Around { vantage, is_ours: &is_ours, listening: &[] })
        }
    };
    if best.is_none() {
        let ips: Vec<IpAddr> = ticket.targets.iter().map(|target| target.address.ip()).collect();
        findings.extend(announced::judge(&ips, Known::default()));
    }
    findings.extend(translated(&checks));
    Ok(Report {
        server: "A server named by a ticket".to_owned(),
        server_version: None,
        vantage: "ticket",
        checks,
        findings,
    })
}

/// Connections are made, so the way is there.
fn session_is_gone() -> Finding {
    let found = "A TCP connection to the server is made, and nothing answers its check.";
    Finding::failure("ticket", found)
        .means("The session of the ticket has ended, or something else has the port.")
        .fix("see that `sluice doctor --ticket` still waits on the server's host, or make another ticket")
}

/// That a translator stands between is no fault; it explains addresses in logs.
fn translated(checks: &[Check]) -> Option<Finding> {
    let through = checks.iter().find(|check| check.outcome.is_translated() == Some(true))?;
    let Outcome::Answered { mapped: Some(mapped), .. } = &through.outcome else { return None };
    Some(Finding::ok(
        "translator",
        format!(
            "A translator (NAT) stands before this host; the server sees it as {}.",
            mapped.ip()
        ),
    ))
}

//! Connection tracking, where a firewall brings it.

use super::sysctl::{at_least, in_digits};
use super::sysctl_number;
use crate::amount::grouped;
use crate::demand::{Demand, Goal};
use crate::facts::Facts;
use crate::finding::{Finding, Verdict};
use crate::setting::Setting;

static MAX: Setting = Setting {
    key: "net.netfilter.nf_conntrack_max",
    why: "Entries of connection tracking. Where a firewall tracks connections, each path that a client tries takes one, and a full table \
          drops packets of all who come later.",
    source: "Linux, Documentation/networking/nf_conntrack-sysctl.rst",
    effect: "People cannot join while the table is full (\"nf_conntrack: table full, dropping packet\" in the kernel's log).",
};

static MEDIA_PORT: Setting = Setting {
    key: "conntrack.media_port",
    why: "Whether packets of the media port are looked up in connection tracking, each of them. They need not be: the server checks \
          who sends by itself.",
    source: "nft(8), notrack statement; iptables-extensions(8), CT --notrack",
    effect: "Each packet costs a look-up more, and each client's paths take entries of the table.",
};

/// All of this file.
pub static SETTINGS: &[&Setting] = &[&MAX, &MEDIA_PORT];

/// Of the table, what may be taken, per cent.
const FULL_PERCENT: u64 = 80;

/// Looks at them.
pub fn findings(facts: &Facts, goal: &Goal, demand: &Demand) -> Vec<Finding> {
    let Some(max) = sysctl_number(facts, MAX.key) else {
        // The setting is there only while the module is loaded.
        let absent = |setting| Finding::new(setting, Verdict::Good).found("not loaded");
        return vec![absent(&MAX), absent(&MEDIA_PORT)];
    };
    let media_port =
        Finding::new(&MEDIA_PORT, Verdict::Note).found("loaded").remedy(notrack(goal.media_port));
    if max == 0 {
        return vec![
            Finding::new(&MAX, Verdict::Note).found("0, which is no limit on most kernels"),
            media_port,
        ];
    }
    let need = &demand.conntrack_entries;
    let count = sysctl_number(facts, "net.netfilter.nf_conntrack_count").unwrap_or(0);
    let is_nearly_full = count > max / 100 * FULL_PERCENT;
    let wanted = if is_nearly_full { need.value.max(max.saturating_mul(2)) } else { need.value };
    let formula = if is_nearly_full {
        format!(
            "twice what there is, since {} entries are taken; the load: {}",
            grouped(count),
            need.formula
        )
    } else {
        need.formula.clone()
    };
    let table = at_least(facts, &MAX, wanted, Verdict::Wrong, in_digits);
    let table = table.found(format!("{max}, {} taken", grouped(count))).formula(formula);
    vec![table, media_port]
}

/// The commands that take the media port out of tracking.
fn notrack(port: u16) -> String {
    format!(
        "Where nothing translates the media port (no NAT, no container's port mapping), leave it out of tracking. Rules that accept only \
         tracked packets must then accept UDP port {port}. To undo: nft delete table inet sluice\n\
         nft add table inet sluice\n\
         nft 'add chain inet sluice in {{ type filter hook prerouting priority raw; }}'\n\
         nft 'add chain inet sluice out {{ type filter hook output priority raw; }}'\n\
         nft add rule inet sluice in udp dport {port} notrack\n\
         nft add rule inet sluice out udp sport {port} notrack"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(sysctls: &[(&str, &str)]) -> Vec<Finding> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let facts = Facts { sysctls: sysctls.iter().map(owned).collect(), ..Facts::default() };
        let goal = Goal { media_port: 9_443, ..Goal::default() };
        findings(&facts, &goal, &Demand::of(&goal, &facts))
    }

    #[test]
    fn without_tracking_there_is_nothing_to_do() {
        assert!(look(&[]).iter().all(|finding| finding.verdict == Verdict::Good));
    }

    #[test]
    fn a_table_that_the_load_fits_stays_and_the_port_can_be_left_out() {
        let findings = look(&[("net.netfilter.nf_conntrack_max", "262144")]);
        assert_eq!(findings[0].verdict, Verdict::Good);
        assert_eq!(findings[1].verdict, Verdict::Note);
        let remedy = findings[1].remedy.as_ref().unwrap();
        assert!(remedy.contains("udp dport 9443 notrack"), "{remedy}");
        assert!(remedy.contains("in { type filter hook prerouting priority raw; }"), "{remedy}");
    }

    #[test]
    fn a_table_without_a_limit_gets_none() {
        let findings = look(&[("net.netfilter.nf_conntrack_max", "0")]);
        assert_eq!((findings[0].verdict, &findings[0].changes[..]), (Verdict::Note, &[][..]));
    }

    #[test]
    fn a_table_that_is_too_small_or_nearly_full_is_enlarged() {
        for (max, count, wanted) in
            [("4096", "10", "6024"), ("65536", "60000", "131072"), ("4096", "4096", "8192")]
        {
            let findings = look(&[
                ("net.netfilter.nf_conntrack_max", max),
                ("net.netfilter.nf_conntrack_count", count),
            ]);
            assert_eq!(findings[0].verdict, Verdict::Wrong);
            assert_eq!(findings[0].changes[0].to, wanted);
        }
    }
}

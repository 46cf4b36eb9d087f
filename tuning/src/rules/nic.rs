//! Network cards: rings, queues, the time for which interrupts are collected, losses, speed.
//!
//! Interfaces without a device of their own (bridges, veth) have none of this and are passed over.

use super::sysctl::or_more;
use super::{counted, too_small};
use crate::amount::{self, grouped};
use crate::change::{NicParameter, Target};
use crate::demand::{self, Demand, Goal, Sized};
use crate::facts::{Facts, Nic};
use crate::finding::{Finding, Verdict};
use crate::setting::Setting;

static SPEED: Setting = Setting {
    key: "nic.speed",
    why: "What the card carries. The load's bits out each second must fit, with some room for others.",
    source: "sysfs, /sys/class/net/*/speed; the load's formula",
    effect: "What does not fit is queued and then lost, for everybody.",
};

static ETHTOOL: Setting = Setting {
    key: "nic.ethtool",
    why: "Rings, queues and offloads of a card are read and set by ethtool.",
    source: "ethtool(8)",
    effect: "Nothing can be said of the card.",
};

static RX_RING: Setting = Setting {
    key: "nic.rx_ring",
    why: "Descriptors into which the card puts packets until a core comes for them, for each queue. Bursts of frames come faster than \
          an interrupt is served.",
    source: "ethtool(8), -g and -G",
    effect: "The card drops what comes while the ring is full (nic.rx_lost).",
};

static TX_RING: Setting = Setting {
    key: "nic.tx_ring",
    why: "Descriptors from which the card sends, for each queue. A frame of a screen is thousands of packets at a time.",
    source: "ethtool(8), -g and -G",
    effect: "More packets wait in the queue in front of the card, and more interrupts are needed to send a frame.",
};

static CHANNELS: Setting = Setting {
    key: "nic.channels",
    why: "Pairs of receive and send queues. Each queue interrupts one CPU; with a single one, one CPU does the kernel's half of all \
          receiving.",
    source: "ethtool(8), -l and -L; Linux, Documentation/networking/scaling.rst (RSS)",
    effect: "One CPU is full of interrupts while others have time.",
};

static COALESCING: Setting = Setting {
    key: "nic.coalescing",
    why: "Microseconds for which the card collects packets before it interrupts. Some tens of them save most interrupts and are not \
          noticed in a call; adaptive cards find the time themselves.",
    source: "ethtool(8), -c and -C (rx-usecs, adaptive-rx)",
    effect: "An interrupt for nearly each packet, or packets that come late.",
};

static TX_QUEUE_LEN: Setting = Setting {
    key: "nic.tx_queue_len",
    why: "Packets that may wait in front of the card, for each send queue, where the queueing discipline is pfifo_fast. A frame for a \
          thousand receivers is some thousands of packets at once.",
    source: "ip-link(8), txqueuelen; tc-pfifo_fast(8)",
    effect: "Where the card is slower than the cores, the end of a frame is dropped in silence.",
};

static RX_LOST: Setting = Setting {
    key: "nic.rx_lost",
    why: "Packets that the card or its driver lost on receiving since the boot.",
    source: "Linux, Documentation/networking/statistics.rst",
    effect: "If it still grows under load, media of publishers is lost before the kernel sees it.",
};

/// All of this file.
pub static SETTINGS: &[&Setting] =
    &[&SPEED, &ETHTOOL, &CHANNELS, &RX_RING, &TX_RING, &COALESCING, &TX_QUEUE_LEN, &RX_LOST];

/// Of the card's speed, what the load may take, per cent.
const SPEED_PERCENT: u64 = 90;
/// Microseconds of collecting that are right, and the one that is set.
const RX_USECS: std::ops::RangeInclusive<u64> = 20..=100;
const RX_USECS_WANTED: u64 = 50;
/// Frames each second.
const FRAMES: u64 = 30;
/// As for receiving.
const RING_MIN: u64 = 1_024;
/// The kernel's default.
const TX_QUEUE_LEN_MIN: u64 = 1_000;
/// More than a second of waiting at a gigabit.
const TX_QUEUE_LEN_MAX: u64 = 65_536;

/// Looks at them.
pub fn findings(facts: &Facts, goal: &Goal, demand: &Demand) -> Vec<Finding> {
    let cards: Vec<_> = cards(facts).collect();
    if cards.is_empty() {
        let finding = Finding::new(&SPEED, Verdict::Note);
        return vec![finding.found("no card is visible here")];
    }
    let fastest = cards.iter().filter_map(|nic| nic.speed_mbps).max();
    let mut findings = Vec::new();
    for nic in cards {
        let mut of_card = vec![speed(nic, fastest, goal, demand)];
        if let Some(error) = &nic.ethtool_error {
            of_card.push(no_ethtool(error));
        }
        // Before the rings, which each queue has.
        of_card.extend(channels(nic, facts, demand));
        of_card.extend(rx_ring(nic, demand));
        of_card.extend(tx_ring(nic, demand));
        of_card.extend(coalescing(nic));
        of_card.extend(tx_queue_len(nic, facts, demand));
        of_card.push(rx_lost(nic));
        findings.extend(of_card.into_iter().map(|finding| finding.about(&nic.name)));
    }
    findings
}

/// Those with a device.
pub(super) fn cards(facts: &Facts) -> impl Iterator<Item = &Nic> {
    facts.nics.iter().filter(|nic| nic.driver.is_some())
}

/// Pairs of queues that the card should get, if that is more than it has.
pub(super) fn channels_wanted(nic: &Nic, facts: &Facts, demand: &Demand) -> Option<u64> {
    let (current, most) = nic.channels?;
    let cpus = facts.cpus.len() as u64;
    // As many as the load keeps busy: a card is away for a moment while its queues change.
    let wanted = demand::shards_needed(&demand.load).min(cpus).min(most);
    (wanted > current).then_some(wanted)
}

fn speed(nic: &Nic, fastest: Option<u64>, goal: &Goal, demand: &Demand) -> Finding {
    let driver = nic.driver.as_deref().unwrap_or("no driver");
    let need = &demand.bits_out_per_s;
    let Some(mbps) = nic.speed_mbps else {
        let finding =
            Finding::new(&SPEED, Verdict::Note).found(format!("{driver}, speed not told"));
        return finding.wanted(or_more(amount::bit_rate(need.value))).formula(&need.formula);
    };
    let fits = |mbps: u64| need.value <= mbps.saturating_mul(1_000_000) / 100 * SPEED_PERCENT;
    let verdict = match fits(mbps) {
        true => Verdict::Good,
        // Another card can carry it: which one does, the routes decide.
        false if fastest.is_some_and(fits) => Verdict::Note,
        false => too_small(goal),
    };
    let speed = amount::bit_rate(mbps.saturating_mul(1_000_000));
    let finding = Finding::new(&SPEED, verdict).found(format!("{speed}, {driver}"));
    let finding = finding.wanted(or_more(amount::bit_rate(need.value))).formula(&need.formula);
    if verdict <= Verdict::Note {
        return finding;
    }
    finding.remedy("A faster card, or the calls spread over several hosts.")
}

fn no_ethtool(error: &str) -> Finding {
    let finding = Finding::new(&ETHTOOL, Verdict::Unknown).found(error);
    if error.contains("not installed") {
        return finding.remedy("apt install ethtool   # or: dnf install ethtool");
    }
    finding
}

fn rx_ring(nic: &Nic, demand: &Demand) -> Option<Finding> {
    ring(&RX_RING, NicParameter::RxRing, nic, nic.rx_ring?, &demand.ring_descriptors)
}

fn tx_ring(nic: &Nic, demand: &Demand) -> Option<Finding> {
    let value = burst(nic, demand).max(RING_MIN).next_power_of_two();
    let formula = format!("{value} = {}, at least {}", burst_words(nic, demand), grouped(RING_MIN));
    ring(&TX_RING, NicParameter::TxRing, nic, nic.tx_ring?, &Sized { value, formula })
}

fn ring(
    setting: &'static Setting,
    parameter: NicParameter,
    nic: &Nic,
    (current, most): (u64, u64),
    need: &Sized,
) -> Option<Finding> {
    let wanted = need.value.min(most);
    let finding = |verdict| {
        let finding = Finding::new(setting, verdict).found(format!("{current} of {most}"));
        finding.wanted(or_more(wanted)).formula(&need.formula)
    };
    if current >= wanted {
        return Some(finding(Verdict::Good));
    }
    let target = Target::Nic { interface: nic.name.clone(), parameter };
    let from = Some(current.to_string());
    let finding = finding(Verdict::Better).change(target, from, wanted.to_string());
    Some(finding.remedy("Many cards stop for a moment while rings change: do it without calls."))
}

/// Packets of a frame to all its receivers, in each send queue.
fn burst(nic: &Nic, demand: &Demand) -> u64 {
    let queues = nic.tx_queues.len().max(1) as u64;
    (demand.packets_out_per_s.value / FRAMES / queues).min(TX_QUEUE_LEN_MAX)
}

fn burst_words(nic: &Nic, demand: &Demand) -> String {
    let queues = counted(nic.tx_queues.len().max(1), "queue");
    let packets = grouped(demand.packets_out_per_s.value);
    format!("the power of two from {packets} packets/s out / {FRAMES} frames / {queues} up")
}

fn channels(nic: &Nic, facts: &Facts, demand: &Demand) -> Option<Finding> {
    let (current, most) = nic.channels?;
    let finding = |verdict| Finding::new(&CHANNELS, verdict).found(format!("{current} of {most}"));
    let Some(wanted) = channels_wanted(nic, facts, demand) else {
        return Some(finding(Verdict::Good));
    };
    let interface = nic.name.clone();
    let target = Target::Nic { interface, parameter: NicParameter::CombinedChannels };
    let shards = demand::shards_needed(&demand.load);
    let cpus = counted(facts.cpus.len(), "CPU");
    Some(
        finding(Verdict::Better)
            .wanted(or_more(wanted)).formula(format!("{wanted} = the least of {shards} shards that the load needs, {cpus} and the card's {most}"))
            .change(target, Some(current.to_string()), wanted.to_string())
            .remedy("Many cards stop for a moment while queues change: do it without calls. Interrupts are looked at by the next check."),
    )
}

/// Drivers that say `rx-usecs` 1 to 3 for a time that they find themselves.
const ADAPTIVE: &[&str] = &["e1000e", "igb", "igc", "ixgbe", "ixgbevf"];
const ADAPTIVE_MAX: u64 = 3;

fn coalescing(nic: &Nic) -> Option<Finding> {
    let finding = |verdict, found: String| {
        let wanted = format!("adaptive, or {} to {} µs", RX_USECS.start(), RX_USECS.end());
        Finding::new(&COALESCING, verdict).found(found).wanted(wanted)
    };
    if nic.adaptive_rx == Some(true) {
        return Some(finding(Verdict::Good, "adaptive".to_owned()));
    }
    let usecs = nic.rx_usecs?;
    let found = format!("{usecs} µs");
    if RX_USECS.contains(&usecs) {
        return Some(finding(Verdict::Good, found));
    }
    let is_by_driver = nic.driver.as_deref().is_some_and(|driver| ADAPTIVE.contains(&driver));
    if is_by_driver && (1..=ADAPTIVE_MAX).contains(&usecs) {
        return Some(finding(
            Verdict::Good,
            format!("{found}, by which the driver means adaptive"),
        ));
    }
    let interface = nic.name.clone();
    let target = Target::Nic { interface, parameter: NicParameter::RxUsecs };
    let wanted = RX_USECS_WANTED.to_string();
    if usecs == 0 {
        // Cards that cannot collect at all, most virtual ones, say zero too, and would refuse the change.
        let command = target.command(&wanted);
        let finding = finding(Verdict::Note, "0 µs".to_owned());
        return Some(
            finding.remedy(format!("If the card can (virtual ones often cannot): {command}")),
        );
    }
    Some(finding(Verdict::Better, found).change(target, Some(usecs.to_string()), wanted))
}

fn tx_queue_len(nic: &Nic, facts: &Facts, demand: &Demand) -> Option<Finding> {
    let current = nic.tx_queue_len?;
    let finding = |verdict| Finding::new(&TX_QUEUE_LEN, verdict).found(current.to_string());
    let qdisc = facts.sysctls.get("net.core.default_qdisc").map(String::as_str);
    if let Some(qdisc @ ("fq_codel" | "fq" | "cake")) = qdisc {
        let found = format!("{current}, not used by {qdisc}");
        return Some(Finding::new(&TX_QUEUE_LEN, Verdict::Good).found(found));
    }
    let wanted = burst(nic, demand).max(TX_QUEUE_LEN_MIN);
    if current >= wanted {
        return Some(finding(Verdict::Good).wanted(or_more(wanted)));
    }
    let wanted = wanted.next_power_of_two();
    let path = format!("/sys/class/net/{}/tx_queue_len", nic.name);
    let formula = format!("{wanted} = {}", burst_words(nic, demand));
    let finding = finding(Verdict::Better).wanted(or_more(wanted)).formula(formula);
    Some(finding.change(Target::File { path }, Some(current.to_string()), wanted.to_string()))
}

fn rx_lost(nic: &Nic) -> Finding {
    let finding = |verdict| Finding::new(&RX_LOST, verdict).found(grouped(nic.rx_lost)).wanted("0");
    if nic.rx_lost == 0 {
        return finding(Verdict::Good);
    }
    let command =
        format!("watch -d \"ethtool -S {} | grep -iE 'drop|miss|fifo|no_buf'\"", nic.name);
    finding(Verdict::Note).remedy(format!("See whether it grows under load: {command}"))
}

#[cfg(test)]
mod tests;

//! A result for people: Markdown.

use std::fmt::Write;

use super::{HEADER_BYTES, TAG_BYTES};
use crate::result::{FloorMix, FloorResult, PacedFloor};

/// A table of all points, then what is to be said of them.
///
/// Rates are those of a core that does nothing else; bits are those of UDP payload.
pub fn table(result: &FloorResult) -> String {
    let machine = &result.machine;
    let mut text = format!(
        "{}, {} CPUs, Linux {}; load {} before, {} after\n\n",
        machine.cpu, machine.cpus, machine.kernel, machine.load_before, machine.load_after
    );
    if !result.points.is_empty() {
        text += &points(result);
    }
    for note in &result.missing {
        let _ = write!(text, "\n- {note}");
    }
    if !result.missing.is_empty() {
        text.push('\n');
    }
    text
}

fn points(result: &FloorResult) -> String {
    let mut text = String::new();
    text += "| device | payload, B | run | CPU ns by the packet (least to most) | of it sealing | \
        kpackets/s of a core | Gbit/s of a core |\n|---|---:|---:|---:|---:|---:|---:|\n";
    for point in &result.points {
        let packets_per_s = 1e9 / point.ns_per_packet;
        let bits = f64::from((point.payload_bytes + HEADER_BYTES + TAG_BYTES) * 8);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {:.0} ({:.0} to {:.0}) | {:.0} | {:.0} | {:.1} |",
            point.device,
            point.payload_bytes,
            point.run,
            point.ns_per_packet,
            point.ns_least,
            point.ns_most,
            point.ns_sealing,
            packets_per_s / 1e3,
            packets_per_s * bits / 1e9
        );
    }
    text
}

/// One sentence for a scenario in its own rhythm.
pub fn paced_sentence(paced: &PacedFloor) -> String {
    format!(
        "{}, {} x {}, on its path: {:.2} us ({:.2} to {:.2}) by the packet out, {:.0} packets/s in runs of {:.2}",
        paced.scenario,
        paced.calls.calls,
        paced.calls.participants,
        paced.us_per_packet_out,
        paced.us_least,
        paced.us_most,
        paced.packets_per_s,
        paced.run_length
    )
}

/// One sentence for a scenario's mix on a device.
pub fn sentence(scenario: &str, device: &str, mix: &FloorMix) -> String {
    let parts = mix.points.iter().zip(&mix.shares).map(|(point, share)| {
        format!("{:.0} % of {} B in runs of {}", share * 100.0, point.payload_bytes, point.run)
    });
    let parts = parts.collect::<Vec<_>>().join(", ");
    format!("{scenario} over {device}: {:.2} us by the packet out ({parts})", mix.us_per_packet_out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::FloorPoint;

    #[test]
    fn a_row_says_what_a_core_can_do() {
        let point = FloorPoint {
            device: "sink".to_owned(),
            payload_bytes: 1_180,
            run: 4,
            peers: 1_000,
            ns_per_packet: 1_000.0,
            ns_least: 990.4,
            ns_most: 1_010.0,
            ns_sealing: 160.0,
        };
        let mut result = FloorResult { points: vec![point.clone()], ..FloorResult::default() };
        let row = "| sink | 1180 | 4 | 1000 (990 to 1010) | 160 | 1000 | 9.7 |\n";
        assert!(table(&result).ends_with(row), "{}", table(&result));
        result.missing.push("veth: not here".to_owned());
        assert!(table(&result).ends_with(&format!("{row}\n- veth: not here\n")));
        let mix = FloorMix {
            points: vec![point],
            shares: vec![1.0],
            us_per_packet_out: 1.0,
            multiple: None,
        };
        assert_eq!(
            sentence("smoke", "sink", &mix),
            "smoke over sink: 1.00 us by the packet out (100 % of 1180 B in runs of 4)"
        );
    }
}

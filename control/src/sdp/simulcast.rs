//! Simulcast as a description has it: which layers a section sends, and which of them is the lowest. Source: RFC 8851, RFC 8853.

use sdp_types::Attribute;
use sluice_engine::ids::Rid;

use super::LAYERS_MAX;
use super::parse::values;

/// The layers that the peer would send, in its order; empty without simulcast. Those beyond [`LAYERS_MAX`] are declined.
///
/// Of alternatives (`a,b`) the first that `a=rid` declares is taken. A layer that starts paused (`~a`) is a layer like others: it
/// becomes active without another negotiation. Streams without their `a=rid` are passed over, as are restrictions of an `a=rid`:
/// they bind the sender, and we ask for nothing narrower. Source: RFC 8853 §5.1, §5.3.2.
pub(super) fn read_layers(attributes: &[Attribute]) -> Vec<Rid> {
    let declared: Vec<Rid> =
        values(attributes, "rid").take(RIDS_MAX).filter_map(sent_rid).collect();
    let Some(list) = values(attributes, "simulcast").next().and_then(send_list) else {
        return Vec::new();
    };
    let mut layers: Vec<Rid> = Vec::new();
    for stream in list.split(';') {
        let names = stream.split(',').map(|name| name.strip_prefix('~').unwrap_or(name));
        let known = names.filter_map(Rid::new).find(|rid| declared.contains(rid));
        let layer = known.filter(|rid| !layers.contains(rid) && layers.len() < LAYERS_MAX);
        layers.extend(layer);
    }
    layers
}

/// The same layers, lowest first.
///
/// The order of the description is no order of quality by itself (RFC 8853 §5.1 has it as preference). Where all names are among
/// those that applications commonly give, `q < l < m < h < f` (quarter, low, medium, half or high, full), they say it; else the first
/// is taken for the lowest, as browsers' documentation and rtcd's clients have it.
pub(super) fn lowest_first(layers: &[Rid]) -> Vec<Rid> {
    let rank = |rid: &Rid| ["q", "l", "m", "h", "f"].iter().position(|&name| name == rid.as_str());
    let mut sorted = layers.to_vec();
    if sorted.iter().all(|rid| rank(rid).is_some()) {
        sorted.sort_by_key(rank);
    }
    sorted
}

/// `l send pt=96`: the name, when the peer sends it.
fn sent_rid(value: &str) -> Option<Rid> {
    let mut words = value.split_ascii_whitespace();
    let rid = Rid::new(words.next()?)?;
    (words.next() == Some("send")).then_some(rid)
}

/// `send l;h recv x`, in either order: what stands behind `send`.
fn send_list(value: &str) -> Option<&str> {
    let mut words = value.split_ascii_whitespace();
    while let (Some(direction), Some(list)) = (words.next(), words.next()) {
        if direction == "send" {
            return Some(list);
        }
    }
    None
}

/// The most `a=rid` of one section that are read.
const RIDS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(simulcast: &str, rids: &[&str]) -> Vec<String> {
        let attribute = |name: &str, value: &str| Attribute {
            attribute: name.to_owned(),
            value: Some(value.to_owned()),
        };
        let mut attributes: Vec<Attribute> = rids.iter().map(|rid| attribute("rid", rid)).collect();
        attributes.push(attribute("simulcast", simulcast));
        read_layers(&attributes).iter().map(|rid| rid.as_str().to_owned()).collect()
    }

    #[test]
    fn lists_are_read_in_every_form_of_the_grammar() {
        let rids = ["l send", "h send pt=96;max-width=1280", "a send", "r recv"];
        for (text, expected) in [
            ("send l;h", vec!["l", "h"]),
            (" send h;l", vec!["h", "l"]),
            ("recv r send l;h", vec!["l", "h"]),
            ("send ~l;h recv r", vec!["l", "h"]),
            ("send a,l;~h", vec!["a", "h"]),
            ("send x,l;h", vec!["l", "h"]),
            ("send l;l", vec!["l"]),
            ("send x;r", vec![]),
            ("recv l;h", vec![]),
            ("send", vec![]),
            ("", vec![]),
            ("send ;;,~", vec![]),
        ] {
            assert_eq!(layers(text, &rids), expected, "{text:?}");
        }
    }

    #[test]
    fn layers_beyond_the_most_are_declined() {
        let rids: Vec<String> = (0..9).map(|n| format!("r{n} send")).collect();
        let rids: Vec<&str> = rids.iter().map(String::as_str).collect();
        assert_eq!(layers("send r0;r1;r2;r3;r4;r5;r6;r7;r8", &rids).len(), LAYERS_MAX);
    }

    #[test]
    fn common_names_say_their_order_and_others_go_by_position() {
        for (offered, expected) in [
            ("l h", "l h"),
            ("h l", "l h"),
            ("f h q", "q h f"),
            ("h m l", "l m h"),
            ("2 1 0", "2 1 0"),
            ("h l x", "h l x"),
            ("lo hi", "lo hi"),
        ] {
            let rids: Vec<Rid> = offered.split(' ').filter_map(Rid::new).collect();
            let sorted: Vec<Rid> = lowest_first(&rids);
            let names: Vec<&str> = sorted.iter().map(Rid::as_str).collect();
            assert_eq!(names.join(" "), expected, "{offered}");
        }
    }
}

//! The picture: one SVG file that needs nothing else.
//!
//! Each function is a rectangle on the one that called it, as wide as its share of the samples; the outermost stand at the bottom. Pointing
//! at one shows its name and share, which any viewer does; a click widens it, which needs a browser.

use std::fmt::Write as _;

use super::tree::{Frame, Tree};

/// Pixels.
const WIDTH: f64 = 1200.0;
const MARGIN: f64 = 10.0;
const ROW: f64 = 17.0;
const HEAD: f64 = 58.0;
const FONT: f64 = 12.0;

/// What narrower ones would be is left white: they could not be pointed at.
const NARROWEST: f64 = 0.2;

/// Width of a letter of the font: monospaced ones have six tenths of their height.
const LETTER: f64 = FONT * 0.6;

/// Draws the functions of a tree.
pub fn draw(tree: &Tree, title: &str) -> String {
    let samples = tree.samples().max(1) as f64;
    let per_sample = (WIDTH - 2.0 * MARGIN) / samples;
    let least = (NARROWEST / per_sample).ceil() as u64;
    let frames = tree.frames(least);
    let rows = frames.iter().map(|frame| frame.depth + 1).max().unwrap_or(1) as f64;
    let height = HEAD + rows * ROW + MARGIN;
    let mut svg = String::with_capacity(frames.len() * 256);
    let title = escape(title);
    let _ = write!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="{FONT}">
<title>{title}</title>
<style>.f rect {{ stroke: #fff; stroke-width: 0.6 }} .f text {{ pointer-events: none; fill: #111 }} .f:hover rect {{ stroke: #111 }} .around {{ opacity: 0.5 }}</style>
<rect width="100%" height="100%" fill="#fff"/>
<text x="{MARGIN}" y="24" font-size="17" fill="#111">{title}</text>
<text x="{MARGIN}" y="44" fill="#555">{} samples. <tspan fill="#b0561f">■</tspan> program <tspan fill="#3d6f9e">■</tspan> kernel <tspan fill="#777">■</tspan> thread. Point at a function for its share; click to widen, click the bottom row to go back.</text>
"##,
        tree.samples()
    );
    for frame in &frames {
        draw_frame(&mut svg, frame, samples, per_sample, height);
    }
    let _ = write!(svg, "<script><![CDATA[\n{}]]></script>\n</svg>\n", include_str!("zoom.js"));
    svg
}

fn draw_frame(svg: &mut String, frame: &Frame<'_>, samples: f64, per_sample: f64, height: f64) {
    let x = MARGIN + frame.begin as f64 * per_sample;
    let y = height - MARGIN - (frame.depth + 1) as f64 * ROW;
    let width = frame.total as f64 * per_sample;
    let name = escape(frame.name);
    let share = 100.0 * frame.total as f64 / samples;
    let color = color(frame);
    let unit = if frame.total == 1 { "sample" } else { "samples" };
    let text_y = y + ROW - 5.0;
    let text_x = x + 3.0;
    let _ = writeln!(
        svg,
        r#"<g class="f"><title>{name}: {} {unit}, {share:.2} %</title><rect x="{x:.2}" y="{y}" width="{width:.2}" height="{ROW}" fill="{color}"/><text x="{text_x:.2}" y="{text_y}">{}</text></g>"#,
        frame.total,
        escape(&fitting(frame.name, width)),
    );
}

/// As much of a name as fits; nothing where less than three letters do.
fn fitting(name: &str, width: f64) -> String {
    let room = ((width - 6.0) / LETTER).max(0.0) as usize;
    match name.chars().count() {
        length if length <= room => name.to_owned(),
        _ if room < 3 => String::new(),
        _ => name.chars().take(room - 1).chain(['…']).collect(),
    }
}

/// Warm for the program, blue for the kernel, grey for threads. Neighbours differ a little, and a function looks the same wherever it is.
fn color(frame: &Frame<'_>) -> String {
    let hash =
        frame.name.bytes().fold(17_u32, |hash, byte| hash.wrapping_mul(31) ^ u32::from(byte));
    let (spread, light) = (hash % 28, 62 + hash / 28 % 12);
    match (frame.depth, frame.name.ends_with("_[k]")) {
        (0 | 1, _) => format!("hsl(0,0%,{}%)", 78 + hash % 8),
        (_, true) => format!("hsl({},48%,{light}%)", 195 + spread),
        (_, false) => format!("hsl({},78%,{light}%)", 14 + spread),
    }
}

/// Text as it may stand anywhere in XML, without the characters that may not. Source: XML 1.0 §2.2, §2.4.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(lines: &[(&str, u64)], title: &str) -> String {
        let mut tree = Tree::default();
        for (stack, count) in lines {
            tree.add(stack.split(';'), *count).unwrap();
        }
        draw(&tree, title)
    }

    #[test]
    fn each_function_is_as_wide_as_its_share() {
        let svg = picture(&[("t;a", 1), ("t;send_[k]", 3)], "A run");
        assert!(svg.contains("<title>A run</title>"));
        assert!(svg.contains("<title>a: 1 sample, 25.00 %</title><rect x=\"10.00\""), "{svg}");
        assert!(svg.contains(" width=\"295.00\""), "{svg}");
        let kernel = "<title>send_[k]: 3 samples, 75.00 %</title><rect x=\"305.00\"";
        assert!(svg.contains(kernel) && svg.contains(" width=\"885.00\""), "{svg}");
        assert!(svg.contains(">4 samples."));
    }

    #[test]
    fn names_are_text_whatever_they_hold() {
        let name = "<script>alert(1)</script> & \"x\" ]]>\u{1}";
        let svg = picture(&[(name, 1)], name);
        assert_eq!(svg.matches("<script>").count(), 1, "the picture's own: {svg}");
        assert_eq!(svg.matches("]]>").count(), 1);
        assert!(svg.contains("&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;x&quot; ]]&gt; "));
        assert!(!svg.contains('\u{1}'));
    }

    #[test]
    fn what_is_too_narrow_to_be_seen_is_not_drawn() {
        let svg = picture(&[("t;wide", 1_000_000), ("t;narrow", 1)], "");
        assert!(svg.contains("wide: 1000000") && !svg.contains("narrow"));
    }

    #[test]
    fn names_are_cut_to_their_room() {
        assert_eq!(fitting("main", 100.0), "main");
        assert_eq!(fitting("a_long_name", 6.0 + 5.0 * LETTER + 0.1), "a_lo…");
        assert_eq!(fitting("main", 20.0), "");
    }
}

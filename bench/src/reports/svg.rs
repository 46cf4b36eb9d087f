//! Plots as SVG within HTML: axes with round ticks, lines, points, bars. Colours are classes that the page gives light and dark values.

use std::fmt::Write;

use super::html::escape;

/// Points against two axes.
pub struct Plot {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
    /// Stretches of the x axis that stand out: from, to, name.
    pub bands: Vec<(f64, f64, String)>,
    /// A sentence below, for people.
    pub note: String,
}

pub struct Axis {
    /// What it measures, with its unit.
    pub label: String,
    pub scale: Scale,
    /// Where it has ticks, and what they say; round numbers when empty.
    pub ticks: Vec<(f64, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    /// From zero.
    Linear,
    /// From a power of ten to another; values of zero and below have no place on it.
    Log,
}

pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    pub mark: Mark,
    /// Chooses colour and shape; [`PUBLISHED`] is apart from all others.
    pub colour: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    Line,
    /// A line of dashes, for what belongs to another line of the same colour.
    Dashes,
    Points,
    /// Points that are not filled, for what is to be taken with care.
    Hollow,
}

/// Horizontal bars, each with a figure and perhaps a mark of what it is to be held against.
pub struct Bars {
    pub title: String,
    /// Names of the colours, in order.
    pub legend: Vec<String>,
    /// What the figures measure, with their unit.
    pub label: String,
    /// What the marks mean.
    pub mark_name: String,
    pub bars: Vec<Bar>,
    pub note: String,
}

pub struct Bar {
    /// Stands above the first bar of its kind.
    pub heading: String,
    pub value: f64,
    pub mark: Option<f64>,
    pub text: String,
    pub colour: usize,
}

/// Colours of series; beyond them they repeat.
pub const COLOURS: usize = 8;
/// The colour of what was not measured here.
pub const PUBLISHED: usize = COLOURS;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 52.0;

impl Plot {
    /// The plot with its title and legend; `None` when there is nothing to show.
    pub fn figure(&self) -> Option<String> {
        let points = self.series.iter().flat_map(|series| &series.points);
        let points: Vec<(f64, f64)> = points.copied().filter(|at| self.has_place(*at)).collect();
        if points.is_empty() {
            return None;
        }
        let x = Range::of(&self.x, points.iter().map(|at| at.0));
        let y = Range::of(&self.y, points.iter().map(|at| at.1));
        let place = |(at_x, at_y): (f64, f64)| {
            let width = WIDTH - LEFT - RIGHT;
            let height = HEIGHT - TOP - BOTTOM;
            (LEFT + x.share(at_x) * width, HEIGHT - BOTTOM - y.share(at_y) * height)
        };
        let mut body = String::new();
        for (from, to, name) in &self.bands {
            let (left, right) = (place((*from, y.from)).0, place((*to, y.from)).0);
            let (middle, wide) = (f64::midpoint(left, right), (right - left).max(0.0));
            let high = HEIGHT - TOP - BOTTOM;
            let _ = write!(
                body,
                "<rect class=band x={left:.1} y={TOP} width={wide:.1} height={high}></rect>\
                 <text class=quiet x={middle:.1} y={:.1} text-anchor=middle>{}</text>",
                TOP - 6.0,
                escape(name)
            );
        }
        self.axes(&mut body, &x, &y, &place);
        for series in &self.series {
            let points = series.points.iter().copied().filter(|at| self.has_place(*at));
            series_marks(&mut body, series, points.map(|at| (at, place(at))));
        }
        let keys: Vec<(usize, &str, Mark)> = self
            .series
            .iter()
            .map(|series| (series.colour, series.name.as_str(), series.mark))
            .collect();
        Some(framed(&self.title, &svg(&self.title, HEIGHT, &body), &legend(&keys), &self.note))
    }

    fn has_place(&self, (x, y): (f64, f64)) -> bool {
        let fits = |value: f64, axis: &Axis| {
            value.is_finite() && (value > 0.0 || (axis.scale == Scale::Linear && value >= 0.0))
        };
        fits(x, &self.x) && fits(y, &self.y)
    }

    fn axes(
        &self,
        body: &mut String,
        x: &Range,
        y: &Range,
        place: &impl Fn((f64, f64)) -> (f64, f64),
    ) {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for (value, text) in &x.ticks {
            let at = place((*value, y.from)).0;
            let _ = write!(
                body,
                "<line class=grid x1={at:.1} y1={TOP} x2={at:.1} y2={bottom}></line>\
                 <text x={at:.1} y={:.1} text-anchor=middle>{}</text>",
                bottom + 18.0,
                escape(text)
            );
        }
        for (value, text) in &y.ticks {
            let at = place((x.from, *value)).1;
            let _ = write!(
                body,
                "<line class=grid x1={LEFT} y1={at:.1} x2={right} y2={at:.1}></line>\
                 <text x={:.1} y={:.1} text-anchor=end>{}</text>",
                LEFT - 8.0,
                at + 4.0,
                escape(text)
            );
        }
        let _ = write!(
            body,
            "<path class=axis d=\"M{LEFT} {TOP}V{bottom}H{right}\"></path>\
             <text class=name x=4 y={:.1}>{}</text>\
             <text class=name x={right} y={:.1} text-anchor=end>{}</text>",
            TOP - 20.0,
            escape(&self.y.label),
            HEIGHT - 10.0,
            escape(&self.x.label)
        );
    }
}

impl Bars {
    /// The bars with their title and legend; `None` when there are none.
    pub fn figure(&self) -> Option<String> {
        const ROW: f64 = 26.0;
        const FIGURES: f64 = 270.0;
        let values = self.bars.iter().flat_map(|bar| [Some(bar.value), bar.mark]);
        let most = values.flatten().filter(|value| value.is_finite()).fold(0.0, f64::max);
        if most <= 0.0 {
            return None;
        }
        let wide = |value: f64| value.max(0.0) / most * (WIDTH - FIGURES - 8.0);
        let mut body = String::new();
        let mut top = 4.0;
        let mut heading = None;
        for bar in self.bars.iter().filter(|bar| bar.value.is_finite()) {
            if heading != Some(&bar.heading) {
                let text = escape(&bar.heading);
                let _ = write!(body, "<text class=name x=4 y={:.1}>{text}</text>", top + 16.0);
                top += ROW;
                heading = Some(&bar.heading);
            }
            let width = wide(bar.value);
            let _ = write!(
                body,
                "<rect class=\"bar c{}\" x=4 y={top:.1} width={width:.1} height=18></rect>",
                bar.colour
            );
            let mut end = width;
            if let Some(mark) = bar.mark.filter(|mark| mark.is_finite()) {
                let at = 4.0 + wide(mark);
                let (from, to) = (top - 3.0, top + 21.0);
                let _ = write!(body, "<path class=mark d=\"M{at:.1} {from:.1}V{to:.1}\"></path>");
                end = end.max(wide(mark));
            }
            let (left, line) = (end + 14.0, top + 14.0);
            let _ = write!(body, "<text x={left:.1} y={line:.1}>{}</text>", escape(&bar.text));
            top += ROW;
        }
        let mut keys: Vec<(usize, &str, Mark)> = Vec::new();
        for (colour, name) in self.legend.iter().enumerate() {
            keys.push((colour % COLOURS, name, Mark::Points));
        }
        let mut legend = legend(&keys);
        if self.bars.iter().any(|bar| bar.mark.is_some()) {
            let name = escape(&self.mark_name);
            legend += &format!("<span class=key><i class=upright></i>{name}</span>");
        }
        let title = format!("{}, {}", self.title, self.label);
        Some(framed(&title, &svg(&title, top + 4.0, &body), &legend, &self.note))
    }
}

/// The stretch of an axis, and its ticks.
struct Range {
    from: f64,
    to: f64,
    scale: Scale,
    ticks: Vec<(f64, String)>,
}

impl Range {
    fn of(axis: &Axis, values: impl Iterator<Item = f64>) -> Self {
        let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
        for value in values.chain(axis.ticks.iter().map(|tick| tick.0)) {
            least = least.min(value);
            most = most.max(value);
        }
        let (from, to, ticks) = match axis.scale {
            Scale::Linear => linear(most),
            Scale::Log => logarithmic(least, most),
        };
        match axis.ticks.is_empty() {
            true => {
                let ticks = ticks.into_iter().map(|value| (value, number(value))).collect();
                Self { from, to, scale: axis.scale, ticks }
            }
            false => Self { from: least, to: most, scale: axis.scale, ticks: axis.ticks.clone() },
        }
    }

    /// Where a value lies, 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.from) / (self.to - self.from),
            Scale::Log => (value / self.from).ln() / (self.to / self.from).ln(),
        };
        if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// From zero to a round number at or above `most`, by steps of 1, 2 or 5 times a power of ten.
fn linear(most: f64) -> (f64, f64, Vec<f64>) {
    let most = if most > 0.0 { most } else { 1.0 };
    let rough = most / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power);
    let step = step.into_iter().find(|step| *step >= rough * 0.999).unwrap_or(power * 10.0);
    let steps = (most / step - 1e-9).ceil().max(1.0);
    (0.0, step * steps, (0..=steps as u32).map(|at| f64::from(at) * step).collect())
}

/// From and to one of 1, 2 or 5 times a power of ten; over many powers, ticks at these alone.
fn logarithmic(least: f64, most: f64) -> (f64, f64, Vec<f64>) {
    let powers = least.log10().floor() as i32..=most.log10().floor() as i32 + 1;
    let at = |power: i32| [1.0, 2.0, 5.0].map(|times| times * 10_f64.powi(power));
    let all: Vec<f64> = powers.clone().flat_map(at).collect();
    let from = all.iter().rev().copied().find(|tick| *tick <= least * 1.000_001).unwrap_or(least);
    let above = |tick: &f64| *tick >= most * 0.999_999 && *tick > from;
    let to = all.iter().copied().find(above).unwrap_or(most);
    let ticks = all.into_iter().filter(|tick| (from..=to).contains(tick));
    let few = ticks.clone().count() <= 8;
    let is_power = |tick: &f64| (tick.log10() - tick.log10().round()).abs() < 1e-6;
    (from, to, ticks.filter(|tick| few || is_power(tick)).collect())
}

/// A number as people write it beside a tick: `0.05`, `20`, `20 k`, `1.5 M`.
pub fn number(value: f64) -> String {
    let (value, unit) = match value.abs() {
        1e9.. => (value / 1e9, " G"),
        1e6.. => (value / 1e6, " M"),
        1e4.. => (value / 1e3, " k"),
        _ => (value, ""),
    };
    // Steps of ticks are sums of fractions that have no end in binary.
    let decimals =
        if value == 0.0 { 0 } else { (3.0 - value.abs().log10().floor()).max(0.0) as usize };
    let text = format!("{value:.decimals$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{unit}")
}

/// Draws the points of a series, values with their places.
fn series_marks(
    body: &mut String,
    series: &Series,
    points: impl Iterator<Item = ((f64, f64), (f64, f64))>,
) {
    let colour = series.colour;
    match series.mark {
        Mark::Line | Mark::Dashes => {
            let mut path = String::new();
            for (at, (_, (x, y))) in points.enumerate() {
                let _ = write!(path, "{}{x:.1} {y:.1}", if at == 0 { "M" } else { "L" });
            }
            let dashes = if series.mark == Mark::Dashes { " dashes" } else { "" };
            let _ = write!(body, "<path class=\"line c{colour}{dashes}\" d=\"{path}\"></path>");
        }
        Mark::Points | Mark::Hollow => {
            let hollow = if series.mark == Mark::Hollow { " hollow" } else { "" };
            for ((value_x, value_y), (x, y)) in points {
                let shape = shape(colour, x, y);
                let name = escape(&series.name);
                let _ = write!(
                    body,
                    "<path class=\"point c{colour}{hollow}\" d=\"{shape}\"><title>{name}: {}, {}</title></path>",
                    number(value_x),
                    number(value_y)
                );
            }
        }
    }
}

/// Colours alone do not tell series apart for everybody.
fn shape(colour: usize, x: f64, y: f64) -> String {
    match colour {
        PUBLISHED => format!("M{x:.1} {:.1}l6 6l-6 6l-6 -6z", y - 6.0),
        at => match at % 4 {
            0 => format!("M{:.1} {y:.1}a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z", x - 4.5),
            1 => format!("M{:.1} {:.1}h8v8h-8z", x - 4.0, y - 4.0),
            2 => format!("M{x:.1} {:.1}l5 9h-10z", y - 5.5),
            _ => format!("M{x:.1} {:.1}l5 -9h-10z", y + 5.5),
        },
    }
}

fn legend(keys: &[(usize, &str, Mark)]) -> String {
    let key = |(colour, name, mark): &(usize, &str, Mark)| {
        let sign = match mark {
            Mark::Line => "<path class=\"line cN\" d=\"M0 7H22\"></path>".to_owned(),
            Mark::Dashes => "<path class=\"line cN dashes\" d=\"M0 7H22\"></path>".to_owned(),
            Mark::Points | Mark::Hollow => {
                let hollow = if *mark == Mark::Hollow { " hollow" } else { "" };
                let shape = shape(*colour, 11.0, 7.0);
                format!("<path class=\"point cN{hollow}\" d=\"{shape}\"></path>")
            }
        };
        let sign = sign.replace("cN", &format!("c{colour}"));
        let name = escape(name);
        format!("<span class=key><svg class=sign width=22 height=14>{sign}</svg>{name}</span>")
    };
    keys.iter().map(key).collect()
}

fn svg(title: &str, height: f64, body: &str) -> String {
    let title = escape(title);
    format!(
        "<svg class=plot viewBox=\"0 0 {WIDTH} {height:.0}\" role=img aria-label=\"{title}\">{body}</svg>"
    )
}

fn framed(title: &str, svg: &str, legend: &str, note: &str) -> String {
    let title = escape(title);
    let note = match note {
        "" => String::new(),
        note => format!("<p class=note>{}</p>", escape(note)),
    };
    format!(
        "<figure><figcaption>{title}</figcaption><div class=wide>{svg}</div>\
         <div class=legend>{legend}</div>{note}</figure>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(label: &str, scale: Scale) -> Axis {
        Axis { label: label.to_owned(), scale, ticks: Vec::new() }
    }

    fn plot(points: Vec<(f64, f64)>, scale: Scale) -> Plot {
        Plot {
            title: "a < b".to_owned(),
            x: axis("packets", scale),
            y: axis("cores", scale),
            series: vec![Series {
                name: "x & y".to_owned(),
                points,
                mark: Mark::Points,
                colour: 0,
            }],
            bands: Vec::new(),
            note: String::new(),
        }
    }

    #[test]
    fn linear_ticks_are_round_and_reach_the_most() {
        assert_eq!(linear(9.0), (0.0, 10.0, vec![0.0, 2.0, 4.0, 6.0, 8.0, 10.0]));
        assert_eq!(linear(10.0).1, 10.0);
        assert_eq!(linear(0.0).1, 1.0);
        for most in [0.03, 0.7, 1.01, 36_000.0, 7.2e8] {
            let (_, to, ticks) = linear(most);
            assert!(
                to >= most && to <= most * 1.5 && (3..=7).contains(&ticks.len()),
                "{most}: {ticks:?}"
            );
        }
    }

    #[test]
    fn logarithmic_ticks_hold_all_values_between_them() {
        assert_eq!(logarithmic(1.0, 10.0), (1.0, 10.0, vec![1.0, 2.0, 5.0, 10.0]));
        assert_eq!(logarithmic(5.0, 5.0).0, 5.0);
        assert!(logarithmic(5.0, 5.0).1 > 5.0);
        let (from, to, ticks) = logarithmic(0.03, 40_000.0);
        assert!(from <= 0.03 && to >= 40_000.0);
        assert!(ticks.len() <= 8 && ticks.iter().all(|tick| number(*tick).starts_with(['0', '1'])));
    }

    #[test]
    fn numbers_are_short() {
        let written = [0.0, 0.05, 0.1 + 0.2, 20.0, 1_500.0, 20_000.0, 1.5e6, 100.0].map(number);
        assert_eq!(written, ["0", "0.05", "0.3", "20", "1500", "20 k", "1.5 M", "100"]);
    }

    #[test]
    fn points_without_a_place_are_left_out() {
        let points = vec![(f64::NAN, 1.0), (0.0, 1.0), (10.0, 1.0), (100.0, f64::INFINITY)];
        let figure = plot(points, Scale::Log).figure().unwrap();
        assert_eq!(figure.matches("<title>").count(), 1);
        assert!(!figure.contains("NaN") && !figure.contains("inf"), "{figure}");
        assert!(plot(vec![(0.0, 0.0)], Scale::Log).figure().is_none());
        assert!(plot(Vec::new(), Scale::Linear).figure().is_none());
    }

    #[test]
    fn names_are_escaped() {
        let figure = plot(vec![(1.0, 1.0)], Scale::Linear).figure().unwrap();
        assert!(figure.contains("a &lt; b") && figure.contains("x &amp; y"), "{figure}");
        assert!(!figure.contains("a < b"), "{figure}");
    }

    #[test]
    fn points_lie_within_the_axes() {
        let figure = plot(vec![(0.0, 0.0), (10.0, 10.0)], Scale::Linear).figure().unwrap();
        let (left, bottom) = (LEFT - 4.5, HEIGHT - BOTTOM);
        let (right, top) = (WIDTH - RIGHT - 4.5, TOP);
        assert!(figure.contains(&format!("M{left:.1} {bottom:.1}a")), "{figure}");
        assert!(figure.contains(&format!("M{right:.1} {top:.1}a")), "{figure}");
    }

    #[test]
    fn bars_carry_their_mark_and_text() {
        let bar = |value, mark| Bar {
            heading: "smoke".to_owned(),
            value,
            mark,
            text: format!("{value} µs"),
            colour: 0,
        };
        let mut bars = Bars {
            title: "cost".to_owned(),
            legend: vec!["a".to_owned()],
            label: "µs".to_owned(),
            mark_name: "floor".to_owned(),
            bars: vec![bar(4.0, Some(2.0)), bar(2.0, None)],
            note: String::new(),
        };
        let figure = bars.figure().unwrap();
        assert_eq!(figure.matches("class=mark").count(), 1);
        assert_eq!(figure.matches(">smoke<").count(), 1);
        assert!(figure.contains(">4 µs<") && figure.contains(">floor<"), "{figure}");
        bars.bars.clear();
        assert!(bars.figure().is_none());
    }
}

//! The drawings of the report: from numbers to SVG, by small functions that know nothing of metrics.
//!
//! A drawing is made for a width of 360 units, so that on a phone it is as wide as the screen and its letters are as large as the text
//! around it. It has no colours: its parts have classes, and the page's stylesheet says what these look like on paper, on a bright and
//! on a dark screen. What a colour tells, a shape or a word tells too. Every drawing has a title and a description for those who cannot
//! see it; the numbers themselves stand in a table beside it, which is the page's business.

use std::fmt::Write as _;

/// How wide a drawing is, in its own units.
const WIDTH: f64 = 360.0;
/// Where the plot begins, right of the numbers of its scale.
const LEFT: f64 = 44.0;
/// Where it ends.
const RIGHT: f64 = 354.0;
/// Room above the plot, for the number of a mark.
const TOP: f64 = 16.0;
/// More values than this are a line without dots.
const MOST_DOTS: usize = 60;
/// How many steps of shading a heat map has.
pub(super) const SHADES: usize = 7;

/// What is said to those who cannot see the drawing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told<'a> {
    /// Unique in the page.
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    pub(super) text: &'a str,
}

/// A stretch of numbers and the stretch of the drawing that it lies on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) start: f64,
    pub(super) end: f64,
}

impl Scale {
    /// Where a number lies; what is beyond an end lies on it.
    pub(super) fn at(self, value: f64) -> f64 {
        let share = if self.high > self.low { (value - self.low) / (self.high - self.low) } else { 0.5 };
        self.start + share.clamp(0.0, 1.0) * (self.end - self.start)
    }
}

/// A round step that cuts the stretch into at most so many parts: 1, 2 or 5 times a power of ten.
fn step(length: f64, most: usize) -> f64 {
    let rough = length / most as f64;
    if rough <= 0.0 || !rough.is_finite() {
        return 1.0;
    }
    let power = 10_f64.powf(rough.log10().floor());
    // A hair more than exactly a step is that step.
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

/// The round numbers from `low` to `high`, about so many at most.
pub(super) fn ticks(low: f64, high: f64, most: usize) -> Vec<f64> {
    if !(high - low).is_finite() {
        return Vec::new();
    }
    let step = step(high - low, most);
    let (first, last) = ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor());
    let n = (last - first).max(0.0) as usize;
    // By multiplication, so that errors do not add up; a −0 is 0.
    (0..=n).map(|i| (first + i as f64) * step + 0.0).collect()
}

/// The stretch, widened to round numbers, within what is possible.
pub(super) fn rounded(low: f64, high: f64, (bottom, top): (f64, f64)) -> (f64, f64) {
    let (low, high) = if high - low > 1e-9 {
        (low, high)
    } else {
        // All the same: some room around it.
        let room = if (top - bottom).is_finite() { (top - bottom) / 20.0 } else { 1.0 };
        (low - room, high + room)
    };
    let step = step(high - low, 4);
    let widened = ((low / step + 1e-9).floor() * step, (high / step - 1e-9).ceil() * step);
    (widened.0.max(bottom), widened.1.min(top))
}

/// Which of `n` things get a label so that there are at most so many, evenly.
pub(super) fn labelled(n: usize, most: usize) -> impl Iterator<Item = usize> {
    (0..n).step_by(n.div_ceil(most.max(1)).max(1))
}

/// A value in a series.
#[derive(Debug, Clone, Default)]
pub(super) struct Dot {
    /// On the axis.
    pub(super) label: String,
    pub(super) value: Option<f64>,
    pub(super) interval: Option<(f64, f64)>,
    /// From where to where it would be ordinary.
    pub(super) limits: Option<(f64, f64)>,
    /// Whether its period is over and wholly counted.
    pub(super) is_whole: bool,
    /// The number of the remark about it.
    pub(super) mark: Option<usize>,
}

/// A series of values with their intervals as a band, and what is ordinary.
pub(super) struct Line<'a> {
    pub(super) told: Told<'a>,
    pub(super) dots: &'a [Dot],
    pub(super) center: Option<f64>,
    /// A value that matters, and its name.
    pub(super) level: Option<(f64, &'a str)>,
    /// The lowest and the highest value that can be.
    pub(super) range: (f64, f64),
    /// How a number of the scale is written.
    pub(super) number: &'a dyn Fn(f64) -> String,
}

/// The drawing of a series.
pub(super) fn line(line: &Line<'_>) -> String {
    const BOTTOM: f64 = 156.0;
    const HEIGHT: f64 = 182.0;
    let dots = line.dots;
    let (low, high) = domain(line);
    let y = Scale { low, high, start: BOTTOM, end: TOP };
    let x = |i: usize| middle(i, dots.len());
    let mut body = grid(y, line.number);
    for run in runs(dots, |dot| dot.interval) {
        body.push_str(&band(&run, x, y));
    }
    for run in runs(dots, |dot| dot.limits) {
        for side in [|limits: (f64, f64)| limits.0, |limits: (f64, f64)| limits.1] {
            let half = (RIGHT - LEFT) / dots.len() as f64 / 2.0;
            let steps = run.iter().flat_map(|(i, limits)| {
                let y = y.at(side(*limits));
                [(x(*i) - half, y), (x(*i) + half, y)]
            });
            let _ = write!(body, r#"<path class="limit" d="{}"/>"#, path(steps));
        }
    }
    if let Some(center) = line.center {
        let y = y.at(center);
        let _ = write!(body, r#"<path class="center" d="M{LEFT} {y:.1}H{RIGHT}"/>"#);
    }
    if let Some((level, name)) = line.level {
        let y = y.at(level);
        let above = if y < TOP + 14.0 { y + 12.0 } else { y - 4.0 };
        let _ = write!(body, r#"<path class="level" d="M{LEFT} {y:.1}H{RIGHT}"/>"#);
        let _ = write!(
            body,
            r#"<text class="name" x="{RIGHT}" y="{above:.1}" text-anchor="end">{}</text>"#,
            escaped(name)
        );
    }
    for run in runs(dots, |dot| dot.value) {
        let points = run.iter().map(|(i, value)| (x(*i), y.at(*value)));
        let _ = write!(body, r#"<path class="line" d="{}"/>"#, path(points));
    }
    for (i, dot) in dots.iter().enumerate() {
        let Some(value) = dot.value else { continue };
        let (x, y) = (x(i), y.at(value));
        if let Some(mark) = dot.mark {
            let above = if y < TOP + 4.0 { y + 18.0 } else { y - 8.0 };
            let _ = write!(
                body,
                r#"<path class="mark" d="M{x:.1} {:.1}l5 5l-5 5l-5 -5z"/><text class="remark" x="{x:.1}" y="{above:.1}" text-anchor="middle">{mark}</text>"#,
                y - 5.0
            );
        } else if !dot.is_whole || dots.len() <= MOST_DOTS {
            let class = if dot.is_whole { "dot" } else { "dot part" };
            let _ = write!(body, r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="2.6"/>"#);
        }
    }
    body.push_str(&labels(dots.iter().map(|dot| dot.label.as_str()), BOTTOM + 18.0));
    svg(line.told, (WIDTH, HEIGHT), "line-chart", &body)
}

/// From where to where the scale of a series goes. Intervals that are much wider than most (a period with two answers) do not count:
/// they would press all the others flat, and are cut at the edge instead.
fn domain(line: &Line<'_>) -> (f64, f64) {
    let mut widths: Vec<f64> = line.dots.iter().filter_map(|dot| dot.interval).map(|(l, h)| h - l).collect();
    widths.sort_by(f64::total_cmp);
    let usual = widths.get(widths.len() / 2).map_or(f64::INFINITY, |width| 1.5 * width);
    let mut all: Vec<f64> = line.center.into_iter().chain(line.level.map(|(level, _)| level)).collect();
    for dot in line.dots {
        let interval = dot.interval.filter(|(low, high)| high - low <= usual);
        all.extend(interval.into_iter().chain(dot.limits).flat_map(|(low, high)| [low, high]));
        all.extend(dot.value.filter(|_| interval.is_some() || dot.interval.is_none()));
    }
    let low = all.iter().copied().fold(f64::INFINITY, f64::min);
    let high = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if low > high { line.range } else { rounded(low, high, line.range) }
}

/// The middle of the place of the i-th of n.
fn middle(i: usize, n: usize) -> f64 {
    LEFT + (i as f64 + 0.5) * (RIGHT - LEFT) / n.max(1) as f64
}

/// The stretches of neighbours that have something, each with its index.
fn runs<T, V>(all: &[T], of: impl Fn(&T) -> Option<V>) -> Vec<Vec<(usize, V)>> {
    let mut runs: Vec<Vec<(usize, V)>> = Vec::new();
    let mut is_open = false;
    for (i, one) in all.iter().enumerate() {
        match of(one) {
            Some(value) => match runs.last_mut().filter(|_| is_open) {
                Some(run) => run.push((i, value)),
                None => runs.push(vec![(i, value)]),
            },
            None => {
                is_open = false;
                continue;
            }
        }
        is_open = true;
    }
    runs
}

/// Intervals as an area; a single one as a bar.
fn band(run: &[(usize, (f64, f64))], x: impl Fn(usize) -> f64, y: Scale) -> String {
    if let [(i, (low, high))] = run {
        let (x, top, bottom) = (x(*i), y.at(*high), y.at(*low));
        return format!(
            r#"<rect class="band" x="{:.1}" y="{top:.1}" width="8" height="{:.1}"/>"#,
            x - 4.0,
            (bottom - top).max(1.0)
        );
    }
    let there = run.iter().map(|(i, (_, high))| (x(*i), y.at(*high)));
    let back = run.iter().rev().map(|(i, (low, _))| (x(*i), y.at(*low)));
    format!(r#"<path class="band" d="{}z"/>"#, path(there.chain(back)))
}

fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    points.enumerate().fold(String::new(), |mut path, (i, (x, y))| {
        let _ = write!(path, "{}{x:.1} {y:.1}", if i == 0 { 'M' } else { 'L' });
        path
    })
}

/// The lines across the plot, with their numbers.
fn grid(y: Scale, number: &dyn Fn(f64) -> String) -> String {
    ticks(y.low, y.high, 4).into_iter().fold(String::new(), |mut grid, tick| {
        let at = y.at(tick);
        let _ = write!(
            grid,
            r#"<path class="grid" d="M{LEFT} {at:.1}H{RIGHT}"/><text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
            LEFT - 6.0,
            at + 3.6,
            escaped(&number(tick))
        );
        grid
    })
}

/// What stands below the plot: some of the labels.
fn labels<'a>(all: impl ExactSizeIterator<Item = &'a str>, y: f64) -> String {
    let n = all.len();
    let shown: Vec<usize> = labelled(n, 4).collect();
    all.enumerate().filter(|(i, _)| shown.contains(i)).fold(String::new(), |mut text, (i, label)| {
        let x = middle(i, n);
        // About 2.8 units for half a letter: a label stays within the drawing.
        let half = 2.8 * label.chars().count() as f64;
        let x = x.clamp(half, WIDTH - half);
        let _ = write!(
            text,
            r#"<text class="tick" x="{x:.1}" y="{y:.1}" text-anchor="middle">{}</text>"#,
            escaped(label)
        );
        text
    })
}

/// How many there were in a period.
#[derive(Debug, Clone)]
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) n: i64,
    /// Whether its period is over and wholly counted; else it is hatched.
    pub(super) is_whole: bool,
}

/// How many there were, period by period.
pub(super) fn bars(told: Told<'_>, bars: &[Bar], number: &dyn Fn(f64) -> String) -> String {
    const BOTTOM: f64 = 110.0;
    const HEIGHT: f64 = 136.0;
    let most = bars.iter().map(|bar| bar.n).max().unwrap_or_default().max(1) as f64;
    let (_, high) = rounded(0.0, most, (0.0, f64::INFINITY));
    let y = Scale { low: 0.0, high: high.max(1.0), start: BOTTOM, end: TOP };
    let whole_numbers = |tick: f64| if tick.fract().abs() < 1e-9 { number(tick) } else { String::new() };
    let mut body = hatch(told.id);
    body.push_str(&grid(y, &whole_numbers));
    let width = (RIGHT - LEFT) / bars.len().max(1) as f64;
    let gap = (width * 0.22).min(6.0);
    for (i, bar) in bars.iter().enumerate().filter(|(_, bar)| bar.n > 0) {
        let top = y.at(bar.n as f64);
        // However few, there is something to see.
        let (top, height) = (top.min(BOTTOM - 1.0), (BOTTOM - top).max(1.0));
        let fill =
            if bar.is_whole { String::new() } else { format!(r#" fill="url(#{}-hatch)""#, escaped(told.id)) };
        let class = if bar.is_whole { "bar" } else { "bar-part" };
        let (x, width) = (LEFT + i as f64 * width + gap / 2.0, (width - gap).clamp(0.5, 36.0));
        let x = x.max(middle(i, bars.len()) - 18.0);
        let _ = write!(
            body,
            r#"<rect class="{class}" x="{x:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}"{fill}/>"#
        );
    }
    body.push_str(&labels(bars.iter().map(|bar| bar.label.as_str()), BOTTOM + 18.0));
    svg(told, (WIDTH, HEIGHT), "bar-chart", &body)
}

fn hatch(id: &str) -> String {
    format!(
        r#"<defs><pattern id="{}-hatch" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect class="hatch-paper" width="5" height="5"/><rect class="hatch" width="2" height="5"/></pattern></defs>"#,
        escaped(id)
    )
}

/// A bar with its name above it and its number at its end.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) name: String,
    /// Of the widest possible bar, from 0 to 1.
    pub(super) share: f64,
    pub(super) number: String,
}

/// Bars that lie, one below the other.
pub(super) fn rows(told: Told<'_>, rows: &[Row]) -> String {
    const EACH: f64 = 36.0;
    const LONGEST: usize = 42;
    let width = |share: f64| (WIDTH * share.clamp(0.0, 1.0)).max(2.0);
    let body = rows.iter().enumerate().fold(String::new(), |mut body, (i, row)| {
        let y = i as f64 * EACH;
        let name = shortened(&row.name, LONGEST);
        let _ = write!(
            body,
            r#"<text class="name" x="0" y="{:.1}">{}</text><text class="number" x="{WIDTH}" y="{:.1}" text-anchor="end">{}</text><rect class="track" x="0" y="{:.1}" width="{WIDTH}" height="10" rx="2"/><rect class="bar" x="0" y="{:.1}" width="{:.1}" height="10" rx="2"/>"#,
            y + 13.0,
            escaped(&name),
            y + 13.0,
            escaped(&row.number),
            y + 19.0,
            y + 19.0,
            width(row.share)
        );
        body
    });
    svg(told, (WIDTH, EACH * rows.len().max(1) as f64), "row-chart", &body)
}

/// At most so many characters; what is cut ends in an ellipsis.
fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most - 1).collect();
    format!("{}…", kept.trim_end())
}

/// A value with its interval, on the whole of its scale.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gauge {
    pub(super) value: f64,
    pub(super) interval: (f64, f64),
    pub(super) range: (f64, f64),
    /// Where it should be above or below.
    pub(super) target: Option<f64>,
}

/// A value with its interval.
pub(super) fn gauge(told: Told<'_>, gauge: &Gauge) -> String {
    const LONG: f64 = 240.0;
    let x = Scale { low: gauge.range.0, high: gauge.range.1, start: 1.0, end: LONG - 1.0 };
    let (low, high) = (x.at(gauge.interval.0), x.at(gauge.interval.1));
    // However sure we are, there is something to see.
    let width = (high - low).max(2.0);
    let start = low.min(LONG - 1.0 - width);
    let middle = LONG / 2.0;
    let mut body = format!(
        r#"<rect class="track" x="0" y="9" width="{LONG}" height="4" rx="2"/><path class="grid" d="M{middle} 6V16"/><rect class="interval" x="{start:.1}" y="6" width="{width:.1}" height="10" rx="2"/><rect class="value" x="{:.1}" y="3" width="3" height="16" rx="1"/>"#,
        x.at(gauge.value) - 1.5
    );
    if let Some(target) = gauge.target {
        let x = x.at(target);
        let _ = write!(body, r#"<path class="target" d="M{x:.1} 0V22M{:.1} 0h6"/>"#, x - 3.0);
    }
    svg(told, (LONG, 22.0), "gauge", &body)
}

/// A row of a heat map.
#[derive(Debug, Clone)]
pub(super) struct HeatRow {
    pub(super) name: String,
    /// How many it is about.
    pub(super) size: String,
    /// Whether these are so few that chance may make of them what it likes: they do not say what the darkest is.
    pub(super) is_few: bool,
    /// Of each column; `None`: not known (yet).
    pub(super) cells: Vec<Option<f64>>,
}

/// Values by rows and columns, the higher the darker. An unknown one is an empty cell; one above the highest that counts is as dark as that.
pub(super) fn heat(
    told: Told<'_>,
    columns: &[String],
    rows: &[HeatRow],
    number: &dyn Fn(f64) -> String,
) -> String {
    const CELL: (f64, f64) = (46.0, 24.0);
    const NAMES: f64 = 150.0;
    const HEAD: f64 = 24.0;
    let highest_of = |rows: &mut dyn Iterator<Item = &HeatRow>| {
        rows.flat_map(|row| row.cells.iter().flatten()).copied().fold(0.0, f64::max)
    };
    let highest = match highest_of(&mut rows.iter().filter(|row| !row.is_few)) {
        0.0 => highest_of(&mut rows.iter()),
        highest => highest,
    };
    let x = |column: usize| NAMES + column as f64 * CELL.0;
    let mut body = String::new();
    for (column, name) in columns.iter().enumerate() {
        let _ = write!(
            body,
            r#"<text class="tick" x="{:.1}" y="14" text-anchor="middle">{}</text>"#,
            x(column) + CELL.0 / 2.0,
            escaped(name)
        );
    }
    for (i, row) in rows.iter().enumerate() {
        let y = HEAD + i as f64 * CELL.1;
        let _ = write!(
            body,
            r#"<text class="name" x="0" y="{:.1}">{}</text><text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
            y + 16.0,
            escaped(&row.name),
            NAMES - 10.0,
            y + 16.0,
            escaped(&row.size)
        );
        for (column, cell) in row.cells.iter().take(columns.len()).enumerate() {
            let (x, width, height) = (x(column), CELL.0 - 2.0, CELL.1 - 2.0);
            let _ = match cell {
                Some(value) => write!(
                    body,
                    r#"<rect class="heat q{shade}" x="{x:.1}" y="{y:.1}" width="{width}" height="{height}" rx="2"/><text class="cell q{shade}" x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
                    x + width / 2.0,
                    y + 15.0,
                    escaped(&number(*value)),
                    shade = shade(*value, highest),
                ),
                None => write!(
                    body,
                    r#"<rect class="unknown" x="{x:.1}" y="{y:.1}" width="{width}" height="{height}" rx="2"/>"#
                ),
            };
        }
    }
    let size = (NAMES + CELL.0 * columns.len() as f64, HEAD + CELL.1 * rows.len() as f64);
    svg(told, size, "heat-map", &body)
}

/// Which of the [`SHADES`] a value has, when the highest has the darkest.
pub(super) fn shade(value: f64, highest: f64) -> usize {
    if highest <= 0.0 {
        return 0;
    }
    let last = SHADES - 1;
    ((value / highest * last as f64).round().max(0.0) as usize).min(last)
}

fn svg(Told { id, title, text }: Told<'_>, (width, height): (f64, f64), class: &str, body: &str) -> String {
    let id = escaped(id);
    format!(
        r#"<svg class="{class}" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-labelledby="{id}-t {id}-d"><title id="{id}-t">{}</title><desc id="{id}-d">{}</desc>{body}</svg>"#,
        escaped(title),
        escaped(text)
    )
}

/// A text as it stands in SVG; what XML cannot hold is left out.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: Told<'_> = Told { id: "x", title: "A <title>", text: "What & how" };

    /// The numbers of an attribute of all elements of a class, in order.
    fn numbers(svg: &str, class: &str, attribute: &str) -> Vec<f64> {
        let elements = svg.split('<').filter(|element| element.contains(&format!("class=\"{class}\"")));
        elements
            .map(|element| {
                let value = element.split_once(&format!(" {attribute}=\"")).unwrap().1;
                value.split('"').next().unwrap().parse().unwrap()
            })
            .collect()
    }

    fn dot(value: f64, low: f64, high: f64) -> Dot {
        Dot { value: Some(value), interval: Some((low, high)), is_whole: true, ..Dot::default() }
    }

    fn drawn(dots: &[Dot], center: Option<f64>, level: Option<(f64, &str)>) -> String {
        let number = |value: f64| format!("{value}");
        line(&Line { told: TOLD, dots, center, level, range: (0.0, 1.0), number: &number })
    }

    #[test]
    fn ticks_are_round_and_within() {
        assert_eq!(ticks(0.0, 1.0, 4), [0.0, 0.5, 1.0]);
        assert_eq!(ticks(0.0, 1.0, 5), [0.0, 0.2, 0.4, 0.600_000_000_000_000_1, 0.8, 1.0]);
        assert_eq!(ticks(-100.0, 100.0, 4), [-100.0, -50.0, 0.0, 50.0, 100.0]);
        assert_eq!(ticks(0.0, 3.0, 4), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(ticks(0.0, 1_000_000.0, 4), [0.0, 500_000.0, 1_000_000.0]);
        for (low, high) in [(0.0, 0.0), (1.0, 1.0), (f64::NAN, 1.0), (0.0, f64::INFINITY), (0.81, 0.93)] {
            assert!(ticks(low, high, 4).len() <= 5, "{low} {high}");
        }
    }

    #[test]
    fn a_stretch_is_widened_to_round_numbers_and_stays_possible() {
        let check = |low, high, range, expected: (f64, f64)| {
            let (l, h) = rounded(low, high, range);
            assert!((l - expected.0).abs() < 1e-9 && (h - expected.1).abs() < 1e-9, "{l} {h}");
        };
        check(0.81, 0.93, (0.0, 1.0), (0.8, 0.95));
        check(0.97, 0.995, (0.0, 1.0), (0.97, 1.0));
        check(0.5, 0.5, (0.0, 1.0), (0.45, 0.55));
        check(1.0, 1.0, (0.0, 1.0), (0.95, 1.0));
        check(-3.0, 41.0, (-100.0, 100.0), (-20.0, 60.0));
        check(0.0, 7.0, (0.0, f64::INFINITY), (0.0, 8.0));
    }

    #[test]
    fn a_scale_turns_numbers_into_places() {
        let scale = Scale { low: 0.8, high: 0.9, start: 156.0, end: 16.0 };
        assert!((scale.at(0.8) - 156.0).abs() < 1e-9 && (scale.at(0.9) - 16.0).abs() < 1e-9);
        assert!((scale.at(0.85) - 86.0).abs() < 1e-9);
        assert!((scale.at(0.2) - 156.0).abs() < 1e-9, "what is beyond an end lies on it");
        assert!((Scale { low: 1.0, high: 1.0, start: 0.0, end: 10.0 }.at(1.0) - 5.0).abs() < 1e-9);
    }

    #[test]
    fn few_labels_evenly() {
        assert_eq!(labelled(3, 4).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(labelled(24, 4).collect::<Vec<_>>(), [0, 6, 12, 18]);
        assert_eq!(labelled(25, 4).collect::<Vec<_>>(), [0, 7, 14, 21]);
        assert_eq!(labelled(0, 4).count(), 0);
    }

    #[test]
    fn a_series_has_its_dots_where_they_belong() {
        let dots = [dot(0.8, 0.7, 0.9), dot(0.9, 0.8, 1.0)];
        let svg = drawn(&dots, Some(0.85), None);
        let [x, y] = ["cx", "cy"].map(|at| numbers(&svg, "dot", at));
        assert_eq!(
            x,
            [LEFT + (RIGHT - LEFT) / 4.0, LEFT + 3.0 * (RIGHT - LEFT) / 4.0]
                .map(|x| (10.0 * x).round() / 10.0)
        );
        // From 0.7 to 1.0, on 16 to 156.
        assert_eq!(y, [109.3, 62.7]);
        assert_eq!(svg.matches("class=\"band\"").count(), 1);
        assert!(svg.contains("class=\"center\""));
        assert!(
            svg.contains("<title id=\"x-t\">A &lt;title&gt;</title><desc id=\"x-d\">What &amp; how</desc>")
        );
        assert_eq!(svg.matches("<title").count(), 1);
    }

    #[test]
    fn gaps_stay_gaps_and_marks_are_numbered() {
        let mut dots = vec![dot(0.8, 0.7, 0.9), Dot::default(), dot(0.9, 0.8, 1.0), dot(0.7, 0.6, 0.8)];
        dots[3].mark = Some(1);
        dots[2].is_whole = false;
        dots[2].limits = Some((0.7, 0.95));
        let svg = drawn(&dots, None, Some((0.75, "level <1>")));
        // The first stands alone and has a bar; the other two are a band.
        assert_eq!(
            (svg.matches("<rect class=\"band\"").count(), svg.matches("<path class=\"band\"").count()),
            (1, 1)
        );
        assert_eq!(svg.matches("class=\"line\"").count(), 2);
        assert_eq!(svg.matches("class=\"limit\"").count(), 2);
        assert_eq!(svg.matches("class=\"dot part\"").count(), 1);
        assert!(svg.contains(">1</text>") && svg.contains("class=\"mark\""));
        assert!(svg.contains("level &lt;1&gt;"));
    }

    #[test]
    fn an_interval_that_says_nothing_does_not_press_the_others_flat() {
        let mut dots: Vec<_> = (0..20).map(|i| dot(0.9 + 0.001 * f64::from(i), 0.88, 0.94)).collect();
        dots.push(dot(0.5, 0.1, 0.9));
        let number = |value: f64| format!("{value}");
        let line =
            Line { told: TOLD, dots: &dots, center: None, level: None, range: (0.0, 1.0), number: &number };
        let (low, high) = domain(&line);
        assert!(low >= 0.8 && high <= 1.0, "{low} to {high}");
    }

    #[test]
    fn nothing_and_very_much_can_be_drawn() {
        let huge: Vec<_> = (0..1_000).map(|i| dot(f64::from(i % 2), 0.0, 1.0)).collect();
        for dots in [&[][..], &[Dot::default()], &[dot(1.0, 1.0, 1.0)], &huge] {
            let svg = drawn(dots, None, None);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            assert_eq!(svg.matches('<').count(), svg.matches('>').count());
        }
        assert_eq!(drawn(&huge, None, None).matches("<circle").count(), 0);
        let number = |value: f64| format!("{value}");
        for n in [0, 1, i64::MAX] {
            let bar = Bar { label: "a".to_owned(), n, is_whole: n != 1 };
            let svg = bars(TOLD, &[bar], &number);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
        assert!(bars(TOLD, &[], &number).contains("</svg>"));
        assert!(rows(TOLD, &[]).contains("</svg>"));
        assert!(heat(TOLD, &[], &[], &number).contains("</svg>"));
    }

    #[test]
    fn bars_stand_on_the_ground() {
        let bar = |n, is_whole| Bar { label: String::new(), n, is_whole };
        let svg = bars(TOLD, &[bar(4, true), bar(0, true), bar(2, false)], &|n| format!("{n}"));
        let of = |class: &str| ["y", "height"].map(|at| numbers(&svg, class, at)[0]);
        let ([top, height], [half, half_height]) = (of("bar"), of("bar-part"));
        assert!((top + height - 110.0).abs() < 0.11 && (half + half_height - 110.0).abs() < 0.11);
        assert!((height - 2.0 * half_height).abs() < 0.11);
        assert!(svg.contains("url(#x-hatch)") && svg.contains("id=\"x-hatch\""));
    }

    #[test]
    fn a_heat_map_leaves_empty_what_is_not_known() {
        let row =
            |name: &str, cells| HeatRow { name: name.to_owned(), size: "9".to_owned(), is_few: false, cells };
        let rows = [row("a", vec![Some(0.0), Some(0.5), Some(1.0)]), row("b", vec![Some(0.25), None, None])];
        let columns = ["0", "1", "2"].map(str::to_owned);
        let svg = heat(TOLD, &columns, &rows, &|value| format!("{value}"));
        assert_eq!(svg.matches("class=\"unknown\"").count(), 2);
        assert_eq!(svg.matches("class=\"heat ").count(), 4);
        assert!(svg.contains("heat q0") && svg.contains("heat q3") && svg.contains("heat q6"));
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(|value| shade(value, 0.5)), [0, 3, 6, 6]);
        assert_eq!(shade(0.0, 0.0), 0);
    }

    #[test]
    fn a_row_of_few_does_not_bleach_the_others() {
        let row = |is_few, cells| HeatRow { name: "a".to_owned(), size: "9".to_owned(), is_few, cells };
        let columns = ["0", "1"].map(str::to_owned);
        let check = |rows: &[HeatRow], expected: &[usize]| {
            let svg = heat(TOLD, &columns, rows, &|value| format!("{value}"));
            let shades = svg.split("class=\"heat q").skip(1).map(|rest| rest[..1].parse().unwrap());
            assert_eq!(shades.collect::<Vec<usize>>(), expected);
        };
        let many = row(false, vec![Some(0.1), Some(0.2)]);
        check(&[many.clone(), row(true, vec![Some(0.0), Some(1.0)])], &[3, 6, 0, 6]);
        check(&[many, row(false, vec![Some(0.0), Some(1.0)])], &[1, 1, 0, 6]);
        // Where there are only few, these say it.
        check(&[row(true, vec![Some(0.5), Some(1.0)]), row(true, vec![Some(0.0), None])], &[3, 6, 0]);
    }

    #[test]
    fn a_gauge_shows_something_however_sure_we_are() {
        let of =
            |value, interval| gauge(TOLD, &Gauge { value, interval, range: (0.0, 1.0), target: Some(0.9) });
        let svg = of(1.0, (1.0, 1.0));
        assert_eq!(numbers(&svg, "interval", "width"), [2.0]);
        assert!(numbers(&svg, "interval", "x")[0] + 2.0 <= 240.0);
        assert!(svg.contains("class=\"target\""));
        let svg = of(0.5, (0.25, 0.75));
        assert_eq!(numbers(&svg, "interval", "x"), [60.5]);
        assert_eq!(numbers(&svg, "interval", "width"), [119.0]);
    }

    #[test]
    fn a_long_name_is_shortened_and_a_hostile_one_is_a_name() {
        let row = |name: &str| Row { name: name.to_owned(), share: 0.5, number: "5".to_owned() };
        let svg = rows(TOLD, &[row("</svg><script>"), row(&"é".repeat(100))]);
        assert!(!svg.contains("<script") && svg.contains("&lt;/svg&gt;&lt;script&gt;"));
        assert!(svg.contains(&format!("{}…", "é".repeat(41))));
        assert_eq!(numbers(&svg, "bar", "width"), [180.0, 180.0]);
        assert_eq!(escaped("a\u{0}b\u{1b}'\"&"), "ab&#39;&quot;&amp;");
    }
}

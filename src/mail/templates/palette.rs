//! A shop's colour made legible: what is written on it, and what it becomes where it is written or drawn on the page itself.
//!
//! Contrast is WCAG 2's: relative luminance, and the ratio `(lighter + 0.05) / (darker + 0.05)`. Text wants 4.5.

use serde::Serialize;

const WANTED: f64 = 4.5;
const WHITE: Rgb = Rgb(255, 255, 255);
/// The darkest that the light page writes on, and the lightest that the dark page writes on (`--note` in page.css): what can be read there
/// can be read everywhere.
const LIGHT_PAPER: Rgb = Rgb(0xf4, 0xf3, 0xf1);
const DARK_PAPER: Rgb = Rgb(0x28, 0x2c, 0x32);
const INK: Rgb = Rgb(0x14, 0x16, 0x1a);
const BLACK: Rgb = Rgb(0, 0, 0);

/// The colours the pages and mails are given, each as `#rrggbb`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Palette {
    /// The shop's colour, for buttons.
    pub accent: String,
    /// For text on the shop's colour: white where that can be read, else black.
    pub on_accent: String,
    /// The shop's colour as a link or an outline on the light page, darkened as far as needed.
    pub link: String,
    /// The same on the dark page, lightened as far as needed.
    pub link_dark: String,
}

impl Palette {
    /// From a colour as `#rrggbb`; anything else counts as ink.
    pub fn of(color: &str) -> Self {
        let accent = Rgb::parse(color).unwrap_or(INK);
        // White text is what people expect on a button, so it wins where it can be read; where it cannot, black can.
        let on_accent = if contrast(accent, WHITE) >= WANTED { WHITE } else { BLACK };
        Self {
            accent: accent.to_string(),
            on_accent: on_accent.to_string(),
            link: towards(accent, BLACK, LIGHT_PAPER).to_string(),
            link_dark: towards(accent, WHITE, DARK_PAPER).to_string(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Rgb(u8, u8, u8);

impl Rgb {
    fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('#')?;
        if digits.len() != 6 || !digits.is_ascii() {
            return None;
        }
        let channel = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).ok();
        Some(Self(channel(0)?, channel(2)?, channel(4)?))
    }

    fn luminance(self) -> f64 {
        let linear = |channel: u8| {
            let value = f64::from(channel) / 255.0;
            if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(self.0) + 0.7152 * linear(self.1) + 0.0722 * linear(self.2)
    }
}

impl std::fmt::Display for Rgb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{:02x}{:02x}{:02x}", self.0, self.1, self.2)
    }
}

fn contrast(a: Rgb, b: Rgb) -> f64 {
    let (a, b) = (a.luminance() + 0.05, b.luminance() + 0.05);
    if a > b { a / b } else { b / a }
}

/// The contrast of two colours, each as `#rrggbb`, from 1 to 21.
#[cfg(test)]
pub(crate) fn contrast_of(a: &str, b: &str) -> Option<f64> {
    Some(contrast(Rgb::parse(a)?, Rgb::parse(b)?))
}

/// The colour, moved towards `end` in steps of a twentieth until it can be read on `paper`.
fn towards(color: Rgb, end: Rgb, paper: Rgb) -> Rgb {
    (0..=20_u16)
        .map(|step| {
            let mix = |from: u8, to: u8| {
                let mixed = (u16::from(from) * (20 - step) + u16::from(to) * step) / 20;
                u8::try_from(mixed).unwrap_or(u8::MAX)
            };
            Rgb(mix(color.0, end.0), mix(color.1, end.1), mix(color.2, end.2))
        })
        .find(|mixed| contrast(*mixed, paper) >= WANTED)
        .unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_colour_can_be_read() {
        let steps = [0x00, 0x33, 0x66, 0x99, 0xcc, 0xff];
        for color in steps.iter().flat_map(|r| steps.map(|g| steps.map(|b| Rgb(*r, g, b)))).flatten() {
            let palette = Palette::of(&color.to_string());
            let parsed = |text: &str| Rgb::parse(text).unwrap();
            assert!(contrast(parsed(&palette.accent), parsed(&palette.on_accent)) >= WANTED, "{palette:?}");
            assert!(contrast(parsed(&palette.link), LIGHT_PAPER) >= WANTED, "{palette:?}");
            assert!(contrast(parsed(&palette.link_dark), DARK_PAPER) >= WANTED, "{palette:?}");
        }
    }

    #[test]
    fn the_papers_are_those_of_the_pages() {
        let css = include_str!("../../../templates/page/page.css");
        let (light, dark) = css.split_once("(prefers-color-scheme: dark)").unwrap();
        let papers = |css: &str| {
            let values = css.split("--").filter_map(|rest| rest.split_once(": "));
            let papers = values.filter(|(name, _)| ["paper", "card", "note"].contains(name));
            papers.map(|(_, value)| Rgb::parse(&value[..7]).unwrap()).collect::<Vec<_>>()
        };
        let dark = dark.split_once("\n}\n").unwrap().0;
        assert_eq!((papers(light).len(), papers(dark).len()), (3, 3));
        assert!(papers(light).iter().all(|paper| paper.luminance() >= LIGHT_PAPER.luminance()));
        assert!(papers(dark).iter().all(|paper| paper.luminance() <= DARK_PAPER.luminance()));
    }

    #[test]
    fn a_legible_colour_stays_as_it_is() {
        let palette = Palette::of("#0b6b5c");
        assert_eq!((palette.accent.as_str(), palette.link.as_str()), ("#0b6b5c", "#0b6b5c"));
        assert_eq!(palette.on_accent, "#ffffff");
        assert_eq!(Palette::of("#ffd400").on_accent, "#000000");
        assert_eq!(Palette::of("not a colour").accent, "#14161a");
    }
}

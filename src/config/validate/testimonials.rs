//! `[testimonials]`

use chrono::TimeDelta;

use super::words::{duration, text};
use crate::config::problem::Problems;
use crate::config::{DisplayName, Moderation, Testimonials, raw};

/// How long after it came an answer is published or refused, where nothing else is announced.
const PUBLISH_WITHIN: TimeDelta = TimeDelta::days(10);

/// What moderation and exports go by.
pub(super) fn testimonials(file: &raw::Testimonials, problems: &mut Problems<'_>) -> Option<Testimonials> {
    for word in file.staff.iter().filter(|word| text(word).trim().is_empty()) {
        problems.add(word.span(), "a name of nobody", None);
    }
    let publish_within = duration(file.publish_within.as_ref(), PUBLISH_WITHIN, problems);
    Some(Testimonials {
        display_name: file.display_name.unwrap_or(DisplayName::FirstNameInitial),
        moderation: file.moderation.unwrap_or(Moderation::All),
        staff: file.staff.iter().map(|word| text(word).to_owned()).collect(),
        publish_within: publish_within?,
    })
}

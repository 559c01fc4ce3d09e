//! `[survey.<key>]`: who is asked and when; what is asked is in `questions.rs`.

use std::collections::BTreeMap;

use chrono::{NaiveTime, TimeDelta, Weekday};
use toml::Spanned;

use super::questions::{self, misplaced, texts, when};
use super::words::{DAY, check_key, duration, known, parsed, settle, share, text};
use crate::config::problem::Problems;
use crate::config::raw::{self, Word};
use crate::nearest::did_you_mean;
use crate::orders::events::is_event;
use crate::survey::{
    ConsentRule, Demand, Question, QuestionKind, Questionnaire, Recommendation, SendWindow, Survey, Trigger,
    Yes,
};

/// More would be a nuisance, whatever the answers are worth.
const MAX_REMINDERS: usize = 3;

pub(super) fn survey(
    key: &str,
    survey: &Spanned<raw::Survey>,
    shop_keys: &[&str],
    problems: &mut Problems<'_>,
) -> Option<Survey> {
    let span = survey.span();
    let survey = survey.get_ref();
    check_key("survey", key, span.clone(), problems);
    for shop in survey.shops.iter().flatten() {
        known("shop", shop, shop_keys.iter().copied(), problems);
    }
    let mut questions: Vec<Question> = Vec::new();
    for (n, question) in survey.question.iter().enumerate() {
        let later = &survey.question[n..];
        if let Some(question) = questions::question(question, &questions, later, problems) {
            questions.push(question);
        }
    }
    misplaced(&survey.question, problems);
    if survey.question.is_empty() {
        problems.add(
            span.clone(),
            format!("the survey {key:?} asks nothing"),
            Some(format!("add a [[survey.{key}.question]]")),
        );
    }
    let mut complete = questions.len() == survey.question.len();
    let intro = survey.intro.as_ref().map(|intro| texts(intro.get_ref(), intro.span(), problems));
    let questionnaire = Questionnaire { intro, questions };
    // A rule about a question that was itself wrong would only say the same twice.
    let recommendation = match &survey.recommendation {
        Some(rule) if complete => Some(recommendation(rule, &questionnaire, problems)),
        _ => None,
    };
    let unhappy = match &survey.unhappy {
        Some(unhappy) if complete => Some(when("unhappy", unhappy, &questionnaire.questions, &[], problems)),
        _ => None,
    };
    let mailed = survey.mailed.unwrap_or(true);
    let sample = survey.sample.as_ref().map_or(1.0, |sample| share(sample, problems));
    for cap in [&survey.max_per_day, &survey.max_per_run].into_iter().flatten() {
        if *cap.get_ref() == 0 {
            problems.add(
                cap.span(),
                "a cap of 0 asks nobody",
                Some("leave it out for no cap; `enabled = false` stops the job".to_owned()),
            );
        }
    }
    let delay_by_country = survey
        .delay_by_country
        .iter()
        .filter_map(|(code, word)| {
            Some((country(code, problems)?, duration(Some(word), TimeDelta::zero(), problems)?))
        })
        .collect();
    let reminders: Vec<TimeDelta> = survey
        .reminders
        .iter()
        .filter_map(|word| {
            let wait = duration(Some(word), TimeDelta::zero(), problems)?;
            if wait < DAY {
                problems.add(word.span(), "a reminder needs a day or more after the mail before it", None);
            }
            Some(wait)
        })
        .collect();
    if let Some(word) = survey.reminders.get(MAX_REMINDERS) {
        problems.add(word.span(), format!("a customer is reminded {MAX_REMINDERS} times at most"), None);
    }
    let consent = consent(&survey.consent, problems);
    let delay = duration(survey.delay.as_ref(), DAY * 7, problems);
    let max_lateness = duration(survey.max_lateness.as_ref(), DAY * 30, problems);
    let throttle = duration(survey.throttle.as_ref(), DAY * 90, problems);
    let answer_within = duration(survey.answer_within.as_ref(), DAY * 60, problems);
    let edit_within = duration(survey.edit_within.as_ref(), DAY * 14, problems);
    if let (Some(word), Some(edit), Some(answer)) = (&survey.edit_within, edit_within, answer_within)
        && edit > answer
    {
        let help = "the link stops working after `answer_within`; make `edit_within` no longer than that";
        problems.add(
            word.span(),
            "an answer cannot be changed for longer than it can be given".to_owned(),
            Some(help.to_owned()),
        );
        complete = false;
    }
    let trigger = trigger(survey.trigger.as_ref(), problems);
    let send_window = survey.send_window.as_ref().map(|window| self::send_window(window, problems));
    let recommendation = settle(recommendation)?;
    let unhappy = settle(unhappy)?;
    if !complete {
        return None;
    }
    Some(Survey {
        key: key.to_owned(),
        shops: survey.shops.as_ref().map(|shops| shops.iter().map(|shop| text(shop).to_owned()).collect()),
        mailed,
        trigger: trigger?,
        delay: delay?,
        delay_by_country,
        max_lateness: max_lateness?,
        throttle: throttle?,
        sample,
        max_per_day: survey.max_per_day.as_ref().map(|cap| *cap.get_ref()),
        max_per_run: survey.max_per_run.as_ref().map(|cap| *cap.get_ref()),
        reminders,
        consent,
        answer_within: answer_within?,
        edit_within: edit_within?,
        send_window: send_window.flatten(),
        recommendation,
        unhappy,
        questionnaire,
    })
}

/// From when on the delay runs.
fn trigger(typed: Option<&Spanned<raw::Trigger>>, problems: &mut Problems<'_>) -> Option<Trigger> {
    let Some(typed) = typed else { return Some(Trigger::Fulfilled) };
    match typed.get_ref() {
        raw::Trigger::Word(word) if word == "fulfilled" => Some(Trigger::Fulfilled),
        raw::Trigger::Word(word) if word == "ordered" => Some(Trigger::Ordered),
        raw::Trigger::Word(word) => {
            let help = did_you_mean(word, ["fulfilled", "ordered"]).unwrap_or_else(|| {
                "expected \"fulfilled\", \"ordered\", or an event such as { event = \"case_closed\" }"
                    .to_owned()
            });
            problems.add(typed.span(), format!("there is no trigger {word:?}"), Some(help));
            None
        }
        raw::Trigger::Event(raw::Event { event }) if is_event(event) => Some(Trigger::Event(event.clone())),
        raw::Trigger::Event(_) => {
            let help = "expected a name such as case_closed: lower-case letters, digits and _".to_owned();
            problems.add(typed.span(), "this is no name of an event".to_owned(), Some(help));
            None
        }
    }
}

fn send_window(window: &raw::SendWindow, problems: &mut Problems<'_>) -> Option<SendWindow> {
    let days = window.days.as_ref().map_or_else(
        || {
            Some(vec![
                Weekday::Mon,
                Weekday::Tue,
                Weekday::Wed,
                Weekday::Thu,
                Weekday::Fri,
                Weekday::Sat,
                Weekday::Sun,
            ])
        },
        |word| parsed(word, problems, weekdays),
    );
    let mut time = |word: &Word| {
        parsed(word, problems, |text| {
            if text == "24:00" {
                // The day's last moment: the window's end is exclusive, and a minute at midnight decides nothing.
                return Ok(NaiveTime::from_hms_opt(23, 59, 59).unwrap_or_default());
            }
            NaiveTime::parse_from_str(text, "%H:%M").map_err(|_| "expected a time such as 09:00".to_owned())
        })
    };
    let (from, to) = (time(&window.from), time(&window.to));
    let (days, from, to) = (days?, from?, to?);
    if from >= to {
        problems.add(window.to.span(), "the window ends before it begins", None);
        return None;
    }
    Some(SendWindow { days, from, to })
}

/// Reads `mon-sat`, or `mon,wed,fri`, or both mixed.
fn weekdays(text: &str) -> Result<Vec<Weekday>, String> {
    let day = |name: &str| {
        name.trim()
            .parse::<Weekday>()
            .map_err(|_| format!("{name:?} is no weekday; expected days such as mon-sat"))
    };
    let mut days = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            None => days.push(day(part)?),
            Some((first, last)) => {
                let (mut current, last) = (day(first)?, day(last)?);
                days.push(current);
                while current != last {
                    current = current.succ();
                    days.push(current);
                }
            }
        }
    }
    days.sort_by_key(Weekday::num_days_from_monday);
    days.dedup();
    Ok(days)
}

fn consent(typed: &BTreeMap<Spanned<String>, Demand>, problems: &mut Problems<'_>) -> ConsentRule {
    let mut rule = ConsentRule { default: Demand::SoftOptIn, by_country: BTreeMap::new() };
    for (code, demand) in typed {
        if code.get_ref() == "default" {
            rule.default = *demand;
        } else if let Some(code) = country(code, problems) {
            rule.by_country.insert(code, *demand);
        }
    }
    rule
}

/// ISO 3166-1 alpha-2, as orders have it.
fn country(code: &Spanned<String>, problems: &mut Problems<'_>) -> Option<String> {
    let typed = code.get_ref();
    if typed.len() == 2 && typed.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Some(typed.to_ascii_uppercase());
    }
    problems.add(
        code.span(),
        format!("{typed:?} is not a country"),
        Some("write two letters such as DE".to_owned()),
    );
    None
}

fn recommendation(
    rule: &raw::Recommendation,
    questionnaire: &Questionnaire,
    problems: &mut Problems<'_>,
) -> Option<Recommendation> {
    let keys = questionnaire.questions.iter().map(|question| question.key.as_str());
    known("question", &rule.question, keys, problems)?;
    let question = questionnaire.question(text(&rule.question))?;
    let span = rule.yes.span();
    let yes = match (rule.yes.get_ref(), &question.kind) {
        (raw::Yes::Choices(choices), QuestionKind::Recommend | QuestionKind::Choice { .. }) => {
            let possible = question.kind.options().unwrap_or_default();
            for choice in choices.iter().filter(|choice| !possible.contains(choice)) {
                let help = did_you_mean(choice, possible.iter().map(String::as_str));
                problems.add(span.clone(), format!("{choice:?} is no answer to {:?}", question.key), help);
            }
            Yes::Choices(choices.clone())
        }
        (raw::Yes::Range(range), QuestionKind::Nps | QuestionKind::Rating) => {
            let Some((low, high)) = score_range(range, &question.kind) else {
                problems.add(
                    span,
                    format!("{range:?} is no range of scores of {:?}", question.key),
                    Some("write a range such as \"4-5\"".to_owned()),
                );
                return None;
            };
            Yes::Scores { low, high }
        }
        (_, QuestionKind::Nps | QuestionKind::Rating) => {
            problems.add(
                span,
                "a question with scores needs a range",
                Some("write yes = \"4-5\"".to_owned()),
            );
            return None;
        }
        _ => {
            problems.add(span, "expected a list of answers", Some("write yes = [\"yes\"]".to_owned()));
            return None;
        }
    };
    Some(Recommendation { question: question.key.clone(), yes })
}

fn score_range(range: &str, kind: &QuestionKind) -> Option<(i16, i16)> {
    let (low, high) = range.split_once('-').unwrap_or((range, range));
    let (low, high) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
    let scores = kind.scores()?;
    (low <= high && scores.contains(&low) && scores.contains(&high)).then_some((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_of_the_week() {
        use Weekday::{Fri, Mon, Sat, Sun, Wed};
        assert_eq!(weekdays("mon,wed,fri"), Ok(vec![Mon, Wed, Fri]));
        assert_eq!(weekdays("fri-mon"), Ok(vec![Mon, Fri, Sat, Sun]));
        assert_eq!(weekdays("mon-sat").map(|days| days.len()), Ok(6));
        assert!(weekdays("mon-").is_err());
        assert!(weekdays("").is_err());
    }
}

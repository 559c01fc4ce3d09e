//! Whether a person sent a form. Pure.
//!
//! Mail scanners open the links of a mail, and some of them send the forms they find, before or after the person does. Each
//! [`Suspicion`] is a rule, and each alone makes a submission suspect: it is kept, does not count, and replaces nothing. Whoever sent it
//! sees the form again and is asked to send it once more, so that a wrong verdict costs a person a click and no answer.
//!
//! The limits: a program that opens a single link, waits as long as a person would, and sends the form once counts as a person, until
//! the person answers; and so does one that reads what it is asked and ticks the box.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::hits::{AgentFamily, Hit, HitMethod, HitPage};
use crate::token::{Form, Occasion, Proof};

/// Nobody opens the survey, reads it and answers in less; programs that wait a little wait less. Both moments are the program's clock's:
/// while it stands still, everybody is too fast.
pub const FASTEST: TimeDelta = TimeDelta::seconds(4);
/// The same for a page that says one sentence and has one button.
pub const FASTEST_BUTTON: TimeDelta = TimeDelta::seconds(2);
/// What is asked once more has to be noticed, too; a program that sends at once, or after the usual pause, what it got back is faster.
pub const FASTEST_ONCE_MORE: TimeDelta = TimeDelta::seconds(4);
/// A page that was left open overnight is still a person's. Older ones are more likely from somebody's store of pages.
pub const OLDEST: TimeDelta = TimeDelta::hours(24);
/// From the relay's yes to an answer: the mail has to travel, to be opened and read, and the page too. Scanners look at it on the way.
pub const EARLIEST: TimeDelta = TimeDelta::seconds(15);
/// Whoever sends another answer sooner than this has not thought about it.
pub const DIFFERENT_WITHIN: TimeDelta = TimeDelta::seconds(10);
/// Whoever goes from the survey to the way out in less has not looked for the way out.
pub const WAY_OUT_WITHIN: TimeDelta = TimeDelta::seconds(4);
/// What was opened so long before the form was fetched belongs to the same visit. Two different answers of the mail opened within this are
/// a list that is worked off, or a slip, and then asking once more is right.
pub const SAME_VISIT: TimeDelta = TimeDelta::seconds(30);

/// Why a submission is taken for a program's. The database's `suspicion`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[sqlx(type_name = "suspicion", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Suspicion {
    /// The field that nobody can see was filled in.
    Trapped,
    /// The form was not fetched before it was sent.
    ProofMissing,
    /// The proof is not ours, or was made for another invitation or form.
    ProofForeign,
    /// The form was sent before, with something else in it: a program, or a person who went back in the browser.
    ProofReused,
    /// The form was fetched longer ago than [`OLDEST`].
    ProofStale,
    /// It was sent sooner after it was fetched than [`FASTEST`], [`FASTEST_BUTTON`], or [`FASTEST_ONCE_MORE`].
    TooFast,
    /// It was asked for once more, and the box that a person ticks was not ticked: no form brings it along ticked.
    Unconfirmed,
    /// It was sent sooner after the mail than [`EARLIEST`].
    TooEarly,
    /// The program that sent it says that it is a scanner.
    ScannerAgent,
    /// A link of the mail was asked for by HEAD or OPTIONS in the same visit, which no browser does.
    Probed,
    /// Different answers of the mail were opened within [`SAME_VISIT`], or the survey and the way out within [`WAY_OUT_WITHIN`], which is
    /// [`SAME_VISIT`] for who opts out.
    ManyLinks,
    /// Another answer was sent less than [`DIFFERENT_WITHIN`] before.
    DifferentAnswers,
    /// It changes an answer that counts, and the form was opened through a link of the mail with another answer: scanners open all links.
    OtherAnswer,
}

impl Suspicion {
    /// All of them, in the order in which they are looked for.
    pub const ALL: [Self; 13] = [
        Self::Trapped,
        Self::ProofMissing,
        Self::ProofForeign,
        Self::ProofReused,
        Self::ProofStale,
        Self::TooFast,
        Self::Unconfirmed,
        Self::TooEarly,
        Self::ScannerAgent,
        Self::Probed,
        Self::ManyLinks,
        Self::DifferentAnswers,
        Self::OtherAnswer,
    ];

    /// The rest of the sentence "suspect, because …".
    pub fn words(self) -> &'static str {
        match self {
            Self::Trapped => "the field that nobody can see was filled in",
            Self::ProofMissing => "the form was not fetched before it was sent",
            Self::ProofForeign => "the form was not made for this link",
            Self::ProofReused => "the same form had been sent with another answer",
            Self::ProofStale => "the form was more than a day old",
            Self::TooFast => "it was sent sooner than a person can read the form",
            Self::Unconfirmed => "it was sent once more without the tick that says that a person does so",
            Self::TooEarly => "it was sent sooner than a person can have read the mail",
            Self::ScannerAgent => "what sent it says that it is a mail scanner",
            Self::Probed => "a link of the mail was probed in the same visit, as scanners do",
            Self::ManyLinks => "several links of the mail were opened in the same visit",
            Self::DifferentAnswers => "different answers were sent within seconds",
            Self::OtherAnswer => "it would change the answer that counts, by another link of the mail",
        }
    }
}

/// What a form that was sent says about how it was sent.
#[derive(Debug, Clone, Copy)]
pub struct Traces {
    /// Which form it is.
    pub form: Form,
    pub proof: Presented,
    /// Whether the box was ticked that a person ticks who is asked once more.
    pub confirmed: bool,
    /// Whether the field that nobody can see has something in it.
    pub trapped: bool,
    pub agent: AgentFamily,
    pub sent_at: DateTime<Utc>,
}

/// The proof of a form that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presented {
    Missing,
    /// Not ours, or not of this form and invitation.
    Foreign,
    Ours(Proof),
}

impl Presented {
    /// The proof, where there is one of ours.
    pub fn ours(self) -> Option<Proof> {
        match self {
            Self::Ours(proof) => Some(proof),
            Self::Missing | Self::Foreign => None,
        }
    }
}

impl Traces {
    /// From when on the hits are of interest to [`classify`].
    pub fn looks_back_to(&self) -> DateTime<Utc> {
        match self.proof.ours() {
            // What made us ask was looked at then; from there on, a person only sends the form.
            Some(Proof { occasion: Occasion::OnceMore, made_at, .. }) => made_at,
            Some(proof) => proof.made_at - SAME_VISIT,
            None => self.sent_at,
        }
    }
}

/// What happened before, as far as it is known.
#[derive(Debug, Clone, Copy, Default)]
pub struct Past<'a> {
    /// When the relay took the mail; `None`: that is not known.
    pub mailed_at: Option<DateTime<Utc>>,
    /// The hits on the invitation's links since [`Traces::looks_back_to`].
    pub hits: &'a [Hit],
    /// Whether the form was sent before with something else in it.
    pub is_reused: bool,
    /// When another answer than this one was last sent.
    pub differed_at: Option<DateTime<Utc>>,
    /// Whether an answer counts that this one would change.
    pub would_change: bool,
}

/// Why it is not a person's; `None`: it is taken for a person's.
pub fn classify(traces: &Traces, past: &Past<'_>) -> Option<Suspicion> {
    Suspicion::ALL.into_iter().find(|suspicion| applies(*suspicion, traces, past))
}

fn applies(suspicion: Suspicion, traces: &Traces, past: &Past<'_>) -> bool {
    let proof = traces.proof.ours();
    let occasion = proof.map(|proof| proof.occasion);
    let age = proof.map(|proof| traces.sent_at - proof.made_at);
    let hits = || past.hits.iter().filter(|hit| hit.at >= traces.looks_back_to() && hit.at <= traces.sent_at);
    match suspicion {
        Suspicion::Trapped => traces.trapped,
        Suspicion::ProofMissing => traces.proof == Presented::Missing,
        Suspicion::ProofForeign => traces.proof == Presented::Foreign,
        Suspicion::ProofReused => past.is_reused,
        Suspicion::ProofStale => age.is_some_and(|age| age > OLDEST),
        Suspicion::TooFast => {
            let fastest = match (occasion, traces.form) {
                (Some(Occasion::OnceMore), _) => FASTEST_ONCE_MORE,
                (_, Form::Survey) => FASTEST,
                (_, Form::Unsubscribe | Form::Withdrawal) => FASTEST_BUTTON,
            };
            age.is_some_and(|age| age < fastest)
        }
        Suspicion::Unconfirmed => {
            occasion == Some(Occasion::OnceMore) && traces.form != Form::Withdrawal && !traces.confirmed
        }
        Suspicion::TooEarly => past.mailed_at.is_some_and(|mailed_at| traces.sent_at - mailed_at < EARLIEST),
        Suspicion::ScannerAgent => traces.agent == AgentFamily::Scanner,
        Suspicion::Probed => hits().any(|hit| matches!(hit.method, HitMethod::Head | HitMethod::Options)),
        Suspicion::ManyLinks => is_worked_off(hits(), traces.form),
        Suspicion::DifferentAnswers => {
            past.differed_at.is_some_and(|moment| traces.sent_at - moment < DIFFERENT_WITHIN)
        }
        Suspicion::OtherAnswer => past.would_change && occasion == Some(Occasion::OtherAnswer),
    }
}

/// Whether links were opened, or the forms behind them sent, as somebody does who has a list of them. Where two hits are near enough in
/// time, so are two neighbours between them that differ.
fn is_worked_off<'a>(hits: impl Iterator<Item = &'a Hit>, form: Form) -> bool {
    // Who opts out loses little by a tick; who did not want to would lose more.
    let way_out = if form == Form::Unsubscribe { SAME_VISIT } else { WAY_OUT_WITHIN };
    let mut hits: Vec<&Hit> = hits.collect();
    hits.sort_by_key(|hit| hit.at);
    let is_within = |pair: &[&Hit], limit: TimeDelta| pair[1].at - pair[0].at <= limit;
    let answers: Vec<&Hit> = hits
        .iter()
        .filter(|hit| hit.page == HitPage::Survey && hit.method == HitMethod::Get && hit.answer.is_some())
        .copied()
        .collect();
    hits.retain(|hit| matches!(hit.page, HitPage::Survey | HitPage::Unsubscribe));
    answers.windows(2).any(|pair| pair[0].answer != pair[1].answer && is_within(pair, SAME_VISIT))
        || hits.windows(2).any(|pair| pair[0].page != pair[1].page && is_within(pair, way_out))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_800_000_000_000 + milliseconds).unwrap()
    }

    /// A person's, sent after a minute.
    fn person() -> Traces {
        traces(Occasion::Visit, 60_000)
    }

    fn traces(occasion: Occasion, age: i64) -> Traces {
        let proof = Proof { occasion, made_at: at(0), nonce: 7 };
        Traces {
            form: Form::Survey,
            proof: Presented::Ours(proof),
            confirmed: occasion == Occasion::OnceMore,
            trapped: false,
            agent: AgentFamily::Phone,
            sent_at: at(age),
        }
    }

    fn hit(milliseconds: i64, method: HitMethod, page: HitPage, answer: Option<&str>) -> Hit {
        let answer = answer.map(ToOwned::to_owned);
        Hit { at: at(milliseconds), method, page, answer, agent: AgentFamily::Browser }
    }

    #[track_caller]
    fn check(traces: Traces, past: &Past<'_>, expected: Option<Suspicion>) {
        assert_eq!(classify(&traces, past), expected, "{traces:?} {past:?}");
    }

    #[test]
    fn a_person_is_a_person() {
        let opened = [hit(0, HitMethod::Get, HitPage::Survey, Some("recommend=yes"))];
        let past = Past { mailed_at: Some(at(-86_400_000)), hits: &opened, ..Past::default() };
        check(person(), &past, None);
        check(person(), &Past::default(), None);
    }

    #[test]
    fn the_invisible_field() {
        check(Traces { trapped: true, ..person() }, &Past::default(), Some(Suspicion::Trapped));
    }

    #[test]
    fn no_form_of_ours() {
        check(
            Traces { proof: Presented::Missing, ..person() },
            &Past::default(),
            Some(Suspicion::ProofMissing),
        );
        check(
            Traces { proof: Presented::Foreign, ..person() },
            &Past::default(),
            Some(Suspicion::ProofForeign),
        );
    }

    #[test]
    fn a_form_that_was_sent_before() {
        check(person(), &Past { is_reused: true, ..Past::default() }, Some(Suspicion::ProofReused));
    }

    #[test]
    fn how_old_a_form_may_be() {
        for (age, expected) in [(1_999, Some(Suspicion::TooFast)), (2_000, None)] {
            for form in [Form::Unsubscribe, Form::Withdrawal] {
                check(Traces { form, ..traces(Occasion::Visit, age) }, &Past::default(), expected);
            }
        }
        for (occasion, age, expected) in [
            (Occasion::Visit, 3_999, Some(Suspicion::TooFast)),
            (Occasion::Visit, 4_000, None),
            (Occasion::Visit, -5_000, Some(Suspicion::TooFast)),
            (Occasion::OnceMore, 3_999, Some(Suspicion::TooFast)),
            (Occasion::OnceMore, 4_000, None),
            (Occasion::Visit, 86_400_000, None),
            (Occasion::Visit, 86_400_001, Some(Suspicion::ProofStale)),
        ] {
            check(traces(occasion, age), &Past::default(), expected);
        }
    }

    #[test]
    fn sooner_than_the_mail_can_be_read() {
        let mailed = |milliseconds| Past { mailed_at: Some(at(milliseconds)), ..Past::default() };
        check(person(), &mailed(45_001), Some(Suspicion::TooEarly));
        check(person(), &mailed(45_000), None);
        check(person(), &mailed(70_000), Some(Suspicion::TooEarly));
    }

    #[test]
    fn what_says_that_it_is_a_scanner() {
        check(
            Traces { agent: AgentFamily::Scanner, ..person() },
            &Past::default(),
            Some(Suspicion::ScannerAgent),
        );
        for agent in [AgentFamily::Tool, AgentFamily::None, AgentFamily::Other, AgentFamily::Browser] {
            check(Traces { agent, ..person() }, &Past::default(), None);
        }
    }

    #[test]
    fn links_that_are_probed() {
        for method in [HitMethod::Head, HitMethod::Options] {
            let probed = |sent: Traces, milliseconds, expected| {
                let hits = [hit(milliseconds, method, HitPage::Survey, None)];
                check(sent, &Past { hits: &hits, ..Past::default() }, expected);
            };
            probed(person(), 30_000, Some(Suspicion::Probed));
            probed(person(), -30_000, Some(Suspicion::Probed));
            probed(person(), -30_001, None);
            probed(person(), 60_001, None);
            // What was asked once more is judged by what came since.
            probed(traces(Occasion::OnceMore, 60_000), -1, None);
            probed(traces(Occasion::OnceMore, 60_000), 1, Some(Suspicion::Probed));
        }
    }

    #[test]
    fn links_that_are_worked_off() {
        let (survey, way_out) = (HitPage::Survey, HitPage::Unsubscribe);
        let pair = |one: (HitPage, Option<&str>), other: (HitPage, Option<&str>), apart: i64| {
            [hit(0, HitMethod::Get, one.0, one.1), hit(apart, HitMethod::Get, other.0, other.1)]
        };
        let (yes, no) = ((survey, Some("recommend=yes")), (survey, Some("recommend=no")));
        for (hits, expected) in [
            (pair(yes, no, 30_000), Some(Suspicion::ManyLinks)),
            (pair(yes, no, 30_001), None),
            (pair(yes, yes, 100), None),
            (pair(yes, (survey, None), 100), None),
            (pair(yes, (HitPage::Thanks, None), 100), None),
            (pair(no, (way_out, None), 4_000), Some(Suspicion::ManyLinks)),
            (pair((way_out, None), (survey, None), 4_000), Some(Suspicion::ManyLinks)),
            (pair((survey, None), (way_out, None), 4_001), None),
        ] {
            check(person(), &Past { hits: &hits, ..Past::default() }, expected);
        }
    }

    #[test]
    fn forms_that_are_sent_on_the_way() {
        let visits = |method, apart| {
            [hit(0, method, HitPage::Survey, None), hit(apart, HitMethod::Get, HitPage::Unsubscribe, None)]
        };
        let pressed = Traces { form: Form::Unsubscribe, ..person() };
        for (hits, expected) in [
            (visits(HitMethod::Post, 30_000), Some(Suspicion::ManyLinks)),
            (visits(HitMethod::Post, 30_001), None),
            (visits(HitMethod::Get, 30_000), Some(Suspicion::ManyLinks)),
        ] {
            check(pressed, &Past { hits: &hits, ..Past::default() }, expected);
        }
        for (hits, expected) in [
            (visits(HitMethod::Post, 4_000), Some(Suspicion::ManyLinks)),
            (visits(HitMethod::Post, 4_001), None),
        ] {
            check(person(), &Past { hits: &hits, ..Past::default() }, expected);
        }
    }

    #[test]
    fn once_more_without_the_tick() {
        for (form, expected) in [
            (Form::Survey, Some(Suspicion::Unconfirmed)),
            (Form::Unsubscribe, Some(Suspicion::Unconfirmed)),
            (Form::Withdrawal, None),
        ] {
            let sent = Traces { form, confirmed: false, ..traces(Occasion::OnceMore, 60_000) };
            check(sent, &Past::default(), expected);
            check(Traces { confirmed: true, ..sent }, &Past::default(), None);
        }
        check(Traces { confirmed: false, ..person() }, &Past::default(), None);
    }

    #[test]
    fn different_answers_within_seconds() {
        let differed = |milliseconds| Past { differed_at: Some(at(milliseconds)), ..Past::default() };
        check(person(), &differed(50_001), Some(Suspicion::DifferentAnswers));
        check(person(), &differed(50_000), None);
    }

    #[test]
    fn another_answer_of_the_mail() {
        let past = Past { would_change: true, ..Past::default() };
        check(traces(Occasion::OtherAnswer, 60_000), &past, Some(Suspicion::OtherAnswer));
        check(traces(Occasion::OtherAnswer, 60_000), &Past::default(), None);
        check(traces(Occasion::OnceMore, 60_000), &past, None);
        check(traces(Occasion::Visit, 60_000), &past, None);
    }
}

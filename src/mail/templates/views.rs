//! What each mail and page is given: one struct per template, with a sample. A template can use what its struct has and nothing else;
//! rendering is strict, so a name that is not here is an error and not an empty spot.

use serde::Serialize;

use super::palette::Palette;
use super::words::Words;
use crate::types::Locale;

/// Ties a struct to the template it fills.
pub trait View: Serialize + Sized {
    /// The template: a mail's folder, or a page's file without `.hbs`.
    const NAME: &'static str;
    /// Made-up values that reach every branch worth seeing.
    fn sample(locale: &Locale, words: &Words) -> Self;

    /// Others, for the branches that the sample does not reach.
    fn other_samples(_locale: &Locale, _words: &Words) -> Vec<Self> {
        Vec::new()
    }
}

/// The shop as the customer sees it.
#[derive(Debug, Clone, Serialize)]
pub struct ShopView {
    pub name: String,
    pub url: String,
    /// Where a person reads what the customer writes.
    pub contact: String,
    /// The address of its picture.
    pub logo: Option<String>,
    /// Its postal address, on one line.
    pub address: Option<String>,
    /// Its privacy notice.
    pub privacy_url: Option<String>,
}

impl ShopView {
    /// Of a configured shop.
    pub fn of(shop: &crate::config::Shop) -> Self {
        let contact = shop.reply_to.as_ref().unwrap_or(&shop.from).email.to_string();
        Self {
            name: shop.name.clone(),
            url: shop.url.clone(),
            contact,
            logo: shop.logo.clone(),
            address: shop.address.clone(),
            privacy_url: shop.privacy_url.clone(),
        }
    }

    fn sample() -> Self {
        Self {
            name: "Maison Exemple".to_owned(),
            url: "https://shop.example".to_owned(),
            contact: "service@shop.example".to_owned(),
            logo: Some("https://shop.example/logo.png".to_owned()),
            address: Some("12 rue de l’Exemple, 75002 Paris".to_owned()),
            privacy_url: Some("https://shop.example/privacy".to_owned()),
        }
    }
}

/// In which direction a language is written. Tables need the sides by name: some mail programs know no `start` and `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Direction {
    /// `ltr` or `rtl`.
    pub direction: &'static str,
    /// The side on which a line begins: `left` or `right`.
    pub start: &'static str,
    /// The side on which it ends.
    pub end: &'static str,
}

impl Direction {
    /// Of a language.
    pub fn of(locale: &Locale) -> Self {
        if locale.is_right_to_left() {
            Self { direction: "rtl", start: "right", end: "left" }
        } else {
            Self { direction: "ltr", start: "left", end: "right" }
        }
    }
}

/// `email/survey_invitation`: asks for an opinion on one order.
#[derive(Debug, Serialize)]
pub struct SurveyInvitation {
    pub locale: String,
    #[serde(flatten)]
    pub direction: Direction,
    pub shop: ShopView,
    pub palette: Palette,
    /// Whether it asks once more, because nobody answered the mail before.
    pub reminder: bool,
    /// What the survey says it is about; `None`: the order.
    pub intro: Option<String>,
    pub first_name: Option<String>,
    /// The shop's own number of the order.
    pub order: String,
    /// When it was ordered, in long form.
    pub date: String,
    /// The question whose answers are links, if the survey has one.
    pub question: Option<MailQuestion>,
    pub survey_url: String,
    pub unsubscribe_url: String,
}

/// A question in a mail.
#[derive(Debug, Serialize)]
pub struct MailQuestion {
    pub text: String,
    pub answers: Vec<MailAnswer>,
    /// Whether the answers are the numbers of a scale, with words at its ends.
    pub scale: bool,
    /// Whether the answers are words of any length, one below the other.
    pub list: bool,
    pub low: String,
    pub high: String,
}

/// A link that opens the page with this answer chosen.
#[derive(Debug, Serialize)]
pub struct MailAnswer {
    pub label: String,
    pub url: String,
}

impl View for SurveyInvitation {
    const NAME: &'static str = "survey_invitation";

    fn sample(locale: &Locale, words: &Words) -> Self {
        let survey_url = "https://avis.shop.example/s/sample".to_owned();
        let answer = |label: &str, value: &str| MailAnswer {
            label: label.to_owned(),
            url: format!("{survey_url}?recommend={value}"),
        };
        let text = match locale.language() {
            "fr" => "Recommanderiez-vous Maison Exemple à un proche ?",
            _ => "Would you recommend Maison Exemple to a friend?",
        };
        Self {
            locale: locale.to_string(),
            direction: Direction::of(locale),
            shop: ShopView::sample(),
            palette: Palette::of("#0b6b5c"),
            reminder: false,
            intro: None,
            first_name: Some("Claire".to_owned()),
            order: "A-1001".to_owned(),
            date: sample_date(words),
            question: Some(MailQuestion {
                text: text.to_owned(),
                answers: vec![answer(&words.yes, "yes"), answer(&words.no, "no")],
                scale: false,
                list: false,
                low: String::new(),
                high: String::new(),
            }),
            unsubscribe_url: "https://avis.shop.example/u/sample".to_owned(),
            survey_url,
        }
    }

    fn other_samples(locale: &Locale, words: &Words) -> Vec<Self> {
        let sample = Self::sample(locale, words);
        let intro = Some("We answered your question.".to_owned());
        vec![Self { reminder: true, intro, first_name: None, question: None, ..sample }]
    }
}

/// `email/alert`: tells the shop's own people what calls for their attention.
#[derive(Debug, Serialize)]
pub struct Alert {
    pub locale: String,
    #[serde(flatten)]
    pub direction: Direction,
    pub shop: ShopView,
    pub palette: Palette,
    /// Whether it was told before and lasts.
    pub reminder: bool,
    /// Whether it is over.
    pub closed: bool,
    /// The name of the rule in jobs.toml.
    pub rule: String,
    /// What it is about, in a few words.
    pub title: String,
    /// What was found, with how sure it is; or what is there again.
    pub found: String,
    /// What it is not; absent where it is over.
    pub caution: Option<String>,
    /// Since when, in long form.
    pub opened: String,
}

impl View for Alert {
    const NAME: &'static str = "alert";

    fn sample(locale: &Locale, words: &Words) -> Self {
        Self {
            locale: locale.to_string(),
            direction: Direction::of(locale),
            shop: ShopView::sample(),
            palette: Palette::of("#0b6b5c"),
            reminder: false,
            closed: false,
            rule: "recommendation-rate-below".to_owned(),
            title: match locale.language() {
                "fr" => "Taux de recommandation sous 80 %".to_owned(),
                _ => "Recommendation rate below 80 %".to_owned(),
            },
            found: "71 % (213 / 300)".to_owned(),
            caution: Some(words.alert.not_trend.clone()),
            opened: sample_date(words),
        }
    }

    fn other_samples(locale: &Locale, words: &Words) -> Vec<Self> {
        let sample = || Self::sample(locale, words);
        vec![Self { reminder: true, ..sample() }, Self { closed: true, caution: None, ..sample() }]
    }
}

/// `email/report`: the figures at a glance, for the shop's own people; the whole report is attached.
#[derive(Debug, Serialize)]
pub struct ReportMail {
    pub locale: String,
    #[serde(flatten)]
    pub direction: Direction,
    /// Whose letterhead it has.
    pub shop: ShopView,
    pub palette: Palette,
    /// What the report is about, on one line.
    pub title: String,
    /// Of which moment it is.
    pub as_of: String,
    pub shops: Vec<ReportShop>,
    /// The name of the attached file.
    pub attached: String,
    /// Which job of jobs.toml sends it.
    pub job: String,
}

/// A shop's part of [`ReportMail`].
#[derive(Debug, Clone, Serialize)]
pub struct ReportShop {
    pub name: String,
    pub window: String,
    /// What is open, a sentence each.
    pub alerts: Vec<String>,
    pub rows: Vec<ReportRow>,
    /// What it is compared with.
    pub changed_since: String,
    /// What changed, a sentence each.
    pub changes: Vec<String>,
}

/// A figure in [`ReportMail`].
#[derive(Debug, Clone, Serialize)]
pub struct ReportRow {
    pub name: String,
    pub value: String,
    /// Absent where there is nothing to say yet.
    pub interval: Option<String>,
    pub verdict: String,
}

impl View for ReportMail {
    const NAME: &'static str = "report";

    fn sample(locale: &Locale, words: &Words) -> Self {
        let (name, verdict) = match locale.language() {
            "fr" => ("Taux de recommandation", "Entre 80,1 % et 86,2 % avec 95 % de confiance."),
            _ => ("Recommendation rate", "Between 80.1 % and 86.2 % with 95 % confidence."),
        };
        let row = |value: &str, interval: Option<&str>| ReportRow {
            name: name.to_owned(),
            value: value.to_owned(),
            interval: interval.map(str::to_owned),
            verdict: verdict.to_owned(),
        };
        Self {
            locale: locale.to_string(),
            direction: Direction::of(locale),
            shop: ShopView::sample(),
            palette: Palette::of("#0b6b5c"),
            title: "Maison Exemple".to_owned(),
            as_of: sample_date(words),
            shops: vec![ReportShop {
                name: "Maison Exemple".to_owned(),
                window: sample_date(words),
                alerts: vec![verdict.to_owned()],
                rows: vec![row("83.4 %", Some("80.1 % – 86.2 %")), row("–", None)],
                changed_since: sample_date(words),
                changes: vec![verdict.to_owned()],
            }],
            attached: "report.html".to_owned(),
            job: "monday-report".to_owned(),
        }
    }

    fn other_samples(locale: &Locale, words: &Words) -> Vec<Self> {
        let sample = Self::sample(locale, words);
        let quiet = |shop: ReportShop| ReportShop { alerts: Vec::new(), changes: Vec::new(), ..shop };
        let shops = sample.shops.iter().cloned().map(quiet).collect();
        vec![Self { shops, ..sample }]
    }
}

/// `email/rejected`: tells authors why their words are not published, and what they can do.
#[derive(Debug, Serialize)]
pub struct Rejected {
    pub locale: String,
    #[serde(flatten)]
    pub direction: Direction,
    pub shop: ShopView,
    pub palette: Palette,
    pub first_name: Option<String>,
    /// The shop's own number of the order.
    pub order: String,
    /// When the words were written, in long form.
    pub date: String,
    /// Why, a sentence.
    pub reason: String,
    /// Where they can be written anew; absent where they cannot.
    pub amend: Option<Amend>,
    /// Absent where no mail of ours asked for them.
    pub unsubscribe_url: Option<String>,
}

/// Where and until when an answer can be changed.
#[derive(Debug, Clone, Serialize)]
pub struct Amend {
    pub url: String,
    /// In long form.
    pub until: String,
}

impl View for Rejected {
    const NAME: &'static str = "rejected";

    fn sample(locale: &Locale, words: &Words) -> Self {
        Self {
            locale: locale.to_string(),
            direction: Direction::of(locale),
            shop: ShopView::sample(),
            palette: Palette::of("#0b6b5c"),
            first_name: Some("Claire".to_owned()),
            order: "A-1001".to_owned(),
            date: sample_date(words),
            reason: words.rejected.personal_data.clone(),
            amend: Some(Amend {
                url: "https://avis.shop.example/s/sample".to_owned(),
                until: sample_date(words),
            }),
            unsubscribe_url: Some("https://avis.shop.example/u/sample".to_owned()),
        }
    }

    fn other_samples(locale: &Locale, words: &Words) -> Vec<Self> {
        let sample = Self::sample(locale, words);
        let shop = ShopView { privacy_url: None, address: None, ..ShopView::sample() };
        vec![Self { shop, first_name: None, amend: None, unsubscribe_url: None, ..sample }]
    }
}

/// `email/digest`: how it went since the last one, for the shop's own people.
#[derive(Debug, Serialize)]
pub struct DigestMail {
    pub locale: String,
    #[serde(flatten)]
    pub direction: Direction,
    /// Whose letterhead it has.
    pub shop: ShopView,
    pub palette: Palette,
    /// That all is well, or how many things there are to look at.
    pub title: String,
    /// What happened, in one line.
    pub summary: String,
    /// What somebody should look at, a sentence each; empty: all is well.
    pub findings: Vec<String>,
    /// From when to when it tells.
    pub from: String,
    pub until: String,
    /// Which job of jobs.toml sends it.
    pub job: String,
}

impl View for DigestMail {
    const NAME: &'static str = "digest";

    fn sample(locale: &Locale, words: &Words) -> Self {
        Self {
            locale: locale.to_string(),
            direction: Direction::of(locale),
            shop: ShopView::sample(),
            palette: Palette::of("#0b6b5c"),
            title: words.digest.one_thing.clone(),
            summary: words.digest.all_well.clone(),
            findings: vec![words.digest.one_thing.clone()],
            from: "2026-03-02 07:00".to_owned(),
            until: "2026-03-03 07:00".to_owned(),
            job: "daily-digest".to_owned(),
        }
    }

    fn other_samples(locale: &Locale, words: &Words) -> Vec<Self> {
        let title = words.digest.all_well.clone();
        vec![Self { title, findings: Vec::new(), ..Self::sample(locale, words) }]
    }
}

/// What every page has around its own content.
#[derive(Debug, Serialize)]
pub struct Page<'a, V> {
    pub locale: &'a str,
    #[serde(flatten)]
    pub direction: Direction,
    pub words: &'a Words,
    /// The addresses of the stylesheets.
    pub styles: Vec<String>,
    /// `None` where no shop may show, because the page must not tell links apart.
    pub shop: Option<ShopView>,
    /// The page's own content.
    pub page: &'a V,
}

impl<'a, V: View> Page<'a, V> {
    /// A page around a sample.
    pub fn sample(locale: &'a Locale, words: &'a Words, page: &'a V) -> Self {
        let styles = vec!["/assets/page.css".to_owned()];
        let direction = Direction::of(locale);
        Self { locale: locale.as_str(), direction, words, styles, shop: Some(ShopView::sample()), page }
    }
}

/// `page/form`: what each of our forms carries besides its own fields. The form's template includes it with `{{> form page.form}}`.
#[derive(Debug, Serialize)]
pub struct FormView {
    /// Which form it is and when it was made, signed.
    pub proof: String,
    /// Whether it was sent before, and is asked once more because that looked like a program's doing.
    pub once_more: bool,
    /// Whether a box has to be ticked that no form brings along ticked.
    pub asks_person: bool,
}

impl FormView {
    /// One that has everything.
    pub fn sample() -> Self {
        Self { proof: "sample".to_owned(), once_more: true, asks_person: true }
    }
}

/// Something to correct: `page/errors` lists them above a form. The form's template includes it with `{{> errors page}}`.
#[derive(Debug, Serialize)]
pub struct ErrorView {
    /// The id of the field.
    pub field: String,
    /// What the field asks.
    pub label: String,
}

impl ErrorView {
    fn sample(field: &str) -> Self {
        Self { field: field.to_owned(), label: "Recommend?".to_owned() }
    }
}

/// `page/survey`: the form.
#[derive(Debug, Serialize)]
pub struct SurveyPage {
    /// Of the window; it says when there is something to correct.
    pub title: String,
    /// Where the form is sent to.
    pub action: String,
    pub unsubscribe: String,
    /// What the survey says it is about, beside the order.
    pub intro: Option<String>,
    pub form: FormView,
    pub first_name: Option<String>,
    pub order: String,
    pub date: String,
    /// Until when the answer that is already there can be changed.
    pub answered_until: Option<String>,
    /// Whether it can be changed only because its words were refused, and then nothing but the words.
    pub only_words: bool,
    /// Why the words were refused, a sentence.
    pub reason: Option<String>,
    /// Where words can be taken back that may be published.
    pub withdraw: Option<String>,
    /// Whether words were taken back.
    pub withdrawn: bool,
    /// What is wrong with what was sent.
    pub errors: Vec<ErrorView>,
    pub questions: Vec<QuestionView>,
    /// Whether one of the questions is whether the words may be published.
    pub asks_consent: bool,
}

/// A question of the form. All fields are there for every kind; those that do not apply are empty.
#[derive(Debug, Default, Serialize)]
pub struct QuestionView {
    /// The name of its field.
    pub key: String,
    /// Unique on the page.
    pub id: String,
    /// `choice`, `scale`, `text` or `consent`.
    pub kind: &'static str,
    pub text: String,
    pub required: bool,
    pub error: Option<String>,
    pub options: Vec<OptionView>,
    /// How many options there are, for the width of a scale.
    pub n_options: usize,
    /// Words at the ends of a scale.
    pub low: String,
    pub high: String,
    /// What was typed.
    pub value: String,
    pub max_length: usize,
    /// How long it may be, in words.
    pub limit: String,
    /// Whether the consent is given.
    pub checked: bool,
    /// Whether the author chooses the name to publish under.
    pub chooses_name: bool,
    /// The name that is published unless another is chosen; empty for none.
    pub published_as: String,
    /// The name of the field for the name to publish under.
    pub name_field: String,
    pub name_value: String,
    pub name_error: Option<String>,
    /// Set when it is only asked after certain answers: the marks of these answers.
    pub after: Option<String>,
}

/// An answer that can be chosen.
#[derive(Debug, Default, Serialize)]
pub struct OptionView {
    pub id: String,
    /// What the stylesheet recognises this option by: `q0o1` is the second option of the first question.
    pub mark: String,
    pub value: String,
    pub label: String,
    pub checked: bool,
}

impl View for SurveyPage {
    const NAME: &'static str = "survey";

    fn sample(_: &Locale, words: &Words) -> Self {
        let option = |question: usize, n: usize, label: &str| OptionView {
            id: format!("q{question}-{n}"),
            mark: format!("q{question}o{n}"),
            value: n.to_string(),
            label: label.to_owned(),
            checked: n == 1,
        };
        let choices = words.choices.values().enumerate();
        Self {
            title: words.survey_title.clone(),
            action: "/s/sample".to_owned(),
            unsubscribe: "/u/sample".to_owned(),
            intro: Some("We answered your question.".to_owned()),
            form: FormView::sample(),
            first_name: Some("Claire".to_owned()),
            order: "A-1001".to_owned(),
            date: sample_date(words),
            answered_until: Some(sample_date(words)),
            only_words: false,
            reason: Some(words.rejected.personal_data.clone()),
            withdraw: Some("/s/sample/withdraw".to_owned()),
            withdrawn: false,
            errors: vec![ErrorView::sample("q0-0")],
            asks_consent: true,
            questions: vec![
                QuestionView {
                    key: "recommend".to_owned(),
                    id: "q0".to_owned(),
                    kind: "choice",
                    text: "Recommend?".to_owned(),
                    required: true,
                    error: Some(words.error_missing.clone()),
                    options: vec![option(0, 0, &words.yes), option(0, 1, &words.no)],
                    n_options: 2,
                    ..QuestionView::default()
                },
                QuestionView {
                    key: "overall".to_owned(),
                    id: "q1".to_owned(),
                    kind: "scale",
                    text: "Overall".to_owned(),
                    options: (0..5).map(|n| option(1, n, &(n + 1).to_string())).collect(),
                    n_options: 5,
                    low: words.rating_low.clone(),
                    high: words.rating_high.clone(),
                    ..QuestionView::default()
                },
                QuestionView {
                    key: "topic".to_owned(),
                    id: "q2".to_owned(),
                    kind: "choice",
                    text: "What?".to_owned(),
                    options: choices.map(|(n, label)| option(2, n, label)).collect(),
                    n_options: words.choices.len(),
                    after: Some("q0o1".to_owned()),
                    ..QuestionView::default()
                },
                QuestionView {
                    key: "comment".to_owned(),
                    id: "q3".to_owned(),
                    kind: "text",
                    text: "Tell us more".to_owned(),
                    value: "Livré en deux jours, emballé avec soin.".to_owned(),
                    max_length: 4000,
                    limit: words.number(4000),
                    ..QuestionView::default()
                },
                QuestionView {
                    key: "publish".to_owned(),
                    id: "q4".to_owned(),
                    kind: "consent",
                    text: "You may publish my words".to_owned(),
                    checked: true,
                    chooses_name: true,
                    published_as: "Claire D.".to_owned(),
                    name_field: "publish.name".to_owned(),
                    name_value: "Claire D.".to_owned(),
                    max_length: 60,
                    name_error: Some(words.error_too_long.clone()),
                    ..QuestionView::default()
                },
                QuestionView {
                    key: "quote".to_owned(),
                    id: "q5".to_owned(),
                    kind: "consent",
                    text: "You may quote me".to_owned(),
                    published_as: "Claire D.".to_owned(),
                    name_field: "quote.name".to_owned(),
                    ..QuestionView::default()
                },
            ],
        }
    }

    fn other_samples(locale: &Locale, words: &Words) -> Vec<Self> {
        let sample = Self::sample(locale, words);
        vec![Self {
            first_name: None,
            reason: None,
            withdraw: None,
            withdrawn: true,
            errors: Vec::new(),
            asks_consent: false,
            ..sample
        }]
    }
}

/// Where customers can say it aloud.
#[derive(Debug, Clone, Serialize)]
pub struct PlaceView {
    pub name: String,
    pub url: String,
}

impl PlaceView {
    /// Of a shop's places, in their order.
    pub fn of(shop: &crate::config::Shop) -> Vec<Self> {
        let places = shop.review_places.iter();
        places.map(|place| Self { name: place.name.clone(), url: place.url.clone() }).collect()
    }
}

/// `page/thanks`: after an answer was stored; the same for every answer, but for what an unhappy customer is told.
#[derive(Debug, Serialize)]
pub struct ThanksPage {
    /// What an unhappy customer is told about what happens next.
    pub next: Option<String>,
    /// Whatever was answered.
    pub places: Vec<PlaceView>,
    /// Until when, and where, the answer can be changed.
    pub change_until: Option<String>,
    pub survey: String,
    /// Where words can be taken back that may be published.
    pub withdraw: Option<String>,
}

impl View for ThanksPage {
    const NAME: &'static str = "thanks";

    fn sample(_: &Locale, words: &Words) -> Self {
        let place = PlaceView { name: "Reviews".to_owned(), url: "https://reviews.example/shop".to_owned() };
        Self {
            next: Some(words.unhappy_next.clone()),
            places: vec![place],
            change_until: Some(sample_date(words)),
            survey: "/s/sample".to_owned(),
            withdraw: Some("/s/sample/withdraw".to_owned()),
        }
    }

    fn other_samples(_: &Locale, _: &Words) -> Vec<Self> {
        let survey = "/s/sample".to_owned();
        vec![Self { next: None, places: Vec::new(), change_until: None, survey, withdraw: None }]
    }
}

/// `page/closed`: there is an answer, and it can no longer be changed.
#[derive(Debug, Serialize)]
pub struct ClosedPage {
    pub order: String,
    /// Why the words were refused, a sentence.
    pub reason: Option<String>,
    /// Where words can be taken back that may be published.
    pub withdraw: Option<String>,
}

impl View for ClosedPage {
    const NAME: &'static str = "closed";

    fn sample(_: &Locale, words: &Words) -> Self {
        Self {
            order: "A-1001".to_owned(),
            reason: Some(words.rejected.personal_data.clone()),
            withdraw: Some("/s/sample/withdraw".to_owned()),
        }
    }
}

/// `page/withdraw`: asks before words are taken back.
#[derive(Debug, Serialize)]
pub struct WithdrawPage {
    /// Of the window; it says when there is something to correct.
    pub title: String,
    pub action: String,
    pub form: FormView,
    pub order: String,
    /// Where nothing is taken back.
    pub survey: String,
    pub errors: Vec<ErrorView>,
}

impl View for WithdrawPage {
    const NAME: &'static str = "withdraw";

    fn sample(_: &Locale, words: &Words) -> Self {
        Self {
            title: words.withdraw_title.clone(),
            action: "/s/sample/withdraw".to_owned(),
            form: FormView::sample(),
            order: "A-1001".to_owned(),
            survey: "/s/sample".to_owned(),
            errors: vec![ErrorView::sample("sure")],
        }
    }
}

/// `page/withdrawn`: words were taken back, or there are none to take back.
#[derive(Debug, Serialize)]
pub struct WithdrawnPage {
    pub title: String,
    pub order: String,
    /// Whether there were words.
    pub withdrawn: bool,
    /// Until when, and where, publication can be agreed to once more.
    pub change_until: Option<String>,
    pub survey: String,
}

impl View for WithdrawnPage {
    const NAME: &'static str = "withdrawn";

    fn sample(_: &Locale, words: &Words) -> Self {
        Self {
            title: words.withdrawn_title.clone(),
            order: "A-1001".to_owned(),
            withdrawn: true,
            change_until: Some(sample_date(words)),
            survey: "/s/sample".to_owned(),
        }
    }

    fn other_samples(locale: &Locale, words: &Words) -> Vec<Self> {
        vec![Self { withdrawn: false, change_until: None, ..Self::sample(locale, words) }]
    }
}

/// `page/unsubscribe`: asks before opting out.
#[derive(Debug, Serialize)]
pub struct UnsubscribePage {
    pub action: String,
    pub form: FormView,
}

impl View for UnsubscribePage {
    const NAME: &'static str = "unsubscribe";

    fn sample(_: &Locale, _: &Words) -> Self {
        Self { action: "/u/sample".to_owned(), form: FormView::sample() }
    }
}

/// `page/unsubscribed`: the customer has opted out.
#[derive(Debug, Serialize)]
pub struct UnsubscribedPage {}

impl View for UnsubscribedPage {
    const NAME: &'static str = "unsubscribed";

    fn sample(_: &Locale, _: &Words) -> Self {
        Self {}
    }
}

/// `page/message`: says that something cannot be shown or done.
#[derive(Debug, Serialize)]
pub struct MessagePage {
    pub title: String,
    pub text: String,
    /// What was sent and could not be stored, to be sent again.
    pub again: Option<AgainView>,
}

/// A form that nobody sees but for its button: it holds what was sent before.
#[derive(Debug, Serialize)]
pub struct AgainView {
    pub action: String,
    pub fields: Vec<FieldView>,
}

/// A field of it.
#[derive(Debug, Serialize)]
pub struct FieldView {
    pub name: String,
    pub value: String,
}

impl View for MessagePage {
    const NAME: &'static str = "message";

    fn sample(_: &Locale, words: &Words) -> Self {
        let field = FieldView { name: "recommend".to_owned(), value: "yes".to_owned() };
        Self {
            title: words.unavailable_title.clone(),
            text: words.unavailable_text.clone(),
            again: Some(AgainView { action: "/s/sample".to_owned(), fields: vec![field] }),
        }
    }
}

/// The date in the samples.
fn sample_date(words: &Words) -> String {
    chrono::DateTime::from_timestamp(1_772_532_000, 0)
        .map_or_else(String::new, |moment| words.date(moment, chrono_tz::Europe::Paris))
}
